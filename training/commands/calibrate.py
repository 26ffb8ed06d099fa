"""Calibrate an existing model: derive new working points from a sample of background.

python -m training calibrate MODEL.onnx BACKGROUND.h5 --model-version 2 --out NEW.onnx
python -m training calibrate MODEL.onnx BACKGROUND.h5 --model-version 3 --out NEW.onnx --rate 1kHz --input-rate 100kHz
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from training.commands.arguments import add_events_options, input_file, layout_of, model_version
from training.commands.parser import ArgumentParser


def main(argv: Sequence[str] | None = None, program: str = "python -m training calibrate") -> int:
    """Run `python -m training calibrate`."""
    parser = build_parser(program)
    args = parser.parse_args(argv)
    if bool(args.rate) != (args.input_rate is not None):
        parser.error("--rate and --input-rate belong together: give both, or neither")
    if args.prescale < 1 or (args.prescale > 1 and not args.rate):
        parser.error(f"--prescale is {args.prescale}, expected a whole number from 1, with a --rate")

    from training.evaluation.mistakes import warn_of_mistakes
    from training.evaluation.model import features_of, open_scorer
    from training.events.events import read_background
    from training.files import atomic_write, require_output
    from training.fitting.calibration import calibrate, check_table
    from training.fitting.rates import RateTarget, parse_rate
    from training.fitting.working_points import working_points_table

    try:
        rates = [RateTarget(rate, parse_rate(rate), parse_rate(args.input_rate), args.prescale) for rate in args.rate]
    except ValueError as error:
        parser.error(str(error))
    require_output(args.out, args.model, args.events, args.labels)
    scorer = open_scorer(args.model)
    layout = layout_of(args, features_of(scorer.artefact))
    background = read_background(args.events, layout, args.labels)
    warn_of_mistakes(args.events, background, layout.features, scorer.artefact.metadata.reference)
    scores = scorer.score(background)
    calibrated = calibrate(scorer.artefact, background, scores, args.model_version, rates)
    print(check_table(scorer.artefact, scores))
    with atomic_write(args.out) as path:
        path.write_bytes(calibrated.graph)
    print(f"{args.out}: {working_points_table(calibrated)}")
    return 0


def build_parser(program: str) -> argparse.ArgumentParser:
    """Declare the arguments."""
    parser = ArgumentParser(prog=program, description=__doc__.splitlines()[0])
    parser.add_argument("model", type=input_file, metavar="MODEL.onnx", help="artefact to calibrate")
    parser.add_argument(
        "events",
        type=input_file,
        metavar="BACKGROUND.h5",
        help="background events; of labelled events only those with label 0",
    )
    parser.add_argument(
        "--model-version",
        type=model_version,
        required=True,
        help="version of the calibrated model; must differ from the old one",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="NEW.onnx", help="artefact to write")
    add_events_options(parser, "BACKGROUND.h5")
    meaning = "working points by the rate of background that they select, such as 1kHz (default: the model's own)"
    parser.add_argument("--rate", nargs="+", default=[], metavar="RATE", help=meaning)
    parser.add_argument("--input-rate", metavar="RATE", help="input rate of background, such as 100kHz")
    meaning = "keep one in N of the events above the threshold of a --rate (default 1: keep all)"
    parser.add_argument("--prescale", type=int, default=1, metavar="N", help=meaning)
    return parser
