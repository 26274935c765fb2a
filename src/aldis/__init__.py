"""Signals for Python and Flask: ordered, typed, thread-safe, and a drop-in for Blinker."""

from __future__ import annotations

from ._core.devmode import debug
from ._core.failures import Failure
from ._core.identity import ANY
from ._core.namespace import NamedSignal, Namespace, default_namespace, signal
from ._core.signal import Signal
from .blinker import install_as_blinker
from .exceptions import (
    AldisError,
    AldisWarning,
    AsyncReceiverError,
    BlinkerImportedError,
    ContractError,
    InvalidOptionError,
    InvalidReceiverError,
    LostReceiverWarning,
    PayloadError,
    UnboundProxyError,
)

__all__ = [
    "ANY",
    "AldisError",
    "AldisWarning",
    "AsyncReceiverError",
    "BlinkerImportedError",
    "ContractError",
    "Failure",
    "InvalidOptionError",
    "InvalidReceiverError",
    "LostReceiverWarning",
    "NamedSignal",
    "Namespace",
    "PayloadError",
    "Signal",
    "UnboundProxyError",
    "debug",
    "default_namespace",
    "install_as_blinker",
    "signal",
]
