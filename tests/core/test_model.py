"""E1 to E8 and E10: a state machine compares the engine with a naive list of connections.

The model keeps connections in a list and always searches the whole list. Each step runs on the model first, which says
what must happen, and then on the engine. Then the test compares both: which receivers each send called, with which
arguments, which exceptions were raised, what is connected, and which receivers and senders are still alive.
"""

from __future__ import annotations

import contextvars
import gc
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from aldis import ANY, Failure, Namespace, Signal

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.stress

Action: TypeAlias = tuple[Any, ...]
Scripts: TypeAlias = dict[str, list[Action]]


class Stumbled(Exception):
    """The exception that receivers raise here."""


# Receivers and senders. Each one notes its death.


class Mortal:
    __slots__ = ("buried", "uid")

    def __init__(self, uid: str, buried: set[str]) -> None:
        self.uid = uid
        self.buried = buried

    def __del__(self) -> None:
        self.buried.add(self.uid)


class PlainSender(Mortal):
    __slots__ = ("__weakref__",)


class SlottedSender(Mortal):
    __slots__ = ()


class HostileSender(Mortal):
    """A sender that is equal to everything and unhashable: the engine may only look at its identity."""

    __slots__ = ("__weakref__",)
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return True

    def __bool__(self) -> bool:
        raise AssertionError("a sender was asked for its truth")


class Text(str):
    """A string that overrides equality, which must not count."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise AssertionError("a sender was compared")


class Player(Mortal):
    """The common part of receivers: a call does what the script says."""

    __slots__ = ("play",)

    def __init__(self, uid: str, buried: set[str], play: Callable[[str, Any, dict[str, Any]], str]) -> None:
        super().__init__(uid, buried)
        self.play = play


class Method(Player):
    __slots__ = ("__weakref__",)

    def receive(self, sender: Any, **payload: Any) -> str:
        return self.play(self.uid, sender, payload)


class Slotted(Player):
    __slots__ = ()

    def __call__(self, sender: Any, **payload: Any) -> str:
        return self.play(self.uid, sender, payload)


class Object(Slotted):
    __slots__ = ("__weakref__",)

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


def function(player: Player) -> Any:
    def receive(sender: Any, **payload: Any) -> str:
        return player.play(player.uid, sender, payload)

    return receive


def coroutine_function(player: Player) -> Any:
    async def receive(sender: Any, **payload: Any) -> str:
        return player.play(player.uid, sender, payload)

    return receive


def with_player(player: Player, sender: Any, **payload: Any) -> str:
    return player.play(player.uid, sender, payload)


def same(owner: Any) -> Any:
    return owner


def bound(owner: Method) -> Any:
    return owner.receive


# By slot: a function that makes the object to keep alive, and one that gets the receiver from it.
RECEIVERS: list[tuple[Callable[..., Any], Callable[[Any], Any]]] = [
    (lambda *args: function(Player(*args)), same),
    (Method, bound),
    (Object, same),
    (Slotted, same),
    (lambda *args: partial(with_player, Player(*args)), same),
    (lambda *args: coroutine_function(Player(*args)), same),
    (Method, bound),
]
UNREFERABLE = {3}

# First senders that match by value, with the value; then senders by identity that never die; then senders that may die.
VALUES: list[tuple[Any, Any]] = [
    ("a", "a"),
    (Text("a"), "a"),
    ("", ""),
    (0, 0),
    (False, 0),
    (1, 1),
    (True, 1),
    (b"a", b"a"),
    (b"", b""),
]
LASTING: list[Any] = [None, 1.0, (), int]
KILLABLE: list[Callable[..., Any]] = [PlainSender, PlainSender, SlottedSender, HostileSender]
FIRST_KILLABLE = len(VALUES) + len(LASTING)
SENDERS = range(FIRST_KILLABLE + len(KILLABLE))
SLOTTED_SENDER = FIRST_KILLABLE + 2


# The model.


class Options:
    """The options of one ``connect``. A send uses the options that were set when it began."""

    def __init__(self, is_once: bool) -> None:
        self.is_once = is_once
        self.is_used_up = False


class Connected:
    """One connection. It is compared by identity: a new connection of the same receiver is another one."""

    def __init__(self, receiver: str, sender: Any, serial: int) -> None:
        self.receiver = receiver
        self.sender = sender
        self.serial = serial
        self.priority = 0.0
        self.options = Options(is_once=False)
        self.connected_directly = self.is_strong = False
        self.open_scopes = 0


class Block:
    """An open ``connected_to`` or ``muted`` block. It keeps its arguments alive."""

    def __init__(self, connection: Connected | None, receivers: list[str], sender: Any, context: int = 0) -> None:
        self.connection = connection
        self.receivers = receivers
        self.sender = sender
        self.context = context


class Running:
    """A running send, and the objects that it keeps alive."""

    def __init__(self, sender: Any) -> None:
        self.sender = sender
        self.called: list[str] = []
        self.strong_ref: list[str] = []
        self.failures: list[str] = []


class Raised(Exception):
    """The model's send raises: these receivers failed."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(names)
        self.names = names


