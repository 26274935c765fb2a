"""Break the source on purpose, one small mistake at a time, and see which test notices.

    python -m tools.mutants                             all breaks
    python -m tools.mutants --promise e01_order         those of one file in tools/mutants/breaks
    python -m tools.mutants --only priority-ignored     one of them

Each break is made in a copy of ``src`` in a temporary folder, on which the tests are then run; the source itself is not
touched. First come the test files that the break names, and if these pass, the other test files of the same rooms. A
run that hangs has noticed the break too, and the table says so. A break that no test notices means that a promise is
not tested, or that the code is not needed.

With ``--results FILE``, results are kept in a file. A later run with the same file leaves out what was noticed and the
check of the unbroken source: so an interrupted run can be continued.

Exits with 1 if a break was not noticed or could not be tried.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from .breaks import load
from .results import Results
from .runner import Runner
from .suite import Suite
from .workshop import ROOT, open_workshops

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the check."""
    promises = load()
    names = [broken.name for promise in promises for broken in promise.breaks]
    parser = argparse.ArgumentParser(
        prog="python -m tools.mutants", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", metavar="NAME", choices=names, help="a break; may be repeated")
    parser.add_argument(
        "--promise",
        action="append",
        choices=[promise.name for promise in promises],
        metavar="FILE",
        help="the breaks of a file in tools/mutants/breaks, without .py; may be repeated",
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="how many breaks to try at the same time")
    parser.add_argument("--quick", action="store_true", help="run only the tests that a break names")
    parser.add_argument("--unchecked", action="store_true", help="leave out the check of the unbroken source")
    parser.add_argument("--results", type=Path, metavar="FILE", help="keep results here, and continue from there")
    options = parser.parse_args(arguments)
    results = Results(options.results)
    chosen = [
        broken
        for promise in promises
        for broken in promise.breaks
        if (not options.only and not options.promise)
        or broken.name in (options.only or ())
        or promise.name in (options.promise or ())
    ]
    todo = [broken for broken in chosen if broken.name not in results.noticed]

    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # So that the runs end too, and the copies go.

    with TemporaryDirectory(prefix="aldis-mutants-") as folder:
        workshops = open_workshops(Path(folder).resolve(), options.jobs)
        runner = Runner(workshops, Suite(ROOT / "tests"), results, is_quick=options.quick)

        if not options.unchecked:
            runner.check_unbroken(todo)

        rows = runner.try_breaks(todo)

    bad = [row for row in rows if row.noticed_by is None]
    print(f"\n{len(chosen)} breaks, {len(chosen) - len(bad)} noticed, {len(bad)} not.", *bad, sep="\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
