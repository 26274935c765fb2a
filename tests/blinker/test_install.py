"""``install_as_blinker()``: each test runs its program in its own interpreter, as a user would."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any, TypeVar

import blinker
import pytest

import aldis

# The packages that a Flask application needs, without Blinker.
FLASK_WITHOUT_BLINKER = ("aldis", "click", "flask", "itsdangerous", "jinja2", "markupsafe", "werkzeug")

INSTALLED = """
import aldis
aldis.install_as_blinker()
"""


def run(program: str, *, before: str = "", options: tuple[str, ...] = (), **given: Any) -> Any:
    """Run a program with the given names, and return the JSON that it prints with ``tell``.

    Warnings are errors in the program, and so is any output on stderr: an exception that Python ignores would otherwise
    stay unseen.
    """
    source = "\n".join(
        [
            "import json, sys",
            "def tell(what): print(json.dumps(what))",
            *(f"{name} = {value!r}" for name, value in given.items()),
            before,
            dedent(program),
        ]
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV_"))}
    done = subprocess.run(
        [sys.executable, "-W", "error", *options, "-c", source],
        capture_output=True,
        text=True,
        env=environment,
        timeout=600,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


# The result of `import blinker`


@pytest.mark.parametrize(
    "statement",
    [
        "import blinker; Signal = blinker.Signal",
        "import blinker as b; Signal = b.Signal",
        "from blinker import Signal",
        "from blinker import *",
        "from blinker.base import Signal",
        "import blinker.base; Signal = blinker.base.Signal",
        "from blinker import base; Signal = base.Signal",
        "import importlib; Signal = importlib.import_module('blinker.base').Signal",
        "Signal = __import__('blinker').Signal",
    ],
)
def test_each_form_of_import_returns_aldis(statement: str) -> None:
    """Blinker's contract: every form of the import returns Aldis, whichever comes first."""
    assert run(f"{statement}\ntell(Signal is aldis.Signal)", before=INSTALLED) is True


def test_each_public_name_is_that_of_aldis() -> None:
    """Blinker's contract: ``blinker`` and ``blinker.base`` have Blinker's public names, and the objects are those of
    Aldis."""
    program = """
        import blinker, blinker.base
        tell([
            sorted(blinker.__all__),
            [name for name in names if getattr(blinker, name) is not getattr(aldis, name)],
            [name for name in names if getattr(blinker.base, name) is not getattr(aldis, name)],
            blinker.base.ANY_ID,
            "Aldis" in blinker.__doc__,
        ])
    """

    assert run(program, before=INSTALLED, names=blinker.__all__) == [sorted(blinker.__all__), [], [], 0, True]


def test_blinkers_modules_have_every_name() -> None:
    """Blinker's contract: ``blinker.base`` and ``blinker._utilities`` have every name that Blinker defines in them."""
    import blinker._utilities
    import blinker.base

    own = {
        module.__name__: [
            name
            for name, value in vars(module).items()
            if str(getattr(value, "__module__", "")).startswith("blinker")
            and not (name.startswith("_") or isinstance(value, TypeVar))
        ]
        for module in (blinker.base, blinker._utilities)
    }
    program = """
        import importlib
        tell([f"{module}.{name}" for module, names in own.items() for name in names
              if not hasattr(importlib.import_module(module), name)])
    """

    assert {"Signal", "make_id"} <= set(own["blinker.base"])
    assert run(program, before=INSTALLED, own=own) == []


