"""What the live page shows of the application's relay, and to which clients."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Engine, create_engine, event, text

from aldis import Namespace
from aldis.flask import Aldis
from aldis.flask.live_page.relay import MAX_DEAD_LETTERS
from aldis.relay import Relay

from .conftest import Shop

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATH = "/_aldis/relay"
SECRET = "4111111111111111"


class Undeliverable(Exception):
    """The exception that receivers raise here."""


class RelayShop(Shop):
    """A shop with a relay, in an SQLite database."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.relay = Relay(engine)
        self.relay.create_tables()
        super().__init__(relay=self.relay)

        @self.signals.declare
        def card_charged(sender: Any, /, *, card_number: str) -> None: ...

        self.charged = card_charged
        self.charged.connect(self.write, weak=False, via=self.relay.durable("billing.invoice"))
        self.charged.connect(self.mail, weak=False, via=self.relay.durable("mail.receipt", max_attempts=1))
        self.charged.connect(self.tell, weak=False, via=self.relay.durable("crm.contact", backoff=3600))

    @staticmethod
    def write(sender: Any, **payload: Any) -> None: ...

    @staticmethod
    def mail(sender: Any, **payload: Any) -> None:
        raise Undeliverable(SECRET)

    @staticmethod
    def tell(sender: Any, **payload: Any) -> None:
        raise Undeliverable(SECRET)

    def charge(self) -> None:
        self.charged.send(self.app, card_number=SECRET)

    def look(self) -> Any:
        """Return the data that the page gets."""
        response = self.get(PATH)
        assert response.status_code == 200
        assert SECRET not in response.text
        return response.json

    def execute(self, *statements: str) -> None:
        with self.engine.begin() as connection:
            for statement in statements:
                connection.execute(text(statement))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_engine(f"sqlite:///{tmp_path / 'test.sqlite'}")
    yield engine
    engine.dispose()


@pytest.fixture
def relay_shop(engine: Engine) -> Iterator[RelayShop]:
    shop = RelayShop(engine)
    yield shop
    shop.journal.sleep()


# The data.


def test_receivers(relay_shop: RelayShop) -> None:
    """For each receiver, the page shows whether it is known here, its waiting, retried and dead messages, and the
    reasons.
    """
    relay_shop.charge()
    relay_shop.relay.drain()
    relay_shop.charge()
    relay_shop.execute(
        "UPDATE aldis_messages SET sent_ms = sent_ms - 60000",
        "UPDATE aldis_messages SET receiver = 'gone' WHERE receiver = 'billing.invoice'",
        "UPDATE aldis_messages SET token = 'x', due_ms = due_ms + 60000 WHERE receiver = 'mail.receipt'",
    )
    receivers = {each.pop("name"): each for each in relay_shop.look()["receivers"]}
    ages = {name: each.pop("age") for name, each in receivers.items()}
    reason = receivers["crm.contact"].pop("failure")
    nothing = {"known": True, "backlog": 0, "in_flight": 0, "retrying": 0, "dead": 0, "failure": None}
    nothing_of_crm = {name: value for name, value in nothing.items() if name != "failure"}
    assert receivers == {
        "billing.invoice": nothing,
        "crm.contact": {**nothing_of_crm, "backlog": 2, "retrying": 1},
        "gone": {**nothing, "known": False, "backlog": 1},
        "mail.receipt": {**nothing, "in_flight": 1, "dead": 1},
    }
    assert ages.pop("billing.invoice") == 0
    assert all(60 <= age < 120 for age in ages.values())
    assert "raised Undeliverable" in reason


def test_dead_letters(relay_shop: RelayShop) -> None:
    """Dead letters are listed with their number, receiver, attempts, time and reason only."""
    relay_shop.charge()
    relay_shop.relay.drain()
    [found] = relay_shop.relay.dead_letters()
    [letter] = relay_shop.look()["letters"]
    assert letter.pop("reason").endswith("raised Undeliverable, in the last of 1 attempts")
    assert letter == {
        "number": found.id,
        "receiver": "mail.receipt",
        "attempts": 1,
        "died": found.died_at.timestamp(),
    }


