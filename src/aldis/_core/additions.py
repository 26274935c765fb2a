"""One ``connect`` as a change of a signal's table, and how it is taken back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

from .connections import filter_key
from .mutations import changes

if TYPE_CHECKING:
    from .connections import Connection, Receiver
    from .registry import ConnectionRegistry


@final
class ConnectChange:
    """One ``connect``: how to make it as a change, and how to take back exactly that.

    :ivar is_new: whether there was no such connection before.
    """

    __slots__ = ("before", "connection", "hold", "is_new", "receiver", "sender", "table")

    before: dict[str, Any]
    connection: Connection
    hold: bool
    is_new: bool
    receiver: Receiver
    sender: Any
    table: ConnectionRegistry

    def __init__(
        self, table: ConnectionRegistry, connection: Connection, receiver: Receiver, sender: Any, hold: bool
    ) -> None:
        self.table = table
        self.connection = connection
        self.receiver = receiver
        self.sender = sender
        self.hold = hold
        self.is_new = True
        self.before = {}

    def make(self) -> None:
        """The change itself."""
        table, new = self.table, self.connection
        existing = table._existing(new.key, filter_key(self.sender))

        if existing is not None and existing.ref() is None:
            table._drop(existing)  # The receiver's id used to be that of one which has died.
            existing = None

        if existing is None:
            table._insert(new, self.sender)
        else:
            self.is_new = False
            self.connection = existing
            self.before = {name: getattr(existing, name) for name in _OWNED}

        if self.hold:
            self.connection.open_scopes += 1

            if self.connection.strong_ref is None:  # Or its reference would lose the very object that it refers to.
                self.connection.strong_ref = self.receiver
        else:
            _own(self.connection, new)
            table._changed(self.connection)

    def undo(self) -> None:
        """Take back what :meth:`make` did, and no more. Other connections of the receiver stay."""
        changes.apply(self._let_go if self.hold else self._put_back)

    def _let_go(self) -> None:
        connection = self.connection
        connection.open_scopes -= 1

        if connection.open_scopes == 0 and not connection.connected_directly:
            self.table._drop(connection)
        elif connection.open_scopes == 0 and not connection.is_strong:
            connection.strong_ref = None

    def _put_back(self) -> None:
        if self.is_new:
            self.table._drop(self.connection)
            return

        if self.table._existing(self.connection.key, self.connection.filter_key) is not self.connection:
            return  # Somebody has disconnected it since.

        for name, value in self.before.items():
            setattr(self.connection, name, value)

        self.table._changed(self.connection)


_OWNED: Final = ("connected_directly", "is_strong", "strong_ref", "options", "place", "ref")


def _own(connection: Connection, new: Connection) -> None:
    """Give a connection the options of a later ``connect``. A strong one stays strong."""
    connection.connected_directly = True
    connection.options = new.options
    connection.place = new.place

    if connection.is_strong:
        return

    connection.ref = new.ref
    connection.is_strong = new.strong_ref is not None

    if connection.is_strong or connection.open_scopes == 0:
        connection.strong_ref = new.strong_ref
