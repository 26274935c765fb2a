"""E6: str, int and bytes match by value, other senders by identity, and a proxy is the object behind it."""

from __future__ import annotations

from typing import Final

from . import Break

BREAKS: Final = (
    Break(
        name="none-is-any",
        what="`None` as a sender means any sender.",
        at="filter_key",
        old="sender is ANY",
        new="sender is ANY or sender is None",
        tests=("test_e06_senders.py",),
    ),
    Break(
        name="id-is-a-number",
        what="An int sender finds the receivers of the object with this `id`.",
        at="SenderFilter.make",
        old="isinstance(identity, str)",
        new="isinstance(identity, (str, int))",
        tests=("test_e06_senders.py",),
    ),
    Break(
        name="identities-are-values",
        what="Objects are stored as if they matched by value.",
        at="filter_key",
        old='("identity", receiver_key(sender))',
        new='("value", receiver_key(sender))',
        tests=("test_e06_senders.py",),
    ),
    Break(
        name="user-code-in-keys",
        what="A str sender of the user's own class is compared by the `__eq__` of this class.",
        at="value_key",
        old='str.__add__(value, "")',
        new="value",
        tests=("test_e06_senders.py",),
    ),
    Break(
        name="bytes-beside-str",
        what="bytes senders are compared with str senders.",
        at="value_key",
        old='"bytes", bytes.__add__(value, b"")',
        new='bytes.__add__(value, b"")',
        tests=("test_e06_senders.py",),
    ),
    Break(
        name="is-other-too-sure",
        what="A send by a proxy or a value takes the fast way for senders without receivers of their own.",
        at="SnapshotCache.is_other",
        old="sender.__class__ is not kind or issubclass(kind, _KEYED_BY_MORE_THAN_ID)",
        new="sender is self",
        tests=("test_later_sends.py", "test_e06_senders.py"),
    ),
    Break(
        name="proxy-connected",
        what="`connect` for a proxy connects for the proxy, not for the object behind it.",
        at="Signal.connect",
        old="ConnectChange(self._registry, connection, receiver, found, in_scope=scope is not None)",
        new="ConnectChange(self._registry, connection, receiver, sender, in_scope=scope is not None)",
        tests=("test_e06_senders.py",),
    ),
    Break(
        name="proxy-sent",
        what="A send by a proxy hands the proxy to the receivers.",
        at="Signal.send",
        old="""
            if sender.__class__ is not type(sender):
                sender = resolve(sender)
        """,
        new="pass",
        tests=("test_e06_senders.py",),
    ),
    Break(
        name="proxy-not-resolved",
        what="A send by a proxy does not reach the receivers of the object behind it.",
        at="prepare",
        old="sender.__class__ is not type(sender)",
        new="sender is registry",
        tests=("test_e06_senders.py",),
    ),
    Break(
        name="unbound-proxy-taken",
        what="A proxy without an object behind it can be connected for.",
        at="resolve_bound",
        old="is_proxy(found)",
        new="found is resolve",
        tests=("test_e06_senders.py",),
    ),
    Break(
        name="unreferable-sender-dropped",
        what="A sender that allows no weak references is not kept alive while a receiver is connected for it.",
        at="SenderFilter.make",
        old="lambda: (sender,)",
        new="lambda: True",
        tests=("test_e06_senders.py",),
    ),
    Break(
        name="dead-senders-stay",
        what="Connections for a sender stay when the sender is collected.",
        at="_sender_died",
        old="changes.defer(partial(registry.sweep_sender, key))",
        new="pass",
        tests=("test_e06_senders.py", "test_e05_references.py"),
    ),
    Break(
        name="dead-sender-snapshot-stays",
        what="The cached snapshot of a collected sender stays until the clean-up.",
        at="_sender_died",
        old="registry.by_sender.pop(key[1], None)",
        new="None",
        tests=("test_e06_senders.py", "test_e04_collection.py", "test_e04_threads.py"),
    ),
    Break(
        name="dead-sender-found",
        what="A new sender with the `id` of a collected one reaches the receivers of the collected one.",
        at="SnapshotCache._filter_of",
        old="sender_filter if sender_filter is not None and sender_filter.ref() is not None else None",
        new="sender_filter",
        tests=("test_e06_senders.py", "test_e04_collection.py", "test_e04_threads.py"),
    ),
    Break(
        name="dead-filter-used-again",
        what="A new sender with the `id` of a collected one gets the sender filter of the collected one.",
        at="ConnectionRegistry._filter_for",
        old="sender_filter is not None and sender_filter.ref() is not None",
        new="sender_filter is not None",
        tests=("test_e06_senders.py", "test_e04_collection.py", "test_e04_threads.py"),
    ),
)
