"""Closed-loop gRPC load with h2load, which repeats one call. Responses are checked by their bytes."""

import re
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.report.measurements import LoadRun

REQUESTS: Final = re.compile(r"(\d+) done, (\d+) succeeded, (\d+) failed")
DATA: Final = re.compile(r"\((\d+)\) data$", re.MULTILINE)
PREFIX_BYTES: Final = 5
"""The prefix of each message."""


def fire(
    address: str, path: str, message: bytes, *, connections: int, streams: int, seconds: int, core: int
) -> LoadRun:
    """Call `path` with `message` for `seconds` from processor `core`, on some streams of each connection.

    Raises RuntimeError without h2load, and with its words if it fails.
    """
    program = find_program()
    with tempfile.TemporaryDirectory(prefix="h2load-") as folder:
        file, log = Path(folder, "message"), Path(folder, "log")
        file.write_bytes(struct.pack(">BI", 0, len(message)) + message)
        ended = subprocess.run(
            [
                *("taskset", "--cpu-list", str(core), program, "--clients", str(connections)),
                *("--max-concurrent-streams", str(streams), "--duration", str(seconds), "--data", str(file)),
                *("--header", "content-type: application/grpc", "--header", "te: trailers"),
                *("--log-file", str(log), f"http://{address}{path}"),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if ended.returncode:
            raise RuntimeError(f"h2load failed with status {ended.returncode}: {ended.stdout}{ended.stderr}")
        return read_printed(ended.stdout, log.read_text(), seconds)


def find_program() -> str:
    """Return the path of h2load. Raises RuntimeError with the remedy if it is not installed."""
    program = shutil.which("h2load")
    if program is None:
        raise RuntimeError("h2load is not installed; on Debian: apt-get install nghttp2-client")
    return program


def read_printed(output: str, log: str, seconds: float) -> LoadRun:
    """Parse the counts printed by h2load, and its log with the status and the microseconds of each call.

    Raises RuntimeError with the output if it has no counts.
    """
    requests, data = REQUESTS.search(output), DATA.search(output)
    if not (requests and data):
        raise RuntimeError(f"h2load printed no result: {output}")
    done, succeeded, failed = map(int, requests.groups())
    ended = [line.split("\t") for line in log.splitlines()]
    latencies_ms = np.array([int(elapsed) / 1e3 for _, status, elapsed, *_ in ended if status == "200"] or [0])
    p50_ms, p99_ms, p999_ms, max_ms = map(float, np.percentile(latencies_ms, (50, 99, 99.9, 100)))
    return LoadRun(
        requests=done,
        seconds=seconds,
        p50_ms=p50_ms,
        p99_ms=p99_ms,
        p999_ms=p999_ms,
        max_ms=max_ms,
        non_2xx=done - succeeded - failed,
        errors=failed,
        bytes_read=int(data[1]),
    )
