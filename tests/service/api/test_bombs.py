"""Small bodies that promise much, and large ones that mean nothing: refused soon, in little memory."""

import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.live import LiveService, live_service
from tests.service.api.bad_input import SCORE, SCORE_BATCH, bodies
from tests.service.formats.bad_arrays import npy, npy_header
from tests.service.formats.encodings import JSON, MSGPACK, NPY, RAW, Format
from tests.service.server.exchange import Connection

MIB = 2**20
MAX_BODY_BYTES = 64 * MIB
MAX_EVENTS = 2 * MIB
LIMIT_S = 20
"""Seconds in which each must be refused, on a machine that has other things to do as well."""

GROWTH = 1
"""How many times its own length a body may take, beside what any request may take."""
ANY_REQUEST_BYTES = 32 * MIB

ROWS = b'{"events": [[1, 2, 3, 4, 5], '
MAP = b"\x81\xa6events"

BOMBS: dict[str, tuple[str, Format, Callable[[], bytes]]] = {
    "JSON, a million lists in lists": (SCORE_BATCH, JSON, lambda: b"[" * 10**6),
    "JSON, a million lists in lists, for one event": (SCORE, JSON, lambda: b"[" * 10**6 + b"]" * 10**6),
    "JSON, a million lists in events": (SCORE_BATCH, JSON, lambda: ROWS + b"[" * 10**6),
    "JSON, a million objects in objects": (SCORE_BATCH, JSON, lambda: b'{"events":' * 10**6),
    "JSON, as many brackets as may be": (SCORE_BATCH, JSON, lambda: b"[" * MAX_BODY_BYTES),
    "JSON, as many brackets as may be, for one event": (SCORE, JSON, lambda: b"[" * MAX_BODY_BYTES),
    "JSON, a number of 10^5 digits": (SCORE_BATCH, JSON, lambda: ROWS + b"[" + b"7" * 10**5 + b", 2, 3, 4, 5]]}"),
    "JSON, a number of 10^7 digits": (SCORE_BATCH, JSON, lambda: ROWS + b"[" + b"7" * 10**7 + b", 2, 3, 4, 5]]}"),
    "JSON, a number of 10^7 digits in one event": (
        SCORE,
        JSON,
        lambda: b'{"features": [%b, 2, 3, 4, 5]}' % (b"7" * 10**7),
    ),
    "JSON, digits for all of the body": (SCORE, JSON, lambda: b'{"features": [' + b"7" * (MAX_BODY_BYTES - 14)),
    "JSON, a text for all of the body": (SCORE, JSON, lambda: b'{"features": "' + b"x" * (MAX_BODY_BYTES - 16) + b'"}'),
    "JSON, an exponent of 10^7 digits": (SCORE, JSON, lambda: b'{"features": [1e%b, 2, 3, 4, 5]}' % (b"9" * 10**7)),
    "JSON, millions of empty events": (SCORE_BATCH, JSON, lambda: b'{"events": [' + b"[]," * (5 * MIB) + b"[]]}"),
    "JSON, millions of empty objects": (SCORE, JSON, lambda: b'{"features": [' + b"{}," * (5 * MIB) + b"{}]}"),
    "JSON, millions of keys": (SCORE_BATCH, JSON, lambda: b"{" + b'"":0,' * (3 * MIB) + b'"":0}'),
    "JSON, millions of features": (SCORE, JSON, lambda: b'{"features": [' + b"1," * (8 * MIB) + b"1]}"),
    "JSON, spaces for all of the body": (SCORE_BATCH, JSON, lambda: b" " * MAX_BODY_BYTES),
    "MessagePack, 2^32 - 1 events": (SCORE_BATCH, MSGPACK, lambda: MAP + b"\xdd\xff\xff\xff\xff"),
    "MessagePack, 2^32 - 1 events in each event": (SCORE_BATCH, MSGPACK, lambda: MAP + b"\xdd\xff\xff\xff\xff" * 10**5),
    "MessagePack, 2^32 - 1 features": (SCORE, MSGPACK, lambda: b"\x81\xa8features\xdd\xff\xff\xff\xff\x01"),
    "MessagePack, 2^32 - 1 keys": (SCORE_BATCH, MSGPACK, lambda: b"\xdf\xff\xff\xff\xff\xa1k\x01"),
    "MessagePack, 2^32 - 16 bytes of rows": (SCORE_BATCH, MSGPACK, lambda: MAP + b"\xc6\xff\xff\xff\xf0" + bytes(20)),
    "MessagePack, 2^32 - 1 bytes of text": (SCORE, MSGPACK, lambda: b"\x81\xa8features\xdb\xff\xff\xff\xff"),
    "MessagePack, lists in lists for all of the body": (SCORE_BATCH, MSGPACK, lambda: b"\x91" * MAX_BODY_BYTES),
    "MessagePack, maps for keys of maps": (SCORE_BATCH, MSGPACK, lambda: b"\x81" * 10**6),
    "MessagePack, millions of empty events": (
        SCORE_BATCH,
        MSGPACK,
        lambda: MAP + b"\xdd" + struct.pack(">I", 16 * MIB) + b"\x90" * (16 * MIB),
    ),
    "MessagePack, millions of empty maps": (
        SCORE,
        MSGPACK,
        lambda: b"\x81\xa8features\xdd" + struct.pack(">I", 16 * MIB) + b"\x80" * (16 * MIB),
    ),
    "MessagePack, two million events of small integers, the last wrong": (
        SCORE_BATCH,
        MSGPACK,
        lambda: (
            MAP + b"\xdd" + struct.pack(">I", MAX_EVENTS) + b"\x95\0\0\0\0\0" * (MAX_EVENTS - 1) + b"\x95\0\0\0\0\xc0"
        ),
    ),
    "MessagePack, as many events of small integers as may be": (
        SCORE_BATCH,
        MSGPACK,
        lambda: MAP + b"\xdd" + struct.pack(">I", 10**7) + b"\x95\0\0\0\0\0" * 10**7,
    ),
    "JSON, two million events, the last wrong": (
        SCORE_BATCH,
        JSON,
        lambda: b'{"events": [' + b"[0,0,0,0,0]," * (MAX_EVENTS - 1) + b'[0,0,0,0,"0"]]}',
    ),
    "JSON, two million events under an escaped key, the last wrong": (
        SCORE_BATCH,
        JSON,
        lambda: rb'{"\u0065vents": [' + b"[0,0,0,0,0]," * (MAX_EVENTS - 1) + b'[0,0,0,0,"0"]]}',
    ),
    ".npy, two million events by columns, the last number NaN": (
        SCORE_BATCH,
        NPY,
        lambda: npy(npy_header("'<f2'", "True", f"({MAX_EVENTS}, 5)"), bytes(10 * MAX_EVENTS - 2) + b"\xff\xff"),
    ),
    "raw, two million events, the last number NaN": (
        SCORE_BATCH,
        RAW,
        lambda: bytes(20 * MAX_EVENTS - 4) + b"\xff\xff\xff\xff",
    ),
    ".npy, 10^18 events": (SCORE_BATCH, NPY, lambda: npy(npy_header(shape=f"({10**18}, 5)"))),
    ".npy, 10^18 events by columns": (SCORE_BATCH, NPY, lambda: npy(npy_header(order="True", shape=f"({10**18}, 5)"))),
    ".npy, 2^64 events": (SCORE_BATCH, NPY, lambda: npy(npy_header(shape=f"({2**64}, 5)"))),
    ".npy, a header of 2^32 - 1 bytes": (SCORE_BATCH, NPY, lambda: npy("(" * MIB, b"", (2, 0), 2**32 - 1)),
    ".npy, a header of all of the body": (SCORE, NPY, lambda: npy("(" * (MAX_BODY_BYTES - 12), b"", (2, 0))),
}


