"""Damaged and forged model files: each is refused, or scores its golden pairs; none kills, hangs or fills a process.

python -m tests.fuzz

A case is a good file with one thing wrong. It is verified in a separate process, which may crash, hang or run out of
memory.
"""

import multiprocessing
import queue
import random
import resource
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import count, islice, takewhile
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray

from service.model.artefact import GOLDEN_ATOL, GOLDEN_RTOL, Artefact, ArtefactError, parse_artefact
from service.model.scorer import Scorer
from tests.artefacts import model
from tests.fuzz import forgery, hostile
from tests.fuzz.forgery import Forgery

ROOT = Path(__file__).parents[2]
SHIPPED = ("exported/autoencoder.onnx", "exported/exposed/autoencoder.onnx")

FORGERIES: dict[str, Forgery] = {
    made.__name__: made
    for made in (
        forgery.flip_bit, forgery.flip_bit_between_weights, forgery.flip_bits, forgery.swap_bytes, forgery.truncate,
        forgery.cut_out, forgery.repeat, forgery.zero_block, forgery.twice, forgery.swap_initialisers,
        forgery.change_weight, forgery.misshape, forgery.forge_metadata, forgery.forge_keys, forgery.other_operator,
        hostile.add_operators, forgery.other_attribute, forgery.rewire, forgery.other_versions, forgery.other_shapes,
        hostile.bomb, hostile.nest,
    )
}  # fmt: skip

HANG_S = 60.0
"""A verification takes a few milliseconds; on a busy machine, a hundred times that is no hang."""
RSS_BYTES = 3 * 2**30
"""Above the runtime's memory limit and the parsed file."""
ADDRESSES_BYTES = 16 * 2**30
"""A memory bomb ends its own process, and no other."""

REFUSED, SAME, OTHER = "refused", "accepted, same scores", "accepted, other scores elsewhere"

SEALED = 2
"""The place of the sealed file among the good ones."""


class Case(NamedTuple):
    """One wrong file: which, made from which good one, how."""

    seed: int
    number: int
    base: int
    kind: str
    file: bytes


class Verdict(NamedTuple):
    """The outcome of a case."""

    outcome: str
    rule: str
    """The rule that refused the file; empty where it was accepted."""


@cache
def bases() -> tuple[bytes, ...]:
    """Give the good files: the shipped ones without their seals, one as export seals it, and a small one."""
    shipped = [(ROOT / path).read_bytes() for path in SHIPPED]
    return (*map(unsealed, shipped), shipped[0], model().SerializeToString())


def unsealed(file: bytes) -> bytes:
    """Take off the seal, which stops nearly every other forgery before any other check does."""
    built = onnx.load_model_from_string(file)
    props = [prop for prop in built.metadata_props if prop.key != "content_sha256"]
    del built.metadata_props[:]
    built.metadata_props.extend(props)
    return bytes(built.SerializeToString())


def make(seed: int, number: int, kind: str | None = None) -> Case:
    """Make case `number` of `seed`, of a chosen kind or any: always the same, and never the good file itself."""
    chance = random.Random(f"{seed}/{number}")
    base = number % len(bases())
    chosen = kind or chance.choice(list(FORGERIES))
    file = good = bases()[base]
    while file == good:
        file = FORGERIES[chosen](good, chance)
    return Case(seed, number, base, chosen, file)


def run(seconds: float, seed: int) -> int:
    """Verify cases for so many seconds, print the outcomes, and return the number of cases.

    Raises AssertionError with the case for a process that died, hung or grew, another exception than ArtefactError, and
    a file that was accepted with other golden scores.
    """
    until = time.monotonic() + seconds
    verdicts = verify_all(make(seed, number) for number in takewhile(lambda _: time.monotonic() < until, count()))
    for line in table(verdicts):
        print(line)
    return len(verdicts)


def verify_all(cases: Iterator[Case], processes: int = 2) -> list[tuple[Case, Verdict]]:
    """Verify each case in one of several processes. Raises AssertionError as `run` does."""
    verifiers: queue.Queue[Verifier] = queue.Queue()
    for _ in range(processes):
        verifiers.put(Verifier())

    def verify(case: Case) -> tuple[Case, Verdict]:
        verifier = verifiers.get()
        try:
            return case, verifier.verify(case)
        finally:
            verifiers.put(verifier)

    verdicts: list[tuple[Case, Verdict]] = []
    try:
        with ThreadPoolExecutor(processes) as pool:
            while batch := list(islice(cases, 32)):
                verdicts += pool.map(verify, batch)
    finally:
        for _ in range(processes):
            verifiers.get().end()
    return verdicts


