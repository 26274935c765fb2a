"""What Aldis raises and warns of.

::

    AldisError
    ├── InvalidReceiverError   (TypeError)     refused at connect: it could never be called
    ├── InvalidOptionError     (ValueError)    an option of connect, Signal or Namespace is wrong
    ├── UnboundProxyError      (RuntimeError)  a context-local proxy that stands for nothing now
    ├── ContractError          (TypeError)     a function that cannot declare a signal
    ├── PayloadError           (TypeError)     a send that does not fit the declaration
    ├── AsyncReceiverError     (RuntimeError)  nobody said how to cross between sync and async
    ├── BlinkerImportedError   (RuntimeError)  install_as_blinker() was called too late
    └── RelayError                             of the relay, aldis.relay
        ├── UnnamedSenderError       (LookupError)   a sender that the relay knows no name for
        ├── TransactionError         (RuntimeError)  which transaction a send belongs to is not clear
        ├── RelaySchemaError         (RuntimeError)  the tables are not there, or of another version
        ├── NoMessageError           (RuntimeError)  asked for the message outside a durable receiver
        └── ReceiverTimeoutError     (TimeoutError)  raised in a durable receiver that takes too long

    AldisWarning               (UserWarning)
    ├── LostReceiverWarning    (ResourceWarning)  a connected function was garbage collected
    ├── RelayWarning           (RuntimeWarning)   messages of the relay could be lost as things are set up
    └── UncommittedMessageWarning (RuntimeWarning)  messages of the relay that nobody committed

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
    "NoMessageError",
    "PayloadError",
    "ReceiverTimeoutError",
    "RelayError",
    "RelaySchemaError",
    "RelayWarning",
    "TransactionError",
    "UnboundProxyError",
    "UncommittedMessageWarning",
    "UnnamedSenderError",
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
    """The keywords of a send are not those that the signal declares; or, for durable receivers, their values are of
    other types. No receiver ran, and nothing was written.
    """


class AsyncReceiverError(AldisError, RuntimeError):
    """A sync send met an async receiver, or an async send a sync one, and nobody said how to cross.
    No receiver ran.
    """


class BlinkerImportedError(AldisError, RuntimeError):
    """The real Blinker is imported already, so Aldis cannot take its place. Nothing was changed."""


class RelayError(AldisError):
    """The base of what only the relay raises, see :mod:`aldis.relay`."""


class UnnamedSenderError(RelayError, LookupError):
    """The sender is to cross to another process, and has no name there. No receiver ran, and nothing was written."""


class TransactionError(RelayError, RuntimeError):
    """It is not clear to which transaction a send belongs, or the given object has none. Nothing was written."""


class RelaySchemaError(RelayError, RuntimeError):
    """The relay's tables are not in the database, or they are of a version that this code does not know."""


class NoMessageError(RelayError, RuntimeError):
    """The message that is being received was asked for where none is."""


class ReceiverTimeoutError(RelayError, TimeoutError):
    """Raised in a durable receiver that has run for longer than its ``timeout_s``."""


class AldisWarning(UserWarning):
    """The base of all that Aldis warns of."""


class LostReceiverWarning(AldisWarning, ResourceWarning):
    """A weakly held function was garbage collected while it was connected, so it is not called any
    more. The warning's place is that of the ``connect``.
    """


class RelayWarning(AldisWarning, RuntimeWarning):
    """The relay runs, and messages could be lost as things are set up. It says which, and what to change."""


class UncommittedMessageWarning(AldisWarning, RuntimeWarning):
    """A signal was sent to durable receivers in a transaction that was closed without a commit, so its messages are
    gone. Told in development mode; the warning's place is that of the ``send``.
    """