@pytest.fixture(scope="module")
def service(model_path: Path) -> Iterator[LiveService]:
    """Serve with the largest body that is allowed unless told otherwise."""
    with live_service(model_path, "--max-body-bytes", str(MAX_BODY_BYTES)) as service:
        yield service
        assert not [line for line in service.log_lines if line["level"] in {"ERROR", "CRITICAL"}]


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_soon_and_in_little_memory(service: LiveService, name: str) -> None:
    """The peak of resident memory grows by a few times the body's length at most, however much it promises."""
    path, fmt, write = BOMBS[name]
    [case] = bodies(path, fmt, [(name, write(), "")])
    before_bytes = reset_peak(service)
    started = time.monotonic()
    with Connection(service) as connection:
        connection.send([case.head() + case.body])
        reply = connection.reply()
    taken_s = time.monotonic() - started
    assert 400 <= reply.status < 500
    assert len(reply.detail()) <= 1000
    assert taken_s < LIMIT_S
    grown_bytes, allowed_bytes = peak_bytes(service) - before_bytes, GROWTH * len(case.body) + ANY_REQUEST_BYTES
    assert grown_bytes <= allowed_bytes


def reset_peak(service: LiveService) -> int:
    """Forget the service's peak of resident memory, and give what it has now in bytes."""
    Path(f"/proc/{service.process.pid}/clear_refs").write_text("5")
    return _status_bytes(service, "VmRSS")


def peak_bytes(service: LiveService) -> int:
    """Look up the service's peak of resident memory in bytes."""
    return _status_bytes(service, "VmHWM")


def _status_bytes(service: LiveService, name: str) -> int:
    lines = Path(f"/proc/{service.process.pid}/status").read_text().splitlines()
    [line] = [line for line in lines if line.startswith(f"{name}:")]
    return int(line.split()[1]) * 1024
