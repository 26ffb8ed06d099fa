"""Arguments that several commands share: input files, columns and labels of events, versions, processes."""

import argparse
import re
from pathlib import Path

from training.errors import EventsError, PoolError
from training.events.features import DIJET, FeatureSet
from training.events.layout import Layout, read_columns
from training.files import require_folder
from training.jobs.engines.engine import Engine
from training.jobs.engines.local import MAX_PROCESSES, Local, usable_cores
from training.jobs.named_files import LIST, named_files

_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)


def input_file(text: str) -> Path:
    """Return the path of a file to read. Raises argparse.ArgumentTypeError for a URL."""
    if _URL.match(text):
        raise argparse.ArgumentTypeError(f"{text} is a URL, expected a file; download it first")
    return Path(text)


def input_pattern(text: str) -> str:
    """Return the name of a file to read, a pattern, or a list of these. Raises as `input_file` does."""
    input_file(text.removeprefix(LIST))
    return text


def model_version(text: str) -> str:
    """Return the version of an artefact. Raises argparse.ArgumentTypeError if it is invalid."""
    from service.model.artefact import MAX_NAME_CHARACTERS  # imported here, because it needs NumPy and onnx

    if not 0 < len(text) <= MAX_NAME_CHARACTERS or not text.isprintable():
        expected = f"1 to {MAX_NAME_CHARACTERS} printable characters, such as 2 or 1.4"
        raise argparse.ArgumentTypeError(f"{text!r} cannot be a version, expected {expected}")
    return text


def add_events_options(parser: argparse.ArgumentParser, files: str, several: bool = False) -> None:
    """Add --key, --columns, --label and --labels, which locate events and labels in `files`.

    With `several` events files, --labels takes one file for each; see `labels_of`.
    """
    meaning = f"HDF5 group or ROOT tree in {files}, if there are several; repeat the option to read them in turn. "
    parser.add_argument(
        "--key", action="append", default=[], help=meaning + "KEY=LABEL sets the label of all its events"
    )
    parser.add_argument(
        "--columns",
        metavar="MAP",
        help="columns or formulas for the features: pxj1=Jet1_px,mj1=... or a TOML file with a table [columns]",
    )
    labels = parser.add_mutually_exclusive_group()
    labels.add_argument(
        "--label", metavar="COLUMN", help="label column: 0 is background; 1, 2, ... are signal (default label)"
    )
    labels.add_argument(
        "--labels",
        type=input_file,
        nargs="+" if several else None,
        metavar="FILE",
        help="text file with one label a line" + (f" for {files}, in the same order" if several else ""),
    )


def layout_of(args: argparse.Namespace, features: FeatureSet = DIJET) -> Layout:
    """Return the layout of these features from the options of `add_events_options`. Raises EventsError."""
    return Layout(tuple(args.key), args.label, {} if args.columns is None else _columns(args.columns), features)


def _columns(text: str) -> dict[str, str]:
    if "=" not in text:
        return read_columns(Path(text))
    from training.events.columns import parse_columns  # imported here, because it needs NumPy

    try:
        return parse_columns(text)
    except ValueError as error:
        raise EventsError(f"--columns: {error}") from error


def add_pdf_option(parser: argparse.ArgumentParser) -> None:
    """Add --pdf, which also writes figures as PDF."""
    parser.add_argument("--pdf", action="store_true", help="also write each figure as PDF")


def add_processes_option(parser: argparse.ArgumentParser) -> None:
    """Add --processes, the number of processes; by default one for each usable core."""

    def processes(text: str) -> int:
        if not text.isdecimal() or not 1 <= int(text) <= MAX_PROCESSES:
            raise argparse.ArgumentTypeError(f"{text} processes, expected 1 to {MAX_PROCESSES}")
        return int(text)

    meaning = "number of processes (default: the number of usable cores)"
    parser.add_argument("--processes", type=processes, default=usable_cores(), metavar="P", help=meaning)


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose where the work runs, including --processes; see `engine_of`."""
    add_processes_option(parser)
    meaning = "where the work runs: processes of this machine (the default), or Dask or Ray workers"
    parser.add_argument("--engine", choices=("local", "dask", "ray"), default="local", help=meaning)
    meaning = "Dask scheduler, such as tcp://head:8786 (default: a cluster of --processes workers on this machine)"
    parser.add_argument("--scheduler", metavar="ADDRESS", help=meaning)
    meaning = "Ray head node, such as head:6379 (default: a cluster of --processes workers on this machine)"
    parser.add_argument("--address", metavar="ADDRESS", help=meaning)


def engine_of(args: argparse.Namespace) -> Engine:
    """Return the engine that the options of `add_engine_options` choose.

    Raises PoolError when its package is missing, or when the address of another engine is given.
    """
    for option, engine in (("scheduler", "dask"), ("address", "ray")):
        if getattr(args, option) is not None and args.engine != engine:
            raise PoolError(f"--{option} is for --engine {engine}, and --engine is {args.engine}.")
    try:
        if args.engine == "dask":
            from training.jobs.engines.dask import Dask

            return Dask(args.scheduler, args.processes)
        if args.engine == "ray":
            from training.jobs.engines.ray import Ray

            return Ray(args.address, args.processes)
    except ModuleNotFoundError as error:
        remedy = f"pip install 'lhc-anomaly[{args.engine}]'"
        raise PoolError(f"--engine {args.engine} needs the package {error.name}: {remedy}") from error
    return Local(args.processes)


def check_samples(parser: argparse.ArgumentParser, args: argparse.Namespace) -> list[Path] | list[None]:
    """Return the labels file of each file in `args.events`, and check names and the output folder `args.out`.

    Ends the command if the number of labels files is wrong. Raises EventsError if two files have the same name, and
    OSError if the folder cannot be written.
    """
    from training.evaluation.samples import require_different_names

    args.events = named_files(args.events)
    labels = labels_of(parser, args.labels, len(args.events))
    require_different_names(args.events)
    require_folder(args.out)
    return labels


def labels_of(parser: argparse.ArgumentParser, labels: list[Path] | None, files: int) -> list[Path] | list[None]:
    """Return the labels file of each of `files` events files; end the command if their numbers differ."""
    if labels is None:
        return [None] * files
    if len(labels) != files:
        parser.error(
            f"--labels names {len(labels)} files, expected {files}, one for each file of events: write the labels into "
            "the others with `score --labels FILE --out LABELLED.h5`"
        )
    return labels
