"""Breaks of the live page's JavaScript: a piece of code in a named function, whatever its spaces and comments."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from .breaks import Break, BreakError

if TYPE_CHECKING:
    from pathlib import Path

TOKEN: Final = re.compile(
    r"""
    (?P<gap>\s+|//[^\n]*|/\*.*?\*/)
    |"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'
    |`(?:\\.|[^`\\])*`
    |[\w$]+
    |.
    """,
    re.VERBOSE | re.DOTALL,
)

OPENING: Final = {"(", "[", "{"}
CLOSING: Final = {")", "]", "}"}


def edit(folder: Path, broken: Break) -> tuple[Path, bytes]:
    """Return the script that a break changes, and its changed text.

    :raises BreakError: if the break does not fit the scripts below the folder.
    """
    path, text, body = _function(folder, broken.at)
    old, new = _tokens(broken.old), _tokens(broken.new)

    if [word for word, _, _ in old] == [word for word, _, _ in new]:
        raise BreakError(f"the new code means the same as the old:\n{broken.new}")

    found = [
        part
        for part in (body[start : start + len(old)] for start in range(len(body)))
        if [word for word, _, _ in part] == [word for word, _, _ in old]
    ]
    part = found[broken.choose(len(found))]
    return path, (text[: part[0][1]] + broken.new.strip() + text[part[-1][2] :]).encode()


def _function(folder: Path, name: str) -> tuple[Path, str, list[tuple[str, int, int]]]:
    """Return the file, its text and the tokens of the one function of a name."""
    found = []

    for path in sorted(folder.rglob("*.js")):
        text = path.read_text(encoding="utf-8")
        tokens = _tokens(text)
        words = [word for word, _, _ in tokens]
        found += [
            (path, text, tokens[start : _end(words, start)])
            for start in range(len(words))
            if words[start : start + 3] == ["function", name, "("]
        ]

    if len(found) != 1:
        raise BreakError(f"{len(found)} JavaScript functions of the name {name}")

    return found[0]


def _end(words: list[str], start: int) -> int:
    """Return the index behind a function that begins at ``start``: behind its parameters and its body."""
    return _closing(words, _closing(words, start + 2))


def _closing(words: list[str], start: int) -> int:
    """Return the index behind the bracket that closes the one at ``start``."""
    depth = 0

    for index in range(start, len(words)):
        depth += (words[index] in OPENING) - (words[index] in CLOSING)

        if depth == 0:
            return index + 1

    raise BreakError("a JavaScript function has no end")


def _tokens(text: str) -> list[tuple[str, int, int]]:
    """Split code into words, with their places; without spaces and comments."""
    return [(match[0], match.start(), match.end()) for match in TOKEN.finditer(text) if match["gap"] is None]
