"""Closed-loop load by wrk: the same POST over and over on some connections. Responses are checked by their bytes."""

import shutil
import subprocess
import tempfile
from pathlib import Path

import msgspec

from benchmarks.report.measurements import LoadRun

SCRIPT = Path(__file__).with_name("post.lua")
TIMEOUT_S = 20
"""wrk counts a response that takes longer as an error; its own two seconds are short for bodies of many megabytes."""


def fire(
    url: str, path: str, headers: dict[str, str], body: bytes, *, connections: int, seconds: int, core: int | None
) -> LoadRun:
    """Post `body` to `url` + `path` for `seconds` from processor `core`, or any for None.

    Raises RuntimeError without wrk, and with wrk's words if it fails.
    """
    program = find_program()
    pinned = [] if core is None else ["taskset", "--cpu-list", str(core)]
    with tempfile.NamedTemporaryFile(prefix="wrk-body-") as file:
        file.write(body)
        file.flush()
        fields = [option for name, value in headers.items() for option in ("--header", f"{name}: {value}")]
        ended = subprocess.run(
            [
                *pinned,
                *(program, "--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s"),
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
    """Find wrk; raises RuntimeError that says how to get it."""
    program = shutil.which("wrk")
    if program is None:
        raise RuntimeError("wrk is not installed; on Debian: apt-get install wrk")
    return program


def version() -> str:
    """Give wrk's name and version."""
    printed = subprocess.run([find_program(), "--version"], capture_output=True, text=True, check=False).stdout
    return printed.partition(" [")[0].strip()


def read_printed(output: str) -> LoadRun:
    """Find the line of post.lua in wrk's output; raises RuntimeError with the output where there is none."""
    lines = [line for line in output.splitlines() if line.startswith("result ")]
    if not lines:
        raise RuntimeError(f"wrk printed no result: {output}")
    return msgspec.json.decode(lines[-1].removeprefix("result "), type=LoadRun)
