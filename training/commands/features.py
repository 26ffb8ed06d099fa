"""Compute the features of a particle-level file on all cores: objects -> jets -> features.

python -m training features RAW.h5 OUT.h5
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from training.commands.arguments import add_engine_options, engine_of, input_file
from training.commands.parser import ArgumentParser


def main(argv: Sequence[str] | None = None, program: str = "python -m training features") -> int:
    """Run `python -m training features`."""
    parser = build_parser(program)
    args = parser.parse_args(argv)

    from training.simulation.particles import make_features

    make_features(args.raw, args.out, args.key, engine_of(args))
    return 0


def build_parser(program: str) -> argparse.ArgumentParser:
    """Declare the arguments."""
    parser = ArgumentParser(prog=program, description=__doc__.splitlines()[0])
    parser.add_argument("raw", type=input_file, metavar="RAW.h5", help="particle-level file in the published layout")
    parser.add_argument("out", type=Path, metavar="OUT.h5", help="events file to write")
    parser.add_argument("--key", help="group in RAW.h5, if there are several")
    add_engine_options(parser)
    return parser
