"""The scenarios of chaos: which processes are killed, frozen or stopped, and what must be true afterwards."""

from __future__ import annotations

import json
import random
import signal
import tempfile
import time
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError, OperationalError

from aldis.relay.storage.tables import dead_letters, messages
from tools.chaos.processes import Child, Nursery, TooLateError, made_database, soon
from tools.chaos.programs import RECEIVERS, Shop, deliveries, effects, orders

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator

PROGRAMS: Final = Path(__file__).parent / "programs.py"

FAR: Final = 1_000_000
LEASE_S: Final = 0.5
MAX_ATTEMPTS: Final = 5


@dataclass
class Tally:
    """The results of one scenario.

    :ivar counts: the numbers, by the name of the table's column.
    :ivar broken: the broken promises, each with the difference.
    """

    scenario: str
    database: str
    counts: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)

    def expect(self, promise: str, found: object, expected: object) -> None:
        """Record a broken promise if the two values differ."""
        if found != expected:
            self.broken.append(f"{promise}: {_short(found)}, expected {_short(expected)}")


def _number_in(payload: str) -> int:
    return int(json.loads(payload)["number"])


def _short(value: object) -> str:
    said = repr(value)
    return said if len(said) <= 200 else f"{said[:200]}..."


@final
class Place:
    """One database, and the processes that use it.

    :ivar sent: the number of messages that :meth:`send` has sent. They are numbered from 0.
    """

    def __init__(self, url: str, folder: Path, nursery: Nursery, chance: random.Random) -> None:
        self.url = url
        self.folder = folder
        self.shop = Shop(url)
        self.shop.make()
        self.chance = chance
        self.sent = 0
        self._nursery = nursery

    def start(self, program: str, **arguments: Any) -> Child:
        """Start a program that uses the database."""
        return self._nursery.start(program, url=self.url, **arguments)

    def column(self, statement: Any) -> list[Any]:
        """Return the first column of a statement's rows, read in its own transaction."""
        with self.shop.engine.begin() as connection:
            return list(connection.execute(statement).scalars())

    def count(self, table: Any) -> int:
        """Return the number of rows of a table."""
        found: int = self.column(select(func.count()).select_from(table))[0]
        return found

    def messages(self) -> Counter[tuple[int, str]]:
        """Return the number of messages, by the number of the order and the receiver."""
        with self.shop.engine.begin() as connection:
            rows = connection.execute(select(messages.c.payload, messages.c.receiver))
            return Counter((_number_in(payload), receiver) for payload, receiver in rows)

    def dead(self) -> list[int]:
        """Return the numbers of the dead letters, in order."""
        return sorted(map(_number_in, self.column(select(dead_letters.c.payload))))

    def rows(self) -> list[Any]:
        """Return all queue rows."""
        with self.shop.engine.begin() as connection:
            return [tuple(row) for row in connection.execute(select(messages).order_by(messages.c.id))]

    def held(self) -> int:
        """Return the number of claimed messages."""
        return len(self.column(select(messages.c.id).where(messages.c.token.is_not(None))))

    def numbers(self, table: Any) -> Counter[int]:
        """Return how often each number is in a table."""
        return Counter(self.column(select(table.c.number)))

    def attempts(self, numbers: Collection[int]) -> dict[int, set[int]]:
        """Return the attempts in which messages were received."""
        found: dict[int, set[int]] = {number: set() for number in numbers}

        with self.shop.engine.begin() as connection:
            for number, attempt in connection.execute(select(deliveries.c.number, deliveries.c.attempt)):
                if number in found:
                    found[number].add(attempt)

        return found

    def send(self, count: int, shop: Shop | None = None) -> None:
        """Send messages in one transaction. Their receiver is in other processes."""
        shop = shop or self.shop

        with shop.sessions.begin() as session, shop.relay.using(session):
            for number in range(self.sent, self.sent + count):
                shop.signal.send("shop", number=number)

        self.sent += count

    def target(self, worker: Child) -> int:
        """Send until the worker is at the point where it must be killed. Return the number of its current message."""
        # The worker may hold SQLite's lock, and it is not killed before this call ends.
        hasty = Shop(self.url, patience_s=0.1)
        hasty.connect("billing")

        try:
            for _ in range(200):
                try:
                    found: int = worker.heard("here", within_s=0.2)["number"]
                except TooLateError:
                    with suppress(OperationalError):
                        self.send(15, hasty)
                else:
                    return found
        finally:
            hasty.engine.dispose()

        raise TooLateError("a worker did not reach the point where it must be killed")

    def freeze(self, worker: Child) -> None:
        """Freeze a worker at a moment at which it holds no lock that other processes wait for."""

        def try_it() -> bool:
            worker.send_signal(signal.SIGSTOP)

            if self.is_free():
                return True

            worker.send_signal(signal.SIGCONT)
            return False

        soon(try_it, "an instant without a lock")

    def finish(self, *workers: Child) -> None:
        """Let workers receive the rest, and stop them."""
        soon(lambda: not self.count(messages), "the end of all messages")

        for worker in workers:
            worker.send_signal(signal.SIGTERM)

        for worker in workers:
            if worker.ended() != 0:
                raise TooLateError(f"a worker ended with {worker.status}")

    def wait_for_silence(self) -> None:
        """Wait until the server has noticed that its clients are dead, and has ended their transactions."""
        queries = {
            "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()",
            "mariadb": "SELECT count(*) FROM information_schema.processlist WHERE db = DATABASE()",
        }
        query = queries.get(self.shop.engine.dialect.name)

        if query is not None:
            soon(lambda: self.column(text(query)) == [1], "the end of the dead clients' sessions")

    def is_free(self) -> bool:
        """Return whether no transaction holds a lock on a message or, in SQLite, on the database."""
        is_sqlite = self.shop.engine.dialect.name == "sqlite"
        statements = ("PRAGMA busy_timeout = 100", "BEGIN IMMEDIATE", "ROLLBACK")

        try:
            with self.shop.engine.connect() as connection:
                for statement in statements if is_sqlite else ("SELECT id FROM aldis_messages FOR UPDATE NOWAIT",):
                    connection.exec_driver_sql(statement)
        except DBAPIError:
            return False
        finally:
            self.shop.engine.dispose()  # Other code must not get connections with these settings.

        return True

    def rest(self, most_s: float) -> None:
        """Wait a random time."""
        time.sleep(self.chance.uniform(0, most_s))

    def close(self) -> None:
        """Close the connections."""
        self.shop.engine.dispose()


