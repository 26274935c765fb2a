"""Run the test suites of projects that use Blinker, first on Blinker and then with Aldis in its place.

    python -m tools.downstream              all suites
    python -m tools.downstream flask        some of them

Each suite is the project's own, from the source distribution on PyPI, and is not changed. It runs in its own virtual
environment, with the versions that ``uv.lock`` pins, and with the wheel in ``dist/`` (or, if there is none, with a
wheel that is built from the source tree). All files stay in ``build/downstream``, so that a second run is quick. To
start anew, delete that folder.

A suite passes if each test that fails on Aldis fails on Blinker too, if all tests that ran on Blinker ran on Aldis, and
if at least one send went through Aldis. Tests that cannot pass on Aldis are listed below with the reason. They run too,
and must fail: a test that passes must not be on the list.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
BUILD: Final = ROOT / "build" / "downstream"
PLUGIN: Final = Path(__file__).with_name("plugin.py")

# pytest exits with 0 when all tests passed and with 1 when some failed. Any other code means that the run itself
# failed.
COMPLETED: Final = (0, 1)

BETTER: Final = ("passed", "skipped", "failed")

LAYOUT: Final = "looks into Blinker's private tables (_by_sender, _by_receiver)"


@dataclass(frozen=True)
class Suite:
    """A project whose tests are run.

    :ivar name: the project's name on PyPI.
    :ivar version: the version; by default the one that ``uv.lock`` pins.
    :ivar requires: the packages that its tests need, beside the project itself. The versions are the project's own pins
        if its
        suite does not pass on later ones.
    :ivar left_out: tests that cannot pass on Aldis, with the reason.
    """

    name: str
    requires: tuple[str, ...]
    version: str = ""
    left_out: dict[str, str] = field(default_factory=dict)


SUITES: Final = (
    Suite(
        "blinker",
        version="1.9.0",
        requires=("pytest==8.3.3", "pytest-asyncio==0.24.0"),
        left_out={
            "tests/test_signals.py::test_empty_bucket_growth": LAYOUT,
            "tests/test_signals.py::test_weak_receiver": LAYOUT,
            "tests/test_signals.py::test_filtered_receiver_weakref": (
                f"{LAYOUT}, and wants receivers to be true when nobody can be called any more (E5, E10)"
            ),
        },
    ),
    Suite("flask", requires=("pytest==9.0.2", "werkzeug==3.1.5", "asgiref", "greenlet", "python-dotenv")),
    Suite("flask-login", version="0.6.3", requires=("pytest==9.0.2", "asgiref", "semantic-version")),
    # SQLAlchemy 2.1 refuses its models of SQLAlchemy 2.0.
    Suite("flask-sqlalchemy", requires=("pytest==9.0.2", "sqlalchemy==2.0.45")),
    Suite(
        "quart-schema",
        version="0.25.0",
        requires=("pytest==9.0.2", "pytest-asyncio==1.3.0", "pytest-cov", "hypothesis", "pydantic", "msgspec", "attrs"),
    ),
)


@dataclass(frozen=True)
class Run:
    """The results of one run of a suite.

    :ivar outcomes: ``passed``, ``failed`` or ``skipped`` for each test.
    :ivar library: the library whose signals the suite really used.
    """

    exit_status: int
    library: str
    outcomes: dict[str, str]
    sends: int

    def but(self, tests: dict[str, str]) -> Counter[str]:
        """Count the outcomes, without those of some tests."""
        return Counter(outcome for test, outcome in self.outcomes.items() if test not in tests)


class BrokenError(Exception):
    """A suite could not run at all."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the suites of projects on Blinker and on Aldis.")
    parser.add_argument("suites", nargs="*", help=f"some of: {', '.join(suite.name for suite in SUITES)}")
    chosen = parser.parse_args().suites
    unknown = set(chosen) - {suite.name for suite in SUITES}

    if unknown:
        parser.error(f"no such suite: {', '.join(sorted(unknown))}")

    faults = [fault for suite in SUITES if not chosen or suite.name in chosen for fault in check(suite)]

    for fault in faults:
        print(f"FAILED  {fault}")

    return 1 if faults else 0


def check(suite: Suite) -> list[str]:
    """Run a suite twice, print a line for each run, and return what is wrong."""
    version = suite.version or locked_versions()[suite.name]
    title = f"{suite.name} {version}"

    try:
        tests = fetch(suite.name, version)
        python = prepare(suite, tests)
        blinker, aldis = (run(suite, tests, python, library) for library in ("blinker", "aldis"))
    except BrokenError as error:
        return [f"{title}: {error}"]

    tell(title, "Blinker", blinker.but({}), "")
    tell(title, "Aldis", aldis.but(suite.left_out), f", {aldis.sends} sends through Aldis")

    for test, reason in suite.left_out.items():
        print(f"  left out on Aldis: {test}: {reason}")

    return [f"{title}: {fault}" for fault in compare(suite, blinker, aldis)]


def tell(title: str, library: str, counts: Counter[str], more: str) -> None:
    parts = ", ".join(f"{counts[outcome]} {outcome}" for outcome in ("passed", "failed", "skipped"))
    print(f"{title} on {library}: {parts}{more}", flush=True)


