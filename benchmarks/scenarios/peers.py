"""Other ways to serve the same model beside our own, under the same load in one run of about ten minutes.

Each peer gets an environment of its own, one worker and one core; wrk has the other core. All run at first, and all but
one are stopped: they take turns. Every response is checked as far as wrk can, and every score before and after a turn.
"""

import platform
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median

import msgspec

from benchmarks.load import wrk
from benchmarks.load.connection import Connection, LostError, encode
from benchmarks.load.scoring import read_sample, score_fault
from benchmarks.peers.environment import PeerError, dependencies, install, installed_versions
from benchmarks.peers.process import PeerProcess
from benchmarks.peers.surface import Floats, Question, peer_module
from benchmarks.report import machine
from benchmarks.report.measurements import PeerCase, PeerResult, WrkRun
from benchmarks.report.results import OURS, Peers
from service.model.artefact import load_artefact
from service.model.scorer import Scorer

BATCH_EVENTS = 10_000
CONNECTIONS = {"single": 32, "json_batch": 4, "binary_batch": 4}
"""By case; four keep a server busy with batches."""
START_S = 120
ANSWER_S = 30


def run(model: str, names: Sequence[str], rounds: int, seconds: int) -> Peers:
    """Measure the peers of these names and our own service in alternating turns."""
    scorer = Scorer(load_artefact(model))
    events = read_sample(scorer.artefact.n_features)[:BATCH_EVENTS]
    with ExitStack() as stack:
        peers = [Peer(name, str(Path(model).resolve()), events, scorer.score(events)) for name in (OURS, *names)]
        for peer in peers:
            print(f"{peer.name}: install, start, warm up", flush=True)
            stack.callback(peer.stop)
            peer.attempt(peer.start)
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", flush=True)
            for peer in peers:
                peer.attempt(partial(peer.take_turn, seconds))
    return Peers(
        command=" ".join(["python -m benchmarks peers", *names, f"--rounds {rounds} --seconds {seconds}"]),
        commit=machine.commit(),
        model=scorer.artefact.identity,
        machine=machine.describe(),
        python=platform.python_version(),
        rounds=rounds,
        seconds=seconds,
        batch_events=BATCH_EVENTS,
        connections=CONNECTIONS,
        peers=with_ratios({peer.name: peer.result() for peer in peers}),
    )


class Peer:
    """A peer, what it is asked, its turns so far, and why it failed, if it did."""

    def __init__(self, name: str, model: str, events: Floats, scores: Floats) -> None:
        """Prepare to ask the peer `name` about `events` (n, features), to which the `model` gives `scores` (n,)."""
        self.name = name
        self.failure: str | None = None
        self.scores = scores
        self._model = model
        self._module = peer_module(name)
        asked = {
            "single": self._module.single(events[0]),
            "json_batch": self._module.json_batch(events),
            "binary_batch": self._module.binary_batch(events),
        }
        self.questions: dict[str, Question] = {case: question for case, question in asked.items() if question}
        self._turns: dict[str, list[WrkRun]] = {case: [] for case in self.questions}
        self._versions: dict[str, str] = {}
        self.process: PeerProcess | None = None
        self._load_core = 0

    def attempt(self, step: Callable[[], None]) -> None:
        """Take a step unless one has failed; a peer that fails is stopped."""
        if self.failure is None:
            try:
                step()
            except PeerError as error:
                self.failure = str(error)
                print(f"{self.name} FAILED: {error}", file=sys.stderr, flush=True)
                self.stop()

    def start(self) -> None:
        """Install and start it, wait until it answers, load it with each question for a second, and freeze it."""
        core, self._load_core = machine.cores()
        packages = self._module.PACKAGES
        python = install(self.name, packages, self._module.PYTHON)
        self._versions = installed_versions(python, packages or dependencies())
        self.process = PeerProcess(python, self.name, self._model, core)
        self._wait_until_ready()
        for case in self.questions:
            self._fire(case, 1)
        self.process.freeze()

    def take_turn(self, seconds: int) -> None:
        """Run each case for `seconds`; raises PeerError for a refusal or a wrong score before, during or after."""
        assert self.process
        self.process.thaw()
        self._wait_until_ready()  # the connections between its own parts may have timed out while it was frozen
        for case in self.questions:
            self.check(case)
            run = self._fire(case, seconds)
            self.check(case)
            if not run.requests:
                raise PeerError(f"{case}: no response in {seconds} s: give it more with --seconds")
            self._turns[case].append(run)
        self.process.freeze()

    def check(self, case: str) -> None:
        """Ask once, and raise PeerError unless the scores are the model's."""
        question = self.questions[case]
        try:
            with Connection(self._url) as connection:
                request = encode(self._url, "POST", question.path, question.headers, question.body)
                response = connection.ask(request, ANSWER_S)
        except LostError as error:
            raise PeerError(f"{case}: no answer: {error}") from error
        if not 200 <= response.status < 300:
            raise PeerError(f"{case}: status {response.status}: {response.body[:200].decode(errors='replace')}")
        expected = self.scores[: 1 if case == "single" else None]
        if fault := score_fault(question.read(response.body), expected):
            raise PeerError(f"{case}: {fault}")

    def stop(self) -> None:
        """End its processes."""
        if self.process:
            self.process.stop()

    def result(self) -> PeerResult:
        """Sum up the turns."""
        counts = {case: 1 if case == "single" else len(self.scores) for case in self._turns}
        cases = {} if self.failure else {case: summarise(turns, counts[case]) for case, turns in self._turns.items()}
        return PeerResult(self._module.NAME, self._module.NOTES, self._versions, self.failure, cases)

    @property
    def _url(self) -> str:
        assert self.process
        return f"http://127.0.0.1:{self.process.port}"

    def _wait_until_ready(self) -> None:
        assert self.process
        deadline = time.monotonic() + START_S
        while True:
            self.process.require_running()
            try:
                return self.check("single")
            except PeerError as error:
                if time.monotonic() > deadline:
                    raise PeerError(f"not ready after {START_S} s: {error}; see {self.process.log}") from error
            time.sleep(0.2)

    def _fire(self, case: str, seconds: int) -> WrkRun:
        path, headers, body, _ = self.questions[case]
        n_connections, core = CONNECTIONS[case], self._load_core
        run = wrk.fire(self._url, path, headers, body, connections=n_connections, seconds=seconds, core=core)
        if run.non_2xx or run.errors:
            raise PeerError(f"{case}: {run.requests} responses, {run.non_2xx} not 2xx, {run.errors} socket errors")
        return run


def summarise(turns: list[WrkRun], events: int) -> PeerCase:
    """Take the medians of turns in which each request had `events` events."""
    rate = median(turn.requests_per_s for turn in turns)
    return PeerCase(
        requests_per_s=round(rate, 1),
        events_per_s=round(rate * events, 1),
        p50_ms=round(median(turn.p50_ms for turn in turns), 3),
        p99_ms=round(median(turn.p99_ms for turn in turns), 3),
        turns=turns,
    )


def with_ratios(peers: dict[str, PeerResult]) -> dict[str, PeerResult]:
    """Add to every case how many times its rate our own service reached, where that was measured."""
    ours = peers[OURS].cases

    def compared(key: str, case: PeerCase) -> PeerCase:
        ratio = round(ours[key].requests_per_s / case.requests_per_s, 2) if key in ours else None
        return msgspec.structs.replace(case, ours_over_peer=ratio)

    return {
        name: msgspec.structs.replace(peer, cases={key: compared(key, case) for key, case in peer.cases.items()})
        for name, peer in peers.items()
    }
