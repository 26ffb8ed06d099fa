"""The command line of the service: its commands, its help, and what `check` says of the files that settings name."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import trustme

from service import __version__
from service.__main__ import commands, main
from service.model.artefact import load_artefact
from service.security.api_keys import add_key
from service.settings import Settings
from tests.artefacts import metadata, with_metadata, write_artefact
from tests.service.security.certificates import CertificateFiles


@pytest.fixture
def files(model_path: Path, tmp_path: Path) -> dict[str, str]:
    """Write a file for each flag that names one; the certificate, its key and their authority are valid."""
    certificates = CertificateFiles.issue(trustme.CA(), tmp_path)
    add_key("alice", tmp_path / "keys")
    return {
        "--model": str(model_path),
        "--api-keys": str(tmp_path / "keys"),
        "--tls-certificate": str(certificates.certificate),
        "--tls-key": str(certificates.key),
        "--tls-client-ca": str(certificates.client_ca),
    }


def test_check_names_every_file_and_the_model(files: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """Good files are a line each, the model's with its identity, and exit status 0."""
    assert main(["check", *(word for flag in files.items() for word in flag)]) == 0
    model, *others = files.values()
    lines = [f"{model}: {load_artefact(model).identity}", *(f"{path}: valid" for path in others)]
    assert capsys.readouterr() == ("\n".join(lines) + "\n", "")


def test_check_explains_a_wrong_file_in_one_line(
    files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], subtests: pytest.Subtests
) -> None:
    """A file that the service would refuse at its start is named on stderr, with exit status 1.

    The model has to load and to reproduce its golden pairs, not only to be readable.
    """
    wrong = tmp_path / "wrong"
    wrong.write_text("nonsense\n")
    golden = metadata().golden
    golden.anomaly_scores[0] += 1
    wrong_scores = write_artefact(tmp_path / "wrong.onnx", with_metadata(golden=golden))
    of_scores = ("--model", wrong_scores, "does not reproduce golden pair 0")
    for flag, path, words in (*((flag, wrong, str(wrong)) for flag in files), of_scores):
        with subtests.test(msg=f"{flag} {path.name}"):
            assert main(["check", *(word for pair in (files | {flag: str(path)}).items() for word in pair)]) == 1
            printed = capsys.readouterr()
            assert printed.out == ""
            assert printed.err.startswith("error: ")
            assert words in printed.err
            assert printed.err.count("\n") == 1


def test_check_takes_a_model_and_writes_json(model_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`check MODEL` is `check --model MODEL`, and both is an error; --json has the identity for scripts."""
    artefact = load_artefact(model_path)
    assert main(["check", str(model_path), "--json"]) == 0
    model = {"file": str(model_path), "identity": artefact.identity, "sha256": artefact.sha256}
    assert json.loads(capsys.readouterr().out) == {"model": model, "valid": []}
    assert main(["check", str(model_path), "--model", "other.onnx"]) == 2
    expected = f"MODEL and --model are both given: {model_path} and other.onnx; give one\n"
    assert capsys.readouterr().err.endswith(expected)


def test_settings_say_where_they_came_from(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every setting has a line with its value and its source, which is the one that won."""
    monkeypatch.setenv("ANOMALY_PORT", "81")
    monkeypatch.setenv("ANOMALY_WORKERS", "3")
    given = ["settings", "--port", "82", "--no-access-log"]
    assert main(given) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["setting", "value", "from"]
    table = {flag: (value, source) for flag, value, source in (line.split() for line in lines)}
    assert len(table) == len(Settings.__struct_fields__)
    assert table["--port"] == ("82", "--port")
    assert table["--workers"] == ("3", "ANOMALY_WORKERS")
    assert table["--access-log"] == ("false", "--access-log")
    assert table["--uds"] == ("none", "default")
    assert main([*given, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["--workers"] == {"value": 3, "from": "ANOMALY_WORKERS"}
    assert (shown["--uds"]["value"], list(shown)) == (None, list(table))


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` names each command with its purpose."""
    assert main(["--help"]) == 0
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    for name, command in commands.commands.items():
        assert [name, command.get_short_help_str(80)] in lines


def test_the_version_needs_no_installed_package() -> None:
    """`--version` prints the name and the version, also where the code lies without its metadata, as in the image."""
    script = """
import importlib.metadata, sys
importlib.metadata.MetadataPathFinder.find_distributions = lambda *_: iter(())
from service import __version__
from service.__main__ import main
sys.exit(main(["--version"]))
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"lhc-anomaly {__version__}\n", "")


def test_an_unknown_command_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A misspelt command ends with exit status 2 and a suggestion."""
    assert main(["kyes"]) == 2
    expected = "python -m service: error: No such command 'kyes'. Did you mean 'keys'?\n"
    assert capsys.readouterr() == ("", expected)


def test_what_serves_nothing_imports_nothing_heavy() -> None:
    """Help and version come at once: neither the runtime nor a server's package is imported for them."""
    script = """
import sys
sys.modules |= dict.fromkeys(["litestar", "numpy", "onnx", "onnxruntime", "prometheus_client", "torch", "uvicorn"])
from service.__main__ import main
sys.exit(any(main(line.split()) for line in ("--help", "serve --help", "--version", "keys --help")))
"""
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