class Model:
    """The engine's promises, on a list."""

    def __init__(self) -> None:
        self.connections: list[Connected] = []
        self.receivers: dict[int, str] = {}
        self.senders: dict[int, str] = {}
        self.blocks: dict[int, Block] = {}
        self.mutes: dict[int, Block] = {}
        self.running: list[Running] = []
        self.calling: list[str] = []
        self.contexts = [0]
        self.contexts_made = 0
        self.serial = 0
        self.made = 0
        self.born: set[str] = set()
        self.errors = "propagate"
        self.is_muted = False
        self.log: list[Any] = []

    # Existing objects.

    def receiver(self, slot: int) -> str:
        return self._uid(self.receivers, slot, "receiver")

    def _uid(self, pool: dict[int, str], slot: int, kind: str) -> str:
        if slot not in pool:
            self.made += 1
            pool[slot] = f"{kind} {slot}.{self.made}"
            self.born.add(pool[slot])

        return pool[slot]

    def key(self, slot: int | None) -> Any:
        """Return the key by which a sender is compared."""
        if slot is None:
            return ANY

        if slot < len(VALUES):
            value = VALUES[slot][1]
            return (type(value).__name__, value)

        if slot < FIRST_KILLABLE:
            return ("lasting", slot)

        return self._uid(self.senders, slot, "sender")

    def is_receiver_alive(self, uid: str) -> bool:
        return (
            uid in self.receivers.values()
            or uid in self.calling
            or any(c.receiver == uid and (c.is_strong or c.open_scopes) for c in self.connections)
            or any(uid in block.receivers for block in (*self.blocks.values(), *self.mutes.values()))
            or any(uid in running.strong_ref or uid in running.failures for running in self.running)
        )

    def is_sender_alive(self, key: Any) -> bool:
        if not isinstance(key, str):
            return True

        return (
            key in self.senders.values()
            or any(block.sender == key for block in self.blocks.values())
            or any(running.sender == key for running in self.running)
            or (key.startswith(f"sender {SLOTTED_SENDER}.") and any(c.sender == key for c in self.connections))
        )

    def remove_dead(self) -> None:
        """Remove the connections of dead receivers and senders."""
        while True:
            gone = [
                c
                for c in self.connections
                if not (self.is_receiver_alive(c.receiver) and self.is_sender_alive(c.sender))
            ]

            if not gone:
                return

            self.connections = [c for c in self.connections if c not in gone]

    def dead(self) -> set[str]:
        return {
            uid
            for uid in self.born
            if not (self.is_sender_alive(uid) if uid.startswith("sender") else self.is_receiver_alive(uid))
        }

    # Queries.

    def find(self, receiver: str, sender: Any) -> Connected | None:
        return next((c for c in self.connections if c.receiver == receiver and c.sender == sender), None)

    def matching(self, sender: Any) -> list[Connected]:
        found = [c for c in self.connections if c.sender is ANY or c.sender == sender]
        return sorted(found, key=lambda c: (-c.priority, c.serial))

    def receivers_for(self, sender: Any) -> list[str]:
        return list(dict.fromkeys(c.receiver for c in self.matching(sender)))

    # Actions.

    def do(self, action: Action, scripts: Scripts) -> None:
        getattr(self, f"do_{action[0]}")(*action[1:], scripts=scripts)
        self.remove_dead()

    def _place(self, receiver: str, sender: Any) -> Connected:
        connection = self.find(receiver, sender)

        if connection is None:
            self.serial += 1
            connection = Connected(receiver, sender, self.serial)
            self.connections.append(connection)

        return connection

    def do_connect(
        self,
        slot: int,
        sender: int | None,
        weak: bool,
        priority: float,
        once: bool,
        scripts: Scripts,
    ) -> None:
        receiver, key = self.receiver(slot), self.key(sender)
        connection = self._place(receiver, key)
        connection.connected_directly = True
        connection.is_strong |= not weak
        connection.options = Options(once)
        connection.priority = priority

    def do_disconnect(self, slot: int, sender: int | None, **_: Any) -> None:
        receiver, key = self.receiver(slot), self.key(sender)
        self.connections = [
            c for c in self.connections if not (c.receiver == receiver and (key is ANY or c.sender == key))
        ]

    def do_clear(self, **_: Any) -> None:
        self.connections = []

    def do_kill_receiver(self, slot: int, **_: Any) -> None:
        self.receivers.pop(slot, None)

    def do_kill_sender(self, slot: int, **_: Any) -> None:
        self.senders.pop(slot, None)

    def do_enter(self, number: int, slot: int, sender: int | None, **_: Any) -> None:
        if number in self.blocks:
            return

        receiver, key = self.receiver(slot), self.key(sender)
        connection = self._place(receiver, key)
        connection.open_scopes += 1
        self.blocks[number] = Block(connection, [receiver], key)

    def do_leave(self, number: int, **_: Any) -> None:
        block = self.blocks.pop(number, None)

        if block is None:
            return

        assert block.connection is not None
        block.connection.open_scopes -= 1

        if (
            block.connection.open_scopes == 0
            and not block.connection.connected_directly
            and block.connection in self.connections
        ):
            self.connections.remove(block.connection)

    def do_mute(self, number: int, slots: list[int], **_: Any) -> None:
        if number not in self.mutes:
            self.mutes[number] = Block(None, [self.receiver(slot) for slot in slots], None, self.contexts[-1])

    def do_unmute(self, number: int, **_: Any) -> None:
        self.mutes.pop(number, None)

    def do_set_muted(self, is_muted: bool, **_: Any) -> None:
        self.is_muted = is_muted

    def do_set_errors(self, errors: str, **_: Any) -> None:
        self.errors = errors

    def do_stumble(self, **_: Any) -> None:
        raise Stumbled

    def do_send(self, sender: int, payload: dict[str, int], way: str, scripts: Scripts) -> None:
        if way == "elsewhere":
            self.contexts_made += 1
            self.contexts.append(self.contexts_made)

        try:
            results = self.send(self.key(sender), payload, scripts)
        except Raised as raised:
            self.log.append(("raised", raised.names))
        else:
            self.log.append(("returned", results))
        finally:
            if way == "elsewhere":
                self.contexts.pop()

    def is_muted_here(self) -> bool:
        return self.is_muted or any(not mute.receivers for mute in self._mutes_here())

    def _mutes_here(self) -> list[Block]:
        return [mute for mute in self.mutes.values() if mute.context == self.contexts[-1]]

    def _unmuted(self, connections: list[Connected]) -> list[Connected]:
        if self.is_muted_here():
            return []

        muted = {uid for mute in self._mutes_here() for uid in mute.receivers}
        return [c for c in connections if c.receiver not in muted]

    def send(self, sender: Any, payload: dict[str, int], scripts: Scripts) -> list[str]:
        errors = self.errors
        snapshot = [(c, c.options) for c in self._unmuted(self.matching(sender))]
        running = Running(sender)
        self.running.append(running)

        try:
            for connection, options in snapshot:
                if connection not in self.connections or connection.receiver in running.called or options.is_used_up:
                    continue

                self._call(connection, options, running, errors, payload, scripts)

            if running.failures:
                raise Raised(running.failures)

            return [name for name in running.called if name in running.strong_ref]
        finally:
            self.running.remove(running)
            self.remove_dead()

    def _call(
        self,
        connection: Connected,
        options: Options,
        running: Running,
        errors: str,
        payload: dict[str, int],
        scripts: Scripts,
    ) -> None:
        name = connection.receiver
        running.called.append(name)
        self.calling.append(name)

        if options.is_once:
            self._use_up(connection, options)

        self.log.append(("called", name, running.sender, payload))

        try:
            for action in take(scripts, name):
                self.do(action, scripts)
        except Stumbled:
            if errors == "propagate":
                raise Raised([name]) from None

            if errors == "collect":
                running.failures.append(name)
            else:
                self.log.append(("failed", name))
        else:
            running.strong_ref.append(name)
        finally:
            self.calling.remove(name)
            self.remove_dead()

    def _use_up(self, connection: Connected, options: Options) -> None:
        options.is_used_up = True

        if connection.options is not options:
            return  # Connected again since the send began.

        connection.connected_directly = connection.is_strong = False
        connection.options = Options(is_once=False)

        if not connection.open_scopes:
            self.connections.remove(connection)


