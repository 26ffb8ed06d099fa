"""`train --weak`: train a classifier of a signal window against a reference, without labels."""

import argparse
import dataclasses
from dataclasses import fields
from typing import Any

from training.commands.arguments import input_file, layout_of
from training.detectors.config_file import read_config
from training.detectors.presets import TrainingConfig, check_options
from training.detectors.weak_config import WeakConfig
from training.errors import TrainingError

SHARED = {option.name for option in fields(TrainingConfig)} & {option.name for option in fields(WeakConfig)}
OTHERS = ("events", "label", "labels", "features", "exposure", "preset")
"""Arguments of `train` that do not apply here, because labels are not used."""


def add_weak_options(parser: argparse.ArgumentParser) -> None:
    """Add --weak, --reference and the options that only WeakConfig has."""
    group = parser.add_argument_group(
        "weak supervision", "train a classifier of a window against a reference, without EVENTS"
    )
    group.add_argument("--weak", type=input_file, metavar="WINDOW.h5", help="events of a signal window")
    group.add_argument(
        "--reference",
        type=input_file,
        metavar="SIDEBAND.h5",
        help="events of the same background, from a sideband or a simulation",
    )
    for option in fields(WeakConfig):
        if option.name not in SHARED:
            flag, kind = "--" + option.name.replace("_", "-"), type(option.default)
            meaning = f"{option.metadata['help']} (default {option.default})"
            group.add_argument(flag, type=kind, metavar=option.name.upper(), help=meaning)


def given(args: argparse.Namespace, config: Any) -> dict[str, Any]:
    """Return the options of a configuration class given in --config and by flags; flags override --config.

    Raises OSError and TrainingError for a file that cannot be used.
    """
    return (read_config(args.config, config) if args.config else {}) | by_flags(args, config)


def by_flags(args: argparse.Namespace, config: Any) -> dict[str, Any]:
    """Return the options of a configuration class given by flags."""
    found = {option.name: getattr(args, option.name) for option in fields(config)}
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in found.items() if value is not None
    }


def refuse_others(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """End the command if it has arguments of the other kind of training."""
    weak = args.weak is not None
    kind = TrainingConfig if weak else WeakConfig
    names = [name for name in by_flags(args, kind) if name not in SHARED]
    if weak:
        names += [name for name in OTHERS if getattr(args, name)]
        names += ["device"] * (args.device != "cpu")
    for name in names:
        shown = "EVENTS.h5" if name == "events" else "--" + name.replace("_", "-")
        parser.error(f"{shown} is for a training {'without' if weak else 'with'} --weak")


def train_weak(parser: argparse.ArgumentParser, args: argparse.Namespace) -> int:
    """Train window against reference, or the missing part of an interrupted run."""
    from training.files import require_folder
    from training.fitting.weak_run import is_weak_run, load_weak_run, read_origin, start_weak_run
    from training.fitting.weak_run import train_weak as train
    from training.jobs.manifest import MANIFEST

    begun = (args.out / MANIFEST).exists()
    if begun and not args.resume:
        parser.error(f"{args.out} already holds a run; continue it with --resume, or choose another folder")
    former = load_weak_run(args.out).config if begun and is_weak_run(args.out) else WeakConfig()
    try:
        config = dataclasses.replace(former, **given(args, WeakConfig))
        check_options(config)
    except TrainingError as error:
        parser.error(str(error))
    require_folder(args.out)
    (window, events), (reference, others) = (read_origin(path, layout_of(args)) for path in (args.weak, args.reference))
    print(
        f"{args.weak}: {window.events:,} events of the window; {args.reference}: {reference.events:,} of the reference"
    )
    train(start_weak_run(window, reference, config), events, others, args.out)
    print(f"{args.out}: {config.folds} folds of {config.members} members")
    return 0
