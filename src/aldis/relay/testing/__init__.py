"""The contract of every set-up of the relay, as classes of pytest tests.

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

Each test names the promise that it tests, R1 to R6 of the design. :class:`RelayContract` is for all set-ups,
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
    """The base of the classes. They use a fixture ``harness``: define it in the subclass, in its module or in a
    conftest.py.
    """

    @pytest.fixture
    def shop(self, harness: Harness) -> Shop:
        """A program that uses the set-up."""
        parts_of(harness.relay).database.run(orders.metadata.create_all)
        return Shop(harness)


class UnorderedRelayContract(SendingContract, ReceivingContract, DeploysContract, _Contract):
    """The tests for every set-up, whichever runner it has, except the tests of order.

    .. versionadded:: 0.1
    """


class RelayContract(OrderContract, UnorderedRelayContract):
    """The tests for every set-up whose receivers can have a key.

    .. versionadded:: 0.1
    """


class DatabaseContract(ClaimsContract, _Contract):
    """The tests for a database whose workers claim messages at the same time.

    .. versionadded:: 0.1
    """
