"""Servers whose threads serve many, each in a context of its own, as Starlette and FastAPI do with sync code."""

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
    """Has parts of one request run by a thread of the server."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self._threads = threads
        self.context = copy_context()

    def run(self, work: Callable[[], object]) -> Any:
        """Run a part, as it is given to a thread."""
        return self._threads.submit(self.context.copy().run, work).result(SOON_S)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """The server's threads: one."""
    with ThreadPoolExecutor(1) as found:
        yield found


@pytest.fixture
def program(ready_postgresql_url: str, make_engine: MakeEngine) -> Program:
    """In PostgreSQL, where a second transaction does not wait for the first."""
    program = Program(make_engine(ready_postgresql_url))
    program.connect()
    return program


def test_another_request_s_transaction_is_not_joined(program: Program, threads: ThreadPoolExecutor) -> None:
    """R1: A send joins no session that began in its thread for somebody else, and is not rolled back with it."""
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
            copy_context().run(program.send, 2)  # What is derived from a context is of the same request.

    Request(threads).run(order)

    assert program.rows() == 0


def test_a_session_that_begins_again_elsewhere(program: Program, threads: ThreadPoolExecutor) -> None:
    """A session is joined where its present transaction began, not where an earlier one did."""
    session = Session(program.engine)
    session.begin()
    session.close()
    Request(threads).run(lambda: session.execute(text("SELECT 1")))

    program.send(1)
    session.rollback()

    assert program.rows() == 1


def test_what_has_ended_is_noted_no_more(program: Program) -> None:
    """E5: A context in which sessions begin again and again notes those that are in a transaction."""
    for _ in range(100):
        with Session(program.engine) as session:
            session.begin()

    with Session(program.engine) as first, Session(program.engine) as second:
        first.begin()
        second.begin()
        assert len(transactions._begun.get()) == 2

        with pytest.raises(TransactionError, match="2 sessions"):
            program.send(1)
