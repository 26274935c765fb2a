"""R4: rows have stable names and versions, and what comes out of a row equals what went in."""

from __future__ import annotations

from typing import Final

from . import Break

BREAKS: Final = (
    Break(
        name="values-unchecked",
        what="The values inside the objects of a payload are not checked.",
        at="Form.encode",
        old="self.decoder.decode(text)",
        new="pass",
        tests=("test_payload.py",),
    ),
    Break(
        name="unknown-dies",
        what="A message for a receiver that the running code does not know becomes a dead letter.",
        at="Consumer._prepare",
        old="""
            if found is None:
                return _waits(...)
        """,
        new="""
            if found is None:
                return _dead(...)
        """,
        tests=("celery/test_task.py",),
    ),
    Break(
        name="newer-claimed",
        what="Rows of a newer version than the code's are claimed.",
        at="_claimable",
        old="_m.version <= version",
        new="_m.version <= 10**9",
        tests=("test_claims.py",),
    ),
    Break(
        name="aliases-forgotten",
        what="Rows with an older name of a receiver wait for ever.",
        at="Durable.names",
        old="(self.name, *self.aliases)",
        new="(self.name,)",
        tests=("test_r6_engines.py", "test_r4_names.py"),
    ),
    Break(
        name="any-size",
        what="A payload of any size is loaded.",
        at="_PAYLOAD",
        old="LARGEST_PAYLOAD * 4",
        new="LARGEST_PAYLOAD * 10**9",
        tests=("test_r6_engines.py", "test_odd_rows.py"),
    ),
    Break(
        name="values-in-reasons",
        what="The reason of a dead letter shows a value of the payload.",
        at="_reason",
        old=r'_WITH_VALUE.sub(r"\1\2", str(error))',
        new="str(error)",
        tests=("test_payload.py",),
    ),
    Break(
        name="no-text-stops",
        what="A text that is not valid UTF-8 stops the worker.",
        at="Database._do",
        old="is_no_text(error)",
        new="is_no_text(error) is None",
        tests=("test_odd_rows.py",),
    ),
    Break(
        name="keys-of-dicts",
        what="The keys of a dict come out as str, whatever they were.",
        at="Schema._convert",
        old="msgspec.convert({**plain, **defaults}, self._shape, str_keys=True)",
        new="msgspec.convert({**plain, **defaults}, self._shape)",
        tests=("test_payload_types.py",),
    ),
)
