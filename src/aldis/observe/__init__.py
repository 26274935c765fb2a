"""See what signals do: which receivers are connected, which of them run, how long they take, and which of them fail.

A signal without watchers pays nothing. A watcher that fails is removed and reported to the logger ``aldis``; sends and
receivers are not affected.

>>> from aldis import Namespace
>>> from aldis.observe import watch
>>> saved = Namespace().signal("saved")
>>> @saved.connect
... def index(sender): ...
>>> with watch(lambda send: print(send.signal_name, [call.outcome for call in send.calls]), saved):
...     _ = saved.send("pages")
saved ['returned']
"""

from __future__ import annotations

from aldis._core.records import CallRecord, SendRecord
from aldis._core.watching import Watch, Watcher

from ._inspect import ConnectionRecord, connections, describe_delivery, describe_sender
from ._metrics import BUCKETS_S, Counters, Histogram
from ._watch import slow_receivers, watch

__all__ = [
    "BUCKETS_S",
    "CallRecord",
    "ConnectionRecord",
    "Counters",
    "Histogram",
    "SendRecord",
    "Watch",
    "Watcher",
    "connections",
    "describe_delivery",
    "describe_sender",
    "slow_receivers",
    "watch",
]
