"""The service's memory under the largest bodies of every format, with small requests beside them.

    python -m benchmarks.memory --minutes 10

Every answer is checked. It does not know how fast the service is.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from benchmarks import machine, process, results
from benchmarks.bodies import JSON, MSGPACK, MSGPACK_BINARY, NPY, RAW, Format
from benchmarks.cases import Case, batch_case, single_case
from benchmarks.figures import plot_memory
from benchmarks.poster import Poster, exchange
from benchmarks.results import Memory, Sample
from benchmarks.servers import service_flags, serving
from benchmarks.stage import read_sample
from service.model.artefact import Artefact, load_artefact
from service.model.scorer import Scorer
from service.settings import Settings

MODEL = "exported/autoencoder.onnx"
FORMATS = (RAW, JSON, MSGPACK, MSGPACK_BINARY, NPY)
FULL = 0.995
"""How much of the largest body that the service takes is used: events differ in their digits."""
LOAD = (
    "one client posts bodies of 64 MiB, raw, JSON, MessagePack, MessagePack with binary events and .npy in turn; "
    "another posts single events and batches of 10 and 10 k events in JSON, and of 1 k raw; neither pauses"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, write the results and the figure, and print the peak; 1 if any answer was wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default=MODEL, help="artefact (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=10, help="how long (default: %(default)s)")
    flags = parser.parse_args(argv)
    try:
        memory = run(flags.model, flags.minutes)
    except (RuntimeError, OSError) as error:
        print(f"measuring the memory failed: {error}", file=sys.stderr)
        return 1
    results.write(results.MEMORY, memory)
    plot_memory(memory, results.MEMORY_FIGURE)
    replies = ", ".join(f"{count} {name}" for name, count in memory.replies.items())
    print(f"{memory.idle_mb:.0f} MB before the first request, {memory.peak_mb:.0f} MB at most; replies: {replies}")
    return 0


def run(model: str, minutes: float) -> Memory:
    """Load one worker and watch its memory; raises RuntimeError for a wrong answer, OSError for a broken connection."""
    started = datetime.now(UTC)
    server_core, load_core = machine.cores()
    os.sched_setaffinity(0, {load_core})
    artefact = load_artefact(model)
    large, small = list(large_cases(artefact)), list(small_cases(artefact))
    with serving("service", *service_flags(model), cores=[server_core]) as server:
        idle_mb = process.resident_mb(server.pid)
        posters = {
            name: Poster(server.url, [exchange(server.url, case) for case in cases])
            for name, cases in {"large": large, "small": small}.items()
        }
        with ExitStack() as stack:
            for poster in posters.values():
                stack.enter_context(poster)
            samples = list(watch(server.pid, minutes * 60))
        return Memory(
            model=artefact.identity,
            commit=machine.commit(),
            command=f"python -m benchmarks.memory --minutes {minutes:g}",
            started=started.isoformat(timespec="seconds"),
            machine=machine.describe(),
            versions=machine.versions(),
            load=LOAD,
            replies={name: poster.seen.replies for name, poster in posters.items()},
            idle_mb=idle_mb,
            peak_mb=process.peak_mb(server.pid),
            samples=samples,
        )


def large_cases(artefact: Artefact) -> Iterator[Case]:
    """Make a body of about the largest size in every format."""
    scorer, sample = Scorer(artefact), read_sample(artefact)
    limit = Settings().max_body_bytes
    for fmt in FORMATS:
        per_event = len(fmt.write("events", sample)) / len(sample)
        yield large_case(scorer, sample, fmt, int(limit * FULL / per_event))


def large_case(scorer: Scorer, sample: NDArray[np.float32], fmt: Format, n_events: int) -> Case:
    """Make a case of so many events, the `sample` (n, n_features) repeated."""
    events = np.resize(sample, (n_events, sample.shape[1]))
    return Case(f"{fmt.name}, {n_events:,} events", fmt, fmt.write("events", events), scorer.score(events), 1)


def small_cases(artefact: Artefact) -> Iterator[Case]:
    """Make the small requests that go beside."""
    scorer, sample = Scorer(artefact), read_sample(artefact)
    yield single_case(scorer, sample, 1)
    yield batch_case(scorer, sample[:10], "json")
    yield batch_case(scorer, sample[:1_000], "raw")
    yield batch_case(scorer, sample[:10_000], "json")


def watch(pid: int, seconds: float) -> Iterator[Sample]:
    """Look at a process's memory every second."""
    started = time.perf_counter()
    while (passed := time.perf_counter() - started) < seconds:
        yield Sample(passed, process.resident_mb(pid), process.peak_mb(pid))
        time.sleep(1)


if __name__ == "__main__":
    sys.exit(main())
