"""E12: what cannot work is refused at `declare` or `connect`."""

from __future__ import annotations

from typing import Final

from . import Break

BREAKS: Final = (
    Break(
        name="anything-connects",
        what="An object that is not callable can be connected.",
        at="check_callable",
        old="not callable(receiver)",
        new="receiver is None",
        tests=("test_e12_early_errors.py",),
    ),
    Break(
        name="misfit-connects",
        what="A receiver that cannot take the payload can be connected to a declared signal.",
        at="Signal._check_receiver",
        old="contract.check_receiver(self, receiver)",
        new="pass",
        tests=("test_e12_early_errors.py",),
    ),
    Break(
        name="misfit-declared",
        what="`declare` does not check the receivers that are already connected.",
        at="declare_signal",
        old="contract.check_receiver(signal, receiver)",
        new="pass",
        tests=("test_declare.py",),
    ),
    Break(
        name="declared-over",
        what="A second function can declare a signal that is already declared.",
        at="declare_signal",
        old="before is not None",
        new="before is contract",
        tests=("test_declare.py",),
    ),
    Break(
        name="defaults-missing",
        what="The defaults of the declaration are not filled in.",
        at="Contract.complete",
        old="{**self.defaults, **payload}",
        new="{**payload}",
        tests=("test_declare.py",),
    ),
    Break(
        name="defaults-win",
        what="The defaults of the declaration replace what was sent.",
        at="Contract.complete",
        old="{**self.defaults, **payload}",
        new="{**payload, **self.defaults}",
        tests=("test_declare.py",),
    ),
    Break(
        name="unknown-keywords-sent",
        what="A keyword that is not declared can be sent.",
        at="Contract.complete",
        old="whole.keys() == self.names or (takes_more and whole.keys() >= self.names)",
        new="whole.keys() >= self.names",
        tests=("test_declare.py",),
    ),
    Break(
        name="open-misfit-connects",
        what="A receiver without `**extra` can be connected to a declaration that allows further keywords.",
        at="Contract.check_receiver",
        old='payload["_any_further_keyword"] = None',
        new="pass",
        tests=("test_e12_early_errors.py",),
    ),
    Break(
        name="contract-unseen-by-async",
        what="`send_async` does not check the payload against the declaration.",
        at="prepare",
        old="payload = registry.contract.complete(signal, payload)",
        new="pass",
        tests=("test_e09_async.py", "test_declare.py"),
    ),
)