def test_blinkers_utilities_work() -> None:
    """Blinker's contract: ``make_id``, ``make_ref`` and ``Symbol`` work for code that imports them."""
    program = """
        from blinker._utilities import Symbol, make_id, make_ref

        class Room:
            def lamp(self):
                return "lit"

        room, died = Room(), []
        object_ref = make_ref(room, lambda ref: died.append("room"))
        method_ref = make_ref(room.lamp, lambda ref: died.append("method"))
        alive = [object_ref() is room, method_ref()()]
        ids = [make_id("me") == "me", make_id(7) == 7, make_id(room) == id(room), make_id([]) != make_id(room),
               make_id(room.lamp) == make_id(room.lamp), make_id(room.lamp) != make_id(Room().lamp)]
        del room
        tell([
            Symbol("x") is Symbol("x"), Symbol("x") is not Symbol("y"), Symbol("x").name, repr(Symbol("x")),
            Symbol("ANY") is aldis.ANY, ids, alive, sorted(died), object_ref(), method_ref(),
        ])
    """

    assert run(program, before=INSTALLED) == [
        True, True, "x", "x", True, [True] * 6, [True, "lit"], ["method", "room"], None, None,
    ]  # fmt: skip


def test_installing_imports_nothing_else() -> None:
    """Blinker's contract: installing imports neither Blinker nor a package that uses it."""
    program = """
        tell([name for name in ("blinker", "flask", "werkzeug", "quart", "asyncio") if name in sys.modules])
    """

    assert run(program, before=INSTALLED) == []


def test_the_modules_have_the_attributes_of_modules() -> None:
    """Blinker's contract: the modules have names, packages and specs, as other modules have."""
    program = """
        import blinker, blinker.base
        tell([blinker.__name__, blinker.__package__, blinker.__spec__.name, list(blinker.__path__),
              blinker.base.__name__, blinker.base.__package__, blinker.base is sys.modules["blinker.base"],
              "blinker" in repr(blinker)])
    """

    expected = ["blinker", "blinker", "blinker", [], "blinker.base", "blinker", True, True]
    assert run(program, before=INSTALLED) == expected


@pytest.mark.parametrize("name", ["blinker", "blinker.base", "blinker._utilities"])
def test_find_spec_finds_aldis(name: str) -> None:
    """Blinker's contract: ``importlib.util.find_spec`` finds Aldis' module, before and after the import."""
    program = """
        import importlib, importlib.util
        before = importlib.util.find_spec(name)
        importlib.import_module(name)
        after = importlib.util.find_spec(name)
        tell([before.name, before.origin, after.origin, after is sys.modules[name].__spec__])
    """

    assert run(program, before=INSTALLED, name=name) == [name, "aldis", "aldis", True]


@pytest.mark.parametrize("name", ["blinker.saferef", "blinker._saferef", "blinker.base.more"])
def test_an_unknown_submodule_is_not_found(name: str) -> None:
    """Blinker's contract: importing a submodule that neither library has raises a ModuleNotFoundError that names it,
    and never loads the real Blinker."""
    program = """
        import importlib, importlib.util
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            tell([error.name, isinstance(error, ImportError)])
    """

    assert run(program, before=INSTALLED, name=name) == [name, True]


def test_find_spec_does_not_find_an_unknown_submodule() -> None:
    """Blinker's contract: ``find_spec`` finds no submodule that Aldis does not replace."""
    program = """
        from importlib.util import find_spec
        tell(find_spec("blinker.saferef"))
    """

    assert run(program, before=INSTALLED) is None


def test_a_missing_name_is_an_import_error() -> None:
    """Blinker's contract: ``from blinker import`` of an unknown name is an ImportError."""
    program = """
        try:
            from blinker import receiver_connected
        except ImportError as error:
            tell([error.name, "receiver_connected" in str(error)])
    """

    assert run(program, before=INSTALLED) == ["blinker", True]


def test_the_metadata_is_that_of_blinker() -> None:
    """Blinker's contract: the distribution metadata still has the version of the installed Blinker."""
    program = """
        import importlib.metadata
        import blinker
        found = importlib.metadata.distribution("blinker")
        tell([importlib.metadata.version("blinker"), found.metadata["Name"], bool(found.files)])
    """

    assert run(program, before=INSTALLED) == ["1.9.0", "blinker", True]


# Again, and in several threads


