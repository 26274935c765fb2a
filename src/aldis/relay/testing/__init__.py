"""What every set-up of the relay must do, as classes of tests for pytest.

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

Each test names the promise that it is about, R1 to R6 of the design. :class:`RelayContract` is for all set-ups,
:class:`UnorderedRelayContract` for set-ups with a runner that refuses ``key=``, and :class:`DatabaseContract` for new
databases, drivers and their settings. No test sleeps.

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
    """What the classes share. They take a fixture ``harness``, of the subclass, its module or a conftest.py."""

    @pytest.fixture
    def shop(self, harness: Harness) -> Shop:
        """A program that uses the set-up."""
        parts_of(harness.relay).database.run(orders.metadata.create_all)
        return Shop(harness)


class UnorderedRelayContract(SendingContract, ReceivingContract, DeploysContract, _Contract):
    """What every set-up must do, whatever receives the messages, but for their order.

    .. versionadded:: 0.1
    """


class RelayContract(OrderContract, UnorderedRelayContract):
    """What every set-up must do whose receivers can have a key.

    .. versionadded:: 0.1
    """


class DatabaseContract(ClaimsContract, _Contract):
    """What a database must do for workers that claim messages at the same time.

    .. versionadded:: 0.1
    """
