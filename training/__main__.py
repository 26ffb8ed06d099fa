"""The command line of the offline half: one subcommand a module.

python -m training COMMAND --help
"""

import argparse
import importlib
import sys
from collections.abc import Sequence

from service.artefact import ArtefactError
from training.errors import TrainingError

# Command -> (what it does, the extra that brings what it needs). The module of a command bears its name, and is
# imported only when it runs: Pythia is not needed to train, nor torch to simulate.
COMMANDS = {
    "simulate": ("collisions, detector and jets: events from nothing", "simulate"),
    "features": ("particle-level file -> events file with the 14 features", "simulate"),
    "validate": ("simulated events beside the published sample", "train"),
    "train": ("background events -> a trained run", "train"),
    "evaluate": ("a run or artefact on labelled events: AUC, efficiencies, plots", "train"),
    "export": ("a trained run -> one ONNX file with its working points", "train"),
    "score": ("a whole events file through an artefact -> CSV, Parquet or HDF5", "train"),
}


def main(argv: Sequence[str] | None = None, prog: str = "python -m training") -> int:
    """Run one command and return its exit code: 1 for an error that the message explains, 130 when interrupted."""
    listing = "\n".join(f"  {name:<10} {purpose}" for name, (purpose, _) in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog=prog, epilog=f"commands:\n{listing}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="one of the commands below")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="see COMMAND --help")
    args = parser.parse_args(argv)
    _, extra = COMMANDS[args.command]
    try:
        command = importlib.import_module(f"training.{args.command}")
    except ModuleNotFoundError as error:
        print(f"error: {args.command} needs {error.name}: pip install 'lhc-anomaly[{extra}]'", file=sys.stderr)
        return 1
    try:
        return int(command.main(args.arguments))
    except (TrainingError, ArtefactError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the output is untouched, and the same command goes on from here", file=sys.stderr)
        return 130


def lhc_anomaly() -> int:
    """Run the `lhc-anomaly` script: every training command, and `serve` for the service."""
    if sys.argv[1:2] == ["serve"]:
        from service.__main__ import main as serve

        return serve(sys.argv[2:])
    return main(prog="lhc-anomaly")


if __name__ == "__main__":
    sys.exit(main())
