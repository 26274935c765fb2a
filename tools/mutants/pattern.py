"""Finds a piece of code inside a definition by its meaning: spaces, line breaks, quotes and comments do not matter.

A piece is Python, and one of these:

- an expression, which matches any expression that is equal to it::

    connection.ref() is None

- statements, which match as many statements one after the other in the same block::

    if self._running:
        return

- an assignment to a name, which matches a keyword argument or the default of a parameter as well::

    batch=1
    weak: bool = True

``...`` matches anything: one expression, all the arguments of a call that are left, or the statements of a block.
:mod:`.splice` puts what it matched where the new code has ``...``. So this replaces a condition::

    if jobs: ...
    if not jobs: ...
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from textwrap import dedent
from typing import TYPE_CHECKING, Final, TypeAlias

from .breaks import BreakError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

# What says nothing of the meaning of code, or follows from where it stands.
_IGNORED: Final = {"ctx", "kind", "type_comment"}

Nodes: TypeAlias = "tuple[ast.AST, ...]"


@dataclass(frozen=True)
class Piece:
    """Code of a break, parsed."""

    text: str
    body: list[ast.stmt]

    @property
    def is_expression(self) -> bool:
        """Whether this is one expression."""
        return len(self.body) == 1 and isinstance(self.body[0], ast.Expr) and not is_gap(self.body[0])

    @property
    def is_assignment(self) -> bool:
        """Whether this may be a keyword argument or a parameter with its default."""
        match self.body:
            case [ast.Assign(targets=[ast.Name()])]:
                return True
            case [ast.AnnAssign(target=ast.Name(), value=ast.expr())]:
                return True
        return False


@dataclass
class Match:
    """One occurrence.

    :ivar nodes: what matched, one node or some statements one after the other.
    :ivar gaps: what each ``...`` matched, in the order of the piece.
    """

    nodes: Nodes
    gaps: list[tuple[ast.AST, Nodes]] = field(default_factory=list)


def parse(text: str) -> Piece:
    """Parse a piece.

    :raises BreakError: if it is not Python.
    """
    text = dedent(text).strip()

    try:
        return Piece(text, ast.parse(text).body)
    except SyntaxError as error:
        raise BreakError(f"not Python ({error.msg}): {text}") from None


def is_gap(node: object) -> bool:
    """Return whether a node of a piece is ``...``, as an expression or a statement."""
    if isinstance(node, ast.Expr):
        node = node.value

    return isinstance(node, ast.Constant) and node.value is ...


def gaps_of(piece: Piece) -> list[ast.expr]:
    """Return each ``...`` of a piece, from top to bottom."""
    found = [node for statement in piece.body for node in ast.walk(statement) if isinstance(node, ast.Constant)]
    return sorted((node for node in found if is_gap(node)), key=_position)


def find(statements: Iterable[ast.stmt], old: Piece, *, as_statements: bool) -> list[Match]:
    """Return the occurrences in some statements, from top to bottom.

    :param as_statements: let an expression match only where it is a whole statement.
    """
    roots = list(statements)
    found: list[Match] = []

    if old.is_expression and not as_statements:
        assert isinstance(old.body[0], ast.Expr)
        found += _find_nodes((n for n in _walk(roots) if isinstance(n, ast.expr)), old.body[0].value)
    else:
        found += _find_statements(roots, old.body)

    if old.is_assignment:
        found += _find_bindings(roots, old.body[0])

    for match in found:
        match.gaps.sort(key=lambda gap: _position(gap[0]))

    return sorted(found, key=lambda match: _position(match.nodes[0]))


def used_names(statements: Iterable[ast.stmt]) -> set[str]:
    """Return the names that statements read."""
    nodes = (node for statement in statements for node in ast.walk(statement))
    return {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}


def bound_names(statements: Iterable[ast.stmt]) -> set[str]:
    """Return the names that statements define, assign, import or take as parameters."""
    found: set[str] = set()

    for node in (node for statement in statements for node in ast.walk(statement)):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name) | ast.ExceptHandler(name=str(name)):
                found.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.alias(name=name, asname=other):
                found.add(other or name.partition(".")[0])

    return found


def _walk(roots: list[ast.stmt]) -> Iterator[ast.AST]:
    """Walk through nodes, but not into f-strings: until Python 3.12 what is in these has no position."""
    todo: list[ast.AST] = [*roots]

    while todo:
        node = todo.pop()
        yield node

        if not isinstance(node, ast.JoinedStr):
            todo += ast.iter_child_nodes(node)


def _find_nodes(nodes: Iterable[ast.AST], old: ast.AST) -> Iterator[Match]:
    for node in nodes:
        match = Match((node,))

        if _matches(old, node, match):
            yield match


def _find_statements(roots: list[ast.stmt], old: list[ast.stmt]) -> Iterator[Match]:
    if any(map(is_gap, old)):
        raise BreakError("`...` cannot stand beside the statements that are looked for, only inside them")

    for block in _blocks(roots):
        for start in range(len(block) - len(old) + 1):
            match = Match(tuple(block[start : start + len(old)]))

            if all(_matches(a, b, match) for a, b in zip(old, match.nodes, strict=True)):
                yield match


def _blocks(roots: list[ast.stmt]) -> Iterator[Sequence[ast.stmt]]:
    """Find each list of statements that are executed one after the other."""
    yield from ([root] for root in roots)

    for node in _walk(roots):
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)

            if isinstance(block, list):
                yield block


def _find_bindings(roots: list[ast.stmt], old: ast.stmt) -> Iterator[Match]:
    """Find keyword arguments and parameters with a default."""
    match old:
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            keyword = ast.keyword(arg=name, value=value)
            yield from _find_nodes((n for n in _walk(roots) if isinstance(n, ast.keyword)), keyword)
            yield from _find_parameters(roots, ast.arg(arg=name), value)
        case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation, value=ast.expr() as value):
            yield from _find_parameters(roots, ast.arg(arg=name, annotation=annotation), value)


def _find_parameters(roots: list[ast.stmt], old: ast.arg, default: ast.expr) -> Iterator[Match]:
    for node in _walk(roots):
        if isinstance(node, ast.arguments):
            positional = [*node.posonlyargs, *node.args]
            first = len(positional) - len(node.defaults)
            pairs = [*zip(positional[first:], node.defaults, strict=True)]
            pairs += [(a, d) for a, d in zip(node.kwonlyargs, node.kw_defaults, strict=True) if d is not None]

            for parameter, value in pairs:
                match = Match((parameter, value))

                if _matches(old, parameter, match) and _matches(default, value, match):
                    yield match


def _matches(old: object, node: object, match: Match) -> bool:
    """Compare code of a piece with code of the source, and note what ``...`` matched."""
    if isinstance(node, (ast.expr, ast.stmt)) and is_gap(old):
        assert isinstance(old, ast.AST)
        match.gaps.append((old, (node,)))
        return True

    if type(old) is not type(node):
        return False

    if isinstance(old, ast.AST):
        names = [name for name in old._fields if name not in _IGNORED]
        return all(_matches(getattr(old, name, None), getattr(node, name, None), match) for name in names)

    if isinstance(old, list):
        assert isinstance(node, list)
        return _match_lists(old, node, match)

    return old == node


def _match_lists(old: list[object], nodes: list[object], match: Match) -> bool:
    """Compare lists, one of whose elements may be ``...`` and stand for several."""
    place = next((index for index, element in enumerate(old) if is_gap(element)), None)

    if place is None or len(old) == len(nodes):
        return len(old) == len(nodes) and all(_matches(a, b, match) for a, b in zip(old, nodes, strict=True))

    after = len(old) - place - 1

    if len(nodes) < len(old) - isinstance(old[place], ast.expr):
        return False

    end = len(nodes) - after
    gap = old[place]
    assert isinstance(gap, ast.AST)
    match.gaps.append((gap, tuple(node for node in nodes[place:end] if isinstance(node, ast.AST))))
    parts = zip([*old[:place], *old[place + 1 :]], [*nodes[:place], *nodes[end:]], strict=True)
    return all(_matches(a, b, match) for a, b in parts)


def _position(node: ast.AST) -> tuple[int, int]:
    return node.lineno, node.col_offset  # type: ignore[attr-defined]


def multiline_strings(nodes: Iterable[ast.AST]) -> set[int]:
    """Return the numbers of the lines that begin inside a string, whose indentation is part of the string."""
    strings = [n for node in nodes for n in ast.walk(node) if isinstance(n, (ast.Constant, ast.JoinedStr))]
    return {line for n in strings for line in range(n.lineno + 1, (n.end_lineno or n.lineno) + 1)}
