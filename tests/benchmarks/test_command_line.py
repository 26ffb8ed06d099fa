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


def test_numbers_are_positive(subtests: pytest.Subtests) -> None:
    """Others are a wrong command line, refused before anything is measured or written."""
    numbers = {
        (name, option)
        for name, command in commands.commands.items()
        for parameter in command.params
        for option in parameter.opts
        if parameter.type.name in {"integer", "integer range", "float", "float range"}
    }
    assert len(numbers) == 14
    for name, option in numbers:
        for value in ("0", "-1"):
            with subtests.test(name=name, option=option, value=value):
                assert main([name, option, value, "--model", "missing.onnx"]) == 2
