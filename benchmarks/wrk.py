"""Closed-loop load: the same POST over and over on some connections, by wrk.

It does not know what is posted, to whom, or what a right reply holds: `Load.fault` counts bytes.
"""

import math
import shutil
import subprocess
import tempfile
from pathlib import Path

import msgspec

SCRIPT = Path(__file__).with_name("post.lua")
TIMEOUT_S = 20
"""wrk counts a reply that takes longer as an error; its own two seconds are short for bodies of many megabytes."""


class Load(msgspec.Struct, frozen=True):
    """What one run of wrk saw: replies, latencies in ms, faults, and bytes of heads and bodies together.

    wrk adds to the latencies the requests that a stalled connection could not send (coordinated omission).
    """

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    non_2xx: int
    errors: int
    bytes_read: int

    @property
    def requests_per_s(self) -> float:
        """Give the replies in a second."""
        return self.requests / self.seconds

    def fault(self, reply_bytes: int, connections: int) -> str | None:
        """Say what is wrong with the run, or None; each reply, head and body, should have `reply_bytes`."""
        if self.non_2xx or self.errors:
            return f"{self.non_2xx} replies were refusals, {self.errors} socket errors"
        if not self.requests:
            return "no reply came"
        beyond = self.bytes_read - self.requests * reply_bytes
        if not 0 <= beyond <= connections * reply_bytes:  # at the end each connection may be within a reply
            return f"{self.bytes_read} bytes in {self.requests} replies, expected {reply_bytes} bytes in each"
        return None


class Latencies(msgspec.Struct, frozen=True):
    """Percentiles in microseconds."""

    p50: int
    p99: int
    p999: int
    max: int


class Errors(msgspec.Struct, frozen=True):
    """Failed requests by kind; `status` counts those of 400 and more."""

    connect: int
    read: int
    write: int
    timeout: int
    status: int


class Printed(msgspec.Struct, frozen=True, rename={"bytes_read": "bytes"}):
    """What post.lua prints."""

    requests: int
    microseconds: int
    bytes_read: int
    latency_us: Latencies
    errors: Errors


def fire(
    url: str, path: str, headers: dict[str, str], body: bytes, *, connections: int, seconds: float, core: int | None
) -> Load:
    """Post `body` to `url` + `path` for whole `seconds` from processor `core`, each connection one request at a time.

    No core stands for all.

    Raises ValueError for a part of a second, RuntimeError with wrk's words if wrk fails, and SystemExit without wrk.
    """
    if seconds != math.floor(seconds):
        raise ValueError(f"{seconds} s of load, expected whole seconds: wrk takes no others")
    program = find_program()
    pinned = [] if core is None else ["taskset", "--cpu-list", str(core)]
    with tempfile.NamedTemporaryFile(prefix="wrk-body-") as file:
        file.write(body)
        file.flush()
        fields = [option for name, value in headers.items() for option in ("--header", f"{name}: {value}")]
        ended = subprocess.run(
            [
                *pinned,
                *(program, "--threads", "1", "--connections", str(connections), "--duration", f"{int(seconds)}s"),
                *("--timeout", f"{TIMEOUT_S}s", "--script", str(SCRIPT), *fields, url + path, "--", file.name),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
    if ended.returncode:
        raise RuntimeError(f"wrk failed with status {ended.returncode}: {ended.stdout}{ended.stderr}")
    return read_printed(ended.stdout)


def find_program() -> str:
    """Find wrk; raises SystemExit that says how to get it."""
    program = shutil.which("wrk")
    if program is None:
        raise SystemExit("benchmarks need wrk; on Debian: apt-get install wrk")
    return program


def version() -> str:
    """Give wrk's name for itself."""
    printed = subprocess.run([find_program(), "--version"], capture_output=True, text=True, check=False).stdout
    return printed.partition(" [")[0].strip()


def read_printed(output: str) -> Load:
    """Find the line of post.lua in wrk's output; raises RuntimeError with the output where there is none."""
    lines = [line for line in output.splitlines() if line.startswith("result ")]
    if not lines:
        raise RuntimeError(f"wrk printed no result: {output}")
    printed = msgspec.json.decode(lines[-1].removeprefix("result "), type=Printed)
    latency, errors = printed.latency_us, printed.errors
    return Load(
        requests=printed.requests,
        seconds=printed.microseconds / 1e6,
        p50_ms=latency.p50 / 1e3,
        p99_ms=latency.p99 / 1e3,
        p999_ms=latency.p999 / 1e3,
        max_ms=latency.max / 1e3,
        non_2xx=errors.status,
        errors=errors.connect + errors.read + errors.write + errors.timeout,
        bytes_read=printed.bytes_read,
    )
