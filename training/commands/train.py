"""Train a model on background events, with early stopping and a checkpoint after every epoch.

python -m training train EVENTS.h5 --out RUN/
python -m training train --weak WINDOW.h5 --reference SIDEBAND.h5 --out RUN/
"""

import argparse
import dataclasses
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from textwrap import wrap
from typing import Any, get_args

from training.commands.arguments import add_events_options, input_file, input_pattern, labels_of, layout_of
from training.commands.parser import ArgumentParser
from training.commands.train_weak import add_weak_options, given, refuse_others, train_weak
from training.detectors.presets import PRESETS, TrainingConfig, check_config, check_features
from training.detectors.weak_config import WeakConfig
from training.errors import TrainingError
from training.events.features import DIJET, FeatureSet, read_features

DEVICES = ("cpu", "cuda", "mps")


def main(argv: Sequence[str] | None = None, program: str = "python -m training train") -> int:
    """Run `python -m training train`."""
    parser = build_parser(program)
    args = parser.parse_args(argv)
    if (args.weak is None) != (args.reference is None):
        parser.error("--weak and --reference need each other: the window and what it is compared with")
    refuse_others(parser, args)
    if args.weak is not None:
        return train_weak(parser, args)
    if not args.events:
        parser.error("the following arguments are required: EVENTS.h5, or --weak and --reference")

    import torch

    from training.evaluation.mistakes import warn_of_mistakes
    from training.files import exclusive, require_folder
    from training.fitting.fit import check_device, train
    from training.fitting.run import CHECKPOINT, load_run, read_exposure, read_source
    from training.jobs.named_files import named_files

    begun = (args.out / CHECKPOINT).exists()
    if begun and not args.resume:
        parser.error(f"{args.out} already holds a run; continue it with --resume, or choose another folder")
    preset = load_run(args.out).config if begun and args.preset is None else PRESETS[args.preset or "classic"]
    try:
        config = dataclasses.replace(preset, **given(args, TrainingConfig))
        features = _features(args, begun)
        check_config(config)
        check_features(config, features)
        check_device(args.device)
    except TrainingError as error:
        parser.error(str(error))
    if config.exposed and args.exposure is None:
        parser.error("--architecture classifier learns signals too; give some with --exposure COCKTAIL.h5")
    if args.exposure is not None and not config.exposed:
        parser.error(f"--exposure is {args.exposure}, but --architecture {config.architecture} learns background alone")
    require_folder(args.out)
    torch.set_num_threads(1)  # the layers are too small for a second thread to help
    files = named_files(args.events)
    labels = labels_of(parser, args.labels, len(files))
    source, background = read_source(files, layout_of(args, features), labels)
    print(source)
    warn_of_mistakes(files[0], background, features)
    exposure = read_exposure(args.exposure, features) if args.exposure else None
    with exclusive(args.out):
        run = train(source, background, config, args.out, args.device, exposure)
    best = run.best_epoch
    print(f"{args.out}: best epoch {best.epoch} of {len(run.curve)}, validation loss {best.validation_loss:.5f}")
    return 0


def _features(args: argparse.Namespace, begun: bool) -> FeatureSet:
    """Return the features that the command names, or those of the run that it resumes."""
    from training.fitting.run import load_run

    if args.features is not None:
        return read_features(args.features)
    return load_run(args.out).source.layout.features if begun else DIJET


def build_parser(program: str) -> argparse.ArgumentParser:
    """Declare the arguments."""
    parser = ArgumentParser(
        prog=program,
        description=__doc__.splitlines()[0],
        epilog=f"presets, where they differ from the defaults:\n{_presets()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "events",
        type=input_pattern,
        nargs="*",
        metavar="EVENTS.h5",
        help="background; of labelled events only those with label 0. Files, patterns and @LISTs form one sample",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="RUN/", help="folder for checkpoint and learning curve"
    )
    add_events_options(parser, "EVENTS.h5", several=True)
    parser.add_argument(
        "--features",
        type=input_file,
        metavar="FILE.toml",
        help="TOML file with the features and units in a table [features] (default: the 14 of two jets, or RUN/'s own)",
    )
    parser.add_argument(
        "--exposure", type=input_file, metavar="COCKTAIL.h5", help="simulated signals (label 1) for a classifier"
    )
    parser.add_argument(
        "--preset", choices=PRESETS, help="configuration to start from (default classic, or RUN/'s own)"
    )
    meaning = "training options as TOML; they override the preset, and flags override them"
    parser.add_argument("--config", type=input_file, metavar="FILE.toml", help=meaning)
    parser.add_argument("--device", choices=DEVICES, default="cpu", help="device of the training (default cpu)")
    parser.add_argument("--resume", action="store_true", help="continue from the checkpoint in RUN/")
    for option in fields(TrainingConfig):
        kind: dict[str, Any] = {"type": type(option.default), "metavar": option.name.upper()}
        if isinstance(option.default, tuple):
            kind = {"type": int, "nargs": "+", "metavar": "WIDTH"}
        elif choices := get_args(option.type):
            kind = {"choices": choices}
        if option.name == "feature_map":
            of_weak = get_args(next(other.type for other in fields(WeakConfig) if other.name == option.name))
            kind["choices"] = tuple(dict.fromkeys((*kind["choices"], *of_weak)))
        parser.add_argument(
            "--" + option.name.replace("_", "-"),
            help=f"{option.metadata['help']} (default {_shown(option.default)})",
            **kind,
        )
    add_weak_options(parser)
    return parser


def _presets() -> str:
    """Return the presets and their differences from the defaults, as text."""
    lines = []
    for name, preset in PRESETS.items():
        differing = {
            option.name.replace("_", "-"): value
            for option in fields(preset)
            if (value := getattr(preset, option.name)) != option.default and option.name != "name"
        }
        lines += wrap(
            ", ".join(f"{option} {_shown(value)}" for option, value in differing.items()) or "none",
            initial_indent=f"  {name:<13}",
            subsequent_indent=" " * 15,
            width=79,
        )
    return "\n".join(lines)


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
