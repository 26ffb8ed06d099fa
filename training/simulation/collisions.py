"""Simulated events: Pythia 8 -> detector -> jets -> features, in blocks on several processes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.jobs.engines.engine import Engine
from training.jobs.parts import assemble
from training.simulation.cocktail import draw
from training.simulation.detector import reconstruct
from training.simulation.generator import MAX_SEED, Generator, Process
from training.simulation.jets import jet_features, leading_jet

# The selection of the published sample.
MIN_LEADING_PT_GEV = 1200.0
MAX_LEADING_ETA = 2.5

MAX_EVENTS = 10**9  # two million blocks, each with its own generator seed below MAX_SEED
BLOCK_EVENTS = 500
BATCH_COLLISIONS = 250


@dataclass(frozen=True)
class Block:
    """A block of selected events of one process, which is a part of a file."""

    process: Process
    index: int
    events: int
    seed: int

    @property
    def name(self) -> str:
        """Name of its part file."""
        return f"{self.process.name}-{self.index:06d}-{self.events}.npy"

    def make(self) -> Iterator[NDArray[np.float32]]:
        """Simulate until enough events are selected; yield them as they come, with the label last: (n, 15) in GeV."""
        # Consecutive numbers and not hashes, so that no two blocks of a file have the same generator seed.
        first = int(np.random.SeedSequence(self.seed).generate_state(1)[0])
        generator = Generator(self.process, 1 + (first + 2 * self.index + self.process.label) % MAX_SEED)
        rng = np.random.default_rng([self.seed, self.process.label, self.index])
        missing = self.events
        while missing:
            features = jet_features(reconstruct(generator.collide(BATCH_COLLISIONS), rng), MIN_LEADING_PT_GEV)
            pt, eta = leading_jet(features)
            selected = features[(pt > MIN_LEADING_PT_GEV) & (np.abs(eta) < MAX_LEADING_ETA)][:missing]
            missing -= len(selected)
            yield np.column_stack([selected, np.full(len(selected), self.process.label)]).astype(np.float32)


def blocks(process: Process, events: int, seed: int) -> Iterator[Block]:
    """Yield the blocks for `events` events of a process; only the last may be shorter than the others."""
    return _blocks(lambda _: process, events, seed)


def cocktail(events: int, seed: int) -> Iterator[Block]:
    """Yield the blocks for `events` signal events, each with a different signal."""
    return _blocks(lambda index: draw(seed, index).process(), events, seed)


def _blocks(process: Callable[[int], Process], events: int, seed: int) -> Iterator[Block]:
    for index, start in enumerate(range(0, events, BLOCK_EVENTS)):
        yield Block(process(index), index, min(BLOCK_EVENTS, events - start), seed)


def simulate(parts: Sequence[Block], seed: int, engine: Engine, out: Path) -> None:
    """Write the events of all blocks, in their order, to `out`.

    Raises PartsError when `out` was begun with another seed, other physics or other versions.
    """
    manifest = {
        "seed": seed,
        "physics": [asdict(process) for process in dict.fromkeys(part.process for part in parts)],
        "selection": {"min_leading_pt_gev": MIN_LEADING_PT_GEV, "max_leading_eta": MAX_LEADING_ETA},
        "blocks": {"events": BLOCK_EVENTS, "batch_collisions": BATCH_COLLISIONS},
        "versions": {package: version(package) for package in ("pythia8mc", "fastjet", "numpy")},
    }
    assemble(out, parts, manifest, engine)
