"""Bodies that announce much, and large ones that are wrong, are refused soon and in little memory."""

import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live import LiveService, live_service
from tests.service.api.bad_input import bodies
from tests.service.api.open_inference.infer_bodies import INFER
from tests.service.api.open_inference.long_infer import LONG_INFER
from tests.service.formats.long_bodies import LAST_NUMBER, LONG_BODIES
from tests.service.server.exchange import Connection

pytestmark = pytest.mark.process

MIB = 2**20
MAX_BODY_BYTES = 64 * MIB
LIMIT_S = 20
"""Seconds in which each must be refused, on a machine that has other things to do as well."""
ANY_REQUEST_BYTES = 32 * MIB
"""What any request may take, beside the length of its body and its scores."""
EVENT_BYTES, EVENT_FLOAT32_BYTES, SCORE_BYTES = 10, 20, 4
"""The shortest event of these bodies, five float16, one of float32, and a score, which is kept until all are there."""


@pytest.fixture(scope="module")
def service(model_path: Path) -> Iterator[LiveService]:
    """Serve with the largest body that is allowed by default, of any number of events."""
    with live_service(model_path, "--max-body-bytes", str(MAX_BODY_BYTES), "--max-events", "100000000") as service:
        yield service
        assert not service.log_levels & {"ERROR", "CRITICAL"}


@pytest.mark.parametrize("n_bytes", [MIB, pytest.param(MAX_BODY_BYTES, marks=pytest.mark.slow)])
def test_a_long_wrong_body_is_refused_soon_and_in_little_memory(
    service: LiveService, n_bytes: int, subtests: pytest.Subtests
) -> None:
    """The peak of resident memory grows by the body's length and its scores at most, however much it announces."""
    for name, (path, fmt, write, message) in {**LONG_BODIES, **LAST_NUMBER, **LONG_INFER}.items():
        with subtests.test(name):
            [case] = bodies(path, fmt, [(write(n_bytes), message)])
            Path(f"/proc/{service.process.pid}/clear_refs").write_text("5")  # forgets the peak
            before_bytes = memory_bytes(service, "VmRSS")
            started = time.monotonic()
            with Connection(service) as connection:
                connection.send_pieces([case.head() + case.body])
                response = connection.response()
            taken_s = time.monotonic() - started
            assert 400 <= response.status < 500
            assert message in response.detail()
            assert len(response.detail()) <= 1000
            assert taken_s < LIMIT_S
            scores_bytes = len(case.body) // EVENT_BYTES * SCORE_BYTES
            taken_bytes = memory_bytes(service, "VmHWM") - before_bytes
            assert taken_bytes <= len(case.body) + scores_bytes + ANY_REQUEST_BYTES


@pytest.mark.parametrize("n_bytes", [4 * MIB, pytest.param(1024 * MIB, marks=pytest.mark.slow)])
def test_a_compressed_body_takes_the_memory_of_its_limit_at_most(service: LiveService, n_bytes: int) -> None:
    """Of what it is inflated to, a piece is kept at a time, and none beyond the limit of a body."""
    stream = zlib.compressobj(9, wbits=16 + zlib.MAX_WBITS)
    body = b"".join([stream.compress(bytes(MIB)) for _ in range(n_bytes // MIB)]) + stream.flush()
    Path(f"/proc/{service.process.pid}/clear_refs").write_text("5")
    before_bytes = memory_bytes(service, "VmRSS")
    sent = {"Inference-Header-Content-Length": "0", "Content-Encoding": "gzip"}
    response = service.post(INFER, body, "application/octet-stream", **sent)
    if n_bytes > MAX_BODY_BYTES:
        assert response.status_code == 413
        assert "is longer than" in response.json()["error"]
    else:
        assert response.json()["error"].startswith(f"the body is {n_bytes} bytes, not a whole number of events")
    n_scored = min(n_bytes, MAX_BODY_BYTES) // EVENT_FLOAT32_BYTES
    taken_bytes = memory_bytes(service, "VmHWM") - before_bytes
    assert taken_bytes <= len(body) + n_scored * SCORE_BYTES + ANY_REQUEST_BYTES


def memory_bytes(service: LiveService, name: str) -> int:
    """Read a service's resident memory, or its peak, in bytes."""
    lines = Path(f"/proc/{service.process.pid}/status").read_text().splitlines()
    [line] = [line for line in lines if line.startswith(f"{name}:")]
    return int(line.split()[1]) * 1024
