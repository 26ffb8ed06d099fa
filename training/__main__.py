"""The command line of the offline half: one subcommand a module.

python -m training COMMAND --help
"""

import argparse
import importlib
import signal
import sys
from collections.abc import Sequence
from typing import NamedTuple

from training.errors import Terminated, TrainingError
from training.interrupts import handled, heeded


class Command(NamedTuple):
    """A subcommand; its module bears its name and is imported only when it runs: torch is not needed to simulate."""

    purpose: str
    extra: str  # what brings the packages that it needs
    interrupted: str = "the output is as it was"


RESUMABLE = "repeat the same command to go on"

COMMANDS = {
    "simulate": Command("collisions, detector and jets: events from nothing", "simulate", RESUMABLE),
    "features": Command("particle-level file -> events file with the 14 features", "simulate", RESUMABLE),
    "validate": Command("simulated events beside the published sample", "train"),
    "train": Command("background events -> a trained run", "train", "go on from the last epoch with --resume"),
    "evaluate": Command("an artefact on labelled events: AUC, efficiencies, plots, model card", "train"),
    "report": Command("an artefact on many samples -> one page of tables and figures", "train"),
    "export": Command("a trained run -> one ONNX file with its working points", "train"),
    "calibrate": Command("an artefact and background -> the same model with new working points", "train"),
    "score": Command("a whole events file through an artefact -> CSV, Parquet or HDF5", "train"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 1 for an error that the message explains, 130 or 143 when stopped."""
    args = _parser("python -m training").parse_args(argv)
    return run(args.command, COMMANDS[args.command], f"training.commands.{args.command}", args.arguments)


def run(name: str, command: Command, module: str, arguments: Sequence[str]) -> int:
    """Run `main` of a command's module and return its exit code, as `main` does."""
    try:
        with handled(signal.SIG_DFL):  # at once, for there is nothing to leave tidy yet
            from service.model.artefact import ArtefactError

            imported = importlib.import_module(module)
        with heeded():
            code = int(imported.main(arguments))
            sys.stdout.flush()  # here, where a full disk is an error that is explained
            return code
    except ModuleNotFoundError as error:
        remedy = f"make .venv/everything, or pip install -e '.[{command.extra}]' in a checkout"
        print(f"error: {name} needs the package {error.name}: {remedy}", file=sys.stderr)
        return 1
    except (TrainingError, ArtefactError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"interrupted: {command.interrupted}", file=sys.stderr)
        return 128 + signal.SIGINT
    except Terminated:
        print(f"terminated: {command.interrupted}", file=sys.stderr)
        return 128 + signal.SIGTERM


def lhc_anomaly() -> int:
    """Run the script `lhc-anomaly`: the commands of both halves."""
    from service import __main__ as service

    command = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if command == "--version" or command in service.commands.commands:
        return service.main(sys.argv[1:], "lhc-anomaly")
    if command in {"-h", "--help"}:
        parser = _parser("lhc-anomaly")
        parser.add_argument("--version", action="store_true", help="show the version and exit")
        print(parser.format_help(), end="")
        for name, served in service.commands.commands.items():
            print(f"  {name:<11} {served.get_short_help_str(80)}")
        return 0
    return alone()


def alone() -> int:
    """Do as `main` does, as all that this process is for: before and after its command a signal ends it in silence."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # and not ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    return main()


def _parser(prog: str) -> argparse.ArgumentParser:
    listing = "\n".join(f"  {name:<11} {command.purpose}" for name, command in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog=prog, epilog=f"commands:\n{listing}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="one of the commands below")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="see COMMAND --help")
    return parser


if __name__ == "__main__":
    sys.exit(alone())