# Scenarios. The parameters are an empty place, the number of kills, and a tally.


def kill_senders(place: Place, kills: int, tally: Tally) -> None:
    """R1: A sender killed at any moment leaves no order without its messages, and no message without an order."""
    for number in range(1, kills + 1):
        sender = place.start("sell", seed=str(place.chance.random()), first=number * FAR)
        sender.heard("sells")
        place.rest(0.03)
        sender.kill()

    place.wait_for_silence()
    kept = place.numbers(orders)
    sent = place.messages()
    expected = {(number, name): 1 for number in kept for name in RECEIVERS}
    rolled_back = place.column(select(orders.c.number).where(~orders.c.is_kept))

    tally.counts.update(kills=kills, orders=len(kept), messages=sent.total())
    tally.counts.update(lost=len(expected - sent.keys()), doubled=(sent - Counter(expected)).total())
    tally.expect("R1: each order has its messages", sorted(expected.keys() - sent.keys()), [])
    tally.expect("R1: each message has its order", sorted((sent - Counter(expected)).keys()), [])
    tally.expect("what was rolled back is gone", rolled_back, [])
    tally.expect("senders did something", len(kept) > kills / 4, True)


AIMS: Final = ("before", "inside", "after", "", "")


def kill_workers(place: Place, kills: int, tally: Tally) -> None:
    """R2, R3: When workers are killed at any moment, no message is lost, and no effect is made twice.

    Two workers run at a time. The first is killed again and again, by turns at a random moment, and before, in or after
    the transaction of an effect. The second is killed now and then.
    """
    place.shop.connect("billing")
    other = place.start("work", lease=LEASE_S)
    aimed: Counter[int] = Counter()

    while tally.counts["kills"] < kills:
        place.send(5)
        aim = AIMS[tally.counts["kills"] % len(AIMS)]
        worker = place.start("work", lease=LEASE_S, aim=aim, at=place.chance.randint(1, 3))

        if aim:
            aimed[place.target(worker)] += 1
        else:
            place.rest(0.1)

        worker.kill()
        tally.counts["kills"] += 1

        if place.chance.random() < 0.2 and tally.counts["kills"] < kills:
            other.kill()
            tally.counts["kills"] += 1
            other = place.start("work", lease=LEASE_S)

    place.finish(other, place.start("work", lease=LEASE_S))
    delivered = place.numbers(deliveries)
    _expect_effects(place, range(place.sent), tally)
    again = [number for number, times in aimed.items() if delivered[number] <= times]
    tally.expect("R3: what was not acknowledged comes again", again, [])


