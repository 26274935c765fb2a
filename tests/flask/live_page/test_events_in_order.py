"""A listener of the live page misses no change, whenever it reads."""

from __future__ import annotations

from typing import Any

import pytest

from aldis.flask.live_page import events
from aldis.flask.live_page.events import Feed
from aldis.flask.live_page.journal import Journal

from .conftest import parse


def test_changes_while_a_part_is_made(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that changes while the JSON of another one is made is sent with the next part."""
    first, second = journal.begin("GET", "/first"), journal.begin("GET", "/second")
    feed = Feed(journal, tuple, lambda: True, wait=lambda seconds: None)
    make: Any = events._text_of

    def make_late(entry: Any) -> Any:
        if entry is second and entry.duration_s is None:
            journal.end(first)
            journal.end(second)

        return make(entry)

    monkeypatch.setattr(events, "_text_of", make_late)
    stream = feed.events("", lasts_s=60)
    shown: dict[str, Any] = {}

    for part in (next(stream), next(stream), next(stream)):
        for kind, data, _ in parse(part.decode()):
            if kind == "entries":
                shown |= {entry["path"]: entry["duration"] for entry in data["entries"]}

    assert None not in shown.values()
    assert [*shown] == ["/first", "/second"]
