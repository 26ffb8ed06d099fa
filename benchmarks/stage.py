"""The servers that take turns, started and pinned, and the cases that are asked of them.

It does not know what is measured.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks import machine
from benchmarks.cases import Case, ServerName, all_cases
from benchmarks.servers import Server, service_flags, serving
from service.model.artefact import Artefact, load_artefact
from service.model.scorer import Scorer
from training.events.events import read_events

SAMPLE = Path("exported/sample.h5")
SAMPLE_EVENTS = 100_000
PLAIN = "json-10k"
BARE_EVENTS = 100
"""Up to this many events in a request, HTTP costs more than scoring: its ceiling is the bare server too."""


@dataclass(frozen=True)
class Stage:
    """Three servers on one core, of which at most one is busy, the load's core, and what is asked."""

    artefact: Artefact
    events: NDArray[np.float32]
    servers: dict[ServerName, Server]
    cases: dict[str, Case]
    server_core: int
    load_core: int


def read_sample(artefact: Artefact) -> NDArray[np.float32]:
    """Read the shipped sample, repeated to (SAMPLE_EVENTS, n_features)."""
    return np.resize(read_events(SAMPLE).features, (SAMPLE_EVENTS, artefact.n_features)).astype(np.float32)


@contextmanager
def staged(model: str) -> Iterator[Stage]:
    """Start the service, the same with plain decoding, and the bare server, until the end of the block.

    This process moves to the load's core. Raises WrongAnswerError if the service does not answer every case rightly.
    """
    server_core, load_core = machine.cores()
    os.sched_setaffinity(0, {load_core})
    artefact = load_artefact(model)
    events = read_sample(artefact)
    cases = {case.name: case for case in all_cases(Scorer(artefact), events)}
    with ExitStack() as stack:
        service = stack.enter_context(serving("service", *service_flags(model), cores=[server_core]))
        plain = stack.enter_context(serving("benchmarks.plain_decoding", *service_flags(model), cores=[server_core]))
        with_bare = [case for case in cases.values() if case.single or len(case.scores) <= BARE_EVENTS]
        replies = stack.enter_context(tempfile.NamedTemporaryFile(prefix="bare-replies-"))
        replies.write(msgspec.msgpack.encode({f"/{case.name}": _fixed(case, service.url) for case in with_bare}))
        replies.flush()
        bare = stack.enter_context(serving("benchmarks.bare", replies.name, cores=[server_core]))
        for case in with_bare:
            cases[f"bare-{case.name}"] = replace(case, name=f"bare-{case.name}", server="bare")
        cases[f"plain-{PLAIN}"] = replace(cases[PLAIN], name=f"plain-{PLAIN}", server="plain")
        servers: dict[ServerName, Server] = {"service": service, "plain": plain, "bare": bare}
        yield Stage(artefact, events, servers, cases, server_core, load_core)


def _fixed(case: Case, url: str) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Ask the service for the reply that the bare server is to give; the date is each server's own."""
    reply = case.check(url)
    headers = [(name.encode(), value.encode()) for name, value in reply.headers.items() if name != "date"]
    return headers, reply.body
