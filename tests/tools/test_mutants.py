"""The mutation check: every break fits the source, and ambiguous breaks are refused."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tools.mutants.breaks import Break, BreakError, load
from tools.mutants.results import Results
from tools.mutants.runner import Runner
from tools.mutants.source import Package
from tools.mutants.splice import edit
from tools.mutants.suite import Suite
from tools.mutants.workshop import Outcome, RunError, Workshop, kill_session

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[2]

SOURCE = '''\
"""A module."""

import os

LIMIT = 10

if hasattr(os, "fork"):
    os.register_at_fork(before=print)


class Lamp:
    """A class."""

    @property
    def color(self) -> str:
        return "white"

    @color.setter
    def color(self, value: str) -> None:
        self.value = value  # keep

    def blink(self, times: int = 1, *, pause_s: float = 0.5) -> list[int]:
        """A method."""
        if times > LIMIT:  # Too often.
            raise ValueError(
                f"at most {LIMIT}, please",
            )
        elif times < 0:
            return []

        with self.lock:
            # A comment.
            text = """one
two"""
            self.log(times, text,
                     level="ä", end=None)

        return [x for x in range(times) if x is not None]


def twice(a):
    print(a)
    print(-a)


def thrice(a):
    print(a)
    print(a)
'''


def make_break(at: str, old: str, new: str, **more: object) -> Break:
    return Break("test", "It is a test.", at, old, new, (), **more)  # type: ignore[arg-type]


@pytest.fixture
def package(tmp_path: Path) -> Package:
    """Return a package of two modules."""
    (tmp_path / "inner").mkdir()
    (tmp_path / "lamp.py").write_text(SOURCE, encoding="utf-8")
    (tmp_path / "inner" / "other.py").write_text("def twice(b):\n    return 2 * b\n\nOTHER = 1\n", encoding="utf-8")
    return Package(tmp_path)


def test_every_break_fits_the_source() -> None:
    """Each break matches exactly one piece of code, changes it, and the result is valid Python."""
    package = Package(ROOT / "src" / "aldis")
    problems = []

    for promise in load():
        for broken in promise.breaks:
            try:
                edit(package, broken)
            except BreakError as error:
                problems.append(str(error))

    assert not problems, "\n\n".join(problems)


def test_every_test_file_that_a_break_names_exists() -> None:
    """Each name in a break's list of tests matches exactly one test file."""
    suite = Suite(ROOT / "tests")
    names = {name for promise in load() for broken in promise.breaks for name in broken.tests}
    assert [suite.find(name).name for name in names] == [name.rpartition("/")[2] for name in names]


def test_every_break_is_described() -> None:
    """Each file of breaks has a docstring, and each break says what goes wrong and which tests should notice it."""
    for promise in load():
        assert promise.summary
        assert promise.breaks

        for broken in promise.breaks:
            assert broken.what.endswith(".")
            assert broken.tests


@pytest.mark.parametrize(
    ("at", "old", "new", "before", "after"),
    [
        ("LIMIT", "10", "11", "LIMIT = 10", "LIMIT = 11"),
        ("Lamp.blink", "times>LIMIT", "LIMIT", "times > LIMIT", "LIMIT"),
        ("Lamp.blink", "times > LIMIT", "times or self", "if times > LIMIT:", "if (times or self):"),
        ("Lamp.blink", "level = 'ä'", "level = 'ö'", 'level="ä"', "level = 'ö'"),
        ("Lamp.blink", "times: int = 1", "times: int = 2", "times: int = 1", "times: int = 2"),
        ("Lamp.blink", "pause_s: float = 0.5", "pause_s: float = 1", "pause_s: float = 0.5", "pause_s: float = 1"),
        ("Lamp.color", '"white"', "None", '"white"', "None"),
        ("Lamp.color.setter", "self.value = value", "pass", "self.value = value  # keep", "pass  # keep"),
        ("Lamp.blink", "if times < 0: ...", "if times: ...", "elif times < 0:", "elif times:"),
        ("Lamp.blink", "x is not None", "not x", "x is not None", "(not x)"),
        (
            "Lamp.blink",
            "[x for x in ... if ...]",
            "[*...]",
            "[x for x in range(times) if x is not None]",
            "[*range(times)]",
        ),
        ("thrice", "print(a)\nprint(a)", "return 1", "print(a)\n    print(a)", "return 1"),
        ("<module>", "os.register_at_fork(before=print)", "pass", "os.register_at_fork(before=print)", "pass"),
    ],
)
def test_a_piece_of_code_is_replaced(package: Package, at: str, old: str, new: str, before: str, after: str) -> None:
    """A piece of code is found in any layout and with any quotes, and the rest of the file does not change."""
    change = edit(package, make_break(at, old, new, beside="Lamp" if at == "<module>" else None, nth=None))
    assert SOURCE.count(before) == 1
    assert change.data.decode() == SOURCE.replace(before, after)


