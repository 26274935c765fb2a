"""How the timeline and the summary look on a terminal, and in a file."""

from __future__ import annotations

import os
import textwrap
from collections import Counter
from threading import Lock
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from timeline import Heard, Request, Sent

STYLES = {"bold": "1", "quiet": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}

# For streams that cannot write the former.
PLAIN = {ord(fine): plain for fine, plain in {"→": "->", "✗": "x", "✓": "ok", "·": "-", "─": "-"}.items()}


class Screen:
    """Writes to a stream, from any thread, one whole piece at a time.

    Colours are for terminals, and not for those who set NO_COLOR.

    :param own: the names of the shop's own signals, which stand out.
    """

    def __init__(self, stream: TextIO, own: Iterable[str] = ()) -> None:
        self._stream = stream
        self._own = frozenset(own)
        self._lock = Lock()
        self._has_colours = stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self._is_plain = not _can_write(stream, "".join(map(chr, PLAIN)))

    def say(self, text: str, style: str = "") -> None:
        self._write(self._paint(text, style))

    def tell(self, text: str) -> None:
        """What is about to happen."""
        self._write("\n" + self._paint(text, "bold"))

    def request(self, request: Request) -> None:
        """One request: a line for itself, and one for each send."""
        status = self._paint(str(request.status), "red" if request.status >= 400 else "green")
        head = self._paint(f"{request.method} {request.path}", "cyan")
        lines = [f"{request.id:4}  {head}  {status}  {self._paint(f'{request.took_ms:.1f} ms', 'quiet')}"]
        self._write("\n" + "\n".join([*lines, *map(self._sent, request.sent)]))

    def _sent(self, sent: Sent) -> str:
        name = f"{'  ' * sent.depth}{sent.signal.name}".ljust(27)
        style = "yellow" if sent.signal.name in self._own else "" if sent.heard else "quiet"
        receivers = self._paint(" → ", "quiet").join(map(self._heard, sent.heard))
        return f"{sent.at_ms:10.1f}  {self._paint(name, style)} {receivers}".rstrip()

    def _heard(self, heard: Heard) -> str:
        if heard.error:
            return self._paint(f"{heard.receiver} {heard.took_ms:.2f} ✗ {heard.error}", "red")

        return f"{heard.receiver} {self._paint(f'{heard.took_ms:.2f}', 'quiet')}"

    def summary(self, requests: Sequence[Request]) -> None:
        """A line for each signal: how often it was sent, how many receivers that called, and how many failed."""
        sent, called, failed = Counter[str](), Counter[str](), Counter[str]()

        for send in (send for request in requests for send in request.sent):
            sent[send.signal.name] += 1
            called[send.signal.name] += len(send.heard)
            failed[send.signal.name] += sum(heard.error is not None for heard in send.heard)

        self.tell(f"{'Signal':28}{'sent':>8}{'receivers called':>20}{'failed':>10}")

        for name in sent:
            row = self._paint(f"{name:28}", "yellow" if name in self._own else "")
            self._write(f"{row}{sent[name]:8}{called[name]:20}{self._number(failed[name])}")

        self._write(self._paint("─" * 66, "quiet"))
        self._write(
            f"{f'{len(requests)} requests':28}{sent.total():8}{called.total():20}{self._number(failed.total())}"
        )

    def _number(self, failed: int) -> str:
        return self._paint(f"{failed:10}", "red" if failed else "quiet")

    def verdict(self, faults: Sequence[str]) -> None:
        if not faults:
            self._write("\n" + self._paint("✓ All of it is what the visit implies.", "green"))
            return

        self._write("\n" + self._paint(f"✗ {len(faults)} things are not what the visit implies:", "red"))

        for fault in faults:
            self._write(textwrap.fill(fault, 110, initial_indent="  · ", subsequent_indent="    "))

    def _paint(self, text: str, style: str) -> str:
        return f"\x1b[{STYLES[style]}m{text}\x1b[0m" if style and self._has_colours else text

    def _write(self, text: str) -> None:
        if self._is_plain:
            text = text.translate(PLAIN).encode("ascii", "replace").decode()

        with self._lock:
            try:
                print(text, file=self._stream, flush=True)
            except BrokenPipeError:
                # Whoever read this has seen enough, as in `make demo | head`. The visit goes on in silence.
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


def _can_write(stream: TextIO, text: str) -> bool:
    try:
        text.encode(stream.encoding)
    except UnicodeEncodeError:
        return False

    return True
