"""How the timeline and the summary look on a terminal, and in a file."""

from __future__ import annotations

import os
import textwrap
from collections import Counter
from dataclasses import dataclass, field
from itertools import groupby
from threading import Lock
from typing import TYPE_CHECKING, TextIO

from timeline import error_of, is_queued, name_of, runs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from timeline import Request
    from workers import Books

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
            return f"{name_of(call)} {self._paint('queued' if is_queued(call) else 'waits', 'quiet')}"

        took = f"{(call.duration_s or 0.0) * 1000:.2f}"
        error = error_of(call)
        return (
            self._paint(f"{name_of(call)} {took} ✗ {error}", "red")
            if error
            else f"{name_of(call)} {self._paint(took, 'quiet')}"
        )

    def summary(self, requests: Sequence[Request]) -> None:
        """A line for each signal: how often it was sent, how many receivers that called, how many of these failed, and
        for how many it wrote a row.
        """
        sent, called, failed, queued = Counter[str](), Counter[str](), Counter[str](), Counter[str]()

        for _, send in (each for request in requests for each in request.all_sends()):
            name = send.signal_name if send.calls else "those that nobody hears"
            sent[name] += 1
            called[name] += len(runs(send))
            failed[name] += sum(error_of(call) is not None for call in runs(send))
            queued[name] += sum(map(is_queued, send.calls))

        self.tell(f"{'Signal':28}{'sent':>8}{'receivers called':>20}{'failed':>10}{'queued':>10}")

        for name in sorted(sent, key=lambda name: (not called[name], list(sent).index(name))):
            row = self._paint(f"{name:28}", "yellow" if name in self._own else "" if called[name] else "quiet")
            numbers = f"{sent[name]:8}{called[name]:20}{self._number(failed[name])}"
            self._write(f"{row}{numbers}{self._number(queued[name], 'yellow')}")

        self._write(self._paint("─" * 76, "quiet"))
        numbers = f"{sent.total():8}{called.total():20}{self._number(failed.total())}"
        self._write(f"{f'{len(requests)} requests':28}{numbers}{self._number(queued.total(), 'yellow')}")

    def _number(self, number: int, style: str = "red") -> str:
        return self._paint(f"{number:10}", style if number else "quiet")

    def books(self, books: Books) -> None:
        """What there is after the workers that were killed."""
        self.tell("What is there when all is done")

        for name, number, note in (
            ("Orders", len(books.invoices), ""),
            ("Workers killed", books.kills, "what they had in their hands came again when their leases ended"),
            ("Attempts at an invoice", books.attempts, "a kill counts"),
            ("  that found it made", books.repeated, "so relay.first_time() said, and it was not made again"),
            ("Invoices", sum(books.invoices.values()), _each(books.invoices.values())),
            (
                "Mails of confirmation",
                books.confirmations.total(),
                _each(books.confirmations[id] for id in books.invoices),
            ),
            ("Mails of welcome", books.welcomes, ""),
            ("Dead letters", sum(books.dead.values()), "mails that were tried as often as they may be, and are kept"),
        ):
            self._write(f"{name:24}{number:4}  {self._paint(note, 'quiet')}".rstrip())

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


def _each(counts: Iterable[int]) -> str:
    wrong = sum(count != 1 for count in counts)
    return f"{wrong} orders have none, or several" if wrong else "exactly one for each order"


def _can_write(stream: TextIO, text: str) -> bool:
    try:
        text.encode(stream.encoding)
    except UnicodeEncodeError:
        return False

    return True
