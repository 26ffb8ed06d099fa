"""Servers are started, and known by what they log."""

import os

import pytest

from benchmarks.servers import pass_on, serving, wait_until_ready


def test_a_server_says_where_it_listens() -> None:
    """The line with the address is found among others, those of a profiler too."""
    log = ["py-spy> Sampling\n", '{"event": "starting"}\n', '{"event": "ready", "url": "http://127.0.0.1:1"}\n']
    assert wait_until_ready(log) == "http://127.0.0.1:1"


def test_a_server_that_does_not_start_is_quoted() -> None:
    """Its last words are the error."""
    with pytest.raises(SystemExit, match="the server did not start: no such model"):
        wait_until_ready(['{"event": "starting"}\n', "no such model"])


def test_a_service_without_model_does_not_start() -> None:
    """Also where it is a real one."""
    with (
        pytest.raises(SystemExit, match=r"the server did not start: .*missing\.onnx"),
        serving("service", "--model", "missing.onnx", "--port", "0", cores=os.sched_getaffinity(0)),
    ):
        pass


def test_mere_information_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """Warnings are."""
    pass_on(['{"level": "INFO"}\n', '{"level": "WARNING"}\n'])
    assert capsys.readouterr().err == '{"level": "WARNING"}\n'
