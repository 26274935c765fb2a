"""Contract tests that every set-up of the relay must pass, as classes for pytest.

::

    import pytest
    from sqlalchemy import create_engine
    from sqlalchemy.orm import sessionmaker

    from aldis.relay import Relay
    from aldis.relay.testing import Harness, RelayContract

    @pytest.fixture
    def harness(tmp_path):
        engine = create_engine(f"sqlite:///{tmp_path}/test.sqlite")
        relay = Relay(engine)
        relay.create_tables()
        yield Harness(relay, sessionmaker(engine))
        engine.dispose()

    class TestMyRelay(RelayContract): ...

Each test names the promise that it proves: R1 to R6 of the design. Use :class:`RelayContract` for a set-up,
:class:`UnorderedRelayContract` for a set-up whose runner refuses ``key=``, and :class:`DatabaseContract` for a new
database, a new driver or new settings of them. No test sleeps.

.. versionadded:: 0.1
"""

from __future__ import annotations

import pytest

from aldis.relay.worker.parts import parts_of

from ._claims import ClaimsContract
from ._deploys import DeploysContract
from ._harness import Harness, Shop, orders
from ._receiving import OrderContract, ReceivingContract
from ._sending import SendingContract

__all__ = ["DatabaseContract", "Harness", "RelayContract", "UnorderedRelayContract"]


class _Contract:
    """The common part of the classes. They use a fixture ``harness`` of the subclass, its module or a conftest.py."""

    @pytest.fixture
    def shop(self, harness: Harness) -> Shop:
        """Return a program that uses the set-up."""
        parts_of(harness.relay).database.run(orders.metadata.create_all)
        return Shop(harness)


class UnorderedRelayContract(SendingContract, ReceivingContract, DeploysContract, _Contract):
    """What every set-up must do, except for the order of messages.

    .. versionadded:: 0.1
    """


class RelayContract(OrderContract, UnorderedRelayContract):
    """What every set-up must do if its receivers can have a key.

    .. versionadded:: 0.1
    """


class DatabaseContract(ClaimsContract, _Contract):
    """What a database must do for workers that claim messages at the same time.

    .. versionadded:: 0.1
    """
