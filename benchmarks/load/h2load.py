"""Closed-loop load of gRPC by h2load: the same call over and over. Responses are checked by their bytes."""

import re
import shutil
import struct
import subprocess
import tempfile
from typing import Final, NamedTuple

FINISHED: Final = re.compile(r"finished in ([0-9.]+)(s|ms), ([0-9.]+) req/s")
REQUESTS: Final = re.compile(r"(\d+) done, (\d+) succeeded, (\d+) failed")
DATA: Final = re.compile(r"\((\d+)\) data$", re.MULTILINE)
HEAD_BYTES: Final = 5
"""What stands before each message."""


class Run(NamedTuple):
    """What one run of h2load saw."""

    requests_per_s: float
    requests: int


def fire(
    address: str,
    path: str,
    message: bytes,
    response_bytes: int,
    *,
    connections: int,
    streams: int,
    seconds: int,
    core: int,
) -> Run:
    """Call `path` with `message` for `seconds` from processor `core`, on some streams of each connection.

    Raises RuntimeError without h2load, if it fails, and where the responses have not `response_bytes` each.
    """
    program = shutil.which("h2load")
    if program is None:
        raise RuntimeError("h2load is not installed; on Debian: apt-get install nghttp2-client")
    with tempfile.NamedTemporaryFile(prefix="h2load-message-") as file:
        file.write(struct.pack(">BI", 0, len(message)) + message)
        file.flush()
        ended = subprocess.run(
            [
                *("taskset", "--cpu-list", str(core), program, "--clients", str(connections)),
                *("--max-concurrent-streams", str(streams), "--duration", str(seconds), "--data", file.name),
                *("--header", "content-type: application/grpc", "--header", "te: trailers", f"http://{address}{path}"),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
    finished, requests, data = (found.search(ended.stdout) for found in (FINISHED, REQUESTS, DATA))
    if ended.returncode or not (finished and requests and data):
        raise RuntimeError(f"h2load failed with status {ended.returncode}: {ended.stdout}{ended.stderr}")
    done, succeeded, failed = map(int, requests.groups())
    beyond = int(data[1]) - done * (HEAD_BYTES + response_bytes)
    if (
        not done
        or succeeded != done
        or failed
        or not 0 <= beyond <= connections * streams * (HEAD_BYTES + response_bytes)
    ):
        raise RuntimeError(f"not every call got a response of {response_bytes} bytes: {ended.stdout}")
    return Run(float(finished[3]), done)
