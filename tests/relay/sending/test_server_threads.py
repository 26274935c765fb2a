"""Servers whose threads serve many requests, each in its own context, as Starlette and FastAPI do with sync code."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from aldis.exceptions import TransactionError
from aldis.relay.sending import transactions
from tests.relay.programs.worker_program import SOON_S, Program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.relay.conftest import MakeEngine


class Request:
    """Runs parts of one request in a thread of the server."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self._threads = threads
        self.context = copy_context()

    def run(self, work: Callable[[], object]) -> Any:
        """Run a part in a thread, as a server does."""
        return self._threads.submit(self.context.copy().run, work).result(SOON_S)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """Return the server's threads: one."""
    with ThreadPoolExecutor(1) as found:
        yield found


@pytest.fixture
def program(ready_postgresql_url: str, make_engine: MakeEngine) -> Program:
    """Return a program in PostgreSQL, where a second transaction does not wait for the first."""
    program = Program(make_engine(ready_postgresql_url))
    program.connect()
    return program


def test_another_request_s_transaction_is_not_joined(program: Program, threads: ThreadPoolExecutor) -> None:
    """R1: A send does not join a session that began in its thread for another request."""
    session = Session(program.engine)
    Request(threads).run(lambda: session.execute(text("SELECT 1")))

    Request(threads).run(lambda: program.send(1))
    session.rollback()

    assert program.rows() == 1


def test_a_request_s_own_transaction_is_joined(program: Program, threads: ThreadPoolExecutor) -> None:
    """R1: A send joins the session that began in the same part of a request."""

    def order() -> None:
        with Session(program.engine) as session:
            session.execute(text("SELECT 1"))
            program.send(1)
            copy_context().run(program.send, 2)  # A copy of the context belongs to the same request.

    Request(threads).run(order)

    assert program.rows() == 0


def test_a_session_that_begins_again_elsewhere(program: Program, threads: ThreadPoolExecutor) -> None:
    """A session is joined where its present transaction began, not where an earlier one began."""
    session = Session(program.engine)
    session.begin()
    session.close()
    Request(threads).run(lambda: session.execute(text("SELECT 1")))

    program.send(1)
    session.rollback()

    assert program.rows() == 1


def test_what_has_ended_is_noted_no_more(program: Program) -> None:
    """E5: A context in which sessions begin again and again notes only the sessions that are in a transaction."""
    for _ in range(100):
        with Session(program.engine) as session:
            session.begin()

    with Session(program.engine) as first, Session(program.engine) as second:
        first.begin()
        second.begin()
        assert len(transactions._begun.get()) == 2

        with pytest.raises(TransactionError, match="2 sessions"):
            program.send(1)
