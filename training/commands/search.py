"""Search events that a model accepts for a resonance: an excess in the dijet mass over a smooth background.

python -m training search EVENTS.h5 [MORE.h5 ...] --working-point loose --out search/
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from service import SHIPPED_MODEL
from training.commands.arguments import (
    add_events_options,
    add_pdf_option,
    input_file,
    input_pattern,
    labels_of,
    layout_of,
)
from training.commands.parser import ArgumentParser
from training.files import require_folder
from training.jobs.named_files import named_files

# From where the jet pT cut of 1.2 TeV no longer shapes the spectrum, to beyond the last event at 13 TeV.
RANGE_GEV = (2800.0, 8000.0)
TOYS = (200, 10_000, 1_000_000)  # least, default, most


def main(argv: Sequence[str] | None = None, program: str = "python -m training search") -> int:
    """Run `python -m training search`."""
    parser = build_parser(program)
    args = parser.parse_args(argv)

    from training.evaluation.model import open_scorer, require_jets, threshold
    from training.search.page import PAGE, shown_p, shown_z, write_search
    from training.search.samples import read_samples
    from training.search.search import search
    from training.search.spectrum import edges

    args.events = named_files(args.events)
    labels = labels_of(parser, args.labels, len(args.events))
    require_folder(args.out)
    bins = edges(*args.range)
    scorer = open_scorer(args.model)
    require_jets(scorer.artefact)
    name, value = threshold(scorer.artefact, args.working_point)
    samples = read_samples(scorer, value, args.events, layout_of(args), labels)
    signals = read_samples(scorer, value, args.signal, layout_of(args))
    region = None if args.signal_region is None else tuple(args.signal_region)
    done = search(scorer.artefact, name, samples, signals, bins, region, args.parameters, args.toys)
    write_search(args.out, scorer.artefact, done, args.pdf)
    best, found = done.found.best, done.found.global_p
    how = ", extrapolated" if found.extrapolated else ""
    print(
        f"{best.low_gev:.0f} to {best.high_gev:.0f} GeV: {best.observed:,.0f} events, {best.expected:,.1f} ± "
        f"{best.error:.1f} expected\n"
        f"local p-value {shown_p(best.p)} ({shown_z(best.p, best.significance)} sigma), global p-value "
        f"{shown_p(found.p)} ({shown_z(found.p, found.significance)} sigma{how})\n"
        f"{args.out / PAGE}: the search"
    )
    return 0


def build_parser(program: str) -> argparse.ArgumentParser:
    """Declare the arguments."""
    parser = ArgumentParser(prog=program, description=__doc__.partition("\n")[0])
    _add_arguments(parser)
    return parser


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "events", type=input_pattern, nargs="+", metavar="EVENTS.h5", help="events to search, as one sample"
    )
    meaning = "artefact to select events with (default: the shipped one)"
    parser.add_argument("--model", type=input_file, default=SHIPPED_MODEL, metavar="MODEL.onnx", help=meaning)
    meaning = "working point of the model; events above its threshold are searched"
    parser.add_argument("--working-point", required=True, metavar="NAME", help=meaning)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for search.html, search.json and figures"
    )
    meaning = "files of signal to inject; of labelled events only label 1 (default: the signal of EVENTS.h5, if any)"
    parser.add_argument("--signal", type=input_file, nargs="+", default=[], metavar="SIGNAL.h5", help=meaning)
    low_high = ("LOW", "HIGH")
    meaning = "range of the dijet mass in GeV to search (default {:g} {:g})".format(*RANGE_GEV)
    parser.add_argument("--range", type=float, nargs=2, default=RANGE_GEV, metavar=low_high, help=meaning)
    meaning = "range of the dijet mass in GeV for S/sqrt(B) (default: where it is largest)"
    parser.add_argument("--signal-region", type=float, nargs=2, metavar=low_high, help=meaning)
    meaning = "number of fit parameters (default: chosen by the likelihood of the sidebands)"
    parser.add_argument("--parameters", type=int, choices=(3, 4, 5), help=meaning)
    meaning = "background pseudo-experiments for the global p-value (default %(default)s)"
    parser.add_argument("--toys", type=_toys, default=TOYS[1], metavar="N", help=meaning)
    add_events_options(parser, "EVENTS.h5", several=True)
    add_pdf_option(parser)


def _toys(text: str) -> int:
    least, _, most = TOYS
    if not text.isdecimal() or not least <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"{text} toys, expected {least:,} to {most:,}")
    return int(text)
