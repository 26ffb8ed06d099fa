"""Events from nothing: Pythia 8 -> detector -> jets -> features, on all cores; knows no model.

    python -m training simulate --background 10000 --signal 1000 --seed 1 OUT.h5
    python -m training simulate --background 0 --signal 4000 --masses 4500 600 150 --prongs 3 --seed 1 OUT.h5

The events are made in blocks, each with a seed of its own, so that they depend on the seed alone and not on the number
of processes. The same command goes on where an interrupted one stopped.
"""

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.cocktail import REPORTED_ON, Signal, draw
from training.detector import reconstruct
from training.generator import (
    BACKGROUND,
    COLLISION_ENERGY_GEV,
    DRIFTED_BACKGROUND,
    MAX_SEED,
    MIN_DAUGHTER_MASS_GEV,
    Generator,
    Process,
)
from training.jets import jet_features, leading_jet
from training.parts import assemble

# The selection of the published sample.
MIN_LEADING_PT_GEV = 1200.0
MAX_LEADING_ETA = 2.5

BLOCK_EVENTS = 500
BATCH_COLLISIONS = 250


@dataclass(frozen=True)
class Block:
    """A run of selected events of one process that is simulated in one go."""

    process: Process
    index: int
    events: int
    seed: int

    @property
    def name(self) -> str:
        """Name of its part file."""
        return f"{self.process.name}-{self.index:06d}-{self.events}.npy"

    def make(self) -> NDArray[np.float32]:
        """Simulate until enough events are selected and return them with their label, (events, 15) in GeV."""
        # Consecutive numbers, and not hashes of them: no two blocks of a file may ever share a generator seed.
        first = int(np.random.SeedSequence(self.seed).generate_state(1)[0])
        generator = Generator(self.process, 1 + (first + 2 * self.index + self.process.label) % MAX_SEED)
        rng = np.random.default_rng([self.seed, self.process.label, self.index])
        selected: list[NDArray[np.float64]] = []
        while sum(map(len, selected)) < self.events:
            features = jet_features(reconstruct(generator.collide(BATCH_COLLISIONS), rng), MIN_LEADING_PT_GEV)
            pt, eta = leading_jet(features)
            selected.append(features[(pt > MIN_LEADING_PT_GEV) & (np.abs(eta) < MAX_LEADING_ETA)])
        features = np.concatenate(selected)[: self.events]
        return np.column_stack([features, np.full(self.events, self.process.label)]).astype(np.float32)


def blocks(process: Process, events: int, seed: int) -> Iterator[Block]:
    """Yield the blocks that make up that many events of a process; only the last may be shorter than the rest."""
    return _blocks(lambda _: process, events, seed)


def cocktail(events: int, seed: int) -> Iterator[Block]:
    """Yield the blocks that make up that many signal events, each block of another signal."""
    return _blocks(lambda index: draw(seed, index).process(), events, seed)


def _blocks(process: Callable[[int], Process], events: int, seed: int) -> Iterator[Block]:
    for index, start in enumerate(range(0, events, BLOCK_EVENTS)):
        yield Block(process(index), index, min(BLOCK_EVENTS, events - start), seed)


def simulate(parts: Sequence[Block], seed: int, processes: int, out: Path) -> None:
    """Write the events of all blocks, in their order, to `out`.

    Raises PartsError when `out` was begun with another seed, other physics or other versions.
    """
    stamp = {
        "seed": seed,
        "physics": [asdict(process) for process in dict.fromkeys(part.process for part in parts)],
        "selection": {"min_leading_pt_gev": MIN_LEADING_PT_GEV, "max_leading_eta": MAX_LEADING_ETA},
        "blocks": {"events": BLOCK_EVENTS, "batch_collisions": BATCH_COLLISIONS},
        "versions": {package: version(package) for package in ("pythia8mc", "fastjet", "numpy")},
    }
    assemble(out, parts, stamp, processes)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `python -m training simulate`."""
    parser = argparse.ArgumentParser(prog="python -m training simulate", description=__doc__.partition(";")[0])
    parser.add_argument("out", type=Path, metavar="OUT.h5", help="events file to write")
    parser.add_argument("--background", type=int, default=10_000, metavar="N", help="QCD events (default 10000)")
    parser.add_argument("--signal", type=int, default=1_000, metavar="M", help="W' -> XY events (default 1000)")
    parser.add_argument(
        "--masses",
        type=float,
        nargs=3,
        metavar=("W", "X", "Y"),
        help="of W', X and Y in GeV (default 3500 500 100)",
    )
    parser.add_argument("--prongs", type=int, choices=(2, 3), help="of the decays of X and Y (default 2)")
    parser.add_argument(
        "--cocktail",
        action="store_true",
        help=f"another signal every {BLOCK_EVENTS} events, with random masses and prongs, in place of one",
    )
    parser.add_argument(
        "--other-shower", action="store_true", help="background with the shower settings of black box 3: a drift"
    )
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="same seed, same events (default 1)")
    parser.add_argument(
        "--processes", type=int, default=len(os.sched_getaffinity(0)), metavar="P", help="default: the cores it may use"
    )
    args = parser.parse_args(argv)
    for name, least in (("background", 0), ("signal", 0), ("seed", 0), ("processes", 1)):
        if getattr(args, name) < least:
            parser.error(f"--{name} is {getattr(args, name)}, expected {least} or more")
    if args.background + args.signal == 0:
        parser.error("--background and --signal are both 0, expected at least one event")
    for option in ("masses", "prongs"):
        if args.cocktail and getattr(args, option) is not None:
            parser.error(f"--{option} and --cocktail are both given, expected one: a cocktail draws its own {option}")
    masses = args.masses or REPORTED_ON[0][:3]
    mass_gev, x_mass_gev, y_mass_gev = masses
    # Put as what must hold: every comparison with nan is false.
    if not (
        COLLISION_ENERGY_GEV > mass_gev > x_mass_gev + y_mass_gev
        and min(x_mass_gev, y_mass_gev) > MIN_DAUGHTER_MASS_GEV
    ):
        parser.error(
            f"--masses is {' '.join(map('{:g}'.format, masses))}, "
            f"expected {COLLISION_ENERGY_GEV:g} > W > X + Y, and X and Y above {MIN_DAUGHTER_MASS_GEV:g} GeV"
        )
    signal = Signal(mass_gev, x_mass_gev, y_mass_gev, args.prongs or 2)
    parts = (
        *blocks(DRIFTED_BACKGROUND if args.other_shower else BACKGROUND, args.background, args.seed),
        *(cocktail(args.signal, args.seed) if args.cocktail else blocks(signal.process(), args.signal, args.seed)),
    )
    simulate(parts, args.seed, args.processes, args.out)
    return 0
