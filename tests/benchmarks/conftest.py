"""Fixtures: the bare server, with one reply of three scores."""

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from benchmarks.servers import Server, serving

SCORES = (1.5, 2.5, 3.5)
BODY = msgspec.json.encode({"anomaly_scores": SCORES})


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve the reply at /three, and one of another length at /other."""
    path: Path = tmp_path_factory.mktemp("bare") / "replies"
    replies = {
        name: ([(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))], body)
        for name, body in {"/three": BODY, "/other": b"{}"}.items()
    }
    path.write_bytes(msgspec.msgpack.encode(replies))
    with serving("benchmarks.bare", str(path), cores=os.sched_getaffinity(0)) as server:
        yield server
