"""Print the timeline and the summary, to a terminal or to a file."""

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

# Plain characters, for streams that cannot write the ones above.
FINE_AND_PLAIN = {"→": "->", "✗": "x", "✓": "ok", "·": "-", "─": "-", "│": "|", "├": "|", "└": "`"}
PLAIN = {ord(fine): plain for fine, plain in FINE_AND_PLAIN.items()}


@dataclass
class Line:
    """One line of a request: a send, or receivers that waited for their delivery and run now.

    :ivar at_s: the time, in seconds since the epoch.
    """

    at_s: float
    label: str
    is_own: bool
    calls: list[CallRecord] = field(default_factory=list)


class Screen:
    """Writes to a stream from any thread, each text as a whole.

    It uses colours on a terminal only, and only when NO_COLOR is not set.

    :param own: the names of the shop's own signals, which are printed in colour.
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
        """Print a headline that says what happens next."""
        self._write("\n" + self._paint(text, "bold"))

    def request(self, request: Request) -> None:
        """Print one request: a line for the request, and one for each send that had receivers."""
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
        """Print one line for each signal: how many sends, calls of receivers, failed calls and queue rows it had."""
        sent, called, failed, queued = Counter[str](), Counter[str](), Counter[str](), Counter[str]()

        for _, send in (each for request in requests for each in request.all_sends()):
            name = send.signal_name if send.calls else "signals without receivers"
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
        """Print the numbers of orders, invoices and mails after the workers were killed."""
        self.tell("What there is when all workers have ended")

        for name, number, note in (
            ("Orders", len(books.invoices), ""),
            ("Workers killed", books.kills, "other workers claimed their messages when the leases ended"),
            ("Attempts at an invoice", books.attempts, "an attempt that ends with a kill counts"),
            ("  that found an invoice", books.repeated, "relay.first_time() returned False: no second invoice"),
            ("Invoices", sum(books.invoices.values()), _each(books.invoices.values())),
            (
                "Confirmation mails",
                books.confirmations.total(),
                _each(books.confirmations[id] for id in books.invoices),
            ),
            ("Welcome mails", books.welcomes, ""),
            ("Dead letters", sum(books.dead.values()), "mails whose last attempt failed; they are kept"),
        ):
            self._write(f"{name:24}{number:4}  {self._paint(note, 'quiet')}".rstrip())

    def command(self, words: str, printed: str) -> None:
        """Print a command and its output."""
        self.tell(f"$ {words}")
        self._write(printed.rstrip())

    def verdict(self, faults: Sequence[str]) -> None:
        if not faults:
            self._write("\n" + self._paint("✓ Everything is as expected.", "green"))
            return

        self._write("\n" + self._paint(f"✗ {len(faults)} things are not as expected:", "red"))

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
                # The reader closed the pipe, as in `make demo | head`. The visit goes on, and prints nothing.
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


def _delivery(call: CallRecord) -> str:
    """Return the name of the delivery that a receiver waited for: ``after_commit`` or ``after_response``."""
    return repr(call.via).partition("(")[0]


def _each(counts: Iterable[int]) -> str:
    wrong = sum(count != 1 for count in counts)
    return f"{wrong} orders have none, or more than one" if wrong else "exactly one for each order"


def _can_write(stream: TextIO, text: str) -> bool:
    try:
        text.encode(stream.encoding)
    except UnicodeEncodeError:
        return False

    return True
