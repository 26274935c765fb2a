"""The public names of aldis.relay, and the modules that its import loads."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import pytest

import aldis
from aldis import exceptions, relay


def test_all_is_exactly_what_is_public() -> None:
    """aldis.relay.__all__ is sorted, complete, and has only existing names."""
    found = {name for name, value in vars(relay).items() if not name.startswith("_")}
    modules = {name for name in found if isinstance(getattr(relay, name), ModuleType)}

    assert relay.__all__ == sorted(relay.__all__)
    assert set(relay.__all__) == found - modules - {"annotations"}


def test_the_relay_s_errors_are_there() -> None:
    """The relay's own errors and warnings can be imported from aldis.relay."""
    of_the_relay = set(exceptions.__all__) - set(aldis.__all__)

    assert of_the_relay <= set(relay.__all__)
    assert all(getattr(relay, name) is getattr(exceptions, name) for name in of_the_relay)


@pytest.mark.parametrize("name", relay.__all__)
def test_what_is_public_is_documented(name: str) -> None:
    """Each class has its own docstring."""
    assert getattr(relay, name).__doc__


def imported(statement: str) -> set[str]:
    program = f"{statement}\nimport sys\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=600)
    return set(done.stdout.split())


def test_the_core_does_not_bring_the_relay() -> None:
    """A program without the relay imports neither the relay nor its libraries."""
    found = imported("import aldis, aldis.delivery, aldis.exceptions, aldis.observe")

    assert not {name for name in found if name.startswith(("aldis.relay", "sqlalchemy", "msgspec"))}


def test_the_relay_does_not_bring_what_only_a_worker_needs() -> None:
    """A web process that sends imports no drivers, no Flask, no Celery, no OpenTelemetry and no worker."""
    found = imported("import aldis.relay")
    optional = ("psycopg", "pymysql", "flask", "celery", "opentelemetry", "click", "aldis.relay.worker.worker")

    assert not {name for name in found if name.startswith(optional)}