def test_reasons_are_short(relay_shop: RelayShop) -> None:
    """Reasons name the receiver's file without the folder of the import, as the page does elsewhere."""
    folder = sys.path[-1]
    relay_shop.charge()
    relay_shop.execute(f"UPDATE aldis_messages SET failure = 'mail ({folder}/shop/mail.py:7) raised Undeliverable'")
    failures = {receiver["failure"] for receiver in relay_shop.look()["receivers"]}
    assert failures == {"mail (shop/mail.py:7) raised Undeliverable"}


def test_many_dead_letters(relay_shop: RelayShop) -> None:
    """Of many dead letters, the oldest are listed; the receiver's row has their number."""
    for _ in range(MAX_DEAD_LETTERS + 2):
        relay_shop.charge()

    relay_shop.relay.drain()
    found = relay_shop.look()
    assert len(found["letters"]) == MAX_DEAD_LETTERS
    assert found["letters"][0]["number"] == relay_shop.relay.dead_letters()[0].id
    assert [receiver["dead"] for receiver in found["receivers"] if receiver["dead"]] == [MAX_DEAD_LETTERS + 2]


def test_ill_meant_rows(relay_shop: RelayShop) -> None:
    """Any value in any column of an SQLite database is shown as text, and breaks nothing."""
    relay_shop.charge()
    relay_shop.relay.drain()
    relay_shop.execute(
        "UPDATE aldis_dead_letters SET receiver = x'ff', reason = x'ff'", "UPDATE aldis_messages SET failure = 7"
    )
    found = relay_shop.look()
    [letter] = found["letters"]
    assert (letter["receiver"], letter["reason"]) == ("b'\\xff'", "b'\\xff'")
    assert {each["name"]: each["failure"] for each in found["receivers"]}["crm.contact"] == "7"


# When the data cannot be read.


def test_missing_tables(relay_shop: RelayShop) -> None:
    """Without the relay's tables, the page says how to make them; when they exist, it shows their content."""
    relay_shop.execute("DROP TABLE aldis_messages")
    problem = relay_shop.look()["problem"]
    assert problem.startswith("The database has no table aldis_messages. Create the relay's tables with")
    relay_shop.relay.create_tables()
    assert len(relay_shop.look()["receivers"]) == 3


def test_database_that_cannot_be_asked(relay_shop: RelayShop) -> None:
    """Of a database error only the class is shown, because its text may contain values."""

    def fail(*_: Any) -> None:
        raise ValueError(SECRET)

    event.listen(relay_shop.engine, "before_cursor_execute", fail)
    assert relay_shop.look() == {"problem": "The database could not be queried: builtins.ValueError."}
    event.remove(relay_shop.engine, "before_cursor_execute", fail)
    assert "receivers" in relay_shop.look()


def test_database_that_is_away() -> None:
    """The same holds when the database cannot be reached."""
    shop = Shop(relay=Relay(create_engine("sqlite:////nowhere/at/all.sqlite")))
    problem = json.loads(shop.get(PATH).text)["problem"]
    assert problem == "The database could not be queried: sqlalchemy.exc.OperationalError."
    shop.journal.sleep()


# The clients, and no side effects.


def test_headers(relay_shop: RelayShop, shop: Shop) -> None:
    """The response is JSON, and has the headers of the page's other files."""
    usual = dict(shop.get("/_aldis/page.js").headers)
    found = dict(relay_shop.get(PATH).headers)
    assert found.pop("Content-Type") == "application/json"
    assert found.pop("Content-Length").isdecimal()
    del usual["Content-Type"], usual["Content-Length"]
    assert found == usual


REFUSALS: list[tuple[dict[str, Any], int]] = [
    ({"method": "POST"}, 405),
    ({"method": "DELETE"}, 405),
    ({"environ_overrides": {"HTTP_HOST": "evil.example"}}, 403),
    ({"environ_overrides": {"REMOTE_ADDR": "10.0.0.7"}}, 403),
    ({"environ_overrides": {"HTTP_X_FORWARDED_FOR": "10.0.0.7"}}, 403),
    ({"environ_overrides": {"HTTP_SEC_FETCH_SITE": "cross-site", "HTTP_SEC_FETCH_MODE": "cors"}}, 403),
]