def compare(suite: Suite, blinker: Run, aldis: Run) -> list[str]:
    """Return the differences that must not exist, in words."""
    faults = []

    for meant, done in (("blinker", blinker), ("aldis", aldis)):
        if done.library != meant:
            faults.append(f"the run that was meant for {meant} had the signals of {done.library}")

        if done.exit_status not in COMPLETED:
            faults.append(f"pytest ended with {done.exit_status} on {meant}")

    if aldis.sends == 0:
        faults.append("no send went through Aldis")

    if blinker.but({})["passed"] == 0:
        faults.append("no test passes on Blinker, so it shows nothing")

    one_sided = sorted(blinker.outcomes.keys() ^ aldis.outcomes.keys())
    faults += [f"{test} ran on {'Blinker' if test in blinker.outcomes else 'Aldis'} only" for test in one_sided]

    for test, outcome in sorted(aldis.outcomes.items()):
        before = blinker.outcomes.get(test, outcome)

        if test not in suite.left_out and BETTER.index(outcome) > BETTER.index(before):
            faults.append(f"{test} {before} on Blinker and {outcome} on Aldis")

    for test in suite.left_out:
        if test not in aldis.outcomes:
            faults.append(f"{test} is left out, but there is no such test")
        elif aldis.outcomes[test] != "failed":
            faults.append(f"{test} is left out, but {aldis.outcomes[test]} on Aldis: take it off the list")

    return faults


# Set-up.


def locked_versions() -> dict[str, str]:
    """Return the versions in ``uv.lock`` of packages that have one version for all Pythons and systems."""
    packages = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))["package"]
    found: dict[str, list[str]] = {}

    for package in packages:
        if "registry" in package["source"]:
            found.setdefault(package["name"], []).append(package["version"])

    return {name: versions[0] for name, versions in found.items() if len(versions) == 1}


def fetch(name: str, version: str) -> Path:
    """Return the folder of a project's source distribution, downloaded if necessary."""
    folder = BUILD / "sdists" / f"{name}-{version}"

    if folder.exists():
        return folder

    archives = BUILD / "archives" / f"{name}-{version}"
    shutil.rmtree(archives, ignore_errors=True)
    pip(tools(), "download", "--no-deps", f"--no-binary={name}", "--dest", str(archives), f"{name}=={version}")
    archive = next(archives.glob("*.tar.gz"), None)

    if archive is None:
        raise BrokenError("PyPI has no source distribution")

    unpack(archive, folder)
    return folder


def unpack(archive: Path, folder: Path) -> None:
    """Unpack the one folder in an archive. ``folder`` exists only when it is complete."""
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)

    with tarfile.open(archive) as contents:
        # The first releases of Python 3.11 do not have the filters.
        safely: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        contents.extractall(partial, **safely)

    (inner,) = partial.iterdir()
    inner.rename(folder)
    partial.rmdir()


def tools() -> Path:
    """Return a Python with pip, for downloads."""
    return make_environment(BUILD / "tools")


def prepare(suite: Suite, tests: Path) -> Path:
    """Make an environment with a project, the packages that its tests need, Aldis and the plugin. Return its Python."""
    folder = BUILD / "environments" / suite.name
    pinned = {suite.name, *(requirement.partition("==")[0] for requirement in suite.requires if "==" in requirement)}
    locked = [f"{name}=={version}\n" for name, version in locked_versions().items() if name not in pinned]
    constraints = BUILD / f"{suite.name}-constraints.txt"
    constraints.write_text("".join(locked), encoding="utf-8")

    # The environment is made anew when its list of packages changes. Aldis is always installed anew.
    wanted = "\n".join([sys.version, str(tests), *suite.requires, constraints.read_text(encoding="utf-8")])
    stamp = folder / "contents.txt"

    if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        python = make_environment(folder)
        pip(python, "install", "--constraint", str(constraints), str(tests), *suite.requires)
        stamp.write_text(wanted, encoding="utf-8")

    python = make_environment(folder)
    pip(python, "install", "--no-deps", "--force-reinstall", str(aldis_to_install()))
    shutil.copy(PLUGIN, site_packages(python))
    return python


def aldis_to_install() -> Path:
    wheels = sorted((ROOT / "dist").glob("aldis-*.whl"), key=lambda wheel: wheel.stat().st_mtime)
    return wheels[-1] if wheels else ROOT


def make_environment(folder: Path) -> Path:
    """Make a virtual environment if it does not exist. Return its Python."""
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    if not python.exists():
        venv.create(folder, with_pip=True)

    return python


def site_packages(python: Path) -> Path:
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return Path(subprocess.run([python, "-c", where], check=True, capture_output=True, text=True).stdout.strip())


def pip(python: Path, *arguments: str) -> None:
    done = subprocess.run(
        [python, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )

    if done.returncode != 0:
        raise BrokenError(f"pip {arguments[0]} failed:\n{done.stdout}")


# Runs.


def run(suite: Suite, tests: Path, python: Path, library: str) -> Run:
    """Run a suite's tests on one of the two libraries."""
    report = BUILD / f"{suite.name}-on-{library}.json"
    log = report.with_suffix(".log")
    report.unlink(missing_ok=True)

    with log.open("w", encoding="utf-8") as output:
        subprocess.run(
            [python, "-m", "pytest", "-p", PLUGIN.stem, "-p", "no:cacheprovider", "-ra", "--tb=short"],
            cwd=tests,
            env=clean_environment() | {"DOWNSTREAM_LIBRARY": library, "DOWNSTREAM_REPORT": str(report)},
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )

    if not report.exists():
        raise BrokenError(f"pytest did not finish on {library}:\n{log.read_text(encoding='utf-8')[-4000:]}")

    return Run(**json.loads(report.read_text(encoding="utf-8")))


def clean_environment() -> dict[str, str]:
    """Return this environment without the variables that change how Python or pytest run."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST", "FLASK"))}


if __name__ == "__main__":
    sys.exit(main())
