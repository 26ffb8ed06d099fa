"""Score events files with the code of the service: one file, or thousands into a folder.

python -m training score EVENTS.h5 --model exported/autoencoder.onnx --out scores.csv
python -m training score 'data/*.h5' --out scored/
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from service import SHIPPED_MODEL
from training.commands.arguments import (
    add_engine_options,
    add_events_options,
    engine_of,
    input_file,
    input_pattern,
    layout_of,
)
from training.commands.parser import ArgumentParser
from training.errors import PartsError
from training.events.writers import WRITERS, writer_of
from training.files import require_folder, require_output
from training.jobs.named_files import Shard, named_files, require_outputs

FORMATS = [ending[1:] for ending in WRITERS]
TEXT = (".csv", ".csv.gz")


def main(argv: Sequence[str] | None = None, program: str = "python -m training score") -> int:
    """Run `python -m training score`."""
    parser = build_parser(program)
    args = parser.parse_args(argv)
    to_folder = args.out.endswith("/")
    args.out = Path(args.out)
    if to_folder or (writer_of(args.out) is None and (args.out.is_dir() or not args.out.suffix)):
        return _score_many(parser, args)
    return _score_one(parser, args)


def build_parser(program: str) -> argparse.ArgumentParser:
    """Declare the arguments."""
    parser = ArgumentParser(prog=program, description=__doc__.splitlines()[0])
    _add_arguments(parser)
    return parser


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    meaning = "events file to score, a pattern such as 'data/*.h5', or @LIST, a text file with one of these a line"
    parser.add_argument("events", type=input_pattern, nargs="+", metavar="EVENTS.h5", help=meaning)
    meaning = "artefact to score with (default: the shipped one)"
    parser.add_argument("--model", type=input_file, default=SHIPPED_MODEL, metavar="MODEL.onnx", help=meaning)
    meaning = f"scores{', scores'.join(WRITERS)} for one events file; a folder, such as scored/, for any number"
    parser.add_argument("--out", required=True, metavar="OUT", help=meaning)
    add_events_options(parser, "EVENTS.h5")
    meaning = "add a column `accepted`: 1 above the threshold, else 0"
    parser.add_argument("--working-point", metavar="NAME", help=meaning)
    meaning = (
        "add a column with the contribution of each feature to the score; takes milliseconds per event; one file only"
    )
    parser.add_argument("--explain", action="store_true", help=meaning)
    parser.add_argument(
        "--model-column", action="store_true", help="CSV only: add a last column with the name of the model"
    )
    folder = parser.add_argument_group("when OUT is a folder")
    meaning = f"format of the outputs: {', '.join(FORMATS)} (default parquet)"
    folder.add_argument("--format", choices=FORMATS, metavar="FORMAT", help=meaning)
    share = folder.add_mutually_exclusive_group()
    meaning = "score shard K (0 to N - 1) of N equal shards of the files; writes no manifest"
    share.add_argument("--shard", type=_shard, metavar="K/N", help=meaning)
    meaning = "check every output and write the manifest, without scoring"
    share.add_argument("--finish", action="store_true", help=meaning)
    add_engine_options(parser)


def _shard(text: str) -> Shard:
    try:
        return Shard.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _check_model_column(parser: argparse.ArgumentParser, args: argparse.Namespace, output: str) -> None:
    if args.model_column and not output.lower().endswith(TEXT):
        parser.error(f"--model-column is for CSV: {output} has the model as its attribute 'model' in any case")


def _score_one(parser: argparse.ArgumentParser, args: argparse.Namespace) -> int:
    """Score a file in this process and print the statistics of its scores."""
    from service.model.explanation import Explainer
    from training.evaluation.model import features_of, open_scorer, threshold
    from training.evaluation.scoring import score_file
    from training.events.events import open_events

    write = writer_of(args.out)
    if write is None:
        endings = ", ".join(WRITERS)
        parser.error(f"--out is {args.out}, expected a name that ends in {endings}, or a folder such as {args.out}/")
    if args.format or args.shard or args.finish:
        parser.error(f"--format, --shard and --finish are for a folder, and --out is the file {args.out}")
    _check_model_column(parser, args, str(args.out))
    events, *others = named_files(args.events)
    if others:
        parser.error(f"--out is the file {args.out}, expected a folder such as scored/ for {1 + len(others):,} files")
    require_output(args.out, events, args.model, args.labels)
    scorer = open_scorer(args.model)
    point = None if args.working_point is None else threshold(scorer.artefact, args.working_point)
    explainer = Explainer(scorer) if args.explain else None
    with open_events(events, layout_of(args, features_of(scorer.artefact)), args.labels) as file:
        statistics = score_file(scorer, file, args.out, write, args.model_column, point, explainer)
    print(f"{args.out}: scored by {scorer.artefact.identity}\n{statistics}")
    if point is not None:
        name, value = point
        efficiencies = {one.name: one.background_efficiency for one in scorer.artefact.metadata.working_points}
        print(
            f"{name}: {statistics.accepted:,} of {statistics.events:,} events accepted above {value:.9g}, "
            f"nominal background efficiency {efficiencies[name]:g}"
        )
    if explainer is not None:
        print(f"the contributions of an event add up to its score less {explainer.reference_score:.6g}")
    return 0


def _score_many(parser: argparse.ArgumentParser, args: argparse.Namespace) -> int:
    """Score files into a folder, or check its outputs. The manifest lists all files, so a shard writes none."""
    from training.evaluation.model import features_of, open_scorer, threshold
    from training.jobs.file_scoring import Work
    from training.jobs.scored_folder import score_files, write_manifest

    ending = f".{args.format or 'parquet'}"
    if args.labels is not None:
        parser.error(f"--labels is for one file of events, and --out is the folder {args.out}: name a --label column")
    if args.explain:
        parser.error(
            f"--explain is for one file of events, and --out is the folder {args.out}: explain the events of one"
        )
    _check_model_column(parser, args, f"{args.out}/*{ending}")
    files = named_files(args.events)
    require_folder(args.out)
    args.out.mkdir(parents=True, exist_ok=True)
    require_outputs(files, args.out, ending, args.model)
    artefact = open_scorer(args.model).artefact
    layout = layout_of(args, features_of(artefact))
    options = {"working_point": args.working_point, "model_column": args.model_column}
    point = (None, None) if args.working_point is None else threshold(artefact, args.working_point)
    work = Work(args.out.absolute(), ending, args.model.absolute(), artefact.sha256, layout, **options, base=Path.cwd())
    if args.shard is not None:
        files = args.shard.of(files)
    failures = {} if args.finish else score_files(work, files, engine_of(args))
    if args.shard is None:
        facts = {
            "model": artefact.identity,
            "model_version": artefact.metadata.model_version,
            "model_sha256": artefact.sha256,
            **{name: getattr(layout, name) for name in ("keys", "label", "columns")},
            **options,
            "threshold": point[1],
        }
        failures = write_manifest(work, files, facts)
    scored = f"{len(files) - len(failures):,} of {len(files):,} files scored by {artefact.identity}"
    print(f"{args.out}{'' if args.shard is None else f', shard {args.shard}'}: {scored}")
    for file, reason in failures.items():
        print(f"{file}: {reason}", file=sys.stderr)
    if failures:
        remedy = "score them, and finish then" if args.finish else "the next call tries these again, and no others"
        raise PartsError(f"{len(failures):,} of {len(files):,} files are not scored, see above; {remedy}")
    return 0
