"""The command line of the benchmarks."""

from importlib import import_module

import pytest

from benchmarks.__main__ import SCENARIOS, commands, main


def test_every_scenario_has_a_command() -> None:
    """Each has a line of help, and options that its module takes."""
    assert commands.commands.keys() == {*SCENARIOS, "tables"}
    assert all(command.get_short_help_str() for command in commands.commands.values())
    for name in SCENARIOS:
        parameters = import_module(f"benchmarks.scenarios.{name}").run.__annotations__.keys() - {"return"}
        assert parameters == {parameter.name for parameter in commands.commands[name].params}


def test_an_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """The exit status is 1, or 2 for a wrong command line."""
    assert main(["profile", "--model", "missing.onnx"]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert "missing.onnx" in line
    assert main(["peers", "unknown"]) == 2
