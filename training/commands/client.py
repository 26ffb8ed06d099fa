"""Score an events file with running services; `score` does the same in this process.

lhc-anomaly client score EVENTS.h5 --url http://localhost:8000 --out scores.csv
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.client import Client, ClientError, Options
from training.commands.arguments import add_events_options, input_file, layout_of
from training.commands.parser import ArgumentParser
from training.errors import EventsError, TrainingError
from training.events.features import DIJET, read_features
from training.events.layout import Layout
from training.files import require_output, sha256_of
from training.jobs.part_files import write_part
from training.jobs.remote import Scored, scored_remotely

ARRAY = ".npy"
DEFAULTS = Options()


def main(argv: Sequence[str] | None = None, program: str = "python -m training client") -> int:
    """Run `python -m training client`."""
    parser = build_parser(program)
    args = parser.parse_args(argv)
    if (args.events.suffix == ARRAY) != (args.out.suffix == ARRAY):
        args.parser.error(f"--out is {args.out}, expected {ARRAY} for events in {ARRAY}, and another ending for others")
    require_output(args.out, args.events, args.labels, args.fallback, args.api_key_file)
    try:
        with Client(*args.url, options=_options(args)) as client:
            (_score_array if args.events.suffix == ARRAY else _score_events)(client, args, args.parser)
    except (ClientError, ValueError) as error:
        raise TrainingError(str(error)) from error
    return 0


def build_parser(program: str) -> argparse.ArgumentParser:
    """Declare the arguments."""
    parser = ArgumentParser(prog=program, description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    score = commands.add_parser("score", help="score a file; repeat the command to continue after an interruption")
    score.set_defaults(parser=score)
    _add_arguments(score)
    return parser


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "events", type=input_file, metavar="EVENTS", help="events file, or .npy array of features (n, n_features)"
    )
    parser.add_argument(
        "--url",
        action="append",
        required=True,
        help="http(s)://, grpc(s):// or unix: URL of a service; repeat the option for several services",
    )
    meaning = "scores.csv, scores.parquet or scores.h5; for an array, scores.npy"
    parser.add_argument("--out", type=Path, required=True, metavar="OUT", help=meaning)
    add_events_options(parser, "EVENTS")
    meaning = "features of the services' model, in the format of `train --features` (default: the 14 of two jets)"
    parser.add_argument("--features", type=input_file, metavar="FILE.toml", help=meaning)
    parser.add_argument(
        "--working-point", metavar="NAME", help="add a column `accepted`, 1 above its threshold, else 0"
    )
    parser.add_argument("--api-key-file", type=input_file, metavar="FILE", help="file with the API key")
    meaning = f"requests in flight at once (default {DEFAULTS.in_flight})"
    parser.add_argument("--in-flight", type=int, default=DEFAULTS.in_flight, metavar="N", help=meaning)
    meaning = "artefact to score with in this process when no service is available"
    parser.add_argument("--fallback", type=input_file, metavar="MODEL.onnx", help=meaning)
    parser.add_argument(
        "--tls-ca", type=input_file, metavar="PEM", help="CA certificates that signed the services' certificates"
    )
    parser.add_argument("--tls-certificate", type=input_file, metavar="PEM", help="client certificate")
    parser.add_argument("--tls-key", type=input_file, metavar="PEM", help="private key of the client certificate")


def _options(args: argparse.Namespace) -> Options:
    return Options(
        in_flight=args.in_flight,
        api_key=None if args.api_key_file is None else args.api_key_file.read_text().strip(),
        ca=args.tls_ca,
        certificate=args.tls_certificate,
        key=args.tls_key,
        fallback=args.fallback,
    )


def _score_events(client: Client, args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Write events and scores in the formats of `training.commands.score`."""
    # Imported here, because they need the extra `train`, and scoring an array does not.
    from training.evaluation.scoring import write_scored
    from training.events.events import open_events
    from training.events.writers import WRITERS, writer_of

    write = writer_of(args.out)
    if write is None:
        parser.error(f"--out is {args.out}, expected a name that ends in {', '.join(WRITERS)}")
    layout = layout_of(args, DIJET if args.features is None else read_features(args.features))
    with (
        open_events(args.events, layout, args.labels) as file,
        _scored(client, args, file.read_features, len(file), asdict(layout)) as scored,
    ):
        statistics = write_scored(
            lambda start, features: scored.read(start, start + len(features)),
            scored.model,
            file,
            args.out,
            write,
            working_point=scored.working_point,
        )
        print(f"{args.out}: scored by {scored.model}\n{statistics}")
        if scored.working_point is not None:
            print(_accepted(*scored.working_point, statistics.accepted, statistics.events))


def _score_array(client: Client, args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Write the scores of an array (n, n_features) as an array (n,)."""
    if layout_of(args) != Layout() or args.labels is not None:
        parser.error(f"--key, --columns, --label and --labels are for events files, and {args.events} is an array")
    try:
        events = np.load(args.events, mmap_mode="r")
    except ValueError as error:
        raise EventsError(f"{args.events}: {error}; expected an array (n, n_features) of numbers") from error
    if events.ndim != 2 or not len(events):
        raise EventsError(f"{args.events} has shape {events.shape}, expected (n, n_features) with at least one event")
    with _scored(client, args, lambda start, stop: events[start:stop], len(events), {}) as scored:
        scores = scored.read(0, len(events))
        write_part(args.out, scores)
        print(f"{args.out}: {len(events):,} events scored by {scored.model}")
        if scored.working_point is not None:
            above = scores.astype(np.float64) > scored.working_point[1]
            print(_accepted(*scored.working_point, int(above.sum()), len(scores)))


def _accepted(name: str, threshold: float, accepted: int, events: int) -> str:
    return f"{name}: {accepted:,} of {events:,} events accepted above {threshold:.9g}"


def _scored(
    client: Client,
    args: argparse.Namespace,
    read: Callable[[int, int], NDArray[Any]],
    events: int,
    manifest: Mapping[str, Any],
) -> AbstractContextManager[Scored]:
    described = {"file": sha256_of(args.events), **manifest}
    folder = args.out.with_name(args.out.name + ".parts")
    return scored_remotely(client, read, events, described, args.working_point, folder)
