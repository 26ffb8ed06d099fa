"""What is read of wrk, and what is a fault."""

import os
import shutil
from pathlib import Path

import msgspec
import pytest

from benchmarks.load.connection import get
from benchmarks.load.wrk import fire, read_printed
from benchmarks.report.measurements import LoadRun
from benchmarks.targets.launcher import Server

RUN = LoadRun(
    requests=100, seconds=2.0, p50_ms=1, p99_ms=2, p999_ms=3, max_ms=4, non_2xx=0, errors=0, bytes_read=100 * 181 + 50
)


@pytest.mark.process
def test_wrk_counts_responses_and_their_bytes(bare: Server) -> None:
    """A second of load has no fault where the length of the response is right."""
    if shutil.which("wrk") is None:
        pytest.skip("wrk is not installed")
    size = get(bare.base_url, "/three").size
    run = fire(bare.base_url, "/three", {}, b"x", connections=2, seconds=1, core=None)
    assert run.fault(size, 2) is None
    assert 0 < run.p50_ms <= run.p99_ms <= run.p999_ms <= run.max_ms
    assert "bytes in each" in (run.fault(size + 1, 2) or "")


def test_wrk_that_prints_no_result_is_an_error() -> None:
    """The error shows what wrk said."""
    with pytest.raises(RuntimeError, match="unable to connect"):
        read_printed("unable to connect to 127.0.0.1:1 Connection refused")


def test_a_run_of_right_responses_has_no_fault() -> None:
    """At the end some connections may be within a response."""
    assert RUN.requests_per_s == 50
    assert RUN.fault(response_bytes=181, in_flight=1) is None


def test_wrong_responses_are_a_fault(subtests: pytest.Subtests) -> None:
    """A byte too few, a response too many, a refusal, a broken connection and silence each are named."""
    for change, words in (
        ({"bytes_read": 100 * 181 - 1}, "expected 181 bytes in each"),
        ({"bytes_read": 102 * 181}, "expected 181 bytes in each"),
        ({"non_2xx": 1}, "1 responses were not 2xx"),
        ({"errors": 3}, "3 socket errors"),
        ({"requests": 0, "bytes_read": 0}, "no response came in 2.0 s"),
    ):
        with subtests.test(msg=words):
            assert words in (msgspec.structs.replace(RUN, **change).fault(response_bytes=181, in_flight=1) or "")


def test_a_machine_without_wrk_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The message names the package."""
    monkeypatch.setitem(os.environ, "PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="apt-get install wrk"):
        fire("http://127.0.0.1:1", "/", {}, b"", connections=1, seconds=1, core=0)
