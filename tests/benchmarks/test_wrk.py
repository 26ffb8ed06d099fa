"""What is read of wrk, and what is taken for a fault."""

import os
from pathlib import Path

import msgspec
import pytest

from benchmarks.wrk import Load, fire, read_printed

PRINTED = """Running 1s test @ http://127.0.0.1:8000/score
  1 threads and 2 connections
Requests/sec:   6589.57
result {"requests": 6593, "microseconds": 1000513, "bytes": 1193333, "latency_us": {"p50": 4527, "p99": 10098, \
"p999": 53263, "max": 67831}, "errors": {"connect": 1, "read": 2, "write": 3, "timeout": 4, "status": 5}}
"""

LOAD = Load(
    requests=100, seconds=2.0, p50_ms=1, p99_ms=2, p999_ms=3, max_ms=4, non_2xx=0, errors=0, bytes_read=100 * 181 + 50
)


def test_what_wrk_prints_is_read() -> None:
    """Microseconds become seconds and milliseconds; socket errors of all kinds are one number, refusals another."""
    assert read_printed(PRINTED) == Load(
        requests=6593,
        seconds=1.000513,
        p50_ms=4.527,
        p99_ms=10.098,
        p999_ms=53.263,
        max_ms=67.831,
        non_2xx=5,
        errors=10,
        bytes_read=1193333,
    )


def test_wrk_that_prints_no_result_is_an_error() -> None:
    """Where the script said nothing, the error shows what wrk said."""
    with pytest.raises(RuntimeError, match="unable to connect"):
        read_printed("unable to connect to 127.0.0.1:1 Connection refused")


def test_the_rate_is_replies_over_seconds() -> None:
    """A hundred replies in two seconds are fifty in one."""
    assert LOAD.requests_per_s == 50


def test_a_run_of_right_replies_has_no_fault() -> None:
    """At the end some connections may be within a reply."""
    assert LOAD.fault(reply_bytes=181, connections=1) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bytes_read": 100 * 181 - 1}, "expected 181 bytes in each"),
        ({"bytes_read": 102 * 181}, "expected 181 bytes in each"),
        ({"non_2xx": 1}, "1 replies were refusals"),
        ({"errors": 3}, "3 socket errors"),
        ({"requests": 0, "bytes_read": 0}, "no reply came"),
    ],
)
def test_wrong_replies_are_a_fault(change: dict[str, int], words: str) -> None:
    """A byte too few, a reply too many, a refusal, a broken connection and silence each are named."""
    fault = msgspec.structs.replace(LOAD, **change).fault(reply_bytes=181, connections=1)
    assert fault is not None
    assert words in fault


def test_parts_of_a_second_are_refused() -> None:
    """Wrk would take 1.5 s for 1 s."""
    with pytest.raises(ValueError, match=r"1\.5 s of load, expected whole seconds"):
        fire("http://127.0.0.1:1", "/", {}, b"", connections=1, seconds=1.5, core=0)


def test_a_machine_without_wrk_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The message names the package."""
    monkeypatch.setitem(os.environ, "PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="apt-get install wrk"):
        fire("http://127.0.0.1:1", "/", {}, b"", connections=1, seconds=1, core=0)
