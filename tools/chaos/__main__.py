"""Kill senders and workers of the relay with ``kill -9``, and count orders, messages and effects afterwards.

    python -m tools.chaos                     1,000 kills in all
    python -m tools.chaos --kills 100 --seed 7 --database sqlite

Prints the seed, and a table by scenario and database. The same seed makes the same choices; the machine's own timing
still differs. Makes databases for this, and drops them. Exits with 1 when a promise was broken.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from typing import TYPE_CHECKING, Final

from tools.chaos.processes import DATABASES
from tools.chaos.scenarios import LAST, Tally, nursery, run, shares

if TYPE_CHECKING:
    from collections.abc import Iterable

COLUMNS: Final = (
    *("kills", "freezes", "stops", "held", "orders", "messages", "effects", "redelivered", "dead"),
    *("lost", "doubled", "seconds"),
)


def line(first: str, second: str, cells: Iterable[object]) -> str:
    """Return one line of the table."""
    return f"{first:<20}{second:<12}" + "".join(
        f"{cell!s:>{len(column) + 2}}" for column, cell in zip(COLUMNS, cells, strict=True)
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000, help="the number of kills in all (default: 1000)")
    parser.add_argument("--seed", type=int, default=None, help="the seed of an earlier run")
    parser.add_argument("--database", choices=DATABASES, action="append", help="may be repeated (default: all)")
    options = parser.parse_args()
    databases = options.database or ["sqlite", "postgresql"]
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed

    print(f"Seed {seed}")
    print(line("", "", COLUMNS))
    tallies: list[Tally] = []

    with nursery() as programs:
        for database in databases:
            left = options.kills // len(databases)

            for name, count in shares(left).items():
                tally = run(name, database, left if name == LAST else count, seed, programs)
                left -= tally.counts["kills"]
                print(line(name, database, (tally.counts[column] or "" for column in COLUMNS)), flush=True)
                tallies.append(tally)

    total = sum((tally.counts for tally in tallies), Counter[str]())
    print(line("all", "", (total[column] or "" for column in COLUMNS)))
    broken = [f"{tally.scenario}, {tally.database}: {what}" for tally in tallies for what in tally.broken]
    print(*broken or ["No promise was broken."], sep="\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
