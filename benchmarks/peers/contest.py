"""The contest: every peer is asked the same, in turns, and every answer is held against the scorer's own.

It does not know how results are written.
"""

import http.client
import sys
import time
from importlib import import_module
from typing import Any, cast

import numpy as np

from benchmarks.peers.environment import PeerError, dependencies, install, installed_versions
from benchmarks.peers.process import PeerProcess
from benchmarks.peers.results import PeerResults, summarise
from benchmarks.peers.surface import Floats, Peer, Question
from benchmarks.wrk import Load, fire
from service.model.artefact import GOLDEN_ATOL, GOLDEN_RTOL

CONNECTIONS = {"single": 32, "json_batch": 4, "binary_batch": 4}
"""By case; four keep a server busy with batches."""

START_S, ANSWER_S = 120, 30


class Contestant:
    """A peer that is running, what it is asked, and its turns so far."""

    def __init__(self, name: str, model: str, events: Floats, scores: Floats, cores: tuple[int, int]) -> None:
        """Install and start the peer `name`, to be asked about `events` (n, features) whose scores (n,) are known.

        Of the two `cores` it gets the first, and its load the second. Raises PeerError if it cannot be installed.
        """
        self.peer: Peer = cast(Any, import_module(f"benchmarks.peers.{name}"))
        self.scores = scores
        core, self.load_core = cores
        asked = {
            "single": self.peer.single(events[0]),
            "json_batch": self.peer.json_batch(events),
            "binary_batch": self.peer.binary_batch(events),
        }
        self.questions: dict[str, Question] = {case: question for case, question in asked.items() if question}
        self.turns: dict[str, list[Load]] = {case: [] for case in self.questions}
        python = install(name, self.peer.PACKAGES, self.peer.PYTHON)
        self.versions = installed_versions(python, self.peer.PACKAGES or dependencies())
        self.process = PeerProcess(python, name, model, core)

    def warm_up(self) -> None:
        """Wait until it answers, load it with each question for a second, and freeze it."""
        self.wait_until_ready()
        for case in self.questions:
            self._load(case, 1)
        self.process.freeze()

    def take_turn(self, seconds: int) -> None:
        """Run each case for `seconds`; raises PeerError for a refusal or a wrong score before, during or after."""
        self.process.thaw()
        self.wait_until_ready()  # the connections between its own parts may have timed out while it was frozen
        for case in self.questions:
            self.check(case)
            load = self._load(case, seconds)
            self.check(case)
            if not load.requests:
                raise PeerError(f"{case}: no reply in {seconds} s: give it more with --seconds")
            self.turns[case].append(load)
        self.process.freeze()

    def check(self, case: str) -> None:
        """Ask once, and raise PeerError unless the scores are the model's."""
        question = self.questions[case]
        connection = http.client.HTTPConnection("127.0.0.1", self.process.port, timeout=ANSWER_S)
        try:
            connection.request("POST", question.path, question.body, question.headers)
            response = connection.getresponse()
            reply = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise PeerError(f"{case}: no answer: {error}") from error
        finally:
            connection.close()
        if not 200 <= response.status < 300:
            raise PeerError(f"{case}: status {response.status}: {reply.decode(errors='replace')[:200]}")
        found = question.read(reply)
        expected = self.scores[: 1 if case == "single" else None]
        if found.shape != expected.shape:
            raise PeerError(f"{case}: scores of shape {found.shape}, expected {expected.shape}")
        wrong = np.flatnonzero(~np.isclose(found, expected, rtol=GOLDEN_RTOL, atol=GOLDEN_ATOL))
        if len(wrong):
            raise PeerError(f"{case}: score {wrong[0]} is {found[wrong[0]]}, expected {expected[wrong[0]]}")

    def wait_until_ready(self) -> None:
        """Ask until the answer is right; raises PeerError if the peer ends or takes START_S."""
        deadline = time.monotonic() + START_S
        while True:
            self.process.require_running()
            try:
                return self.check("single")
            except PeerError as error:
                if time.monotonic() > deadline:
                    raise PeerError(f"not ready after {START_S} s: {error}; see {self.process.log}") from error
            time.sleep(0.2)

    def _load(self, case: str, seconds: int) -> Load:
        path, headers, body, _ = self.questions[case]
        url = f"http://127.0.0.1:{self.process.port}"
        load = fire(url, path, headers, body, connections=CONNECTIONS[case], seconds=seconds, core=self.load_core)
        if load.non_2xx or load.errors:
            raise PeerError(f"{case}: {load.requests} replies, {load.non_2xx} not 2xx, {load.errors} socket errors")
        return load


class Contest:
    """All peers that run, and why the others do not; leaving its block ends every process."""

    def __init__(self, model: str, events: Floats, scores: Floats, cores: tuple[int, int]) -> None:
        """Prepare a contest on `events` (n, features) with the scores (n,) that the graph at `model` gives them.

        Of the two `cores` the servers get the first, and the load the second.
        """
        self.model, self.events, self.scores, self.cores = model, events, scores, cores
        self.contestants: dict[str, Contestant] = {}
        self.admitted: list[str] = []
        self.failures: dict[str, str] = {}

    def __enter__(self) -> "Contest":
        """Start nothing yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """End every process."""
        for contestant in self.contestants.values():
            contestant.process.stop()

    def admit(self, name: str) -> None:
        """Install, start and warm up the peer `name`, or note why it cannot take part."""
        self.admitted.append(name)
        try:
            contestant = Contestant(name, self.model, self.events, self.scores, self.cores)
        except PeerError as error:
            return self._fail(name, error)
        self.contestants[name] = contestant
        try:
            contestant.warm_up()
        except PeerError as error:
            self._fail(name, error)

    def play_round(self, seconds: int) -> None:
        """Give every contestant that has not failed a turn."""
        for name, contestant in self.contestants.items():
            if name not in self.failures:
                try:
                    contestant.take_turn(seconds)
                except PeerError as error:
                    self._fail(name, error)

    def results(self) -> dict[str, PeerResults]:
        """Return what every peer reached, by the names of their modules."""
        return {name: self._result(name) for name in self.admitted}

    def _result(self, name: str) -> PeerResults:
        peer: Peer = cast(Any, import_module(f"benchmarks.peers.{name}"))
        contestant, failure = self.contestants.get(name), self.failures.get(name)
        cases = {}
        if contestant and not failure:
            counts = {case: 1 if case == "single" else len(self.events) for case in contestant.turns}
            cases = {case: summarise(turns, counts[case]) for case, turns in contestant.turns.items()}
        versions = contestant.versions if contestant else {}
        return PeerResults(name=peer.NAME, notes=peer.NOTES, versions=versions, failure=failure, cases=cases)

    def _fail(self, name: str, error: PeerError) -> None:
        self.failures[name] = str(error)
        print(f"{name} FAILED: {error}", file=sys.stderr, flush=True)
        if name in self.contestants:
            self.contestants[name].process.stop()
