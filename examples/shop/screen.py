"""How the timeline and the summary look on a terminal, and in a file."""

from __future__ import annotations

import os
import textwrap
from collections import Counter
from dataclasses import dataclass, field
from itertools import groupby
from threading import Lock
from typing import TYPE_CHECKING, TextIO

from timeline import error_of, name_of, runs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from timeline import Request

    from aldis.observe import CallRecord

STYLES = {"bold": "1", "quiet": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}

# For streams that cannot write the former.
FINE_AND_PLAIN = {"→": "->", "✗": "x", "✓": "ok", "·": "-", "─": "-", "│": "|", "├": "|", "└": "`"}
PLAIN = {ord(fine): plain for fine, plain in FINE_AND_PLAIN.items()}


@dataclass
class Line:
    """A line of a request: a send, or receivers of it that waited until now.

    :ivar at_s: when, in seconds since the epoch.
    """

    at_s: float
    label: str
    is_own: bool
    calls: list[CallRecord] = field(default_factory=list)


class Screen:
    """Writes to a stream, from any thread, one whole piece at a time.

    Colours are for terminals, and not for those who set NO_COLOR.

    :param own: the names of the shop's own signals, which stand out.
    """

    def __init__(self, stream: TextIO, own: Iterable[str] = ()) -> None:
        self._stream = stream
        self._own = frozenset(own)
        self._lock = Lock()
        self.has_colours = stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self._is_plain = not _can_write(stream, "".join(map(chr, PLAIN)))

    def say(self, text: str, style: str = "") -> None:
        self._write(self._paint(text, style))

    def tell(self, text: str) -> None:
        """What is about to happen."""
        self._write("\n" + self._paint(text, "bold"))

    def request(self, request: Request) -> None:
        """One request: a line for itself, and one for each send that somebody heard."""
        status = self._paint(str(request.status), "red" if request.status >= 400 else "green")
        head = self._paint(f"{request.method} {request.path}", "cyan")
        lines = [f"{request.id:4}  {head}  {status}  {self._paint(f'{request.took_ms:.1f} ms', 'quiet')}"]

        for line in sorted(self._lines(request), key=lambda line: line.at_s):
            label = self._paint(line.label.ljust(27), "yellow" if line.is_own else "")
            calls = self._paint(" → ", "quiet").join(map(self._call, line.calls))
            lines.append(f"{request.at_ms(line.at_s):10.1f}  {label} {calls}")

        self._write("\n" + "\n".join(lines))

    def _lines(self, request: Request) -> Iterator[Line]:
        for depth, send in request.all_sends():
            is_own, indent = send.signal_name in self._own, "  " * depth
            first = [call for call in send.calls if call.is_delivery or not call.via]
            later = [call for call in send.calls if call.via and not call.is_delivery]

            if first:
                yield Line(send.started_s, f"{indent}{send.signal_name}", is_own, first)

            for via, calls in groupby(later, key=_delivery):
                waited = list(calls)
                yield Line(waited[0].started_s, f"{indent}  {via}", is_own, waited)

    def _call(self, call: CallRecord) -> str:
        if call.is_delivery:
            return f"{name_of(call)} {self._paint('waits', 'quiet')}"

        took = f"{(call.duration_s or 0.0) * 1000:.2f}"
        error = error_of(call)
        return (
            self._paint(f"{name_of(call)} {took} ✗ {error}", "red")
            if error
            else f"{name_of(call)} {self._paint(took, 'quiet')}"
        )

    def summary(self, requests: Sequence[Request]) -> None:
        """A line for each signal: how often it was sent, how many receivers that called, and how many failed."""
        sent, called, failed = Counter[str](), Counter[str](), Counter[str]()

        for _, send in (each for request in requests for each in request.all_sends()):
            name = send.signal_name if send.calls else "those that nobody hears"
            sent[name] += 1
            called[name] += len(runs(send))
            failed[name] += sum(error_of(call) is not None for call in runs(send))

        self.tell(f"{'Signal':28}{'sent':>8}{'receivers called':>20}{'failed':>10}")

        for name in sorted(sent, key=lambda name: (not called[name], list(sent).index(name))):
            row = self._paint(f"{name:28}", "yellow" if name in self._own else "" if called[name] else "quiet")
            self._write(f"{row}{sent[name]:8}{called[name]:20}{self._number(failed[name])}")

        self._write(self._paint("─" * 66, "quiet"))
        self._write(
            f"{f'{len(requests)} requests':28}{sent.total():8}{called.total():20}{self._number(failed.total())}"
        )

    def _number(self, failed: int) -> str:
        return self._paint(f"{failed:10}", "red" if failed else "quiet")

    def command(self, words: str, printed: str) -> None:
        """A command, and what it has printed."""
        self.tell(f"$ {words}")
        self._write(printed.rstrip())

    def verdict(self, faults: Sequence[str]) -> None:
        if not faults:
            self._write("\n" + self._paint("✓ All of it is what the visit implies.", "green"))
            return

        self._write("\n" + self._paint(f"✗ {len(faults)} things are not what the visit implies:", "red"))

        for fault in faults:
            self._write(textwrap.fill(fault, 110, initial_indent="  · ", subsequent_indent="    "))

    def _paint(self, text: str, style: str) -> str:
        return f"\x1b[{STYLES[style]}m{text}\x1b[0m" if style and self.has_colours else text

    def _write(self, text: str) -> None:
        if self._is_plain:
            text = text.translate(PLAIN).encode("ascii", "replace").decode()

        with self._lock:
            try:
                print(text, file=self._stream, flush=True)
            except BrokenPipeError:
                # Whoever read this has seen enough, as in `make demo | head`. The visit goes on in silence.
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


def _delivery(call: CallRecord) -> str:
    """What a receiver waited for: ``after_commit`` or ``after_response``."""
    return repr(call.via).partition("(")[0]


def _can_write(stream: TextIO, text: str) -> bool:
    try:
        text.encode(stream.encoding)
    except UnicodeEncodeError:
        return False

    return True