def test_installing_again_changes_nothing() -> None:
    """Blinker's contract: ``install_as_blinker`` is idempotent, before and after Blinker's name is imported."""
    program = """
        before = list(sys.meta_path)
        aldis.install_as_blinker()
        import blinker
        aldis.install_as_blinker()
        import flask
        aldis.install_as_blinker()
        tell([sys.meta_path == before, sys.modules["blinker"] is blinker, blinker.Signal is aldis.Signal])
    """

    assert run(program, before=INSTALLED) == [True, True, True]


def test_many_threads_may_install() -> None:
    """Blinker's contract: threads that install and import at the same time all get the one Aldis."""
    program = """
        import threading
        import aldis

        before, count = len(sys.meta_path), 16
        ready, found = threading.Barrier(count), []

        def install():
            ready.wait()
            aldis.install_as_blinker()
            from blinker.base import Signal
            found.append(Signal is aldis.Signal)

        sys.setswitchinterval(1e-6)
        threads = [threading.Thread(target=install) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        tell([found.count(True), len(sys.meta_path) - before])
    """

    assert run(program) == [16, 1]


def test_a_reload_returns_aldis() -> None:
    """Blinker's contract: after ``importlib.reload`` the modules are the same, and still those of Aldis."""
    program = """
        import importlib
        import blinker, blinker.base, blinker._utilities
        blinker.Signal = None
        same = [importlib.reload(module) is module for module in (blinker, blinker.base, blinker._utilities)]
        tell([same, blinker.Signal is aldis.Signal, blinker.base.Signal is aldis.Signal])
    """

    assert run(program, before=INSTALLED) == [[True] * 3, True, True]


@pytest.mark.parametrize("deleted", [["blinker"], ["blinker.base"], ["blinker", "blinker.base", "blinker._utilities"]])
@pytest.mark.parametrize("name", ["blinker", "blinker.base"])
def test_a_deleted_module_is_imported_again_as_aldis(deleted: list[str], name: str) -> None:
    """Blinker's contract: modules that a test deletes from sys.modules are Aldis again at the next import, with the
    same signals."""
    program = """
        import importlib
        import blinker, blinker.base, blinker._utilities
        lamp = blinker.signal("lamp")
        for each in deleted:
            del sys.modules[each]
        again = importlib.import_module(name)
        tell([again.Signal is aldis.Signal, again.signal("lamp") is lamp, again.default_namespace["lamp"] is lamp])
    """

    assert run(program, before=INSTALLED, deleted=deleted, name=name) == [True, True, True]


# Too late


@pytest.mark.parametrize(
    ("first", "named"),
    [
        pytest.param("import blinker", [], id="blinker"),
        pytest.param("from blinker.base import Signal", [], id="blinker.base"),
        pytest.param("import flask", ["flask"], id="flask"),
        pytest.param("import quart", ["flask", "quart"], id="quart"),
        pytest.param("import aldis; import blinker", [], id="after aldis"),
    ],
)
def test_too_late_is_refused_and_changes_nothing(first: str, named: list[str]) -> None:
    """Blinker's contract: if the real Blinker is already imported, installing raises an error that says what to do."""
    program = """
        import aldis
        modules, finders, real = dict(sys.modules), list(sys.meta_path), sys.modules["blinker"]
        attributes = dict(vars(real))
        messages = []

        for _ in range(2):
            try:
                aldis.install_as_blinker()
            except aldis.BlinkerImportedError as error:
                messages.append(str(error))
                assert isinstance(error, aldis.AldisError) and isinstance(error, RuntimeError)

        import blinker
        from blinker.base import Signal
        tell([messages, sys.modules == modules, sys.meta_path == finders, vars(real) == attributes,
              blinker is real, Signal.__module__])
    """

    messages, *unchanged = run(program, before=first)

    assert unchanged == [True, True, True, True, "blinker.base"]
    assert len(messages) == 2
    assert messages[0] == messages[1]
    assert "The real Blinker is imported already" in messages[0]
    assert "aldis.install_as_blinker() before the first import" in messages[0]
    assert [name for name in ("flask", "quart") if name in messages[0].partition(", and Aldis")[0]] == named


