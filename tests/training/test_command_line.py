"""The command line lists what it can do, explains what went wrong in a line, and loads only what a command needs."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from service.__main__ import commands
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


def script(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the console script `lhc-anomaly` where none of the heavy packages is installed."""
    code = f"""
import sys
sys.modules |= dict.fromkeys({HEAVY})
sys.argv = ["lhc-anomaly", *{arguments}]
from training.__main__ import lhc_anomaly
sys.exit(lhc_anomaly())
"""
    return run("-c", code)


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_the_script_lists_the_commands_of_both_halves(arguments: tuple[str, ...]) -> None:
    """`lhc-anomaly --help`, or nothing, lists every command with its purpose, each on a line."""
    result = script(*arguments)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("usage: lhc-anomaly ")
    lines = [line.split(maxsplit=1) for line in result.stdout.splitlines()]
    for name, command in COMMANDS.items():
        assert [name, command.purpose] in lines
    for name, served in commands.commands.items():
        assert [name, served.get_short_help_str(80)] in lines


def test_the_script_runs_the_commands_of_the_service(tmp_path: Path) -> None:
    """`serve`, `check`, `healthcheck` and `keys` are those of `python -m service`, under the script's name."""
    for name in ("serve", "check", "healthcheck"):
        result = script(name, "--help")
        assert result.returncode == 0
        assert result.stdout.startswith(f"Usage: lhc-anomaly {name} ")
        assert "--port" in result.stdout
    result = script("serve", "--port", "abc")
    assert result.returncode == 2
    assert result.stderr.startswith("lhc-anomaly serve: error: --port is 'abc', expected ")
    assert script("keys", "add", "alice", str(tmp_path / "keys")).returncode == 0
    assert script("keys", "list", str(tmp_path / "keys")).stdout.startswith("alice ")


def test_the_script_has_a_version() -> None:
    """`lhc-anomaly --version` prints the version of the installed package."""
    result = script("--version")
    assert (result.returncode, result.stdout) == (0, f"lhc-anomaly {version('lhc-anomaly')}\n")


def test_the_script_is_installed() -> None:
    """The environment of the tests has it, and it ends with the status of its command."""
    installed = str(Path(sys.executable).with_name("lhc-anomaly"))
    assert run(installed, "--help").returncode == 0
    assert run(installed, "predict").returncode == 2