def kill_all(place: Place, kills: int, tally: Tally) -> None:
    """R1, R2, R3: Senders and workers are killed at the same time, and each order that exists has its effect once."""

    def start(number: int, program: str) -> Child:
        if program == "work":
            return place.start("work", lease=LEASE_S)

        sender = place.start("sell", seed=str(place.chance.random()), first=number * FAR)
        sender.heard("sells")
        return sender

    children = {program: start(1, program) for program in ("sell", "work")}

    for number in range(2, max(kills, 2)):
        place.rest(0.1)
        program = place.chance.choice(["sell", "work"])
        children[program].kill()
        children[program] = start(number, program)

    for child in children.values():
        child.kill()

    place.wait_for_silence()
    place.finish(place.start("work", lease=LEASE_S), place.start("work", lease=LEASE_S))
    place.sent = place.count(orders)
    tally.counts.update(kills=max(kills, 2), orders=place.sent)
    _expect_effects(place, place.numbers(orders), tally)


def kill_by_poison(place: Place, kills: int, tally: Tally) -> None:
    """R3: A message that kills its worker each time ends as a dead letter; other messages are received."""
    place.shop.connect("billing")
    poison = [number * 7 + place.chance.randint(0, 6) for number in range(max(kills // MAX_ATTEMPTS, 1))]
    place.send(len(poison) * 7)
    worker = place.start("die", lease=LEASE_S, poison=poison, max_attempts=MAX_ATTEMPTS)

    while place.count(messages):
        if worker.poll() is not None:
            if tally.counts["kills"] == len(poison) * MAX_ATTEMPTS:
                raise TooLateError("R3: messages kill more workers than they have attempts")

            tally.expect("a worker ends by a message only", worker.status, -signal.SIGKILL)
            tally.counts["kills"] += 1
            worker = place.start("die", lease=LEASE_S, poison=poison, max_attempts=MAX_ATTEMPTS)

        time.sleep(0.005)

    place.finish(worker)
    attempts = place.attempts(poison)
    tally.counts.update(dead=place.count(dead_letters))
    dead = place.dead()
    tally.expect("R3: what kills its worker is a dead letter", dead, poison)
    tally.expect("R3: no attempt is made after the last", max(max(made) for made in attempts.values()), MAX_ATTEMPTS)
    short = [number for number, made in attempts.items() if not made >= set(range(3, MAX_ATTEMPTS + 1))]
    tally.expect("R3: each attempt counts once, and is made alone from the third on", short, [])
    _expect_effects(place, sorted(set(range(place.sent)) - set(poison)), tally)


def freeze_workers(place: Place, times: int, tally: Tally) -> None:
    """R3: A worker that was frozen for longer than its lease can no longer acknowledge its messages."""
    place.shop.connect("billing")

    for number in range(times):
        gates = [place.folder / f"gate-{number}-{worker}" for worker in ("first", "second")]
        first = place.start("linger", lease=LEASE_S, gate=str(gates[0]))
        place.send(1)
        first.heard("begun")
        place.freeze(first)

        second = place.start("linger", lease=LEASE_S, gate=str(gates[1]))
        second.heard("begun")
        place.freeze(second)  # Otherwise it renews its lease, and the row has another state.
        before = place.rows()
        gates[0].touch()
        first.send_signal(signal.SIGCONT)
        first.heard("ended")
        first.send_signal(signal.SIGTERM)
        tally.expect("a worker ends in peace", first.ended(), 0)
        tally.expect("R3: a late ack does nothing", place.rows(), before)

        gates[1].touch()
        second.send_signal(signal.SIGCONT)
        second.heard("ended")
        place.finish(second)

    tally.counts.update(freezes=times)
    _expect_effects(place, range(place.sent), tally)
    tally.expect("R3: each message came to both", place.numbers(deliveries), Counter(dict.fromkeys(range(times), 2)))


def stop_workers(place: Place, times: int, tally: Tally) -> None:
    """R3: A worker that is stopped within a batch loses nothing, and releases the messages that it has not begun."""
    place.shop.connect("billing")

    for _ in range(times):
        received = place.count(deliveries)
        place.send(60)
        worker = place.start("work", lease=60, batch=50, pause=0.002)
        soon(lambda: place.count(deliveries) > received + 10, "the first messages")  # noqa: B023
        place.rest(0.02)
        tally.counts["held"] += place.held()
        worker.send_signal(signal.SIGTERM)
        tally.expect("a worker ends in peace", worker.ended(), 0)
        left = place.column(select(messages.c.attempts).where(messages.c.token.is_(None)))
        tally.expect("R3: all is given back", len(left), place.count(messages))
        tally.expect("R3: what was not begun has counted no attempt", {*left} - {0}, set())

    tally.counts.update(stops=times)
    place.finish(place.start("work", lease=60))
    tally.expect("R3: each is received once", place.numbers(deliveries), Counter(range(place.sent)))
    tally.expect("R3: in the first attempt", {*place.column(select(deliveries.c.attempt))}, {1})
    _expect_effects(place, range(place.sent), tally)


def _expect_effects(place: Place, numbers: Collection[int], tally: Tally) -> None:
    made, delivered = place.numbers(effects), place.numbers(deliveries)
    lost = sorted(set(numbers) - made.keys())
    doubled = sorted((made - Counter(numbers)).keys())

    tally.counts.update(messages=place.sent, effects=made.total(), lost=len(lost), doubled=len(doubled))
    tally.counts.update(redelivered=delivered.total() - len(delivered))
    tally.expect("R2: no message is lost", lost, [])
    tally.expect("R2: no effect is made twice, and none without a message", doubled, [])


SCENARIOS: Final[dict[str, Callable[[Place, int, Tally], None]]] = {
    "workers killed": kill_workers,
    "all killed": kill_all,
    "killed by messages": kill_by_poison,  # One kill may be two workers' end.
    "senders killed": kill_senders,
    "workers frozen": freeze_workers,
    "workers stopped": stop_workers,
}


LAST: Final = "senders killed"


def shares(kills: int) -> dict[str, int]:
    """Return how many kills, freezes or stops each scenario has, out of all. The last scenario has the rest."""
    poisoned = max(kills * 15 // 100 // MAX_ATTEMPTS, 1) * MAX_ATTEMPTS
    workers, together = max(kills * 25 // 100, 1), max(kills * 25 // 100, 2)
    senders = max(kills - poisoned - workers - together, 1)
    counts = (workers, together, poisoned, senders, max(kills // 50, 1), max(kills // 25, 1))
    return dict(zip(SCENARIOS, counts, strict=True))


def run(name: str, database: str, count: int, seed: int, nursery: Nursery) -> Tally:
    """Run one scenario, with its own database."""
    tally = Tally(name, database)
    began = time.monotonic()

    with (
        tempfile.TemporaryDirectory(prefix="aldis-chaos-") as found,
        made_database(database, Path(found)) as url,
    ):
        place = Place(url, Path(found), nursery, random.Random(f"{seed} {name} {database}"))

        try:
            SCENARIOS[name](place, count, tally)
        except TooLateError as error:
            tally.broken.append(f"{error}. The end of the log:\n{nursery.log.read_text(errors='replace')[-4000:]}")
        finally:
            place.close()

    tally.counts["seconds"] = round(time.monotonic() - began)
    return tally


@contextmanager
def nursery() -> Generator[Nursery, None, None]:
    """Return the nursery of the programs of chaos, for a ``with`` block."""
    with (
        tempfile.TemporaryDirectory(prefix="aldis-chaos-") as folder,
        Nursery(PROGRAMS, Path(folder) / "log") as found,
    ):
        yield found
