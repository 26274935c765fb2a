"""For the tests of programs that use signals: record what is sent, keep receivers from running, clean up after.

All of it works on signals of Aldis and on plain ones of Blinker, for the whole process: sends from other threads, such
as those of a server, are recorded too, and other threads' receivers are kept from running. Each function gives a
context manager; blocks nest. With unittest, use ``self.enterContext(...)``; pytest has the fixture ``signals``.

>>> from aldis import Namespace
>>> from aldis.testing import record
>>> saved = Namespace().signal("saved")
>>> with record(saved) as sent:
...     _ = saved.send("pages", title="Home")
>>> sent.one().title
'Home'
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, final

from aldis._core.callables import describe
from aldis._core.identity import ANY, receiver_key, resolve_bound
from aldis._core.signal import Signal
from aldis.exceptions import InvalidOptionError

from ._isolation import Saved
from ._recording import Recording, Sent
from ._taps import Recorder, connected_receivers, tapped

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Iterator
    from types import TracebackType

__all__ = ["Recording", "Sent", "Signals", "captured_templates", "fake", "isolate", "record"]


@contextmanager
def record(of: Any, sender: Any = ANY) -> Generator[Recording, None, None]:
    """Record what is sent while a ``with`` block runs.

    Receivers run as ever; each send is noted before the first of them does, so that one that raises hides nothing.
    What is sent while the signal is muted reaches nobody, and is not recorded. ``signal.receivers`` is true inside the
    block, as if somebody were connected; results of ``send`` are what they are without it.

    :param of: a signal; a namespace or another mapping of names to signals; or a list, tuple or set of such. Of a
        namespace, those signals are recorded that are in it when the block begins.
    :param sender: record sends by this sender only. It is matched as by ``connect``.
    :return: a context manager that gives a :class:`Recording`.
    :raises InvalidOptionError: when ``of`` is something else, or has no signals.
    :raises UnboundProxyError: when the sender is a proxy that stands for nothing.

    .. versionadded:: 0.1
    """
    signals = _wanted_signals("record", of)
    sender = _resolved(signals, sender)
    recording = Recording(tuple(signals), sender)
    recorder = Recorder(recording._add, sender)

    with ExitStack() as taps:
        for signal in signals:
            taps.enter_context(tapped(signal, recorder, sender))

        yield recording


@contextmanager
def fake(
    of: Any, *, only: Callable[..., Any] | Collection[Callable[..., Any]] | None = None
) -> Generator[Recording, None, None]:
    """Keep receivers from running while a ``with`` block runs, and record what they would have been called with.

    This holds in all threads and tasks, so that a server's threads can be tested too; to silence the current one
    only, use ``signal.muted()``. Connections stay what they are: a ``once`` receiver that was kept from running
    has not been used up, and deliveries are given nothing.

    :param of: as for :func:`record`: all receivers of these signals are stopped.
    :param only: stop this receiver, or these, and let the others run. Then only those sends are recorded that would
        have called one of them.
    :return: a context manager that gives a :class:`Recording`. The ``stopped`` of each :class:`Sent` says who would
        have been called.
    :raises InvalidOptionError: as :func:`record`; when ``only`` is no receiver and no collection of some; and when one
        of them is not connected to any of the signals, because then something else might run in its place.

    .. versionadded:: 0.1
    """
    signals = _wanted_signals("fake", of)
    recording = Recording(tuple(signals))
    receivers = None if only is None else _wanted_receivers(signals, only)
    recorder = Recorder(recording._add, is_fake=True, only=receivers)

    with ExitStack() as taps:
        for signal in signals:
            taps.enter_context(tapped(signal, recorder))

        yield recording


@contextmanager
def isolate(of: Any) -> Generator[None, None, None]:
    """Put connections back as they were when a ``with`` block ends, also after an exception.

    The same receivers are connected then, to the same senders, with the same options and in the same order. Who was
    connected inside is disconnected, and who was disconnected or used up is back. What is held weakly and died inside
    stays away, and so do the receivers of ``connected_to`` blocks that have ended. Connections of all signals of Aldis
    are put back in one step: a send that begins meanwhile waits for it. ``receiver_connected`` and
    ``receiver_disconnected`` are not sent.

    Also a decorator, for functions that are not async.

    :param of: as for :func:`record`. Of a namespace, signals that are new at the end lose their receivers.
    :raises InvalidOptionError: when it is something else.

    .. versionadded:: 0.1
    """
    before = list(_signals("isolate", of))
    saved = Saved(before)

    try:
        yield
    finally:
        known = {id(signal) for signal in before}
        saved.put_back([signal for signal in _signals("isolate", of) if id(signal) not in known])


@contextmanager
def captured_templates(
    app: Any,
    recorded: list[tuple[Any, Any]] | None = None,
    **extra: Any,  # noqa: ARG001  # As documented.
) -> Generator[list[tuple[Any, Any]], None, None]:
    """Record the templates that a Flask application renders, as Flask's documentation shows it.

    Both of the documentation's forms are there: ``with captured_templates(app) as templates``, and with a list of
    one's own, ``with captured_templates(app, templates)``.

    :param app: an application of Flask, or of Quart.
    :param recorded: a list to append to; by default a new one.
    :param extra: taken because the documentation's function takes it. Not used.
    :return: a context manager that gives the list. Each item is a template and the context that it was rendered with.
    :raises InvalidOptionError: when ``app`` is no application, or ``recorded`` cannot be appended to.
    :raises UnboundProxyError: when ``app`` is ``current_app`` outside of an app context.

    .. versionadded:: 0.1
    """
    app = resolve_bound(app)
    framework = _framework_of(app)

    if recorded is None:
        recorded = []
    elif not callable(getattr(recorded, "append", None)):
        raise InvalidOptionError(f"captured_templates() appends to a list, not to {_kind(recorded)}.")

    def note(sent: Sent) -> None:
        recorded.append((sent.payload["template"], sent.payload["context"]))

    with tapped(import_module(framework).template_rendered, Recorder(note, app), app):
        yield recorded


@final
class Signals:
    """All of this module in one object, whose blocks last until it is closed.

    The fixture ``signals`` of pytest is one. With unittest, write ``self.enterContext(Signals())`` in ``setUp``.

    .. versionadded:: 0.1
    """

    __slots__ = ("_blocks",)

    def __init__(self) -> None:
        self._blocks = ExitStack()

    def record(self, of: Any, sender: Any = ANY) -> Recording:
        """Record from now on. See :func:`aldis.testing.record`."""
        return self._blocks.enter_context(record(of, sender))

    def fake(self, of: Any, *, only: Callable[..., Any] | Collection[Callable[..., Any]] | None = None) -> Recording:
        """Keep receivers from running from now on. See :func:`aldis.testing.fake`."""
        return self._blocks.enter_context(fake(of, only=only))

    def isolate(self, of: Any) -> None:
        """Put connections back at the end. See :func:`aldis.testing.isolate`."""
        self._blocks.enter_context(isolate(of))

    def captured_templates(self, app: Any) -> list[tuple[Any, Any]]:
        """Record templates from now on. See :func:`aldis.testing.captured_templates`."""
        return self._blocks.enter_context(captured_templates(app))

    def close(self) -> None:
        """Undo all of it, the latest first."""
        self._blocks.close()

    def __enter__(self) -> Signals:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _signals(verb: str, of: Any) -> Iterator[Any]:
    """The signals that a caller means, one by one.

    :raises InvalidOptionError: when these are no signals.
    """
    if _is_signal(of):
        yield of
        return

    if callable(getattr(of, "keys", None)) and callable(getattr(of, "values", None)) and not _is_class(of):
        found: list[Any] = list(of.values())
    elif _is_collection(of):
        found = list(of)
    else:
        raise InvalidOptionError(f"{verb}() takes a signal, a namespace, or a list of such, not {_kind(of)}.")

    for each in found:
        yield from _signals(verb, each)


def _wanted_signals(verb: str, of: Any) -> list[Any]:
    """The same, each once.

    :raises InvalidOptionError: also when there is none.
    """
    signals = list({id(signal): signal for signal in _signals(verb, of)}.values())

    if not signals:
        raise InvalidOptionError(
            f"{verb}() was given no signals. Of a namespace it takes those that are there already: import what makes"
            " them before."
        )

    return signals


def _is_signal(value: Any) -> bool:
    return isinstance(value, Signal) or (
        not _is_class(value)
        and all(callable(getattr(value, verb, None)) for verb in ("connected_to", "receivers_for", "send"))
    )


def _is_class(value: Any) -> bool:
    return isinstance(value, type)


def _is_collection(value: Any) -> bool:
    return isinstance(value, (list, tuple, set, frozenset))


def _resolved(signals: list[Any], sender: Any) -> Any:
    """A sender as it is matched. Blinker has an ``ANY`` of its own, which means ours."""
    if any(sender is getattr(signal, "ANY", None) for signal in signals):
        return ANY

    return resolve_bound(sender)


def _wanted_receivers(signals: list[Any], only: Any) -> tuple[Callable[..., Any], ...]:
    """The receivers that a caller means.

    :raises InvalidOptionError: when they are none, or are not connected.
    """
    receivers: tuple[Any, ...] = ()

    if callable(only):
        receivers = (only,)
    elif _is_collection(only):
        receivers = tuple(only)

    if not receivers or not all(map(callable, receivers)):
        raise InvalidOptionError(f"fake(only=...) takes a receiver or a list of receivers, not {_kind(only)}.")

    known = {receiver_key(receiver) for signal in signals for receiver in connected_receivers(signal)}
    are_all_known = not any(getattr(signal, "_finds_receivers_itself", False) for signal in signals)

    for receiver in receivers:
        if are_all_known and receiver_key(receiver) not in known:
            raise InvalidOptionError(
                f"fake(only=...) cannot stop {describe(receiver)}: it is not connected. Begin the block after it was"
                " connected, and give the very object that was: not one that is wrapped or bound to something else."
            )

    return receivers


def _framework_of(app: Any) -> str:
    """The package of an application's class, without importing it.

    :raises InvalidOptionError: when it is no application.
    """
    for kind in type(app).__mro__:
        framework = kind.__module__.partition(".")[0]

        if (framework, kind.__name__) in _APPLICATIONS:
            return framework

    raise InvalidOptionError(f"captured_templates() takes an application of Flask or Quart, not {_kind(app)}.")


def _kind(value: Any) -> str:
    """What a wrong value is, without its contents."""
    return f"the class {value.__qualname__}" if isinstance(value, type) else f"a value of {type(value).__qualname__}"


_APPLICATIONS: Final = frozenset({("flask", "Flask"), ("quart", "Quart")})
