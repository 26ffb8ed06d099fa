"""The command line of the benchmarks."""

import pytest

from benchmarks.__main__ import commands, main


def test_every_scenario_has_a_command() -> None:
    """Each has a line of help."""
    names = {"bench", "load", "memory", "overload", "peers", "profile", "soak", "tables"}
    assert commands.commands.keys() == names
    assert all(command.get_short_help_str() for command in commands.commands.values())


def test_an_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """The exit status is 1, or 2 for a wrong command line."""
    assert main(["profile", "--model", "missing.onnx"]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert "missing.onnx" in line
    assert main(["peers", "unknown"]) == 2
