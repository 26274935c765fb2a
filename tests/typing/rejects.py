"""Code that type checkers must refuse, at the marked lines only. check.py checks it; it is never executed.

A marker names the errors of its line, separated by commas.
"""

from __future__ import annotations

from typing import Any

from flask import Flask, Response
from sqlalchemy import create_engine

from aldis import NamedSignal, Namespace, Signal, install_as_blinker, signal
from aldis.aio import Concurrent, async_to_sync
from aldis.delivery import threads
from aldis.flask import Aldis, after_response, message_flashed, request_finished
from aldis.observe import connections, watch
from aldis.relay import Exponential, Relay
from aldis.testing import fake, isolate, record


class App:
    """Replacement for a Flask application."""


class Plugins(Namespace):
    """A namespace class of a program."""


app = App()
signals = Namespace()
plugins = Plugins()
saved = signals.signal("saved")


@signals.declare
def user_registered(sender: App, /, *, user_id: int, plan: str = "free") -> None: ...


@signals.declare(errors="collect")
def price_asked(sender: App, /, *, item: str) -> int:
    raise NotImplementedError


@plugins.declare
def page_seen(sender: App, /, *, path: str, **extra: object) -> None: ...


# Sends.

user_registered.send(app, user_id="7")  # E: mypy=arg-type pyright=ArgumentType
user_registered.send(app)  # E: mypy=call-arg pyright=CallIssue
user_registered.send(app, usr_id=7)  # E: mypy=call-arg pyright=CallIssue
user_registered.send(app, user_id=7, at="noon")  # E: mypy=call-arg pyright=CallIssue
user_registered.send(app, 7)  # E: mypy=call-arg pyright=CallIssue
user_registered.send("app", user_id=7)  # E: mypy=arg-type pyright=ArgumentType
user_registered.send(user_id=7)  # E: mypy=call-arg pyright=CallIssue
user_registered.send(app, user_id=7, plan=None)  # E: mypy=arg-type pyright=ArgumentType
page_seen.send(app, path=1)  # E: mypy=arg-type pyright=ArgumentType
page_seen.send(app, where="/")  # E: mypy=call-arg pyright=CallIssue
price_asked.send(app, item="tea")[0][1].upper()  # E: mypy=attr-defined pyright=AttributeAccessIssue


async def sends() -> None:
    await user_registered.send_async(app, user_id="7")  # E: mypy=arg-type pyright=ArgumentType
    await user_registered.send_async(app)  # E: mypy=call-arg pyright=CallIssue
    await user_registered.send_async(app, user_id=7, at="noon")  # E: mypy=call-arg pyright=CallIssue


# Receivers that do not fit.


@user_registered.connect  # E: mypy=arg-type pyright=ArgumentType,CallIssue
def wrong_type(sender: App, *, user_id: str, **extra: object) -> None: ...


@user_registered.connect  # E: mypy=arg-type pyright=ArgumentType,CallIssue
def takes_too_little(sender: App, *, user_id: int) -> None: ...


@user_registered.connect  # E: mypy=arg-type pyright=ArgumentType,CallIssue
def wants_too_much(sender: App, *, user_id: int, at: str, **extra: object) -> None: ...


@user_registered.connect  # E: mypy=arg-type pyright=ArgumentType,CallIssue
def misspells(sender: App, *, usr_id: int, **extra: object) -> None: ...


@user_registered.connect  # E: mypy=arg-type pyright=ArgumentType,CallIssue
def wrong_sender(sender: str, *, user_id: int, **extra: object) -> None: ...


@user_registered.connect  # E: mypy=arg-type pyright=ArgumentType,CallIssue
def no_sender(*, user_id: int, **extra: object) -> None: ...


@price_asked.connect  # E: mypy=arg-type pyright=ArgumentType,CallIssue
def wrong_result(sender: App, *, item: str) -> str:
    return item


@page_seen.connect  # E: mypy=arg-type pyright=ArgumentType,CallIssue
def takes_no_more(sender: App, *, path: str) -> None: ...


@price_asked.connect  # E: mypy=arg-type pyright=ArgumentType,CallIssue
async def wrong_async_result(sender: App, *, item: str) -> str:
    return item


@user_registered.connect  # E: mypy=arg-type pyright=ArgumentType,CallIssue
async def wrong_async_type(sender: App, *, user_id: str, **extra: object) -> None: ...


# The same receivers, connected by a decorator with options, by connect_via and by a plain call.


