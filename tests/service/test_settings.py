"""Settings come from flags, the environment and defaults, or are refused in one line."""

import signal
from pathlib import Path

import click
import msgspec
import pytest

from service.__main__ import main
from service.settings import Settings, parse_settings, settings_table

MODEL = str(Path(__file__).resolve().parents[2] / "exported" / "autoencoder.onnx")


def fault(argv: list[str], environ: dict[str, str]) -> str:
    """Return the one line that names what is wrong with settings, as an error that ends the process with 2."""
    with pytest.raises(click.UsageError) as caught:
        parse_settings(argv, environ)
    assert caught.value.exit_code == 2
    message = caught.value.format_message()
    assert "\n" not in message
    return message


def test_without_flags_and_variables_the_defaults_hold() -> None:
    """Nothing given is the defaults, with the shipped model by its full path, whatever else the environment holds."""
    assert parse_settings([], {"PATH": "/bin", "XANOMALY_PORT": "1"}) == Settings(model=MODEL)


def test_a_model_that_is_given_is_taken_as_it_is_written() -> None:
    """The path of the default, given by flag or variable, is that path in the current folder."""
    assert parse_settings(["--model", Settings().model], {}).model == Settings().model
    assert parse_settings([], {"ANOMALY_MODEL": Settings().model}).model == Settings().model


def test_a_flag_beats_the_environment_which_beats_the_default() -> None:
    """The order holds for one setting and between different ones."""
    environ = {"ANOMALY_PORT": "8001", "ANOMALY_HOST": "::1"}
    assert parse_settings([], environ).port == 8001
    settings = parse_settings(["--port", "8002"], environ)
    assert (settings.port, settings.host, settings.workers) == (8002, "::1", 0)


def test_a_switch_has_two_flags_and_a_variable() -> None:
    """A switch is turned by --access-log or --no-access-log, or by one of four words in the environment."""
    for text, value in (("true", True), ("1", True), ("false", False), ("0", False)):
        assert parse_settings([], {"ANOMALY_ACCESS_LOG": text}).access_log is value
        assert parse_settings(["--access-log"], {"ANOMALY_ACCESS_LOG": text}).access_log is True
        assert parse_settings(["--no-access-log"], {"ANOMALY_ACCESS_LOG": text}).access_log is False
    for text in ("maybe", "", "2"):
        assert fault([], {"ANOMALY_ACCESS_LOG": text}) == f"ANOMALY_ACCESS_LOG is {text!r}, expected true or false"


WRONG_VALUES = [
    ("port", "abc", "a whole number from 0 to 65535"),
    ("port", "65536", "a whole number from 0 to 65535"),
    ("port", "-1", "a whole number from 0 to 65535"),
    ("port", "80.5", "a whole number from 0 to 65535"),
    ("port", "", "a whole number from 0 to 65535"),
    ("workers", "-1", "a whole number from 0 to 1024"),
    ("max_body_bytes", "64MiB", "a whole number of at least 1"),
    ("keep_alive_s", "nan", "a whole number from 0 to 86400"),
    ("drain_s", "-1", "a whole number from 0 to 86400"),
    ("log_level", "loud", "one of critical, error, warning, info, debug"),
    ("ops_port", "65536", "a whole number from 0 to 65535"),
    ("header_s", "0", "a whole number from 1 to 86400"),
    ("model_sha256", "12ab", "64 hexadecimal digits"),
    ("served_name", "a/b", "1 to 100 of the characters A-Z, a-z, 0-9 and ._~-"),
    ("api_keys", "", "non-empty text"),
    ("host", "", "non-empty text"),
    ("model", "", "non-empty text"),
]


def test_a_wrong_value_is_named_with_its_source(subtests: pytest.Subtests) -> None:
    """One line names the flag or the variable, the value, and what is expected."""
    for name, text, expected in WRONG_VALUES:
        with subtests.test(msg=f"{name}={text}"):
            flag, variable = "--" + name.replace("_", "-"), "ANOMALY_" + name.upper()
            assert fault([f"{flag}={text}"], {}) == f"{flag} is {text!r}, expected {expected}"
            assert fault([], {variable: text}) == f"{variable} is {text!r}, expected {expected}"


def test_an_unknown_name_is_refused_with_a_suggestion() -> None:
    """A misspelt variable is an error, as a misspelt flag is, and the nearest name is suggested."""
    assert fault([], {"ANOMALY_PROT": "1"}) == "unknown environment variable ANOMALY_PROT; did you mean ANOMALY_PORT?"
    assert fault([], {"ANOMALY_port": "1"}) == "unknown environment variable ANOMALY_port; did you mean ANOMALY_PORT?"
    assert fault([], {"ANOMALY_XYZZY": "1"}).endswith(" ANOMALY_XYZZY; see --help for the known ones")
    assert fault(["--wokers=2"], {}) == "No such option '--wokers'. Did you mean '--workers'?"
    assert fault(["--max-body", "1"], {}).startswith("No such option '--max-body'.")  # no abbreviations
    assert fault(["8000"], {}) == "Got unexpected extra argument (8000)"


def test_half_of_what_tls_needs_is_refused() -> None:
    """A certificate without a key, a key without a certificate, and authorities without either name what is missing."""
    for flag, needed in (
        ("--tls-certificate", "--tls-key"),
        ("--tls-key", "--tls-certificate"),
        ("--tls-client-ca", "--tls-certificate"),
    ):
        assert fault([flag, "a.pem"], {}) == f"{flag} needs {needed}: give both, or neither"


def test_the_command_ends_with_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong setting of the command, named or not, is one line on stderr and exit status 2, and blocks no signal."""
    monkeypatch.setenv("ANOMALY_WORKERS", "abc")
    for arguments, wrong in (
        (["--port", "abc"], "--port is 'abc', expected a whole number from 0 to 65535"),
        (["serve", "--port", "abc"], "--port is 'abc', expected a whole number from 0 to 65535"),
        ([], "ANOMALY_WORKERS is 'abc', expected a whole number from 0 to 1024"),
    ):
        assert main(arguments) == 2
        assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())
        assert capsys.readouterr() == ("", f"python -m service serve: error: {wrong}\n")


@pytest.mark.parametrize("command", ["serve", "check", "healthcheck"])
def test_help_and_table_show_every_setting(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each setting's flag, variable, default and meaning stand in --help and in the table for the README."""
    monkeypatch.setenv("ANOMALY_PORT", "abc")  # --help shows the settings where one of them is wrong, too
    assert main([command, "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.startswith(f"Usage: python -m service {command} [OPTIONS] ")
    rows = settings_table().splitlines()
    assert len(rows) == 2 + len(Settings.__struct_fields__)
    for field, row in zip(msgspec.structs.fields(Settings), rows[2:], strict=True):
        plain = str(field.default)
        default = plain.lower() if field.default is None or isinstance(field.default, bool) else plain
        flag, variable = "--" + field.name.replace("_", "-"), "ANOMALY_" + field.name.upper()
        meaning = row.split(" | ")[3].removesuffix(" |")
        assert row == f"| `{flag}` | `{variable}` | `{default}` | {meaning} |"
        assert f"{flag} " in shown
        assert f"{meaning} (default: {default}; environment: {variable})" in shown
