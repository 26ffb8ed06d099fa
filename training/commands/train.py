"""Background events to a trained run: fit, early stopping, a checkpoint every epoch, resume; knows no ONNX.

python -m training train EVENTS.h5 --out RUN/
"""

import argparse
import dataclasses
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from training.detectors.presets import PRESETS, TrainingConfig
from training.events.events import digest, read_background
from training.files import exclusive, require_folder
from training.fitting.fit import CHECKPOINT, Source, load_run, read_exposure, train


def main(argv: Sequence[str] | None = None, program: str = "python -m training train") -> int:
    """Run `python -m training train`."""
    parser = argparse.ArgumentParser(prog=program, description=__doc__.partition(";")[0])
    parser.add_argument("events", type=Path, metavar="EVENTS.h5", help="events file; with labels, label 0 is used")
    parser.add_argument("--out", type=Path, required=True, metavar="RUN/", help="folder for checkpoint and curve")
    parser.add_argument("--key", help="group in the HDF5 file, where it holds several")
    parser.add_argument(
        "--exposure", type=Path, metavar="COCKTAIL.h5", help="simulated signals (label 1) for a classifier to learn"
    )
    parser.add_argument(
        "--preset", choices=PRESETS, help="configuration to start from (default classic, or RUN/'s own)"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default cpu")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in RUN/")
    for knob in fields(TrainingConfig):
        _add_flag(parser, knob)
    args = parser.parse_args(argv)
    given = {knob.name: getattr(args, knob.name) for knob in fields(TrainingConfig)}
    overrides: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in given.items() if v is not None}
    if (args.out / CHECKPOINT).exists() and not args.resume:
        parser.error(f"{args.out} already holds a run; go on with it by --resume, or choose another folder")
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error(f"--device is {args.device}, but torch sees no GPU; leave it out to train on the CPU")
    if args.preset is None and (args.out / CHECKPOINT).exists():
        preset = load_run(args.out).config
    else:
        preset = PRESETS[args.preset or "classic"]
    config = dataclasses.replace(preset, **overrides)
    _check_knobs(parser, config)
    if config.exposed and args.exposure is None:
        parser.error("--architecture classifier learns signals too; give some with --exposure COCKTAIL.h5")
    if args.exposure is not None and not config.exposed:
        parser.error(f"--exposure is {args.exposure}, but --architecture {config.architecture} learns background alone")
    require_folder(args.out)
    torch.set_num_threads(1)  # the layers are too small to share: a second thread only waits for the first
    features = read_background(args.events, args.key)
    source = Source(str(args.events.resolve()), args.key, len(features), digest(features))
    exposure = read_exposure(args.exposure) if args.exposure else None
    with exclusive(args.out):
        run = train(source, features, config, args.out, args.device, exposure)
    best = min(run.curve, key=lambda epoch: epoch.validation_loss)
    print(f"{args.out}: {len(run.curve)} epochs, best validation loss {best.validation_loss:.5f} at epoch {best.epoch}")
    return 0


def _check_knobs(parser: argparse.ArgumentParser, config: TrainingConfig) -> None:
    """End with a message for the first knob below the least that makes sense."""
    for knob in fields(config):
        value, least = getattr(config, knob.name), knob.metadata["least"]
        values = value if isinstance(value, tuple) else (value,)
        if least is not None and not all(each >= least for each in values):
            shown = " ".join(map(str, values))
            parser.error(f"--{knob.name.replace('_', '-')} is {shown}, expected {least:g} or more")


def _add_flag(parser: argparse.ArgumentParser, knob: "dataclasses.Field[Any]") -> None:
    """Add the flag that overrides one knob of the preset."""
    options: dict[str, Any] = {"help": knob.metadata["help"], "default": None}
    if isinstance(knob.default, tuple):
        options |= {"type": int, "nargs": "+", "metavar": "WIDTH"}
    else:
        options |= {"type": type(knob.default), "metavar": knob.name.upper()}
    if hasattr(knob.type, "__args__") and not isinstance(knob.default, tuple):
        options |= {"choices": knob.type.__args__, "metavar": None}
    parser.add_argument("--" + knob.name.replace("_", "-"), **options)
