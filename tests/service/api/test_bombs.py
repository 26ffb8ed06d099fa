"""Bodies that announce much, and large ones that are wrong, are refused soon and in little memory."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live import LiveService, live_service
from tests.service.api.bad_input import bodies
from tests.service.api.bombs import LARGE, MAX_BODY_BYTES, MIB, SMALL, Bomb
from tests.service.server.exchange import Connection

pytestmark = pytest.mark.process

LIMIT_S = 20
"""Seconds in which each must be refused, on a machine that has other things to do as well."""

GROWTH = 1
"""How many times its own length a body may take, beside what any request may take."""
ANY_REQUEST_BYTES = 32 * MIB


@pytest.fixture(scope="module")
def service(model_path: Path) -> Iterator[LiveService]:
    """Serve with the largest body that is allowed by default."""
    with live_service(model_path, "--max-body-bytes", str(MAX_BODY_BYTES)) as service:
        yield service
        assert not [line for line in service.log_lines if line["level"] in {"ERROR", "CRITICAL"}]


@pytest.mark.parametrize("bombs", [SMALL, pytest.param(LARGE, marks=pytest.mark.slow)], ids=["small", "large"])
def test_a_bomb_is_refused_soon_and_in_little_memory(
    service: LiveService, bombs: dict[str, Bomb], subtests: pytest.Subtests
) -> None:
    """The peak of resident memory grows by the body's length at most, however much it announces."""
    for name, (path, fmt, write) in bombs.items():
        with subtests.test(name):
            [case] = bodies(path, fmt, [(name, write(), "")])
            before_bytes = reset_peak(service)
            started = time.monotonic()
            with Connection(service) as connection:
                connection.send_pieces([case.head() + case.body])
                response = connection.response()
            taken_s = time.monotonic() - started
            assert 400 <= response.status < 500
            assert len(response.detail()) <= 1000
            assert taken_s < LIMIT_S
            assert memory_bytes(service, "VmHWM") - before_bytes <= GROWTH * len(case.body) + ANY_REQUEST_BYTES


def reset_peak(service: LiveService) -> int:
    """Forget the service's peak of resident memory, and give what it has now in bytes."""
    Path(f"/proc/{service.process.pid}/clear_refs").write_text("5")
    return memory_bytes(service, "VmRSS")


def memory_bytes(service: LiveService, name: str) -> int:
    """Read a service's resident memory, or its peak, in bytes."""
    lines = Path(f"/proc/{service.process.pid}/status").read_text().splitlines()
    [line] = [line for line in lines if line.startswith(f"{name}:")]
    return int(line.split()[1]) * 1024