def take(scripts: Scripts, name: str) -> list[Action]:
    """Return what a receiver does in this call: each script runs once."""
    return scripts.pop(name.split()[1].split(".", maxsplit=1)[0], [])


# The engine, with the same actions.


def drive(receiver: Any) -> Any:
    """Run a coroutine that never waits, as an ``async_wrapper``."""

    def call(*args: Any, **payload: Any) -> Any:
        return finish(receiver(*args, **payload))

    return call


def wrap(receiver: Any) -> Any:
    """Run a sync receiver in the same thread, as a ``sync_wrapper``."""

    async def call(*args: Any, **payload: Any) -> Any:
        return receiver(*args, **payload)

    return call


def finish(coroutine: Any) -> Any:
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value

    raise AssertionError("a send waited for something")


class Engine:
    """The real engine, with the model's names."""

    def __init__(self, signal: Any) -> None:
        self.signal = signal
        self.buried: set[str] = set()
        self.receivers: dict[int, Any] = {}
        self.senders: dict[int, Any] = {}
        self.blocks: dict[int, Any] = {}
        self.mutes: dict[int, Any] = {}
        self.made = 0
        self.log: list[Any] = []
        self.scripts: Scripts = {}
        signal.async_wrapper = drive
        signal.sync_wrapper = wrap

    # Existing objects.

    def receiver(self, slot: int) -> Any:
        make, get = RECEIVERS[slot]

        if slot not in self.receivers:
            self.made += 1
            self.receivers[slot] = make(f"receiver {slot}.{self.made}", self.buried, self.play)

        return get(self.receivers[slot])

    def sender(self, slot: int | None) -> Any:
        if slot is None:
            return ANY

        if slot < len(VALUES):
            return VALUES[slot][0]

        if slot < FIRST_KILLABLE:
            return LASTING[slot - len(VALUES)]

        if slot not in self.senders:
            self.made += 1
            self.senders[slot] = KILLABLE[slot - FIRST_KILLABLE](f"sender {slot}.{self.made}", self.buried)

        return self.senders[slot]

    def key(self, sender: Any) -> Any:
        """Return the model's name for a sender that a receiver got."""
        if isinstance(sender, Mortal):
            return sender.uid

        if any(sender is lasting for lasting in LASTING):
            return ("lasting", len(VALUES) + next(i for i, lasting in enumerate(LASTING) if lasting is sender))

        value = next(value for given, value in VALUES if given is sender)
        return (type(value).__name__, value)

    def play(self, uid: str, sender: Any, payload: dict[str, Any]) -> str:
        self.log.append(("called", uid, self.key(sender), payload))

        for action in take(self.scripts, uid):
            if action[0] == "stumble":
                raise Stumbled(uid)

            self.do(action)

        return uid

    # Actions.

    def do(self, action: Action) -> None:
        getattr(self, f"do_{action[0]}")(*action[1:])

    def do_connect(self, slot: int, sender: int | None, weak: bool, priority: float, once: bool) -> None:
        self.signal.connect(self.receiver(slot), self.sender(sender), weak, priority=priority, once=once)

    def do_disconnect(self, slot: int, sender: int | None) -> None:
        self.signal.disconnect(self.receiver(slot), self.sender(sender))

    def do_clear(self) -> None:
        self.signal.receivers.clear()

    def do_kill_receiver(self, slot: int) -> None:
        self.receivers.pop(slot, None)

    def do_kill_sender(self, slot: int) -> None:
        self.senders.pop(slot, None)

    def do_enter(self, number: int, slot: int, sender: int | None) -> None:
        if number not in self.blocks:
            block = self.signal.connected_to(self.receiver(slot), self.sender(sender))
            block.__enter__()
            self.blocks[number] = block

    def do_leave(self, number: int) -> None:
        if number in self.blocks:
            self.blocks.pop(number).__exit__(None, None, None)

    def do_mute(self, number: int, slots: list[int]) -> None:
        if number not in self.mutes:
            mute = self.signal.muted(*(self.receiver(slot) for slot in slots))
            mute.__enter__()
            self.mutes[number] = mute

    def do_unmute(self, number: int) -> None:
        if number in self.mutes:
            self.mutes.pop(number).__exit__(None, None, None)

    def do_set_muted(self, is_muted: bool) -> None:
        self.signal.is_muted = is_muted

    def do_set_errors(self, errors: str) -> None:
        self.signal.errors = self.note_failure if errors == "call" else errors

    def note_failure(self, failure: Failure) -> None:
        assert failure.signal is self.signal
        self.log.append(("failed", str(failure.exception)))

    def do_send(self, sender: int, payload: dict[str, int], way: str) -> None:
        try:
            results = self.send(self.sender(sender), payload, way)
        except Stumbled as error:
            self.log.append(("raised", [str(error)]))
        except ExceptionGroup as group:
            self.log.append(("raised", [str(error) for error in group.exceptions]))
        else:
            self.log.append(("returned", results))

    def send(self, sender: Any, payload: dict[str, int], way: str) -> list[str]:
        if way == "async":
            results = finish(self.signal.send_async(sender, **payload))
        elif way == "elsewhere":
            results = contextvars.Context().run(self.signal.send, sender, **payload)
        else:
            results = self.signal.send(sender, **payload)

        return [name for _, name in results]


