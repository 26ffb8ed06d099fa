"""Events per second over HTTP, beside what the same scorer reaches in the same run without HTTP.

    python -m benchmarks.throughput

The service has one core and the client another; cases take turns, and medians are quoted. It answers one question, how
much of the scorer's speed a client gets over one kept-alive connection; it does not look for the service's peak rate.
"""

import argparse
import http.client
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.load import running_service
from service.artefact import GOLDEN_ATOL, GOLDEN_RTOL, load_artefact
from service.scorer import Scorer
from training.events import read_events
from training.files import atomic_write

RESULTS = Path(__file__).parent / "results" / "throughput.json"
SAMPLE = Path("exported/sample.h5")
BATCH_EVENTS = 10_000
SERVICE_CORE, CLIENT_CORE = 0, 1

Case = Callable[[], NDArray[np.float32]]


def cases(scorer: Scorer, connection: http.client.HTTPConnection, events: NDArray[np.float32]) -> dict[str, Case]:
    """Return what takes turns: each scores `events` (n, n_features), or their first, in its own way."""

    def post(path: str, media_type: str, body: bytes, read: Callable[[bytes], Any]) -> Case:
        def ask() -> NDArray[np.float32]:
            connection.request("POST", path, body, {"Content-Type": media_type})
            response = connection.getresponse()
            reply = response.read()
            if response.status != 200:
                raise SystemExit(f"{path} answered {response.status}: {reply.decode()[:200]}")
            return np.atleast_1d(np.asarray(read(reply), np.float32))

        return ask

    def field(decode: Callable[[bytes], Any], name: str) -> Callable[[bytes], Any]:
        return lambda reply: decode(reply)[name]

    rows, batch = {"events": events.tolist()}, "/score/batch"
    return {
        "in process": lambda: scorer.score(events),
        "raw float32": post(
            batch, "application/octet-stream", events.tobytes(), lambda reply: np.frombuffer(reply, "<f4")
        ),
        "MessagePack": post(
            batch,
            "application/msgpack",
            msgspec.msgpack.encode(rows),
            field(msgspec.msgpack.decode, "anomaly_scores"),
        ),
        "JSON": post(
            batch, "application/json", json.dumps(rows).encode(), field(msgspec.json.decode, "anomaly_scores")
        ),
        "JSON, one event": post(
            "/score",
            "application/json",
            json.dumps({"features": events[0].tolist()}).encode(),
            field(msgspec.json.decode, "anomaly_score"),
        ),
    }


def measure(turns: dict[str, Case], expected: NDArray[np.float32], rounds: int, seconds: float) -> dict[str, float]:
    """Return each case's median rate in events/s over the rounds; a wrong score ends the run."""
    rates: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(rounds):
        for name, ask in turns.items():
            started, events = time.perf_counter(), 0
            while time.perf_counter() - started < seconds:
                scores = ask()
                events += len(scores)
            rates[name].append(events / (time.perf_counter() - started))
            if not np.allclose(scores, expected[: len(scores)], rtol=GOLDEN_RTOL, atol=GOLDEN_ATOL):
                raise SystemExit(f"{name}: the service gave scores that are not the model's")
    return {name: statistics.median(values) for name, values in rates.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark, print its table and write its results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.throughput", description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="exported/autoencoder.onnx", help="artefact (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each case (default: 5)")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a turn (default: 1)")
    args = parser.parse_args(argv)
    scorer = Scorer(load_artefact(args.model))
    events = np.resize(read_events(SAMPLE).features, (BATCH_EVENTS, scorer.artefact.n_features))
    cores = os.sched_getaffinity(0)
    service_core, client_core = (core if core in cores else min(cores) for core in (SERVICE_CORE, CLIENT_CORE))
    with running_service(args.model) as (url, pid):
        os.sched_setaffinity(pid, {service_core})
        os.sched_setaffinity(0, {client_core})
        connection = http.client.HTTPConnection(url.removeprefix("http://"))
        rates = measure(cases(scorer, connection, events), scorer.score(events), args.rounds, args.seconds)
        connection.close()
    ceiling = rates["in process"]
    print(f"{scorer.artefact.identity}, batches of {BATCH_EVENTS:,} events where not said otherwise")
    for name, rate in rates.items():
        print(f"{name:<16} {rate:>12,.0f} events/s  {rate / ceiling:6.3f} of in process")
    write_results(scorer.artefact.identity, rates, args)
    return 0


def write_results(model: str, rates: dict[str, float], args: argparse.Namespace) -> None:
    """Write the rates with what is needed to read them: machine, versions, command."""
    results = {
        "model": model,
        "events_per_second": {name: round(rate) for name, rate in rates.items()},
        "ratio_to_in_process": {name: round(rate / rates["in process"], 4) for name, rate in rates.items()},
        "batch_events": BATCH_EVENTS,
        "rounds": args.rounds,
        "seconds": args.seconds,
        "command": "python -m benchmarks.throughput",
        "machine": {"processor": _processor(), "cores": os.cpu_count(), "system": platform.platform()},
        "versions": {
            "python": platform.python_version(),
            **{
                name: version(name)
                for name in ("lhc-anomaly", "onnxruntime", "litestar", "uvicorn", "msgspec", "numpy")
            },
        },
    }
    RESULTS.parent.mkdir(exist_ok=True)
    with atomic_write(RESULTS) as path:
        path.write_text(json.dumps(results, indent=2) + "\n")


def _processor() -> str:
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return models[0].partition(":")[2].strip() if models else platform.processor()


if __name__ == "__main__":
    sys.exit(main())