def test_statements_move_with_their_block(package: Package) -> None:
    """The code that `...` stands for is indented anew, except the lines inside a string, whose value would change."""
    old = """
        with self.lock:
            ...
    """
    new = """
        for _ in ():
            try:
                ...
            finally:
                pass
    """
    changed = edit(package, make_break("Lamp.blink", old, new)).data.decode()
    assert (
        """
        for _ in ():
            try:
                text = \"\"\"one
two\"\"\"
                self.log(times, text,
                         level="ä", end=None)
            finally:
                pass

        return"""
        in changed
    )


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (make_break("Lamp.glow", "1", "2"), "nothing defines Lamp.glow"),
        (make_break("twice", "2", "3"), "2 definitions of twice, in inner/other.py, lamp.py"),
        (make_break("twice", "2", "3", beside="Lamp"), "twice does not contain"),
        (make_break("twice", "b", "c", beside="nothing"), "nothing defines twice beside nothing"),
        (make_break("thrice", "print(a)", "pass"), "thrice contains this 2 times, so `nth` is needed"),
        (make_break("thrice", "print(a)", "pass", nth=3), "`nth` is 3, but thrice contains this 2 times"),
        (make_break("LIMIT", "10", "11", nth=1), "`nth` is 1, but LIMIT contains this 1 times"),
        (make_break("LIMIT", "10", "(10)"), "the new code means the same as the old"),
        (make_break("Lamp.blink", "times  >LIMIT", "times > LIMIT"), "the new code means the same as the old"),
        (make_break("LIMIT", "10 +", "10"), "not Python"),
        (make_break("LIMIT", "10", "return 1"), "LIMIT does not contain"),
        (make_break("LIMIT", "LIMIT = 10", "return 1"), "the new code does not compile"),
        (make_break("Lamp.blink", "if times < 0: ...", "pass"), "only another `if` can replace an `elif`"),
        (make_break("Lamp.blink", 'level="ä"', "pass"), "only another assignment can replace an argument"),
        (make_break("Lamp.blink", "pause_s: float = 0.5", "pass"), "only another assignment can replace an argument"),
        (make_break("Lamp.blink", "range(...)", "print(..., ...)"), "the new code has `...` more often than the old"),
        (make_break("Lamp.blink", "...\nreturn []", "pass"), "`...` cannot stand beside"),
        (make_break("Lamp.blink", "x is not None", "y"), "Lamp.blink does not know y, so it would just fail"),
        (make_break("Lamp.blink", "{LIMIT}", "1"), "Lamp.blink does not contain"),
    ],
)
def test_an_ambiguous_break_is_refused(package: Package, broken: Break, message: str) -> None:
    """A break is refused if its definition or its code is missing or occurs twice, or if the code would stay the
    same."""
    with pytest.raises(BreakError) as caught:
        edit(package, broken)

    assert str(caught.value).startswith(f"test: {message}")


def test_code_does_not_depend_on_its_file(package: Package, tmp_path: Path) -> None:
    """A break still fits the source after the code is moved to another file or formatted differently."""
    broken = make_break("Lamp.blink", "times > LIMIT", "LIMIT > times")
    (tmp_path / "lamp.py").rename(tmp_path / "inner" / "moved.py")
    moved = tmp_path / "inner" / "moved.py"
    moved.write_text(SOURCE.replace("times > LIMIT:", "(times\n           > LIMIT ):"), encoding="utf-8")
    change = edit(Package(tmp_path), broken)
    assert change.path == moved
    assert "if ((LIMIT > times) ):" in change.data.decode()


SCRIPT = """\
// A page: function show() {}
function show(list = {}) {
  const open = "}"; // }
  if (list.open)
    start(list);
  else stop(`${list}`, '"');
  return list;
}
function stop() { return list; }
"""


