"""The live page: it shows what happens, to the developer alone, and never a secret."""

from __future__ import annotations

from typing import Final

from . import Break

BREAKS: Final = (
    Break(
        name="page-without-debug",
        what="The live page answers outside debug mode.",
        at="LivePageMiddleware.__call__",
        old="not self._app.debug",
        new="self._app is None",
        tests=("test_door.py", "test_refusal.py"),
    ),
    Break(
        name="page-made-without-debug",
        what="The live page is loaded outside debug mode.",
        at="LivePageLoader.__call__",
        old="self._page is None and not self._app.debug",
        new="self._app is None",
        tests=("test_door.py",),
    ),
    Break(
        name="page-for-all-clients",
        what="The live page answers requests from other machines.",
        at="refusal_of",
        old="all(_is_allowed_address(address, hosts) for address in _clients(request))",
        new="request",
        tests=("test_refusal.py",),
    ),
    Break(
        name="secrets-shown",
        what="Values whose name says that they are secret are shown.",
        at="show_argument",
        old="HIDDEN if is_secret(name) else show(value)",
        new="show(value)",
        tests=("test_shown.py",),
    ),
    Break(
        name="page-forgets-nothing",
        what="The live page keeps more requests than it should.",
        language="javascript",
        at="forget",
        old="if (kept[isRequest] > KEPT)",
        new="if (kept[isRequest] > 10 * KEPT)",
        tests=("test_browser.py",),
    ),
    Break(
        name="page-moves-while-paused",
        what="New requests appear while the live page is paused.",
        language="javascript",
        at="take",
        old="if (isPaused) waiting.set(key, data); else show(key, data);",
        new="show(key, data);",
        tests=("test_browser.py",),
    ),
)
