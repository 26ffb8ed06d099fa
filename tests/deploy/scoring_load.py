"""Clients that have events scored without end, and what became of every call."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Final

import numpy as np

from benchmarks.load.scoring import read_sample
from service import SHIPPED_MODEL
from service.client import AsyncClient, ClientError, Options
from service.model.artefact import load_artefact
from service.model.scorer import Scorer
from tests.live import wait_until

MODELS: Final = (SHIPPED_MODEL.resolve(), SHIPPED_MODEL.resolve().parent / "exposed" / "autoencoder.onnx")
RTOL: Final = 1e-4
"""Agreement of the scores of an event in batches of different sizes."""
EVENTS: Final = {"single events": 1, "batches": 10_000}
STARTS: Final = 1000
"""Calls begin at so many different events."""
CLIENTS: Final = 2
"""Clients of each kind, each with one call at a time."""


@dataclass
class Outcomes:
    """What became of the calls of one kind."""

    sent: int = 0
    answered: int = 0
    wrong: int = 0
    """Answers that are not the scores of the model that they name."""
    retries: int = 0
    errors: list[str] = field(default_factory=list)
    models: Counter[str] = field(default_factory=Counter)
    """Answers by the model that they name."""
    latencies_s: list[float] = field(default_factory=list)


class Expected:
    """Events, and their scores by each of the shipped models."""

    def __init__(self) -> None:
        artefacts = [load_artefact(path) for path in MODELS]
        sample = read_sample(artefacts[0].n_features)
        self.models = [one.identity for one in artefacts]
        self.events = np.resize(sample, (STARTS + max(EVENTS.values()), sample.shape[1]))
        self.scores = {one.identity: Scorer(one).score(self.events) for one in artefacts}


class Load:
    """Clients of single events and of batches at each URL, and the outcomes by kind."""

    def __init__(self, urls: Mapping[str, str], expected: Expected, options: Options) -> None:
        self.outcomes = {(kind, protocol): Outcomes() for kind in EVENTS for protocol in urls}
        self._urls, self._expected, self._options = urls, expected, options
        self._stopping = False

    def wait(self, model: str | None = None, answers: int = 10) -> None:
        """Wait for some more answers of each kind, all of them or those by one model."""

        def count(outcomes: Outcomes) -> int:
            return outcomes.answered if model is None else outcomes.models[model]

        goals = {kind: count(outcomes) + answers for kind, outcomes in self.outcomes.items()}
        wait_until(lambda: all(count(self.outcomes[kind]) >= goal for kind, goal in goals.items()))

    async def run(self) -> None:
        """Call until `stop`."""
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
            for (kind, protocol), outcomes in self.outcomes.items():
                for place in range(CLIENTS):
                    client = AsyncClient(self._urls[protocol], options=self._options)
                    await stack.enter_async_context(client)
                    group.create_task(self._ask(client, EVENTS[kind], place, outcomes))

    def stop(self) -> None:
        """Have every client end after its last answer."""
        self._stopping = True

    async def _ask(self, client: AsyncClient, n_events: int, start: int, outcomes: Outcomes) -> None:
        while not self._stopping:
            start = (start + CLIENTS) % STARTS
            chosen = slice(start, start + n_events)
            outcomes.sent += 1
            began_s = perf_counter()
            try:
                result = await client.score(self._expected.events[chosen])
            except ClientError as error:
                outcomes.errors.append(str(error))
                continue
            outcomes.latencies_s.append(perf_counter() - began_s)
            outcomes.answered += 1
            outcomes.retries += result.counts.retries
            outcomes.models[result.model] += 1
            outcomes.wrong += not np.allclose(result.scores, self._expected.scores[result.model][chosen], RTOL)


@contextmanager
def loading(urls: Mapping[str, str], expected: Expected, options: Options) -> Iterator[Load]:
    """Run clients at the URLs, by protocol, until the end of the block, which waits for their last answers."""
    load = Load(urls, expected, options)
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(asyncio.run, load.run())
        try:
            yield load
        finally:
            load.stop()
            running.result()