# Strategies.

receiver_slots = st.integers(0, len(RECEIVERS) - 1)
sender_slots = st.sampled_from(SENDERS)
filters = st.none() | sender_slots
killable = st.integers(FIRST_KILLABLE, len(SENDERS) - 1)
numbers = st.integers(0, 3)
payloads = st.sampled_from([{}, {"n": 1}])
ways = st.sampled_from(["sync", "sync", "async", "elsewhere"])


@st.composite
def connects(draw: st.DrawFn) -> Action:
    slot = draw(receiver_slots)
    once = draw(st.sampled_from([False, False, False, True]))
    # A receiver with a used up connection and an open block may keep its priority or not, so it has no priority here.
    priority = 0.0 if once else draw(st.sampled_from([0.0, 0.0, 0.0, 1, -1, 0.5, float("inf")]))
    return ("connect", slot, draw(filters), draw(st.booleans()) and slot not in UNREFERABLE, priority, once)


enters = st.tuples(st.just("enter"), numbers, receiver_slots, filters)
leaves = st.tuples(st.just("leave"), numbers)
disconnects = st.tuples(st.just("disconnect"), receiver_slots, filters)
sends = st.tuples(st.just("send"), sender_slots, payloads, ways)
mutes = st.tuples(st.just("mute"), numbers, st.lists(receiver_slots, max_size=2))
unmutes = st.tuples(st.just("unmute"), numbers)
kills = st.tuples(st.just("kill_receiver"), receiver_slots) | st.tuples(st.just("kill_sender"), killable)
settings_changes = st.tuples(st.just("set_errors"), st.sampled_from(["propagate", "collect", "call"])) | st.tuples(
    st.just("set_muted"), st.booleans()
)

