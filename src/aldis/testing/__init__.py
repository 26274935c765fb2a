"""Test programs that use signals: record what is sent, keep receivers from running, and put connections back.

``record`` and ``fake`` work on signals of Aldis and on plain signals of Blinker; ``isolate`` works on signals of Aldis.
All three hold for the whole process: sends from other threads, such as those of a server, are recorded too, and
receivers do not run in other threads either. Each function returns a context manager; blocks nest. With unittest, use
``self.enterContext(...)``; for pytest, ``aldis.pytest_plugin`` has the fixture ``signal_tester``.

>>> from aldis import Namespace
>>> from aldis.testing import record
>>> saved = Namespace().signal("saved")
>>> with record(saved) as sent:
...     _ = saved.send("pages", title="Home")
>>> sent.one().title
'Home'
"""

from __future__ import annotations

from ._isolation import isolate
from ._recording import Recording, Sent, fake, record
from ._templates import captured_templates
from ._tester import SignalTester

__all__ = ["Recording", "Sent", "SignalTester", "captured_templates", "fake", "isolate", "record"]
