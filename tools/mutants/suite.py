"""The tests that should notice the breaks."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from .breaks import BreakError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class Suite:
    """The test files below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def _files(self) -> list[Path]:
        return sorted(self.folder.rglob("test_*.py"))

    def find(self, name: str) -> Path:
        """Return the one test file whose path ends in ``name``.

        :raises BreakError: if there is no such file or more than one.
        """
        found = [path for path in self._files if f"/{path.as_posix()}".endswith(f"/{name}")]

        if len(found) == 1:
            return found[0]

        if not found:
            raise BreakError(f"there is no test file {name}")

        raise BreakError(f"several test files are called {name}: {', '.join(map(self.short, found))}")

    def short(self, path: Path) -> str:
        """Return the path of a test file, for people."""
        return path.relative_to(self.folder).as_posix()

    def around(self, files: Iterable[Path]) -> list[Path]:
        """Return the other test files of the same rooms. A room is a folder right below the folder of all tests."""
        files = list(files)
        rooms = {path.relative_to(self.folder).parts[0] for path in files if path.parent != self.folder}
        return [path for path in self._files if path.relative_to(self.folder).parts[0] in rooms and path not in files]
