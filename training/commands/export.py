"""Export a trained run as one self-describing ONNX file, checked against torch.

python -m training export RUN/ --out exported/autoencoder.onnx
"""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from training.commands.arguments import add_events_options, input_file, model_version


def main(argv: Sequence[str] | None = None, program: str = "python -m training export") -> int:
    """Run `python -m training export`."""
    parser = argparse.ArgumentParser(prog=program, description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, metavar="RUN/", help="folder that `train` wrote")
    parser.add_argument("--out", type=Path, required=True, metavar="MODEL.onnx", help="artefact to write")
    parser.add_argument(
        "--calibration",
        type=input_file,
        metavar="EVENTS.h5",
        help="background for the working points (default: the part of the run's own events that was held out)",
    )
    add_events_options(parser, "EVENTS.h5")
    parser.add_argument("--name", help="name of the model (default the run's)")
    parser.add_argument(
        "--model-version", type=model_version, default="1", help="version to show beside the name (default 1)"
    )
    args = parser.parse_args(argv)

    from training.detectors.presets import check_config
    from training.events.events import read_background
    from training.files import atomic_write, require_output
    from training.fitting.export import export, read_held_out
    from training.fitting.run import CHECKPOINT, load_run
    from training.fitting.working_points import working_points_table

    if (args.key or args.label or args.labels) and not args.calibration:
        parser.error("--key, --label and --labels are for the --calibration file, and there is none: leave them out")
    run = load_run(args.run)
    source, exposure = run.source, run.exposure.path if run.exposure else None
    inputs = (args.run / CHECKPOINT, args.calibration, args.labels, source.path, source.labels, exposure)
    require_output(args.out, *inputs)
    run.config = dataclasses.replace(run.config, name=run.config.name if args.name is None else args.name)
    check_config(run.config)
    if args.calibration:
        calibration = read_background(args.calibration, args.key, args.label, args.labels)
    else:
        calibration = read_held_out(run)
    artefact = export(run, calibration, args.model_version)
    with atomic_write(args.out) as path:
        path.write_bytes(artefact.graph)
    print(f"{args.out}: {working_points_table(artefact)}")
    return 0
