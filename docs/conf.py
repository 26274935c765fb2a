"""Settings of Sphinx. Build with ``make docs``."""

from __future__ import annotations

import inspect
from importlib import metadata
from typing import Any

project = "Aldis"
copyright = "The developers of Aldis"
author = "The developers of Aldis"
release = metadata.version("aldis")
version = release.partition(".dev")[0]

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
nitpicky = True
nitpick_ignore_regex = [
    # Python's own, whose documentation is not fetched for a build.
    (r"py:.*", r"(concurrent\.futures|threading|typing)\..*|Executor|ParamSpec|TypeVar"),
    # Type variables, and names that only annotations use.
    (r"py:.*", r"(aldis\._core\.types\.)?([FPQRST]|P\.args|P\.kwargs|AnySignal|ErrorPolicy|Wrapper|Connector)"),
    (r"py:.*", r"(aldis\._core\.types\.)?Undeclared|AldisSignals|AnySignals|ShownSignals"),
    (r"py:.*", r"AbstractContextManager|AnySession"),
    # The frameworks', whose documentation is not fetched either.
    (r"py:.*", r"(flask\.app\.)?Flask|(quart\.app\.)?Quart"),
    (r"py:.*", r"aldis\._core\.receivers_view\.Receivers"),
    # The relay's, and what it is given.
    (r"py:.*", r"(aldis\.relay\._\w+\.)?(Backoff|Runner|Durable|Forward|Target|Upgrader)"),
    (r"py:.*", r"(sqlalchemy\..*\.)?(Async)?(Connection|Session)"),
    (r"py:.*", r"(sqlalchemy\..*\.)?(MetaData|(async_)?scoped_session)"),
    (r"py:.*", r"(celery\..*\.)?Celery|datetime\.datetime"),
]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = "Aldis"


def setup(app: Any) -> None:
    """Have declared signals shown with the types of their payload."""
    app.connect("autodoc-process-docstring", add_payload_types)


def add_payload_types(_app: Any, what: str, _name: str, thing: Any, _options: Any, lines: list[str]) -> None:
    if what == "data" and getattr(thing, "contract", None) is not None:
        _, *payload = inspect.signature(thing.contract).parameters.values()
        lines.extend(f":type {parameter.name}: ``{parameter.annotation}``" for parameter in payload)
