"""Receivers after the response also run if the response's body fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask
from werkzeug.test import EnvironBuilder

from aldis import Namespace
from aldis.flask import Aldis, after_response

if TYPE_CHECKING:
    from collections.abc import Iterator


class Body:
    """A body that counts its calls, and raises on close if the test asks for it."""

    def __init__(self, *, fails_at_close: bool = False, fails_at: int | None = None) -> None:
        self.closed = 0
        self.fails_at_close = fails_at_close
        self.fails_at = fails_at

    def __iter__(self) -> Iterator[bytes]:
        for number in range(3):
            if number == self.fails_at:
                raise OSError("no more parts")

            yield b"part"

    def close(self) -> None:
        self.closed += 1

        if self.fails_at_close:
            raise OSError("cannot close")


def serve(body: Body, *, testing: bool = False) -> tuple[Any, list[str]]:
    """Call an application whose view sends, and whose response has this body."""
    ran: list[str] = []
    signal = Namespace().signal("placed")
    signal.connect(lambda sender: ran.append("ran"), weak=False, via=after_response)
    app = Flask("shop")
    app.testing = testing
    inner = app.wsgi_app

    def answer(environ: Any, start_response: Any) -> Any:
        inner(environ, start_response)
        return body

    app.get("/")(lambda: str(signal.send(app)))
    app.wsgi_app = answer  # type: ignore[method-assign]
    Aldis(app)
    return app.wsgi_app(EnvironBuilder("/").get_environ(), lambda *arguments: lambda part: None), ran


def test_receivers_run_at_close_and_once() -> None:
    """Receivers run when the server closes the response, after its last part, and only once."""
    body = Body()
    answer, ran = serve(body)
    assert (list(answer), ran, body.closed) == ([b"part"] * 3, [], 0)
    answer.close()
    assert (ran, body.closed) == (["ran"], 1)
    answer.close()
    assert ran == ["ran"]


def test_a_body_that_fails_to_close() -> None:
    """An exception of the body's close() reaches the server, and the receivers have run."""
    answer, ran = serve(Body(fails_at_close=True))

    with pytest.raises(OSError, match="cannot close"):
        answer.close()

    assert ran == ["ran"]


def test_a_body_that_fails_between_its_parts() -> None:
    """An exception between two parts reaches the server too, which then closes the response."""
    body = Body(fails_at=1)
    answer, ran = serve(body)

    with pytest.raises(OSError, match="no more parts"):
        list(answer)

    answer.close()
    assert (ran, body.closed) == (["ran"], 1)


def test_a_body_that_fails_in_a_test() -> None:
    """In tests, where the response is read at once, the body is closed and the receivers have run."""
    body = Body(fails_at=1)

    with pytest.raises(OSError, match="no more parts"):
        serve(body, testing=True)

    assert body.closed == 1
