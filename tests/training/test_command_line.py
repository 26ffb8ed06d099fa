"""The command line lists what it can do, explains what went wrong in a line, and loads only what a command needs."""

import subprocess
import sys
from pathlib import Path

import pytest

from training.__main__ import COMMANDS, main

HEAVY = ("torch", "pythia8mc", "fastjet", "h5py", "matplotlib", "pyarrow", "sklearn", "pandas", "onnxruntime")


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command with this Python and return its output."""
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)


def test_help_lists_every_command() -> None:
    """`python -m training --help` names each command with its purpose, each on a line."""
    result = run("-m", "training", "--help")
    assert result.returncode == 0
    lines = [line.split(maxsplit=1) for line in result.stdout.splitlines()]
    for name, command in COMMANDS.items():
        assert [name, command.purpose] in lines


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`COMMAND --help` ends with exit code 0 and describes the command and its flags."""
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: python -m training {command} ")
    assert "--help" in text


def test_an_unknown_command_is_a_mistake() -> None:
    """A command that is none, or none at all, ends with exit code 2 and the list of those that are."""
    for arguments, reason in ((["predict"], "invalid choice: 'predict'"), ([], "arguments are required: COMMAND")):
        result = run("-m", "training", *arguments)
        assert (result.returncode, result.stdout) == (2, "")
        *_, line = result.stderr.splitlines()
        assert line.startswith("python -m training: error: ")
        assert reason in line
    assert all(name in run("-m", "training", "predict").stderr for name in COMMANDS)


def test_an_error_is_one_line(tmp_path: Path) -> None:
    """What the user can mend ends with exit code 1 and one line, not with a traceback."""
    absent = tmp_path / "absent.h5"
    result = run("-m", "training", "train", str(absent), "--out", str(tmp_path / "run"))
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr == f"error: {absent}: there is no such file. Check the path.\n"


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    """Importing the command line brings in neither torch, a generator, a jet finder nor a file format."""
    code = f"import sys, training.__main__; print([name for name in {HEAVY} if name in sys.modules])"
    result = run("-c", code)
    assert (result.stdout, result.stderr) == ("[]\n", "")


@pytest.mark.parametrize(("command", "heavy"), [("simulate", ["torch"]), ("train", ["pythia8mc", "fastjet"])])
def test_a_command_imports_what_it_needs_alone(command: str, heavy: list[str]) -> None:
    """Pythia is not needed to train, nor torch to simulate."""
    code = f"import sys, training.{command}; print([name for name in {heavy} if name in sys.modules])"
    result = run("-c", code)
    assert (result.stdout, result.stderr) == ("[]\n", "")


@pytest.mark.parametrize(("command", "package"), [("simulate", "pythia8mc"), ("train", "torch"), ("score", "pyarrow")])
def test_a_missing_package_names_its_extra(command: str, package: str) -> None:
    """Where a package is not installed, one line says which, and what to install."""
    code = f"import sys, training.__main__ as m; sys.modules[{package!r}] = None; sys.exit(m.main([{command!r}]))"
    result = run("-c", code)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: {command} needs ")
    assert f" {package}: " in line
    assert f"[{COMMANDS[command].extra}]'" in line


def test_the_script_reaches_every_command_and_the_service() -> None:
    """`lhc-anomaly` is the same command line under its own name, and `lhc-anomaly serve` is the service."""
    script = str(Path(sys.executable).with_name("lhc-anomaly"))
    result = run(script, "--help")
    assert result.returncode == 0
    assert result.stdout.startswith("usage: lhc-anomaly ")
    assert all(f"  {name}" in result.stdout for name in COMMANDS)
    assert "--port" in run(script, "serve", "--help").stdout
