"""Blinker's contract: Aldis can stand in the place of Blinker 1.9."""

from __future__ import annotations

from typing import Final

from . import Break

BREAKS: Final = (
    Break(
        name="refusal-missing",
        what="`install_as_blinker` does not refuse when Blinker is already imported.",
        at="install_as_blinker",
        old='any(name.partition(".")[0] == "blinker" for name in list(sys.modules))',
        new="not sys.modules",
        tests=("test_install.py",),
    ),
    Break(
        name="refusal-of-parts-missing",
        what="`install_as_blinker` overlooks an imported submodule of Blinker.",
        at="install_as_blinker",
        old='name.partition(".")[0]',
        new="name",
        tests=("test_install.py",),
    ),
    Break(
        name="install-not-idempotent",
        what="`install_as_blinker` fails when it is called a second time.",
        at="install_as_blinker",
        old="""
            if _FINDER in sys.meta_path:
                return
        """,
        new="pass",
        tests=("test_install.py",),
    ),
    Break(
        name="connect-via-weak",
        what="`connect_via` holds its receiver weakly.",
        at="Signal.connect_via",
        old="weak: bool = False",
        new="weak: bool = True",
        tests=("test_connect_forms.py",),
    ),
    Break(
        name="disconnect-untold",
        what="`receiver_disconnected` is not sent.",
        at="Signal.disconnect",
        old='self._announce("receiver_disconnected", receiver=receiver, sender=sender)',
        new="pass",
        tests=("test_connect_forms.py",),
    ),
)
