"""The source that is broken: its modules, and the definitions in each of them."""

from __future__ import annotations

import ast
import builtins
import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from . import pattern
from .breaks import BreakError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

MODULE: Final = "<module>"

_BUILTINS: Final = frozenset(dir(builtins))
_FIRST_WORD: Final = re.compile(rb"^[ ]*(?:async )?(?:def |class )?(\w+)", re.MULTILINE)

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
Places: TypeAlias = "dict[str, list[tuple[ast.stmt, ...]]]"


class Module:
    """One Python file.

    :ivar data: the text in UTF-8. The positions of :mod:`ast` count bytes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data = path.read_bytes()
        self._starts = [0, *accumulate(len(line) for line in self.data.splitlines(keepends=True))]

    @cached_property
    def words(self) -> set[bytes]:
        """The words that begin a line, behind ``def`` or ``class``. All that the file defines is among them."""
        return set(_FIRST_WORD.findall(self.data))

    @cached_property
    def tree(self) -> ast.Module:
        """The parsed file."""
        return ast.parse(self.data)

    @cached_property
    def places(self) -> Places:
        """The statements that make up each definition, by qualified name."""
        found: Places = defaultdict(list)
        others: list[ast.stmt] = []

        for name, statement in _definitions(self.tree.body, ""):
            if name is None:
                others.append(statement)
            else:
                found[name].append((statement,))

        found[MODULE].append(tuple(others))
        return found

    @cached_property
    def names(self) -> set[str]:
        """The names that the file defines or imports. Imports for type checkers alone do not count."""
        imports = [n for n in _runtime_statements(self.tree.body) if isinstance(n, (ast.Import, ast.ImportFrom))]
        return pattern.bound_names(imports) | {name for name in self.places if "." not in name}

    def line(self, node: ast.AST) -> int:
        """Return the number of the line in which a node begins; its decorators belong to it."""
        line: int = _first(node).lineno
        return line

    def column(self, node: ast.AST) -> int:
        """Return the column in which a node begins."""
        column: int = _first(node).col_offset
        return column - _is_decorated(node)

    def start(self, node: ast.AST) -> int:
        """Return where a node begins, as an index of ``data``."""
        return self._starts[self.line(node) - 1] + self.column(node)

    def end(self, node: ast.AST) -> int:
        """Return where a node ends, as an index of ``data``."""
        return self._starts[node.end_lineno - 1] + node.end_col_offset  # type: ignore[attr-defined, no-any-return]

    def around(self, start: int, end: int) -> tuple[int, int]:
        """Return where the statement of the module begins and ends that contains a part of ``data``."""
        places = [(self.start(statement), self.end(statement)) for statement in self.tree.body]
        return next((first, last) for first, last in places if first <= start and end <= last)


@dataclass(frozen=True)
class Place:
    """One definition: where a break looks for its old code."""

    name: str
    module: Module
    statements: tuple[ast.stmt, ...]

    def known_names(self) -> set[str]:
        """Return the names that code in this place can use: its own, those of functions around it, and the module's."""
        parts = self.name.split(".")
        around = [".".join(parts[:end]) for end in range(1, len(parts))]
        functions = [
            statement
            for name in around
            for statements in self.module.places.get(name, ())
            for statement in statements
            if isinstance(statement, Function)
        ]
        return pattern.bound_names([*self.statements, *functions]) | self.module.names | _BUILTINS


class Package:
    """All Python files below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.modules = [Module(path) for path in sorted(folder.rglob("*.py"))]

    def find(self, name: str, beside: str | None = None) -> Place:
        """Return the one definition of a qualified name.

        :param beside: a name that its module defines too.
        :raises BreakError: if there is no definition or more than one.
        """
        # Only where these words begin a line: to parse all files would take most of the time of the whole check.
        words = {name.removesuffix(".setter").rpartition(".")[2].encode(), (beside or "").encode()} - {b"", b"<module>"}
        found = [
            Place(name, module, statements)
            for module in self.modules
            if words <= module.words and (beside is None or beside in module.places)
            for statements in module.places.get(name, ())
        ]

        if len(found) == 1:
            return found[0]

        where = f"{name} beside {beside}" if beside else name

        if not found:
            raise BreakError(f"nothing defines {where}")

        files = ", ".join(str(place.module.path.relative_to(self.folder)) for place in found)
        raise BreakError(f"{len(found)} definitions of {where}, in {files}")


def _definitions(statements: Iterable[ast.stmt], prefix: str) -> Iterator[tuple[str | None, ast.stmt]]:
    """Find what a body defines, with what is inside.

    A statement that defines no name comes with ``None``.
    """
    for statement in statements:
        match statement:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                if not _is_overload(statement):
                    name = prefix + statement.name + _accessor(statement)
                    yield name, statement
                    yield from _named(statement.body, f"{name}.")
            case ast.ClassDef():
                yield prefix + statement.name, statement
                yield from _named(statement.body, f"{prefix}{statement.name}.")
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                yield prefix + name, statement
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                yield from _definitions(statement.orelse, prefix)
            case _:
                yield None, statement
                yield from _named(_inner(statement), prefix)


def _runtime_statements(statements: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Iterate over the statements of a module, but not over those for type checkers alone."""
    for statement in statements:
        match statement:
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                yield from _runtime_statements(statement.orelse)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield statement
            case _:
                yield statement
                yield from _runtime_statements(_inner(statement))


def _named(statements: Iterable[ast.stmt], prefix: str) -> Iterator[tuple[str | None, ast.stmt]]:
    return (found for found in _definitions(statements, prefix) if found[0] is not None)


def _inner(statement: ast.stmt) -> list[ast.stmt]:
    """Return the statements inside an ``if``, ``try``, ``with`` or loop."""
    blocks: list[ast.stmt] = []

    for block in (statement, *getattr(statement, "handlers", ())):
        for field in ("body", "orelse", "finalbody"):
            blocks += getattr(block, field, ())

    return blocks


def _is_overload(function: Function) -> bool:
    return any(isinstance(mark, ast.Name) and mark.id == "overload" for mark in function.decorator_list)


def _accessor(function: Function) -> str:
    """Return what is added to the name of a property's setter or deleter."""
    for mark in function.decorator_list:
        if isinstance(mark, ast.Attribute) and mark.attr in {"setter", "deleter"}:
            return f".{mark.attr}"

    return ""


def _first(node: Any) -> Any:
    return node.decorator_list[0] if _is_decorated(node) else node


def _is_decorated(node: ast.AST) -> bool:
    """Return whether the node begins with an ``@``, which is no part of the decorator's own node."""
    return bool(getattr(node, "decorator_list", ()))
