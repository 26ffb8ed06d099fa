"""The command line lists its commands, explains an error in one line, and imports only what a command needs."""

import os
import subprocess
import sys
import threading
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest

from service.__main__ import commands
from training.__main__ import COMMANDS, main
from training.errors import explained

HEAVY = ("torch", "pythia8mc", "fastjet", "h5py", "matplotlib", "pyarrow", "sklearn", "pandas", "onnxruntime")


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command with this Python and return its output."""
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)


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


def assert_lists(text: str, purposes: dict[str, str]) -> None:
    """Require a line for each command, with its purpose."""
    lines = [line.split(maxsplit=1) for line in text.splitlines()]
    for name, purpose in purposes.items():
        assert [name, purpose] in lines


OFFLINE = {name: command.purpose for name, command in COMMANDS.items()}
ONLINE = {name: command.get_short_help_str(80) for name, command in commands.commands.items()}


def test_help_lists_every_command(subtests: pytest.Subtests) -> None:
    """`python -m training --help` lists its commands, `lhc-anomaly` those of both halves."""
    module = run("-m", "training", "--help")
    assert (module.returncode, module.stderr) == (0, "")
    assert_lists(module.stdout, OFFLINE)
    for arguments in ((), ("--help",), ("-h",)):
        with subtests.test(arguments=arguments):
            result = script(*arguments)
            assert (result.returncode, result.stderr) == (0, "")
            assert result.stdout.startswith("usage: lhc-anomaly ")
            online = {name: purpose[0].lower() + purpose[1:].rstrip(".") for name, purpose in ONLINE.items()}
            assert_lists(result.stdout, OFFLINE | online)


def test_every_command_has_help(capsys: pytest.CaptureFixture[str], subtests: pytest.Subtests) -> None:
    """`COMMAND --help` describes the command and its flags, under the name by which it was called."""
    for program in ("python -m training", "lhc-anomaly"):
        for command in COMMANDS:
            with subtests.test(program=program, command=command):
                with pytest.raises(SystemExit) as ended:
                    main([command, "--help"], program)
                assert ended.value.code == 0
                text = capsys.readouterr().out
                assert text.startswith(f"usage: {program} {command} ")
                assert "--help" in text


def test_options_list_each_choice_once() -> None:
    """No value of an option is listed twice, where two kinds of training share the option."""
    for command in COMMANDS:
        parser = import_module(f"training.commands.{command}").build_parser(command)
        for action in parser._actions:
            choices = list(action.choices or ())
            assert len(choices) == len(set(choices)), (command, action.dest)


def test_errors_name_the_program_as_it_was_called(capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong option is an error of `lhc-anomaly score` or of `python -m training score`."""
    for program in ("python -m training", "lhc-anomaly"):
        with pytest.raises(SystemExit) as ended:
            main(["score", "--colour", "blue"], program)
        assert ended.value.code == 2
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith(f"{program} score: error: ")
    result = script("simulate")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("error: lhc-anomaly simulate needs the package ")