@user_registered.connect(sender=app, priority=3)  # E: mypy=arg-type pyright=ArgumentType,CallIssue
def wrong_type_with_options(sender: App, *, user_id: str, **extra: object) -> None: ...


@user_registered.connect(weak=False)  # E: mypy=arg-type pyright=ArgumentType,CallIssue
async def wrong_async_type_with_options(sender: App, *, user_id: str, **extra: object) -> None: ...


@user_registered.connect_via(app)  # E: mypy=arg-type pyright=ArgumentType,CallIssue
def wrong_type_by_sender(sender: App, *, user_id: str, **extra: object) -> None: ...


user_registered.connect(wrong_result)  # E: mypy=arg-type pyright=ArgumentType,CallIssue
user_registered.connect(wrong_result, sender=app)  # E: mypy=arg-type pyright=ArgumentType,CallIssue
user_registered.connect("no receiver")  # E: mypy=call-overload pyright=ArgumentType,CallIssue
saved.connect("no receiver")  # E: mypy=call-overload pyright=ArgumentType,CallIssue
saved.connect(7, sender=app)  # E: mypy=call-overload pyright=ArgumentType,CallIssue

# Options.

saved.connect(wrong_result, priority="high")  # E: mypy=call-overload pyright=ArgumentType,CallIssue
saved.connect(wrong_result, once="yes")  # E: mypy=call-overload pyright=ArgumentType,CallIssue
saved.connect(wrong_result, via="threads")  # E: mypy=call-overload pyright=ArgumentType,CallIssue
saved.connect(wrong_result, app, False, 10)  # E: mypy=call-overload pyright=CallIssue
saved.connect(wrong_result, colour="red")  # E: mypy=call-overload pyright=CallIssue
Signal(errors="ignore")  # E: mypy=call-overload pyright=ArgumentType,CallIssue
Signal(errors=7)  # E: mypy=call-overload pyright=ArgumentType,CallIssue
NamedSignal()  # E: mypy=call-overload pyright=CallIssue
NamedSignal("named", errors="ignore")  # E: mypy=call-overload pyright=ArgumentType,CallIssue
Namespace(errors="ignore")  # E: mypy=arg-type pyright=ArgumentType
Namespace(colour="red")  # E: mypy=arg-type pyright=ArgumentType
signal(7)  # E: mypy=arg-type pyright=ArgumentType
saved.errors = "ignore"  # E: mypy=assignment pyright=AttributeAccessIssue
saved.async_wrapper = 7  # E: mypy=assignment pyright=AttributeAccessIssue
saved.name = 7  # E: mypy=assignment pyright=AttributeAccessIssue
saved.contract = None  # E: mypy=misc pyright=AttributeAccessIssue
threads("executor")  # E: mypy=arg-type pyright=ArgumentType
async_to_sync(wrong_result)  # E: mypy=arg-type pyright=ArgumentType
Concurrent(True)  # E: mypy=call-arg pyright=CallIssue
install_as_blinker("blinker")  # E: mypy=call-arg pyright=CallIssue

# Declarations.


@signals.declare  # E: mypy=arg-type pyright=ArgumentType,CallIssue
def no_parameters() -> None: ...


@signals.declare(errors="ignore")  # E: mypy=call-overload pyright=ArgumentType
def bad_policy(sender: App, /) -> None: ...


@signals.declare(colour="red")  # E: mypy=call-overload pyright=CallIssue
def bad_option(sender: App, /) -> None: ...


signals.declare("user-registered")  # E: mypy=call-overload pyright=ArgumentType,CallIssue
signals["user-registered"] = "no signal"  # E: mypy=assignment pyright=ArgumentType


# Type arguments in annotations are checked.


def takes_typed(typed: Signal[App, ..., int]) -> None:
    typed.send("app")  # E: mypy=arg-type pyright=ArgumentType
    typed.send(app)[0][1].upper()  # E: mypy=attr-defined pyright=AttributeAccessIssue


takes_typed(user_registered)  # E: mypy=arg-type pyright=ArgumentType
takes_typed("no signal")  # E: mypy=arg-type pyright=ArgumentType


class Quiet(Signal):
    """A subclass whose send has an incompatible signature."""

    def send(self, sender: str) -> int:  # E: mypy=override pyright=IncompatibleMethodOverride
        return 1


