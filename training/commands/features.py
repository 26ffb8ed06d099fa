"""A particle-level file to an events file: objects -> jets -> features, on all cores.

python -m training features RAW.h5 OUT.h5
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from training.commands.arguments import input_file
from training.jobs.pool import MAX_PROCESSES, usable_cores
from training.simulation.particles import make_features


def main(argv: Sequence[str] | None = None, program: str = "python -m training features") -> int:
    """Run `python -m training features`."""
    parser = argparse.ArgumentParser(prog=program, description=__doc__.splitlines()[0])
    parser.add_argument("raw", type=input_file, metavar="RAW.h5", help="particle-level file in the published layout")
    parser.add_argument("out", type=Path, metavar="OUT.h5", help="events file to write")
    parser.add_argument("--key", help="group in RAW.h5, where it holds several")
    parser.add_argument(
        "--processes", type=int, default=usable_cores(), metavar="P", help="default: the cores it may use"
    )
    args = parser.parse_args(argv)
    if not 1 <= args.processes <= MAX_PROCESSES:
        parser.error(f"--processes is {args.processes}, expected 1 to {MAX_PROCESSES}")
    make_features(args.raw, args.out, args.key, args.processes)
    return 0