def table(verdicts: list[tuple[Case, Verdict]]) -> list[str]:
    """Count the outcomes by base, kind and rule, as lines to print."""
    bases = Counter((case.base, verdict.outcome) for case, verdict in verdicts)
    kinds = Counter((case.kind, verdict.outcome) for case, verdict in verdicts)
    rules = Counter(verdict.rule for _, verdict in verdicts if verdict.rule)
    names = [*SHIPPED, "the first, sealed", "the tests' own"]
    return [
        f"{len(verdicts)} model files",
        *(f"  {names[base]}: {outcome}: {number}" for (base, outcome), number in sorted(bases.items())),
        *(f"  {kind}: {outcome}: {number}" for (kind, outcome), number in sorted(kinds.items())),
        *(f"  refused by: {rule}: {number}" for rule, number in rules.most_common()),
    ]


class Verifier:
    """A process that verifies files, restarted when a file ended it."""

    def __init__(self) -> None:
        self._start()

    def verify(self, case: Case) -> Verdict:
        """Verify a case's file; raises AssertionError for a crash, a hang, growth and other golden scores."""
        place = f"model_file.make({case.seed}, {case.number}, {case.kind!r})"
        self._connection.send((case.base, case.file))
        if not self._connection.poll(HANG_S):
            self._process.kill()
            self._start()
            raise AssertionError(f"{place}: no verdict in {HANG_S:g} s")
        try:
            outcome, rule, rss = self._connection.recv()
        except EOFError:
            self._process.join()
            status = self._process.exitcode
            self._start()
            raise AssertionError(f"{place}: the process died with status {status}") from None
        if outcome not in (REFUSED, SAME, OTHER):
            raise AssertionError(f"{place}: {outcome}")
        if rss > RSS_BYTES:
            self.end()
            self._start()
            raise AssertionError(f"{place}: the process grew to {rss:,} bytes")
        return Verdict(outcome, rule)

    def end(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.join()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve_verdicts, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()


def _serve_verdicts(connection: Connection) -> None:
    """Receive files and send their verdicts until the other end closes."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES_BYTES, ADDRESSES_BYTES))
    probes = [_probe(parse_artefact(base)) for base in bases()]
    while True:
        try:
            base, file = connection.recv()
        except EOFError:
            return
        outcome, rule = _verify(file, *probes[base])
        connection.send((outcome, rule, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


def _probe(artefact: Artefact) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Give events (n, n_features) that are no golden ones, and their scores (n,)."""
    golden = np.array(artefact.metadata.golden.features, np.float32)
    spread = np.random.default_rng(0).uniform(0.3, 3.0, (512, golden.shape[1])).astype(np.float32)
    events = np.resize(golden, spread.shape) * spread
    return events, Scorer(artefact).score(events)


def _verify(file: bytes, events: NDArray[np.float32], expected: NDArray[np.float32]) -> tuple[str, str]:
    try:
        artefact = parse_artefact(file)
        scorer = Scorer(artefact)
    except ArtefactError as error:
        return REFUSED, _rule(str(error))
    except BaseException as error:  # a finding
        return f"{type(error).__name__}: {error}", ""
    golden = artefact.metadata.golden
    scores = scorer.score(np.array(golden.features, np.float32))
    if not np.allclose(scores, golden.anomaly_scores, rtol=GOLDEN_RTOL, atol=GOLDEN_ATOL):
        return "accepted with other golden scores", ""
    same = np.allclose(scorer.score(events), expected, rtol=GOLDEN_RTOL, atol=GOLDEN_ATOL)
    return SAME if same else OTHER, ""


def _rule(message: str) -> str:
    """Find the rule in a message."""
    for words in (
        "does not reproduce golden pair",
        "ONNX Runtime cannot load",
        "ONNX Runtime cannot run",
        "gives scores",
    ):
        if words in message:
            return words
    rule = message.partition(": found")[0].partition(":")[0]
    return rule.partition(" '")[0].rstrip(" 0123456789")
