"""Compare the errors that mypy (strict) and pyright (strict) report with accepts.py and rejects.py.

Each line of rejects.py that must fail has a marker with the expected errors::

    user_registered.send(app)  # E: mypy=call-arg pyright=CallIssue

Both checkers must report exactly these errors in the two files. Pyright's rules are named
without the ``report`` in front. Usage::

    python tests/typing/check.py [PYTHON]

``PYTHON`` is the interpreter that has Aldis installed; by default, the interpreter that runs this
script. The interpreter that runs this script also runs mypy and pyright.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import TypeAlias

Errors: TypeAlias = dict[tuple[str, int], set[str]]
"""By file and line."""

HERE = Path(__file__).parent
CASES = ("accepts.py", "rejects.py")
MARKER = re.compile(r"  # E: (?P<expected>mypy=\S+ pyright=\S+)$")
CONSEQUENCE = re.compile(r"untyped-decorator|Untyped|Unknown")
"""Follow-up errors: a checker does not know the type of an expression in which it has just reported an error."""
MYPY_LINE = re.compile(r"(?P<file>[^:]+):(?P<line>\d+): error: .* \[(?P<code>[\w-]+)\]$")


def expected(checker: str) -> Errors:
    """Return the errors that the markers name."""
    errors: Errors = {}

    for case in CASES:
        for number, line in enumerate((HERE / case).read_text("utf-8").splitlines(), start=1):
            marker = MARKER.search(line)

            if marker is not None:
                codes = dict(part.split("=") for part in marker["expected"].split())
                errors[case, number] = set(codes[checker].split(","))

    return errors


def run(*command: str, cwd: Path) -> str:
    """Return the output of a checker. Its exit code 1 is no failure here: errors are expected."""
    result = subprocess.run([sys.executable, "-m", *command], cwd=cwd, capture_output=True, text=True, check=False)

    if result.returncode not in {0, 1}:
        sys.exit(f"{' '.join(command)} failed:\n{result.stdout}{result.stderr}")

    return result.stdout


def mypy(folder: Path, python: str) -> Errors:
    """Return the errors that mypy reports."""
    errors: Errors = defaultdict(set)
    output = run(
        "mypy", "--strict", "--python-version=3.11", f"--python-executable={python}", "--hide-error-context",
        "--no-pretty", "--no-error-summary", "--cache-dir=.cache", *CASES, cwd=folder,
    )  # fmt: skip

    for line in output.splitlines():
        match = MYPY_LINE.match(line)

        if match is not None:
            errors[match["file"], int(match["line"])].add(match["code"])
        elif ": note: " not in line:
            sys.exit(f"mypy said something unexpected: {line}")

    return errors


def pyright(folder: Path, python: str) -> Errors:
    """Return the errors that pyright reports."""
    errors: Errors = defaultdict(set)
    settings = {"include": CASES, "typeCheckingMode": "strict", "pythonVersion": "3.11"}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings), "utf-8")
    report = json.loads(run("pyright", "--outputjson", "--pythonpath", python, cwd=folder))

    if report["summary"]["filesAnalyzed"] != len(CASES):
        sys.exit(f"pyright checked {report['summary']['filesAnalyzed']} files.")

    for error in report["generalDiagnostics"]:
        line = error["range"]["start"]["line"] + 1
        errors[Path(error["file"]).name, line].add(error.get("rule", error["message"]).removeprefix("report"))

    return errors


def without_consequences(errors: Errors) -> Errors:
    """Leave out errors that only follow from another error of the same line."""
    first = {place: {code for code in codes if not CONSEQUENCE.match(code)} for place, codes in errors.items()}
    return {place: first[place] or codes for place, codes in errors.items()}


def main() -> None:
    """Compare expected and reported errors, and exit with a list of the differences."""
    python = str(Path(sys.argv[1]).absolute()) if len(sys.argv) > 1 else sys.executable
    wrong: list[str] = []
    count = 0

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        for case in CASES:  # Outside of the project, so that its settings and sources are not found.
            shutil.copy(HERE / case, folder)

        for checker in (mypy, pyright):
            wanted, found = expected(checker.__name__), without_consequences(checker(folder, python))
            count += len(wanted)
            wrong.extend(
                f"tests/typing/{file}:{line}: {checker.__name__} must report {wanted.get((file, line), 'nothing')},"
                f" and reports {found.get((file, line), 'nothing')}."
                for file, line in sorted(wanted.keys() | found.keys())
                if wanted.get((file, line)) != found.get((file, line))
            )

    if wrong or not count:
        sys.exit("\n".join([*wrong, f"{len(wrong)} lines do not match rejects.py and accepts.py."]))

    print(f"mypy and pyright report the {count} expected errors, and no other errors.")  # noqa: T201


if __name__ == "__main__":
    main()