def test_javascript_is_found_by_its_words(tmp_path: Path) -> None:
    """Code of the live page is found in a named function, in any layout and with any comments."""
    (tmp_path / "page.js").write_text(SCRIPT, encoding="utf-8")
    package = Package(tmp_path)
    broken = make_break("show", "if(list.open) start(list); else", "if (!list)", language="javascript")
    changed = edit(package, broken).data.decode()
    assert changed == SCRIPT.replace("if (list.open)\n    start(list);\n  else", "if (!list)")

    for at, old, new, message in [
        ("glow", "a", "b", "0 JavaScript functions of the name glow"),
        ("show", "return nothing;", "b", "show does not contain"),
        ("stop", "stop(", "halt(", None),
        ("show", "list", "b", "show contains this 4 times"),
        ("show", "return list;", "return  list ;", "the new code means the same"),
    ]:
        broken = make_break(at, old, new, language="javascript")

        if message is None:
            assert "function halt() { return list; }" in edit(package, broken).data.decode()
        else:
            with pytest.raises(BreakError, match=message):
                edit(package, broken)


def test_test_files_are_found_by_name(tmp_path: Path) -> None:
    """A break names a test file without its folder, unless several files have the same name."""
    for name in ("core/test_a.py", "core/deep/test_b.py", "web/test_b.py", "web/test_c.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    suite = Suite(tmp_path)
    assert suite.find("test_a.py") == tmp_path / "core" / "test_a.py"
    assert suite.find("web/test_b.py") == tmp_path / "web" / "test_b.py"
    assert suite.around([suite.find("test_c.py")]) == [tmp_path / "web" / "test_b.py"]

    with pytest.raises(BreakError, match=r"no test file est_a.py"):
        suite.find("est_a.py")

    with pytest.raises(
        BreakError, match=r"several test files are called test_b.py: core/deep/test_b.py, web/test_b.py"
    ):
        suite.find("test_b.py")


LEADER = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; print('ready', flush=True); time.sleep(600)"], process_group=0)
time.sleep(600)
"""


def test_a_run_that_hangs_leaves_no_process() -> None:
    """The processes of a run are killed with it, also those in process groups of their own."""
    run = subprocess.Popen([sys.executable, "-c", LEADER], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert run.stdout is not None
    assert run.stdout.readline() == "ready\n"
    kill_session(run.pid)
    output, _ = run.communicate(timeout=60)  # Ends when no process has the pipe any more.
    assert output == ""
    assert run.returncode == -signal.SIGKILL


class FakeWorkshop(Workshop):
    """A workshop that runs nothing, and notices the breaks whose new code is 2."""

    def __init__(self, package: Package) -> None:
        self.package = package

    def test(self, files: Sequence[Path], timeout_s: float) -> Outcome:
        return Outcome("test_fails" if files[0].name == "test_failing.py" else None, "")

    def attempt(self, broken: Break, runs: Sequence[tuple[Sequence[Path], float]]) -> Outcome:
        edit(self.package, broken)

        if broken.new == "3":
            raise RunError("the tests did not import the copy")

        return Outcome("test_it" if broken.new == "2" else None, "")


def test_each_break_gets_a_row(package: Package, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A break that cannot be tried is reported and counted, the other breaks are tried, and a run can be continued."""
    suite = Suite(tmp_path / "tests")
    (tmp_path / "tests").mkdir()

    for name in ("test_right.py", "test_failing.py"):
        (tmp_path / "tests" / name).touch()

    def named(name: str, new: str, old: str = "10", tests: str = "test_right.py") -> Break:
        return Break(name, f"It is {name}.", "LIMIT", old, new, (tests,))

    breaks = [
        named("unfit", "2", old="9"),
        named("noticed", "2"),
        named("unnoticed", "4"),
        named("elsewhere", "3"),
        named("hopeless", "2", tests="test_failing.py"),
        named("untested", "2", tests="test_nothing.py"),
    ]
    file = tmp_path / "results"
    runner = Runner([FakeWorkshop(package), FakeWorkshop(package)], suite, Results(file), is_quick=True)
    runner.check_unbroken(breaks)
    rows = {row.broken.name: str(row).partition(" s  ")[2] for row in runner.try_breaks(breaks)}
    assert rows == {
        "unfit": "NOT TRIED: unfit: LIMIT does not contain:\n9",
        "noticed": "test_it",
        "unnoticed": "NOT NOTICED: It is unnoticed.",
        "elsewhere": "NOT TRIED: the tests did not import the copy",
        "hopeless": "NOT TRIED: hopeless: test_failing.py fails on the unbroken source: test_fails",
        "untested": "NOT TRIED: untested: there is no test file test_nothing.py",
    }
    assert "unnoticed " in capsys.readouterr().out
    again = Results(file)
    assert again.noticed == {"noticed"}
    assert [*again.seconds] == ["test_right.py"]
