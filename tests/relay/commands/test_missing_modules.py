"""A module that is missing: the relay's own are named with the extra, the program's are shown as they are."""

from __future__ import annotations

from click.testing import CliRunner

from aldis._cli.relay import relay_group


def test_a_missing_module_of_the_program_is_shown_as_it_is() -> None:
    """A command does not hide that a module of the user's program is missing."""

    def find_relay() -> None:
        raise ModuleNotFoundError("No module named 'lamp'", name="lamp")

    result = CliRunner().invoke(relay_group(find_relay, print), ["status"])

    assert isinstance(result.exception, ModuleNotFoundError)
    assert result.exception.name == "lamp"
