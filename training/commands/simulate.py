"""Simulate events on all cores: Pythia 8 -> detector -> jets -> features.

    python -m training simulate --background 10000 --signal 1000 --seed 1 OUT.h5
    python -m training simulate --background 0 --signal 4000 --masses 4500 600 150 --prongs 3 --seed 1 OUT.h5

The events depend only on the seed, not on the number of processes. Repeat an interrupted command to resume it.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from training.commands.arguments import add_engine_options, engine_of
from training.commands.parser import ArgumentParser
from training.simulation.cocktail import REPORTED_ON, Signal
from training.simulation.collisions import BLOCK_EVENTS, MAX_EVENTS, blocks, cocktail, simulate
from training.simulation.generator import (
    BACKGROUND,
    COLLISION_ENERGY_GEV,
    DRIFTED_BACKGROUND,
    MAX_SEED,
    MIN_DAUGHTER_MASS_GEV,
)

RANGES = {"background": (0, MAX_EVENTS), "signal": (0, MAX_EVENTS), "seed": (0, MAX_SEED)}


def main(argv: Sequence[str] | None = None, program: str = "python -m training simulate") -> int:
    """Run `python -m training simulate`."""
    parser = build_parser(program)
    args = parser.parse_args(argv)
    engine = engine_of(args)
    for name, (least, most) in RANGES.items():
        if not least <= getattr(args, name) <= most:
            parser.error(f"--{name} is {getattr(args, name)}, expected {least} to {most}")
    if args.background + args.signal == 0:
        parser.error("--background and --signal are both 0, expected at least one event")
    for option in ("masses", "prongs"):
        if args.cocktail and getattr(args, option) is not None:
            parser.error(f"--{option} and --cocktail are both given, expected one: a cocktail draws its own {option}")
    w, x, y = args.masses or REPORTED_ON[0][:3]
    # Written as what must hold, because every comparison with nan is false.
    if not (COLLISION_ENERGY_GEV > w > x + y and min(x, y) > MIN_DAUGHTER_MASS_GEV):
        parser.error(
            f"--masses is {w:g} {x:g} {y:g}, expected {COLLISION_ENERGY_GEV:g} > W > X + Y, and X and Y above "
            f"{MIN_DAUGHTER_MASS_GEV:g} GeV"
        )
    signal = Signal(w, x, y, args.prongs or 2)
    parts = (
        *blocks(DRIFTED_BACKGROUND if args.other_shower else BACKGROUND, args.background, args.seed),
        *(cocktail(args.signal, args.seed) if args.cocktail else blocks(signal.process(), args.signal, args.seed)),
    )
    simulate(parts, args.seed, engine, args.out)
    return 0


def build_parser(program: str) -> argparse.ArgumentParser:
    """Declare the arguments."""
    parser = ArgumentParser(prog=program, description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path, metavar="OUT.h5", help="events file to write")
    parser.add_argument(
        "--background", type=int, default=10_000, metavar="N", help="number of QCD events (default 10000)"
    )
    parser.add_argument(
        "--signal", type=int, default=1_000, metavar="M", help="number of W' -> XY events (default 1000)"
    )
    parser.add_argument(
        "--masses",
        type=float,
        nargs=3,
        metavar=("W", "X", "Y"),
        help="masses of W', X and Y in GeV (default 3500 500 100)",
    )
    parser.add_argument("--prongs", type=int, choices=(2, 3), help="prongs of the decays of X and Y (default 2)")
    parser.add_argument(
        "--cocktail",
        action="store_true",
        help=f"draw random masses and prongs, new ones every {BLOCK_EVENTS} signal events",
    )
    parser.add_argument(
        "--other-shower",
        action="store_true",
        help="use the shower settings of black box 3 for background, as an example of drift",
    )
    parser.add_argument(
        "--seed", type=int, default=1, metavar="S", help="random seed; the same seed gives the same events (default 1)"
    )
    add_engine_options(parser)
    return parser