def test_a_part_of_the_real_blinker_is_too_late() -> None:
    """Blinker's contract: installing is refused if only a submodule of the real Blinker is in ``sys.modules``,
    because the two would mix."""
    program = """
        import aldis
        import blinker.base
        del sys.modules["blinker"]
        try:
            aldis.install_as_blinker()
        except aldis.BlinkerImportedError:
            tell("refused")
        else:
            from blinker.base import Signal
            tell(Signal.__module__)
    """

    assert run(program) == "refused"


def test_after_a_refusal_a_program_may_start_again() -> None:
    """Blinker's contract: a program that removes the real Blinker from ``sys.modules`` may install."""
    program = """
        import aldis
        import blinker
        try:
            aldis.install_as_blinker()
        except aldis.BlinkerImportedError:
            for name in [name for name in sys.modules if name.partition(".")[0] == "blinker"]:
                del sys.modules[name]
        aldis.install_as_blinker()
        import blinker
        tell(blinker.Signal is aldis.Signal)
    """

    assert run(program) is True


# Pickles


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_blinkers_pickles_of_any_load_as_aldis(protocol: int) -> None:
    """Blinker's contract: an ``ANY`` that the real Blinker pickled is loaded as Aldis' ``ANY``."""
    pickled = pickle.dumps({"sender": blinker.ANY}, protocol)
    program = """
        import pickle
        found = pickle.loads(pickled)["sender"]
        tell([found is aldis.ANY, repr(found), pickle.loads(pickle.dumps(found)) is found])
    """

    assert b"aldis" not in pickled
    assert run(program, before=INSTALLED, pickled=pickled) == [True, "ANY", True]


# Programs


FLASK_APP = """
import flask
from flask import Flask, got_request_exception, message_flashed, template_rendered, request_started

app = Flask("shop")
app.secret_key = "secret"
seen = []

@request_started.connect_via(app)
def started(sender, **extra):
    seen.append("started")

@template_rendered.connect
def rendered(sender, template, context, **extra):
    seen.append(["rendered", context["name"]])

@message_flashed.connect
def flashed(sender, message, category, **extra):
    seen.append(["flashed", message])

@got_request_exception.connect
def failed(sender, exception, **extra):
    seen.append(["failed", type(exception).__name__])

@app.get("/<name>")
def page(name):
    flask.flash(f"hello {name}")
    if name == "nobody":
        raise LookupError(name)
    return flask.render_template_string("{{ name }}", name=name)

def visit():
    client = app.test_client()
    return [(response.status_code, response.text[:3]) for response in map(client.get, ("/ada", "/nobody"))]
"""

FLASK_VISIT = [
    [[200, "ada"], [500, "<!d"]],
    ["started", ["flashed", "hello ada"], ["rendered", "ada"], "started", ["flashed", "hello nobody"],
     ["failed", "LookupError"]],
]  # fmt: skip


def test_flask_runs_on_aldis() -> None:
    """Blinker's contract: Flask's signals are those of Aldis, and an application receives them as before."""
    program = """
        import logging
        logging.disable()
        visited = visit()
        core = [value for name, value in vars(flask.signals).items() if isinstance(value, aldis.NamedSignal)]
        tell([[visited, seen], len(core), type(flask.signals._signals) is aldis.Namespace])
    """

    assert run(program, before=INSTALLED + FLASK_APP) == [FLASK_VISIT, 10, True]


def test_flask_runs_async_receivers_on_aldis() -> None:
    """Blinker's contract: Flask passes ``_async_wrapper``, so that async receivers run beside sync receivers."""
    program = """
        @request_started.connect
        async def started_async(sender, **extra):
            import asyncio
            await asyncio.sleep(0)
            seen.append("started async")

        app.test_client().get("/ada")
        tell(seen)
    """

    assert run(program, before=INSTALLED + FLASK_APP) == [
        "started", "started async", ["flashed", "hello ada"], ["rendered", "ada"],
    ]  # fmt: skip


