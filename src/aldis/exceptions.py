"""What Aldis raises and warns of.

::

    AldisError
    ├── InvalidReceiverError   (TypeError)     refused at connect: it could never be called
    ├── InvalidOptionError     (ValueError)    an option of connect, Signal or Namespace is wrong
    ├── UnboundProxyError      (RuntimeError)  a context-local proxy that stands for nothing now
    ├── ContractError          (TypeError)     a function that cannot declare a signal
    ├── PayloadError           (TypeError)     a send that does not fit the declaration
    ├── AsyncReceiverError     (RuntimeError)  nobody said how to cross between sync and async
    └── BlinkerImportedError   (RuntimeError)  install_as_blinker() was called too late

    AldisWarning               (UserWarning)
    └── LostReceiverWarning    (ResourceWarning)  a connected function was garbage collected

Each leaf is also the built-in exception that a caller would have caught without Aldis. Messages name
signals, receivers, parameters and places in the source; never the value of a payload.
"""

from __future__ import annotations

__all__ = [
    "AldisError",
    "AldisWarning",
    "AsyncReceiverError",
    "BlinkerImportedError",
    "ContractError",
    "InvalidOptionError",
    "InvalidReceiverError",
    "LostReceiverWarning",
    "PayloadError",
    "UnboundProxyError",
]


class AldisError(Exception):
    """The base of all that Aldis raises by itself.

    What a receiver raises is never wrapped in it.
    """


class InvalidReceiverError(AldisError, TypeError):
    """The receiver cannot be connected: it is no callable, it cannot be held weakly, or it cannot take
    the payload that the signal declares.
    """


class InvalidOptionError(AldisError, ValueError):
    """An option has a value that could not work."""


class UnboundProxyError(AldisError, RuntimeError):
    """A proxy such as ``flask.current_app`` was given as sender where it stands for no object."""


class ContractError(AldisError, TypeError):
    """The function cannot declare a signal, or the signal is declared already."""


class PayloadError(AldisError, TypeError):
    """The keywords of a send are not those that the signal declares. No receiver ran."""


class AsyncReceiverError(AldisError, RuntimeError):
    """A sync send met an async receiver, or an async send a sync one, and nobody said how to cross.
    No receiver ran.
    """


class BlinkerImportedError(AldisError, RuntimeError):
    """The real Blinker is imported already, so Aldis cannot take its place. Nothing was changed."""


class AldisWarning(UserWarning):
    """The base of all that Aldis warns of."""


class LostReceiverWarning(AldisWarning, ResourceWarning):
    """A weakly held function was garbage collected while it was connected, so it is not called any
    more. The warning's place is that of the ``connect``.
    """
