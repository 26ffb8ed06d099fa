"""Export a trained run as one self-describing ONNX file, checked against torch.

python -m training export RUN/ --out exported/autoencoder.onnx
"""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from training.commands.arguments import add_events_options, input_file, layout_of, model_version
from training.commands.parser import ArgumentParser
from training.events.features import DIJET, FeatureSet
from training.events.layout import Layout

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from service.model.artefact import Artefact


def main(argv: Sequence[str] | None = None, program: str = "python -m training export") -> int:
    """Run `python -m training export`."""
    parser = build_parser(program)
    args = parser.parse_args(argv)

    from training.files import atomic_write, require_output
    from training.fitting.weak_run import is_weak_run
    from training.fitting.working_points import working_points_table

    if (layout_of(args) != Layout() or args.labels) and not args.calibration:
        given = "--key, --columns, --label and --labels"
        parser.error(f"{given} are for the --calibration file, and there is none: leave them out")
    require_output(args.out, args.calibration, args.labels)
    artefact = _weak(args) if is_weak_run(args.run) else _unsupervised(args)
    with atomic_write(args.out) as path:
        path.write_bytes(artefact.graph)
    print(f"{args.out}: {working_points_table(artefact)}")
    return 0


def build_parser(program: str) -> argparse.ArgumentParser:
    """Declare the arguments."""
    parser = ArgumentParser(prog=program, description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, metavar="RUN/", help="folder that `train` wrote")
    parser.add_argument("--out", type=Path, required=True, metavar="MODEL.onnx", help="artefact to write")
    parser.add_argument(
        "--calibration",
        type=input_file,
        metavar="EVENTS.h5",
        help="background for the working points (default: the held-out part of the run's own events)",
    )
    add_events_options(parser, "EVENTS.h5")
    parser.add_argument("--name", help="name of the model (default: the run's name)")
    parser.add_argument("--model-version", type=model_version, default="1", help="version of the model (default 1)")
    return parser


def _unsupervised(args: argparse.Namespace) -> "Artefact":
    from training.detectors.presets import check_config
    from training.files import require_output
    from training.fitting.export import export, read_held_out
    from training.fitting.run import CHECKPOINT, load_run

    run = load_run(args.run)
    source, exposure = run.source, run.exposure.path if run.exposure else None
    require_output(args.out, args.run / CHECKPOINT, *source.files, *source.labels, exposure)
    run.config = dataclasses.replace(run.config, name=run.config.name if args.name is None else args.name)
    check_config(run.config)
    return export(
        run,
        read_held_out(run) if args.calibration is None else _calibration(args, source.layout.features),
        args.model_version,
    )


def _weak(args: argparse.Namespace) -> "Artefact":
    from training.detectors.presets import check_options
    from training.files import require_output
    from training.fitting.weak_export import export_weak, read_reference
    from training.fitting.weak_run import load_weak_run

    run = load_weak_run(args.run)
    require_output(args.out, *args.run.iterdir(), run.window.path, run.reference.path)
    config = dataclasses.replace(run.config, name=run.config.name if args.name is None else args.name)
    check_options(config)
    calibration = read_reference(run) if args.calibration is None else _calibration(args, DIJET)
    return export_weak(dataclasses.replace(run, config=config), args.run, calibration, args.model_version)


def _calibration(args: argparse.Namespace, features: FeatureSet) -> "NDArray[np.float32]":
    from training.events.events import read_background

    return read_background(args.calibration, layout_of(args, features), args.labels)
