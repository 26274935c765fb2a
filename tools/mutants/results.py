"""The results of a run of the check, in a file by which an interrupted run can be continued."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


class Results:
    """What is known so far.

    :ivar seconds: how long each test file took on the unbroken source, by its short path.
    :ivar noticed: the breaks that a test noticed.
    :param path: the file, with one JSON object a line. Without it, nothing is kept.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.seconds: dict[str, float] = {}
        self.noticed: set[str] = set()

        if path is not None and path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                self._take(json.loads(line))

    def add_tests(self, file: str, seconds: float) -> None:
        """Note that a test file passes on the unbroken source."""
        self._add({"tests": file, "seconds": round(seconds, 1)})

    def add_break(self, name: str, seconds: float, *, noticed_by: str | None, problem: str | None) -> None:
        """Note the result of a break."""
        self._add({"break": name, "seconds": round(seconds, 1), "noticed_by": noticed_by, "problem": problem})

    def _add(self, record: dict[str, Any]) -> None:
        self._take(record)

        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)

            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")

    def _take(self, record: dict[str, Any]) -> None:
        if "tests" in record:
            self.seconds[record["tests"]] = record["seconds"]
        elif record["noticed_by"] is not None:
            self.noticed.add(record["break"])
