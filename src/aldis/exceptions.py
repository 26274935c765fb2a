"""The exceptions and warnings of Aldis.

::

    AldisError
    ├── InvalidReceiverError   (TypeError)     refused at connect: it cannot be called
    ├── InvalidOptionError     (ValueError)    an option of connect, Signal or Namespace is wrong
    ├── UnboundProxyError      (RuntimeError)  a context-local proxy that points to no object here
    ├── ContractError          (TypeError)     a function that cannot declare a signal
    ├── PayloadError           (TypeError)     a send does not fit the declaration
    ├── AsyncReceiverError     (RuntimeError)  a receiver needs a wrapper between sync and async
    ├── BlinkerImportedError   (RuntimeError)  install_as_blinker() was called too late
    └── RelayError                             the base for the relay, aldis.relay
        ├── UnnamedSenderError       (LookupError)   a sender has no name in the relay
        ├── TransactionError         (RuntimeError)  the transaction of a send is not clear
        ├── RelaySchemaError         (RuntimeError)  the tables are missing, or of another version
        ├── NoMessageError           (RuntimeError)  current() was called outside a durable receiver
        └── ReceiverTimeoutError     (TimeoutError)  a durable receiver takes too long

    AldisWarning               (UserWarning)
    ├── LostReceiverWarning    (ResourceWarning)  a connected function was garbage collected
    ├── RelayWarning           (RuntimeWarning)   with this setup, messages could be lost
    └── UncommittedMessageWarning (RuntimeWarning)  messages of the relay were not committed

Each leaf is also the built-in exception that a caller would catch without Aldis. Messages name signals,
receivers, parameters and places in the source, and never show the value of a payload.
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
    """The base of all exceptions of Aldis. An exception of a receiver is never wrapped in it."""


class InvalidReceiverError(AldisError, TypeError):
    """The receiver cannot be connected: it is not callable, it cannot be held weakly, or it cannot take
    the payload that the signal declares.
    """


class InvalidOptionError(AldisError, ValueError):
    """An option has a value that cannot work."""


class UnboundProxyError(AldisError, RuntimeError):
    """The sender is a proxy such as ``flask.current_app``, and it points to no object here."""


class ContractError(AldisError, TypeError):
    """The function cannot declare a signal, or the signal is declared already."""


class PayloadError(AldisError, TypeError):
    """The keywords of a send differ from the declaration; or, for durable receivers, the values have other types.
    No receiver ran, and nothing was written.
    """


class AsyncReceiverError(AldisError, RuntimeError):
    """``send`` met an async receiver, or ``send_async`` a sync receiver, and no wrapper is set.
    No receiver ran.
    """


class BlinkerImportedError(AldisError, RuntimeError):
    """The real Blinker is imported already, so Aldis cannot take its place. Nothing changed."""


class RelayError(AldisError):
    """The base of the exceptions of the relay, see :mod:`aldis.relay`."""


class UnnamedSenderError(RelayError, LookupError):
    """The sender has no name by which another process could find it. No receiver ran, and nothing was written."""


class TransactionError(RelayError, RuntimeError):
    """It is not clear to which transaction a send belongs, or the object has no transaction. Nothing was written."""


class RelaySchemaError(RelayError, RuntimeError):
    """The relay's tables are missing in the database, or they have a version that this code does not know."""


class NoMessageError(RelayError, RuntimeError):
    """:meth:`Relay.current` was called outside a durable receiver."""


class ReceiverTimeoutError(RelayError, TimeoutError):
    """Raised in a durable receiver that has run for longer than its ``timeout_s``."""


class AldisWarning(UserWarning):
    """The base of all warnings of Aldis."""


class LostReceiverWarning(AldisWarning, ResourceWarning):
    """A weakly held function was garbage collected while it was connected, so it is not called any
    more. The warning shows the place of the ``connect``.
    """


class RelayWarning(AldisWarning, RuntimeWarning):
    """With this set-up of the relay, messages could be lost. The text says which messages, and what to change."""


class UncommittedMessageWarning(AldisWarning, RuntimeWarning):
    """A signal was sent to durable receivers in a transaction that was closed without a commit. Its messages are gone.
    Development mode shows this warning, with the place of the ``send``.
    """
