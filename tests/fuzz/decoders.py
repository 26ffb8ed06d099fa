"""Every decoder under coverage-guided fuzzing: the rows of a slow reference, or a refusal, and no other error.

python -m tests.fuzz.decoders TARGET [libFuzzer's options]

atheris never returns from its loop: each target has a process of its own, with limits on time and memory.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.load.formats import ENCODINGS as ENCODED
from benchmarks.load.formats import JSON, MSGPACK, NPY, RAW, npy_bytes
from tests.artefacts import sample_events
from tests.fuzz import grpc_messages, infer_requests

N_FEATURES = 3
MEMORY_MB = 2048
SLOWEST_S = 30
LONGEST_BYTES = 8192
EXTRA_S = 120
"""For the process to start and end."""

Check = Callable[[bytes], None]

MEDIA_TYPES = {"JSON": JSON.media_type, "MessagePack": MSGPACK.media_type, "npy": NPY.media_type, "raw": RAW.media_type}
HEADS = "request heads"
GRPC = "gRPC messages"
INFER = "requests to infer"
TARGETS = [*(f"{name} {kind}" for name in MEDIA_TYPES for kind in ("batch", "event")), HEADS, GRPC, INFER]


def run(target: str, seconds: float, seed: int) -> int:
    """Fuzz a target in a process of its own and give the number of cases.

    Raises AssertionError with the reproducer and what went wrong.
    """
    with tempfile.TemporaryDirectory() as directory:
        corpus = Path(directory, "corpus")
        corpus.mkdir()
        for number, case in enumerate(seeds(target)):
            (corpus / str(number)).write_bytes(case)
        ran = subprocess.run(
            [
                *(sys.executable, "-m", "tests.fuzz.decoders", target, str(corpus), f"-artifact_prefix={directory}/"),
                *(f"-max_total_time={max(round(seconds), 1)}", f"-seed={seed or 1}", f"-rss_limit_mb={MEMORY_MB}"),
                *(f"-timeout={SLOWEST_S}", f"-max_len={LONGEST_BYTES}", "-print_final_stats=1", "-verbosity=1"),
            ],
            capture_output=True,
            timeout=seconds + EXTRA_S,
            check=False,
        )
        log = (ran.stdout + ran.stderr).decode(errors="replace")
        inputs = [path for path in Path(directory).iterdir() if path.is_file()]
        case = inputs[0].read_bytes() if inputs else b""
    cases = re.search(r"number_of_executed_units: (\d+)", log) or re.search(r"Done (\d+) runs", log)
    assert ran.returncode == 0, f"{target}, input {case!r}\n{log[-6000:]}"
    assert cases, log[-6000:]
    return int(cases[1])


RUNS: dict[str, Callable[[float, int], int]] = {target: partial(run, target) for target in TARGETS}


def seeds(target: str) -> list[bytes]:
    """Write good input of every kind: three bytes that say where to cut, and a body."""
    if target == HEADS:
        return [
            b"application/json\n*/*\n",
            b"application/x-msgpack; charset=utf-8\napplication/json;q=0.5, */*;q=0.6\nworking_point=loose",
            b"application/octet-stream\ntext/html\nworking_point=t%69ght&working_point=loose",
            b"application/octet-stream\n\nevents=7",
        ]
    if target == GRPC:
        return grpc_messages.seeds()
    if target == INFER:
        return infer_requests.seeds()
    from tests.service.formats.encodings import ENCODINGS

    events = sample_events(4, N_FEATURES)
    name, kind = target.split()
    if kind == "batch":
        prefix = {"MessagePack": "msgpack"}.get(name, name.lower())
        written = [one.write(events.astype(one.dtype)) for one in ENCODINGS.values() if one.name.startswith(prefix)]
        more = [b' {"\\u0065vents" :[ [1,2 ,3e0],[0.1,-0.0,12345678901234567890]\n] } '] if name == "JSON" else []
    else:
        written = [fmt.write("features", events[0]) for fmt in ENCODED if fmt.media_type == MEDIA_TYPES[name]]
        more = {
            "JSON": [rb'{"\u0066eatures": [1e2, -0.5E-3, 7]}'],
            "MessagePack": [MSGPACK.write("features", events[0].round())],
            "npy": [npy_bytes(events[0].astype(dtype)) for dtype in (">f8", "i2")],
        }.get(name, [])
    return [cut + body for cut in (b"\x00\x80\xff", b"\x20\x21\x22") for body in [*written, *more]]


def check_of(target: str) -> Check:
    """Make the check of a target's input."""
    from tests.service.formats import references

    if target == HEADS:
        return check_head()
    if target == GRPC:
        return grpc_messages.check_message()
    if target == INFER:
        return infer_requests.check_request()
    name, kind = target.split()
    media_type = MEDIA_TYPES[name]
    if kind == "event":
        return lambda data: references.check_event(data[3:], media_type)

    def check(data: bytes) -> None:
        body = data[3:]
        references.check_batch(body, references.pieces_of(body, [place / 255 for place in data[:3]]), media_type)

    return check


def check_head() -> Check:
    """Make the check of heads: lines of Content-Type, Accept and the query."""
    from service.api import native
    from service.errors import ServiceError
    from service.formats.table import FORMATS
    from service.inference.deployment import Model
    from service.model.artefact import parse_artefact
    from service.model.scorer import Scorer
    from tests.artefacts import model

    in_use = Model(Scorer(parse_artefact(model().SerializeToString())), 1, lambda *_: None)

    def check(data: bytes) -> None:
        content_type, accept, query = [*data.split(b"\n"), b"", b""][:3]
        scope = {"headers": [(b"content-type", content_type), (b"accept", accept)], "query_string": query}
        try:
            head = native._head(scope, in_use, FORMATS, ("working_point", "events"))  # type: ignore[arg-type]
        except ServiceError:
            return
        assert {head.request_format, head.response_format} <= set(FORMATS.all)

    return check


def fuzz(target: str, options: list[str]) -> None:
    """Fuzz a target in this process, and end it."""
    import atheris

    with atheris.instrument_imports(include=["service"]):
        check = check_of(target)
    atheris.Setup([sys.argv[0], *options], check)
    atheris.Fuzz()


if __name__ == "__main__":
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    fuzz(sys.argv[1], sys.argv[2:])