def test_quart_runs_on_aldis() -> None:
    """Blinker's contract: Quart sends with ``send_async`` to async receivers, and through its wrapper to sync
    receivers."""
    program = """
        import asyncio
        from quart import Quart, render_template_string, request_finished, request_started, template_rendered
        import quart.signals

        app, seen = Quart("shop"), []

        @request_started.connect_via(app)
        async def started(sender, **extra):
            await asyncio.sleep(0)
            seen.append("started")

        @template_rendered.connect
        async def rendered(sender, template, context, **extra):
            seen.append(["rendered", context["name"]])

        @request_finished.connect
        def finished(sender, response, **extra):
            seen.append(["finished", response.status_code])

        @app.get("/<name>")
        async def page(name):
            return await render_template_string("{{ name }}", name=name)

        async def visit():
            response = await app.test_client().get("/ada")
            return [response.status_code, await response.get_data(as_text=True)]

        visited = asyncio.run(visit())
        tell([visited, seen, isinstance(quart.signals.websocket_started, aldis.NamedSignal),
              isinstance(request_started, aldis.NamedSignal)])
    """

    assert run(program, before=INSTALLED) == [
        [200, "ada"], ["started", ["rendered", "ada"], ["finished", 200]], True, True,
    ]  # fmt: skip


def test_all_receivers_of_a_process_are_on_the_same_signals() -> None:
    """Blinker's contract: receivers that are connected through ``blinker`` and through ``aldis`` are on the same
    signals."""
    program = """
        import blinker
        seen = []
        blinker.signal("lamp").connect(seen.append, weak=False)
        aldis.signal("lamp").send("ship")

        class Subclass(blinker.Signal): ...

        tell([seen, isinstance(Subclass(), aldis.Signal), isinstance(blinker.NamedSignal("x"), aldis.NamedSignal)])
    """

    assert run(program, before=INSTALLED) == [["ship"], True, True]


# Without Blinker


@pytest.fixture
def without_blinker(tmp_path: Path) -> str:
    """Make an interpreter that has Flask and no Blinker: links to the packages, and no site-packages."""
    for name in FLASK_WITHOUT_BLINKER:
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.submodule_search_locations is not None
        (folder,) = spec.submodule_search_locations
        (tmp_path / name).symlink_to(folder, target_is_directory=True)

    # Werkzeug's test client reads its own version.
    installed = Path(str(importlib.metadata.distribution("werkzeug").locate_file("")))
    (metadata,) = installed.glob("werkzeug-*.dist-info")
    (tmp_path / metadata.name).symlink_to(metadata, target_is_directory=True)

    return f"sys.path.append({str(tmp_path)!r})\n"


def test_blinker_need_not_be_installed(without_blinker: str) -> None:
    """Blinker's contract: if Blinker is not installed, importing its name still returns Aldis."""
    program = """
        import importlib.metadata, importlib.util
        before = importlib.util.find_spec("blinker")
        import aldis
        aldis.install_as_blinker()
        from blinker.base import Signal
        from blinker._utilities import make_id
        try:
            importlib.metadata.version("blinker")
        except importlib.metadata.PackageNotFoundError:
            version = None
        tell([before, Signal is aldis.Signal, version])
    """

    assert run(program, before=without_blinker, options=("-I", "-S")) == [None, True, None]


def test_flask_runs_where_blinker_is_not_installed(without_blinker: str) -> None:
    """Blinker's contract: Flask, which requires Blinker, runs on Aldis alone."""
    program = """
        import logging
        logging.disable()
        visited = visit()
        tell([visited, seen])
    """

    assert run(program, before=without_blinker + INSTALLED + FLASK_APP, options=("-I", "-S")) == FLASK_VISIT


def test_this_process_is_not_changed() -> None:
    """The tests of this folder compare two libraries: in their own process, ``blinker`` is the real Blinker."""
    assert blinker.Signal.__module__ == "blinker.base"
    assert aldis.Signal is not blinker.Signal  # type: ignore[comparison-overlap]