def undeclared(bare: Signal, named: NamedSignal) -> Any:
    bare.connect(7)  # E: mypy=call-overload pyright=ArgumentType,CallIssue
    return bare.name  # E: mypy=attr-defined pyright=AttributeAccessIssue


# Flask's own signals, and deliveries.


@request_finished.connect  # E: mypy=arg-type pyright=ArgumentType,CallIssue
def surplus_of_flask(sender: Flask, *, response: Response, status: int) -> None: ...


@request_finished.connect  # E: mypy=arg-type pyright=ArgumentType,CallIssue
def misspelt_of_flask(sender: Flask, *, respnse: Response) -> None: ...


@message_flashed.connect(via=after_response)  # E: mypy=arg-type pyright=ArgumentType,CallIssue
def wrong_type_of_flask(sender: Flask, *, message: int, category: str) -> None: ...


message_flashed.send(Flask("shop"), message="saved")  # E: mypy=call-arg pyright=CallIssue
saved.connect(print, via=after_response())  # E: mypy=operator pyright=CallIssue
Aldis("shop")  # E: mypy=arg-type pyright=ArgumentType
Aldis(Flask("shop"), show=["saved"])  # E: mypy=list-item pyright=ArgumentType
watch(lambda: None)  # E: mypy=arg-type,misc pyright=ArgumentType
watch(print, "saved")  # E: mypy=arg-type pyright=ArgumentType
connections("saved")  # E: mypy=arg-type pyright=ArgumentType
record("saved")  # E: mypy=arg-type pyright=ArgumentType
record(saved, "ada")  # E: mypy=arg-type pyright=ArgumentType
fake(None)  # E: mypy=arg-type pyright=ArgumentType
isolate(print)  # E: mypy=arg-type pyright=ArgumentType


# The relay.

relay = Relay(create_engine("sqlite://"))


@user_registered.connect(via=relay.durable("mail"))  # E: mypy=arg-type pyright=ArgumentType,CallIssue
def durable_of_wrong_type(sender: App, *, user_id: str, **extra: object) -> None: ...


@user_registered.connect(via=relay.durable("mail"))  # E: mypy=arg-type pyright=ArgumentType,CallIssue
async def durable_takes_too_little(sender: App, *, user_id: int) -> None: ...


saved.connect(print, via=relay.durable)  # E: mypy=call-overload pyright=ArgumentType,CallIssue
saved.connect(print, via=relay)  # E: mypy=call-overload pyright=ArgumentType,CallIssue
relay.durable()  # E: mypy=call-arg pyright=CallIssue
relay.durable(7)  # E: mypy=arg-type pyright=ArgumentType
relay.durable("mail", 3)  # E: mypy=call-arg pyright=CallIssue
relay.durable("mail", max_attempts="3")  # E: mypy=arg-type pyright=ArgumentType
relay.durable("mail", backoff="1s")  # E: mypy=arg-type pyright=ArgumentType
relay.durable("mail", backoff=lambda: 3.0)  # E: mypy=arg-type,misc pyright=ArgumentType
relay.durable("mail", timeout_s="5")  # E: mypy=arg-type pyright=ArgumentType
relay.durable("mail", key=7)  # E: mypy=arg-type pyright=ArgumentType
relay.durable("mail", aliases=[7])  # E: mypy=list-item pyright=ArgumentType
relay.durable("mail", retries=3)  # E: mypy=call-arg pyright=CallIssue
relay.forward("user-registered", "mail")  # E: mypy=arg-type pyright=ArgumentType
relay.register_sender(app)  # E: mypy=call-arg pyright=CallIssue
relay.register_sender(app, 7)  # E: mypy=arg-type pyright=ArgumentType
relay.using("session")  # E: mypy=arg-type pyright=ArgumentType
relay.first_time("session")  # E: mypy=call-overload pyright=ArgumentType,CallIssue
relay.current().payload  # E: mypy=attr-defined pyright=AttributeAccessIssue
relay.retry_dead("7")  # E: mypy=arg-type pyright=ArgumentType
relay.purge_effects(older_than_s="3")  # E: mypy=arg-type pyright=ArgumentType
Exponential("1")  # E: mypy=arg-type pyright=ArgumentType


@signals.declare(version="2")  # E: mypy=call-overload pyright=ArgumentType
def bad_version(sender: App, /) -> None: ...


@signals.declare(version=2, upgraders={"1": dict})  # E: mypy=dict-item pyright=ArgumentType
def bad_upgraders(sender: App, /) -> None: ...
