"""Settings come from flags, the environment and defaults, or are refused in one line."""

import msgspec
import pytest

from service.settings import Settings, parse_settings, settings_table


def fault(capsys: pytest.CaptureFixture[str], argv: list[str], environ: dict[str, str]) -> str:
    """Give the one line with which wrong settings end the process."""
    with pytest.raises(SystemExit) as caught:
        parse_settings(argv, environ)
    assert caught.value.code == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    return printed


def test_without_flags_and_variables_the_defaults_hold() -> None:
    """Nothing given is the defaults, whatever else the environment holds."""
    assert parse_settings([], {"PATH": "/bin", "XANOMALY_PORT": "1"}) == Settings()


def test_a_flag_beats_the_environment_which_beats_the_default() -> None:
    """Each source is heard in turn, for one setting and for different ones."""
    environ = {"ANOMALY_PORT": "8001", "ANOMALY_HOST": "::1"}
    assert parse_settings([], environ).port == 8001
    settings = parse_settings(["--port", "8002"], environ)
    assert (settings.port, settings.host, settings.workers) == (8002, "::1", 0)


@pytest.mark.parametrize(("text", "value"), [("true", True), ("1", True), ("false", False), ("0", False)])
def test_a_switch_has_two_flags_and_a_variable(text: str, value: bool) -> None:
    """A switch is turned by --access-log or --no-access-log, or by a word in the environment."""
    assert parse_settings([], {"ANOMALY_ACCESS_LOG": text}).access_log is value
    assert parse_settings(["--access-log"], {"ANOMALY_ACCESS_LOG": text}).access_log is True
    assert parse_settings(["--no-access-log"], {"ANOMALY_ACCESS_LOG": text}).access_log is False


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
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
        ("api_keys", "", "a text that is not empty"),
        ("host", "", "a text that is not empty"),
        ("model", "", "a text that is not empty"),
    ],
)
def test_a_wrong_value_is_named_with_its_source(
    capsys: pytest.CaptureFixture[str], name: str, text: str, expected: str
) -> None:
    """One line names the flag or the variable, the value, and what is expected."""
    flag, variable = "--" + name.replace("_", "-"), "ANOMALY_" + name.upper()
    assert f"{flag} is {text!r}, expected {expected}\n" in fault(capsys, [f"{flag}={text}"], {})
    assert f"{variable} is {text!r}, expected {expected}\n" in fault(capsys, [], {variable: text})


def test_a_switch_variable_takes_only_true_or_false(capsys: pytest.CaptureFixture[str]) -> None:
    """Another word is refused rather than taken for either."""
    message = fault(capsys, [], {"ANOMALY_ACCESS_LOG": "maybe"})
    assert "ANOMALY_ACCESS_LOG is 'maybe', expected true or false" in message


def test_an_unknown_variable_is_refused_with_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    """A misspelt variable is an error, as a misspelt flag is, and the nearest name is offered."""
    assert "ANOMALY_PROT; did you mean ANOMALY_PORT?" in fault(capsys, [], {"ANOMALY_PROT": "1"})
    assert "ANOMALY_XYZZY; see --help" in fault(capsys, [], {"ANOMALY_XYZZY": "1"})
    assert "--prot" in fault(capsys, ["--prot", "1"], {})


def test_a_flag_is_written_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    """An abbreviation is refused: it would change its meaning with the next setting."""
    assert "--max-body" in fault(capsys, ["--max-body", "1"], {})


@pytest.mark.parametrize(
    ("flag", "needed"),
    [("--tls-certificate", "--tls-key"), ("--tls-key", "--tls-certificate"), ("--tls-client-ca", "--tls-certificate")],
)
def test_half_of_what_tls_needs_is_refused(capsys: pytest.CaptureFixture[str], flag: str, needed: str) -> None:
    """A certificate without a key, a key without a certificate, and authorities without either name what is missing."""
    assert f"{flag} needs {needed}" in fault(capsys, [flag, "a.pem"], {})


def test_help_and_table_show_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    """Each setting's flag, variable, default and meaning stand in --help and in the table for the README."""
    with pytest.raises(SystemExit) as caught:
        parse_settings(["--help"], {})
    assert caught.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
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
