"""Blinker's contract: send_async, and wrappers between sync and async.

Written from Blinker's documentation; each test runs on Blinker itself and on Aldis. Where the two differ on purpose,
``differs`` names the promise.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any
from unittest import mock

import pytest


def sync_receiver(sender: Any, **payload: Any) -> Any:
    return "sync", sender, payload


async def async_receiver(sender: Any, **payload: Any) -> Any:
    return "async", sender, payload


def run_async(receiver: Any) -> Any:
    """Run an async receiver, as an ``_async_wrapper``."""

    def call(*arguments: Any, **payload: Any) -> Any:
        return "wrapped", asyncio.run(receiver(*arguments, **payload))

    return call


def make_async(receiver: Any) -> Any:
    """Make a sync receiver async, as a ``_sync_wrapper``."""

    async def call(*arguments: Any, **payload: Any) -> Any:
        return "wrapped", receiver(*arguments, **payload)

    return call


def test_send_async_awaits_async_receivers(library: Any) -> None:
    """send_async: awaits each receiver, and returns pairs of receiver and awaited value."""
    signal = library.Signal()
    signal.connect(async_receiver)

    assert asyncio.run(signal.send_async("me", a=1)) == [(async_receiver, ("async", "me", {"a": 1}))]
    assert asyncio.run(signal.send_async()) == [(async_receiver, ("async", None, {}))]


def test_send_async_without_receivers(library: Any) -> None:
    """send_async: without receivers it returns an empty list."""
    assert asyncio.run(library.Signal().send_async("me", a=1)) == []


def test_async_methods_and_partials_are_async_receivers(library: Any) -> None:
    """send_async: bound async methods and partials of async functions are awaited."""

    class Mailer:
        async def welcome(self, sender: Any) -> str:
            return "welcome"

    signal = library.Signal()
    mailer = Mailer()
    shortened = partial(async_receiver, a=1)
    signal.connect(mailer.welcome)
    signal.connect(shortened)

    assert sorted(map(repr, asyncio.run(signal.send_async("me")))) == sorted(
        map(repr, [(mailer.welcome, "welcome"), (shortened, ("async", "me", {"a": 1}))])
    )


def test_an_async_mock_is_an_async_receiver(library: Any) -> None:
    """send_async: awaits an AsyncMock."""
    signal = library.Signal()
    receiver = mock.AsyncMock(return_value="awaited")
    signal.connect(receiver)

    assert asyncio.run(signal.send_async("me", a=1)) == [(receiver, "awaited")]
    receiver.assert_awaited_once_with("me", a=1)


def test_objects_with_an_async_call_are_async_receivers(library: Any, differs: Any) -> None:
    """E9: Blinker mistakes an object with an async ``__call__`` for a sync receiver."""

    class Mailer:
        async def __call__(self, sender: Any) -> str:
            return "welcome"

    signal = library.Signal()
    mailer = Mailer()
    signal.connect(mailer)

    try:
        found = asyncio.run(signal.send_async())
    except RuntimeError:
        found = "refused"

    assert found == differs("E9", blinker="refused", aldis=[(mailer, "welcome")])


def test_send_refuses_async_receivers_without_a_wrapper(library: Any) -> None:
    """send: an async receiver without a wrapper is a RuntimeError."""
    signal = library.Signal()
    signal.connect(async_receiver)

    with pytest.raises(RuntimeError):
        signal.send()


def test_send_async_refuses_sync_receivers_without_a_wrapper(library: Any) -> None:
    """send_async: a sync receiver without a wrapper is a RuntimeError."""
    signal = library.Signal()
    signal.connect(sync_receiver)

    with pytest.raises(RuntimeError):
        asyncio.run(signal.send_async())


def test_send_runs_async_receivers_through_the_wrapper(signal: Any) -> None:
    """_async_wrapper: is called with each async receiver, and its result is called with the sender and the payload."""
    signal.connect(sync_receiver)
    signal.connect(async_receiver)

    assert signal.send("me", _async_wrapper=run_async, a=1) == [
        (sync_receiver, ("sync", "me", {"a": 1})),
        (async_receiver, ("wrapped", ("async", "me", {"a": 1}))),
    ]


def test_send_async_runs_sync_receivers_through_the_wrapper(signal: Any) -> None:
    """_sync_wrapper: is called with each sync receiver, and its result is called and awaited."""
    signal.connect(sync_receiver)
    signal.connect(async_receiver)

    assert asyncio.run(signal.send_async("me", _sync_wrapper=make_async, a=1)) == [
        (sync_receiver, ("wrapped", ("sync", "me", {"a": 1}))),
        (async_receiver, ("async", "me", {"a": 1})),
    ]


def test_a_wrapper_that_is_not_needed_is_not_called(library: Any) -> None:
    """_async_wrapper and _sync_wrapper: are called only for receivers of the other kind."""
    sync_signal, async_signal = library.Signal(), library.Signal()
    sync_signal.connect(sync_receiver)
    async_signal.connect(async_receiver)
    wrapper = mock.Mock()

    assert len(sync_signal.send(_async_wrapper=wrapper)) == 1
    assert len(asyncio.run(async_signal.send_async(_sync_wrapper=wrapper))) == 1
    wrapper.assert_not_called()


def test_an_exception_stops_send_async(signal: Any, log: list[Any]) -> None:
    """send_async: raises a receiver's exception unchanged, and calls no later receiver."""

    async def fails(sender: Any) -> None:
        raise LookupError("lost")

    async def after(sender: Any) -> None:
        log.append("after")

    signal.connect(fails)
    signal.connect(after)

    with pytest.raises(LookupError, match="lost"):
        asyncio.run(signal.send_async())

    assert log == []


def test_a_receiver_without_a_wrapper_fails_the_send_before_any_runs(
    signal: Any, named: Any, log: list[Any], differs: Any
) -> None:
    """E9: Blinker has already run the receivers before the async one when the send fails."""
    before = named("before")
    signal.connect(before)
    signal.connect(async_receiver)

    with pytest.raises(RuntimeError):
        signal.send()

    assert log == differs("E9", blinker=["before"], aldis=[])