@pytest.mark.parametrize(("options", "status"), REFUSALS)
def test_refusals(relay_shop: RelayShop, options: dict[str, Any], status: int) -> None:
    """A client that the page refuses is refused here too, and the database is not read."""
    asked: list[Any] = []
    event.listen(relay_shop.engine, "before_cursor_execute", lambda *arguments: asked.append(arguments))
    assert relay_shop.client.open(PATH, **options).status_code == status
    assert asked == []


def test_outside_debug_mode(relay_shop: RelayShop) -> None:
    """Outside of debug mode, the file does not exist."""
    relay_shop.app.debug = False
    assert relay_shop.get(PATH).status_code == 404


@pytest.mark.parametrize("path", [f"{PATH}/", f"{PATH}.json", f"{PATH}/dead"])
def test_nothing_below_it(relay_shop: RelayShop, path: str) -> None:
    """The relay has no other file below this one."""
    assert relay_shop.get(path).status_code == 404


def test_application_without_a_relay(shop: Shop) -> None:
    """Without a relay, the file does not exist."""
    assert shop.get(PATH).status_code == 404


def test_page_is_told_whether_there_is_a_relay(relay_shop: RelayShop, shop: Shop) -> None:
    """The event stream says whether there is a relay, and nothing more; it does not read the database."""
    asked: list[Any] = []
    event.listen(relay_shop.engine, "before_cursor_execute", lambda *arguments: asked.append(arguments))

    for each, expected in ((relay_shop, True), (shop, False)):
        events = each.events()
        assert [data["relay"] for kind, data, _ in events if kind == "hello"] == [expected]
        assert {kind for kind, _, _ in events} <= {"hello", "entries", "connections", "again"}

    assert asked == []


def test_looking_changes_nothing(relay_shop: RelayShop) -> None:
    """Reading the tab runs no hook of the application, records nothing, and writes no rows or tables."""
    ran: list[int] = []
    statements: list[str] = []
    relay_shop.app.before_request(lambda: ran.append(1))
    event.listen(relay_shop.engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
    relay_shop.look()
    assert ran == []
    assert relay_shop.entries() == []
    assert relay_shop.journal.is_watching
    assert {statement.split()[0] for statement in statements} == {"SELECT"}


def test_context_of_the_application(tmp_path: Path) -> None:
    """The database is read in an app context of the page's own application, which Flask-SQLAlchemy needs."""
    db = SQLAlchemy()
    relay = Relay(db)
    apps = [Flask("shop"), Flask("other")]

    for app in apps:
        app.debug = True
        app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{tmp_path / app.name}.sqlite"
        db.init_app(app)
        Aldis(app, relay=relay)

    with apps[0].app_context():
        relay.create_tables()

    found = [app.test_client().get(PATH).get_json() for app in apps]
    assert found[0] == {"receivers": [], "letters": []}
    assert "no table" in found[1]["problem"]

    for app in apps:
        with app.app_context():
            db.engine.dispose()


def test_nothing_is_kept(engine: Engine) -> None:
    """Reading the tab leaves no object behind."""
    shop = RelayShop(engine)
    shop.charge()
    shop.look()
    counts = []

    for _ in range(2):
        for _ in range(20):
            shop.look()

        gc.collect()
        counts.append(len(gc.get_objects()))

    shop.journal.sleep()
    assert counts[1] <= counts[0] + 50


LOADED = """
import sys
from flask import Flask
from sqlalchemy import create_engine
from aldis.flask import Aldis
from aldis.relay import Relay

app = Flask("shop")
app.debug = True
Aldis(app, relay=Relay(create_engine("sqlite:////nowhere/at/all.sqlite")))
client = app.test_client()
client.get("/_aldis/")
early = "aldis.flask.live_page.relay" in sys.modules
client.get("/_aldis/relay")
print(early, "aldis.flask.live_page.relay" in sys.modules)
"""


def test_loaded_when_it_is_asked_for() -> None:
    """The module that reads the relay is imported only when the tab is first read."""
    command = [sys.executable, "-c", LOADED]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert result.stdout == "False True\n"


def test_signals_of_the_application_are_still_noted(relay_shop: RelayShop) -> None:
    """Sends after the tab was read are recorded as before."""
    relay_shop.look()
    Namespace().signal("other").send()
    assert [entry["sends"][0]["signal"] for entry in relay_shop.entries()] == ["other"]
