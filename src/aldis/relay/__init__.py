"""Durable receivers: a send writes a row in the caller's own transaction, and a worker runs the receiver, here or
elsewhere.
"""

from __future__ import annotations

from aldis.exceptions import (
    NoMessageError,
    ReceiverTimeoutError,
    RelayError,
    RelaySchemaError,
    RelayWarning,
    TransactionError,
    UncommittedMessageWarning,
    UnnamedSenderError,
)

from ._administration import ReceiverStatus
from ._backoff import Exponential
from ._durable import Durable, Forward
from ._relay import Relay
from .storage.rows import DeadLetter, DrainCounts, Message

__all__ = [
    "DeadLetter",
    "DrainCounts",
    "Durable",
    "Exponential",
    "Forward",
    "Message",
    "NoMessageError",
    "ReceiverStatus",
    "ReceiverTimeoutError",
    "Relay",
    "RelayError",
    "RelaySchemaError",
    "RelayWarning",
    "TransactionError",
    "UncommittedMessageWarning",
    "UnnamedSenderError",
]
