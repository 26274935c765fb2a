"""Receivers via after_response in a request context that makes no response."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from quart import Quart, request

from aldis import Signal
from aldis.quart import Aldis, after_response


async def path_of(sender: Any) -> str:
    return request.path


def results_in_a_context(app: Quart, signal: Any) -> list[str]:
    async def main() -> list[str]:
        async with app.test_request_context("/page"):
            return [result for _, result in await signal.send_async(app)]

    return asyncio.run(main())


def test_in_a_context_of_a_test_at_once() -> None:
    """In test_request_context() there is no response to wait for: the receiver runs at once, with the request."""
    app, signal = Quart("shop"), Signal()
    Aldis(app)
    signal.connect(path_of, via=after_response)
    assert results_in_a_context(app, signal) == ["/page"]


def test_without_the_extension_it_says_so() -> None:
    """In an application without the extension, the send fails with a message that says what to do."""
    app, signal = Quart("bare"), Signal()
    signal.connect(path_of, via=after_response)

    with pytest.raises(RuntimeError, match=r"Aldis\(app\)"):
        results_in_a_context(app, signal)