def test_an_unknown_option_is_named_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    """One line names the option and what it may have been meant as, also of a subcommand."""
    score, client = ["score", "a.h5", "--out", "b.csv"], ["client", "score", "a.h5", "--url", "u", "--out", "b.csv"]
    for arguments, expected in (
        ([*score, "--modle=m"], "score: error: unknown option --modle, did you mean --model?"),
        ([*score, "--jobz", "m"], "score: error: unknown option --jobz, --help lists all"),
        ([*client, "--colums", "m"], "client: error: unknown option --colums, did you mean --columns?"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert (ended.value.code, capsys.readouterr().err) == (2, f"python -m training {expected}\n")


def test_an_unknown_command_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown command, or none, ends with exit code 2 and the known ones; for the script, of both halves."""
    for arguments, reason in ((["predict"], "invalid choice: 'predict'"), ([], "arguments are required: COMMAND")):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
        line = capsys.readouterr().err.splitlines()[-1]
        assert line.startswith("python -m training: error: ")
        assert reason in line
    names = ", ".join([*ONLINE, *OFFLINE])
    for name, hint in (("predict", f"expected one of {names}"), ("serv", "did you mean serve?")):
        result = script(name)
        expected = f"lhc-anomaly: error: no such command {name!r}, {hint}\n"
        assert (result.returncode, result.stdout, result.stderr) == (2, "", expected)


def test_arguments_that_no_command_can_use(capsys: pytest.CaptureFixture[str], subtests: pytest.Subtests) -> None:
    """A URL in place of a file, and a version that no model can have, are named as they are, before any work."""
    url = "https://zenodo.org/records/4536377/files/events.h5"
    a_file = f"{url} is a URL, expected a file; download it first"
    a_version = "cannot be a version, expected 1 to 100 printable characters"
    no_file = "are for the --calibration file, and there is none"
    for command, reason in (
        (["score", url, "--out", "scores.csv"], f"EVENTS.h5: {a_file}"),
        (["score", "events.h5", "--model", url, "--out", "scores.csv"], f"--model: {a_file}"),
        (["score", "events.h5", "--labels", url, "--out", "scores.csv"], f"--labels: {a_file}"),
        (["train", url, "--out", "run"], f"EVENTS.h5: {a_file}"),
        (["train", "events.h5", "--exposure", url, "--out", "run"], f"--exposure: {a_file}"),
        (["evaluate", url, "events.h5", "--out", "out"], f"MODEL.onnx: {a_file}"),
        (["report", "model.onnx", "events.h5", url, "--out", "out"], f"EVENTS.h5: {a_file}"),
        (["validate", "events.h5", "--reference", url, "--out", "plot.png"], f"--reference: {a_file}"),
        (["features", url, "out.h5"], f"RAW.h5: {a_file}"),
        (["export", "run", "--out", "model.onnx", "--calibration", url], f"--calibration: {a_file}"),
        (["export", "run", "--out", "model.onnx", "--labels", "key.txt"], no_file),
        (["export", "run", "--out", "model.onnx", "--model-version", "2\n"], rf"'2\n' {a_version}"),
        (["export", "run", "--out", "model.onnx", "--model-version", ""], f"'' {a_version}"),
        (["calibrate", "model.onnx", "b.h5", "--out", "n.onnx", "--model-version", "2" * 101], a_version),
    ):
        with subtests.test(command=command):
            with pytest.raises(SystemExit) as ended:
                main(command)
            assert ended.value.code == 2
            assert reason in capsys.readouterr().err.splitlines()[-1]


def test_an_error_is_one_line(tmp_path: Path) -> None:
    """What a user can correct ends a command with exit code 1 and one line, not with a traceback.

    Errors of the system give reason, remedy and file, without a number; what a message says already is not said again.
    """
    for error, text in (
        (FileNotFoundError(2, "No such file or directory", "x"), "No such file or directory; check the path: x"),
        (PermissionError(13, "This folder cannot be written in", "x"), "This folder cannot be written in: x"),
        (OSError(28, "No space left on device"), "No space left on device; make room and repeat the command"),
        (OSError(5, "Input/output error"), "Input/output error"),
        (OSError("odd"), "odd"),
    ):
        assert explained(error) == text
    events, out = tmp_path / "absent.h5", tmp_path / "absent" / "scores.csv"
    for arguments, message in (
        ([str(events), "--out", "scores.csv"], f"{events}: there is no such file. Check the path."),
        (["exported/sample.h5", "--out", str(out)], f"No folder to write this file in; create it first: {out}"),
    ):
        result = run("-m", "training", "score", *arguments)
        assert (result.returncode, result.stdout, result.stderr) == (1, "", f"error: {message}\n")


def test_imports_are_those_of_the_command(subtests: pytest.Subtests) -> None:
    """The command line imports no heavy package, and no command what only its work needs."""
    quick = {f"commands.{name}": ("torch", "onnxruntime", "matplotlib", "sklearn", "pandas") for name in COMMANDS}
    for module, heavy in ({"__main__": HEAVY} | quick).items():
        with subtests.test(module):
            code = f"import sys, training.{module}; print([name for name in {heavy} if name in sys.modules])"
            result = run("-c", code)
            assert (result.stdout, result.stderr) == ("[]\n", "")


def test_a_package_that_is_missing_or_broken_is_named(tmp_path: Path, subtests: pytest.Subtests) -> None:
    """One line says which package is missing and how to install it, or why it cannot be imported."""
    arguments = ["events.h5", "--out", "out.csv"]
    for command, package in (("simulate", "pythia8mc"), ("train", "torch"), ("score", "pyarrow")):
        with subtests.test(command):
            code = f"import sys; sys.modules[{package!r}] = None; import training.__main__ as m; "
            result = run("-c", code + f"sys.exit(m.main([{command!r}, *{arguments}]))")
            assert result.returncode == 1
            (line,) = result.stderr.splitlines()
            assert line.startswith(f"error: python -m training {command} needs the package {package}: ")
            assert f"[{COMMANDS[command].extra}]'" in line
    (tmp_path / "onnx.py").write_text("raise ImportError('libonnx.so: no such file\\nsecond line')\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path.cwd())])}
    broken = [sys.executable, "-m", "training", "score", *arguments]
    result = subprocess.run(broken, env=environment, capture_output=True, text=True, check=False)
    message = "error: python -m training score cannot import a package that it needs: libonnx.so: no such file\n"
    assert (result.returncode, result.stderr) == (1, message)


def test_a_command_runs_in_a_thread(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In a notebook or a server, where a command has no signals to handle, it works and fails as elsewhere."""
    statuses: list[int] = []
    arguments = ["score", str(tmp_path / "absent.h5"), "--out", str(tmp_path / "scores.csv")]
    thread = threading.Thread(target=lambda: statuses.append(main(arguments)))
    thread.start()
    thread.join()
    assert statuses == [1]
    assert capsys.readouterr().err.endswith("there is no such file. Check the path.\n")


def test_the_script_runs_the_commands_of_the_service(tmp_path: Path) -> None:
    """`serve`, `check`, `healthcheck` and `keys` are those of `python -m service`, under the script's name."""
    result = script("check", "--help")
    assert result.returncode == 0
    assert result.stdout.startswith("Usage: lhc-anomaly check ")
    result = script("serve", "--port", "abc")
    assert result.returncode == 2
    assert result.stderr.startswith("lhc-anomaly serve: error: --port is 'abc', expected ")
    assert script("show").stdout.startswith("density@")  # which needs nothing that is heavy either
    assert script("keys", "add", "alice", str(tmp_path / "keys")).returncode == 0
    assert script("keys", "list", str(tmp_path / "keys")).stdout.startswith("alice ")


def test_the_script_is_installed() -> None:
    """The environment of the tests has it, with the version of the package."""
    result = run(str(Path(sys.executable).with_name("lhc-anomaly")), "--version")
    assert (result.returncode, result.stdout) == (0, f"lhc-anomaly {version('lhc-anomaly')}\n")
