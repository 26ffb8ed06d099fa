"""Four times as many clients as the service has room for: what those get who are let in, and how soon others hear no.

    python -m benchmarks.overload

One worker on one core, all clients on another; every reply is checked. It does not know how the service decides.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from benchmarks import machine, results
from benchmarks.cases import Case, batch_case, single_case
from benchmarks.client import Client, encode
from benchmarks.crowd import Asked, Crowd, percentiles_ms
from benchmarks.poster import exchange
from benchmarks.process import cpu_seconds
from benchmarks.results import Burden, Overload, Overloaded, median_of
from benchmarks.servers import Server, service_flags, serving
from benchmarks.stage import read_sample
from benchmarks.tables import overload_text
from service.errors import RETRY_AFTER_S
from service.model.artefact import Artefact, load_artefact
from service.model.scorer import Scorer

MODEL = "exported/autoencoder.onnx"
TIMES: Final = 4
CAPACITY, AT_ONCE, AS_TOLD = "capacity", "again at once", "after Retry-After"
TURN_S: Final = {CAPACITY: (0.25, 0.8), AT_ONCE: (0.25, 0.8), AS_TOLD: (2 * RETRY_AFTER_S, 1.0)}
"""Seconds to warm up, and seconds that count. Who waits as told has been refused before."""
ROOM: Final = {"raw-10k": 10, "json-1k": 40, "json-10k": 5, "single": 32}
"""How many requests of a case are let in together: 20 ms of work, and of single events 1 ms."""
CONNECTIONS: Final = 16_384
"""More than the service takes by default: it is to refuse requests, not connections."""
PROBES: Final = 2
PROBE_REST_S: Final = 0.01
SETTLE_S: Final = 0.1


@dataclass(frozen=True)
class Setting:
    """A case, the service that has room for so many of its requests, and what its clients ask."""

    case: Case
    server: Server
    room: int
    max_inflight_events: int
    asked: Asked
    single: Asked
    health: Asked


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, write the results and print them; 1 if any reply was wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overload", description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default=MODEL, help="artefact (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each case (default: %(default)s)")
    flags = parser.parse_args(argv)
    try:
        found = run(flags.model, flags.rounds)
    except (RuntimeError, OSError) as error:
        print(f"measuring overload failed: {error}", file=sys.stderr)
        return 1
    results.write(results.OVERLOAD, found)
    print(overload_text(found))
    return 0


def run(model: str, rounds: int) -> Overload:
    """Let all cases and behaviours take turns; raises RuntimeError for a wrong reply, OSError for a lost connection."""
    begun = datetime.now(UTC)
    server_core, load_core = machine.cores()
    os.sched_setaffinity(0, {load_core})
    artefact = load_artefact(model)
    with ExitStack() as stack:
        settings = {case.name: prepare(stack, case, model, server_core) for case in cases(artefact)}
        turns: dict[str, dict[str, list[Burden]]] = {name: {} for name in settings}
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", flush=True)
            for name, setting in settings.items():
                for behaviour, burden in take_turn(setting):
                    turns[name].setdefault(behaviour, []).append(burden)
        return Overload(
            model=artefact.identity,
            commit=machine.commit(),
            command=f"python -m benchmarks.overload --rounds {rounds}",
            started=begun.isoformat(timespec="seconds"),
            machine=machine.describe(),
            versions=machine.versions(),
            times=TIMES,
            cases={name: sum_up(setting, turns[name]) for name, setting in settings.items()},
        )


def cases(artefact: Artefact) -> Iterator[Case]:
    """Make what is asked."""
    scorer, events = Scorer(artefact), read_sample(artefact)
    yield batch_case(scorer, events[:10_000], "raw")
    yield batch_case(scorer, events[:1_000], "json")
    yield batch_case(scorer, events[:10_000], "json")
    yield replace(single_case(scorer, events, ROOM["single"]), name="single")


def prepare(stack: ExitStack, case: Case, model: str, core: int) -> Setting:
    """Start a service with room for the case's requests, and half of one more that small ones beside may have."""
    room = ROOM[case.name]
    event_bytes = 4 * load_artefact(model).n_features
    # As the service counts a batch before it is read.
    n_events = 1 if case.single else max(len(case.scores), len(case.body) // event_bytes)
    limit = room * n_events + n_events // 2
    flags = ["--max-inflight-events", str(limit), "--max-connections", str(CONNECTIONS)]
    server = stack.enter_context(serving("service", *service_flags(model), *flags, cores=[core]))
    whole = exchange(server.url, case)
    artefact = load_artefact(model)
    one = exchange(server.url, single_case(Scorer(artefact), read_sample(artefact), 1))
    with Client(server.url) as client:
        healthy = client.get("/health").body
    return Setting(
        case,
        server,
        room,
        limit,
        Asked(whole.request, whole.reply_body),
        Asked(one.request, one.reply_body, PROBE_REST_S, obedient=False),
        Asked(encode(server.url, "GET", "/health"), healthy, PROBE_REST_S),
    )


def take_turn(setting: Setting) -> Iterator[tuple[str, Burden]]:
    """Measure with as many clients as there is room for, and with four times the load in two behaviours."""
    capacity = measure(setting, CAPACITY, setting.room)
    yield CAPACITY, capacity
    yield AT_ONCE, measure(setting, AT_ONCE, TIMES * setting.room)
    if not setting.case.single:
        per_s = capacity.accepted_events_per_s / len(setting.case.scores)
        resting = round((TIMES - 1) * per_s * RETRY_AFTER_S)
        yield AS_TOLD, measure(setting, AS_TOLD, setting.room + resting)


def measure(setting: Setting, behaviour: str, connections: int) -> Burden:
    """Have so many clients ask for a while, with a few beside them who ask for health and for one event."""
    warming_s, seconds = TURN_S[behaviour]
    with Crowd(setting.server.url) as crowd:
        asked = setting.asked._replace(obedient=behaviour == AS_TOLD)
        batches = crowd.join(asked, connections, RETRY_AFTER_S if asked.obedient else 0)
        health, single = crowd.join(setting.health, PROBES, 0), crowd.join(setting.single, PROBES, 0)
        busy = crowd.run(warming_s, seconds)
    settle(setting.server.pid)
    accepted, refused = percentiles_ms(batches.accepted_s), percentiles_ms(batches.refused_s)
    return Burden(
        connections=connections,
        accepted_events_per_s=len(batches.accepted_s) * len(setting.case.scores) / seconds,
        accepted_p50_ms=accepted[0],
        accepted_p99_ms=accepted[1],
        refused_per_s=len(batches.refused_s) / seconds,
        refused_p50_ms=refused[0],
        refused_p99_ms=refused[1],
        single_p99_ms=percentiles_ms(single.accepted_s)[1],
        singles_refused=len(single.refused_s) / max(1, len(single.accepted_s) + len(single.refused_s)),
        health_p99_ms=percentiles_ms(health.accepted_s)[1],
        client_busy=busy,
    )


def settle(pid: int) -> None:
    """Wait until a server has put away what its clients left behind: the next turn has its core."""
    before = -1.0
    while (now := cpu_seconds(pid)) != before:
        before = now
        time.sleep(SETTLE_S)


def sum_up(setting: Setting, turns: dict[str, list[Burden]]) -> Overloaded:
    """Take the median of each number over the turns."""
    return Overloaded(
        fmt=setting.case.fmt.name,
        events=len(setting.case.scores),
        body_bytes=len(setting.case.body),
        max_inflight_events=setting.max_inflight_events,
        turns=turns,
        median={behaviour: median_of(burdens) for behaviour, burdens in turns.items()},
    )


if __name__ == "__main__":
    sys.exit(main())
