"""Puts the new code of a break in the place of the old, and leaves every other byte of the file as it is."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from . import pattern, script
from .breaks import Break, BreakError

if TYPE_CHECKING:
    from pathlib import Path

    from .pattern import Match, Nodes, Piece
    from .source import Module, Package

# What needs no parentheses, wherever it stands.
_ATOMS: Final = (ast.Name, ast.Attribute, ast.Call, ast.Subscript, ast.Constant, ast.List, ast.Dict, ast.Set)


@dataclass(frozen=True)
class Edit:
    """A file with a break in it."""

    path: Path
    data: bytes


def edit(package: Package, broken: Break) -> Edit:
    """Return the file that a break changes, changed.

    :raises BreakError: if the break does not fit the source.
    """
    try:
        if broken.language == "javascript":
            path, data = script.edit(package.folder, broken)
            return Edit(path, data)

        return _edit(package, broken)
    except BreakError as error:
        raise BreakError(f"{broken.name}: {error}") from None


def _edit(package: Package, broken: Break) -> Edit:
    old, new = pattern.parse(broken.old), pattern.parse(broken.new)

    if [ast.dump(statement) for statement in old.body] == [ast.dump(statement) for statement in new.body]:
        raise BreakError(f"the new code means the same as the old:\n{new.text}")

    place = package.find(broken.at, broken.beside)
    found = pattern.find(place.statements, old, as_statements=not new.is_expression)
    match = found[broken.choose(len(found))]
    module = place.module
    unknown = pattern.used_names(new.body) - pattern.bound_names(new.body) - place.known_names()

    if unknown:
        raise BreakError(f"{broken.at} does not know {', '.join(sorted(unknown))}, so it would just fail:\n{new.text}")

    start, end = module.start(match.nodes[0]), module.end(match.nodes[-1])
    written = _written(module, match, new)
    # Only the statement around it: to compile whole files takes most of the time of checking all breaks.
    first, last = module.around(start, end)

    try:
        compile(module.data[first:start] + written + module.data[end:last], module.path.name, "exec", dont_inherit=True)
    except SyntaxError as error:
        raise BreakError(f"the new code does not compile ({error.msg}):\n{new.text}") from None

    return Edit(module.path, module.data[:start] + written + module.data[end:])


def _written(module: Module, match: Match, new: Piece) -> bytes:
    """Return the new code as it is written in the place of the old."""
    first = match.nodes[0]
    text = _filled(module, match, new)

    if isinstance(first, ast.expr):
        assert isinstance(new.body[0], ast.Expr)
        return text if isinstance(new.body[0].value, _ATOMS) and b"\n" not in text else b"(" + text + b")"

    if isinstance(first, ast.stmt):
        if module.data.startswith(b"elif", module.start(first)):
            if not (len(new.body) == 1 and isinstance(new.body[0], ast.If)):
                raise BreakError(f"only another `if` can replace an `elif`:\n{new.text}")

            return b"el" + text
    elif not new.is_assignment:  # It is a keyword argument or a parameter.
        raise BreakError(f"only another assignment can replace an argument or a parameter:\n{new.text}")

    return text


def _filled(module: Module, match: Match, new: Piece) -> bytes:
    """Return the new code, indented as the old, with what the old code has for each ``...``."""
    column = module.column(match.nodes[0])
    lines = _indented(new.text.encode().splitlines(keepends=True), column, pattern.multiline_strings(new.body))
    gaps = pattern.gaps_of(new)

    if len(gaps) > len(match.gaps):
        raise BreakError(f"the new code has `...` more often than the old:\n{new.text}")

    # From the last to the first, so that the positions of the others stay right.
    for gap, (_, nodes) in reversed([*zip(gaps, match.gaps, strict=False)]):
        at = gap.col_offset + (column if gap.lineno > 1 else 0)
        line = lines[gap.lineno - 1]
        before, after = line[:at], line[at + len(b"...") :]

        if nodes and isinstance(nodes[0], ast.stmt) and before.strip():  # `if this: ...` on one line
            indent = column + _indent_of(new, gap) + 4
            before = before.rstrip() + b"\n" + b" " * indent
        else:
            indent = column + gap.col_offset

        lines[gap.lineno - 1] = before + _filling(module, nodes, indent) + after

    return b"".join(lines)


def _indent_of(piece: Piece, node: ast.expr) -> int:
    line = piece.text.splitlines()[node.lineno - 1]
    return len(line) - len(line.lstrip())


def _filling(module: Module, nodes: Nodes, column: int) -> bytes:
    """Return code of the source as it is written at another column."""
    if not nodes:
        return b""

    first, last = nodes[0], nodes[-1]
    lines = module.data[module.start(first) : module.end(last)].splitlines(keepends=True)
    top = module.line(first)
    inside = {number - top + 1 for number in pattern.multiline_strings(nodes)}
    shift = column - module.column(first) if isinstance(first, ast.stmt) else 0
    return b"".join(_indented(lines, shift, inside))


def _indented(lines: list[bytes], shift: int, fixed: set[int]) -> list[bytes]:
    """Move all lines but the first to the right, or to the left where ``shift`` is negative.

    :param fixed: the numbers of the lines that stay where they are.
    """
    return [
        line if number == 1 or number in fixed or not line.strip() else b" " * shift + line[max(-shift, 0) :]
        for number, line in enumerate(lines, 1)
    ]
