"""Journals of what happened: one file for each, in the shop's folder, with one line of JSON for each entry."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flask import Flask


def note(app: Flask, book: str, **entry: object) -> None:
    line = json.dumps({"at": datetime.now(UTC).isoformat(timespec="milliseconds"), **entry})

    with _path(app, book).open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")


def entries(app: Flask, book: str) -> list[dict[str, Any]]:
    path = _path(app, book)
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def _path(app: Flask, book: str) -> Path:
    return Path(app.config["SHOP_FOLDER"], f"{book}.jsonl")