actions = st.one_of(
    connects(),
    disconnects,
    sends,
    sends,
    kills,
    st.just(("stumble",)),
    enters,
    leaves,
    mutes,
    unmutes,
    settings_changes,
    st.just(("clear",)),
)
scripts = st.dictionaries(receiver_slots.map(str), st.lists(actions, min_size=1, max_size=3), max_size=4)


# Both, side by side.


class Machine(RuleBasedStateMachine):
    """Run each action on the model and on the engine."""

    def __init__(self) -> None:
        super().__init__()
        gc.disable()  # Reference counts alone must free every object.
        self.model = Model()
        self.engine = Engine(self.make_signal())
        self.steps = 0

    def make_signal(self) -> Any:
        return Signal()

    def fill(self, payload: dict[str, int]) -> dict[str, int]:
        """Return the payload as receivers get it."""
        return payload

    def perform(self, action: Action, scripts: Scripts | None = None) -> None:
        scripts = scripts or {}
        self.engine.scripts = dict(scripts)
        self.model.log.clear()
        self.engine.log.clear()

        self.model.do(action, dict(scripts))
        self.engine.do(action)

        assert self.engine.log == [
            (*entry[:3], self.fill(entry[3])) if entry[0] == "called" else entry for entry in self.model.log
        ]

    @rule(action=connects())
    def connect(self, action: Action) -> None:
        self.perform(action)

    @rule(action=st.one_of(disconnects, kills))
    def take_away(self, action: Action) -> None:
        self.perform(action)

    @rule(action=st.one_of(enters, enters, leaves))
    def connected_to(self, action: Action) -> None:
        self.perform(action)

    @rule(action=st.one_of(mutes, unmutes, unmutes, settings_changes))
    def change_settings(self, action: Action) -> None:
        self.perform(action)

    @rule(action=sends, scripts=scripts)
    def send(self, action: Action, scripts: Scripts) -> None:
        self.perform(action, scripts)

    @rule(slots=st.lists(receiver_slots, min_size=1, max_size=3, unique=True), sender=sender_slots, script=scripts)
    def send_to_some(self, slots: list[int], sender: int, script: Scripts) -> None:
        """Connect receivers that have a script, then send to them."""
        for slot in slots:
            self.perform(("connect", slot, sender if slot % 2 else None, slot not in UNREFERABLE, 0.0, False))

        self.perform(("set_muted", False))
        self.perform(("send", sender, {"n": 1}, "sync"), script)

    @rule(is_all=st.sampled_from([False, False, False, True]))
    def clear(self, is_all: bool) -> None:
        if is_all:
            self.perform(("clear",))

    @invariant()
    def agrees(self) -> None:
        signal, model = self.engine.signal, self.model
        connected = {c.receiver for c in model.connections}
        assert self.engine.buried == model.dead()
        assert bool(signal.receivers) is bool(connected)
        assert len(signal.receivers) == len(list(signal.receivers)) == len(connected)
        assert tables(signal) == (
            len(model.connections),
            len({c.sender for c in model.connections if c.sender is not ANY}),
            len({c.receiver for c in model.connections if c.sender is not ANY}),
        )
        assert signal.is_muted is model.is_muted_here()

        for slot in (None, *(slot for slot in SENDERS if slot < FIRST_KILLABLE or slot in model.senders)):
            self._agrees_on(slot)

        self.steps += 1

    def _agrees_on(self, slot: int | None) -> None:
        signal, sender = self.engine.signal, self.engine.sender(slot)
        expected = self.model.receivers_for(self.model.key(slot))
        assert [self._name_of(receiver) for receiver in signal.receivers_for(sender)] == expected
        assert signal.has_receivers_for(sender) is bool(expected)

        # Only every other time, so that snapshots also become outdated without a send. A send would use up once
        # receivers.
        if slot is not None and self.steps % 2 and not any(c.options.is_once for c in self.model.connections):
            self.perform(("send", slot, {"n": 1} if self.steps % 4 == 1 else {}, "sync"))

    def _name_of(self, receiver: Any) -> str:
        owner = receiver.args[0] if isinstance(receiver, partial) else getattr(receiver, "__self__", receiver)
        closure = getattr(owner, "__closure__", None)
        player: Player = closure[0].cell_contents if closure else owner
        return player.uid

    def teardown(self) -> None:
        try:
            for number in list(self.engine.mutes):
                self.perform(("unmute", number))

            for number in list(self.engine.blocks):
                self.perform(("leave", number))

            self.perform(("clear",))
            self.agrees()
        finally:
            gc.enable()


def tables(signal: Any) -> tuple[int, int, int]:
    """Count the connections, sender filters and filtered receivers in the engine's tables: no entry may be left
    behind."""
    table = signal._registry
    connections = [*table.for_any.connections.values()]
    connections += [c for filter in table.filters.values() for c in filter.connections.values()]
    assert len(table.by_sender) <= len(table.filters)
    return len(connections), len(table.filters), len(table._by_receiver)


class DeclaredMachine(Machine):
    """The same on a declared signal: the engine sends it by other code."""

    def make_signal(self) -> Any:
        def lit(sender: Any, /, *, n: int = 0) -> Any: ...

        return Namespace().declare(lit)

    def fill(self, payload: dict[str, int]) -> dict[str, int]:
        return {"n": 0, **payload}


TestSignal = Machine.TestCase
TestDeclaredSignal = DeclaredMachine.TestCase
