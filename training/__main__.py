"""The command line of the training package: one module for each subcommand.

python -m training COMMAND --help
"""

import argparse
import difflib
import importlib
import logging
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

from service.streams import coloured, replace_streams
from training.completion import VARIABLE, complete
from training.errors import Terminated, TrainingError, explained
from training.interrupts import raise_if_stopped, stoppable


class Command(NamedTuple):
    """The purpose of a subcommand for `--help`, its optional dependencies, and the message when it is interrupted."""

    purpose: str
    extra: str
    interrupted: str = "the output is unchanged"


RESUMABLE = "repeat the same command to continue"
FINISHED = "finished files are complete; repeat the same command for the others"

COMMANDS = {
    "simulate": Command("simulate events: collisions, detector and jets", "simulate", RESUMABLE),
    "features": Command("compute the 14 features from a particle-level file", "simulate", RESUMABLE),
    "validate": Command("compare simulated events with the published sample", "train"),
    "train": Command("train a model on background events", "train", "continue from the last epoch with --resume"),
    "evaluate": Command("evaluate a model on labelled events: AUC, efficiencies, plots, model card", "train"),
    "report": Command("report on a model and many samples: one page of tables and figures", "train"),
    "export": Command("export a trained run as one ONNX file with its working points", "train"),
    "calibrate": Command("derive new working points for a model from background events", "train"),
    "score": Command("score events files and write CSV, Parquet, HDF5 or ROOT", "train", FINISHED),
    "show": Command("show the features, working points and training of a model", "train"),
    "search": Command("search for a bump in the dijet mass of the events that a model accepts", "train"),
    "client": Command("score an events file with running services", "train", RESUMABLE),
}


def main(argv: Sequence[str] | None = None, program: str = "python -m training") -> int:
    """Run one command and return its exit code: 1 for an error that the message explains, 130 or 143 when stopped."""
    args = _parser(program).parse_args(argv)
    return run(f"training.commands.{args.command}", COMMANDS[args.command], args.arguments, f"{program} {args.command}")


def run(module: str, command: Command, arguments: Sequence[str], program: str) -> int:
    """Import a command's module, call its `main` and return the exit code, as `main` here does.

    `program` is the command as the user typed it, for usage and error messages.
    """
    try:
        with stoppable():
            # Imported here, because each command needs only some of the packages.
            command_main = importlib.import_module(module).main
            raise_if_stopped()
            with _warnings_above_progress():
                code = int(command_main(arguments, program))
            sys.stdout.flush()  # a full disk raises OSError here, which is handled below
            return code
    except ModuleNotFoundError as error:
        remedy = f"make .venv/everything, or pip install -e '.[{command.extra}]' in a checkout"
        message = f"{program} needs the package {error.name}: {remedy}"
    except ImportError as error:
        message = f"{program} cannot import a package that it needs: {error}".partition("\n")[0]
    except TrainingError as error:
        message = str(error)
    except OSError as error:
        message = explained(error)
    except MemoryError as error:
        message = f"not enough memory: {error}"
    except KeyboardInterrupt:
        print(f"interrupted: {command.interrupted}", file=sys.stderr)
        return 128 + signal.SIGINT
    except Terminated:
        print(f"terminated: {command.interrupted}", file=sys.stderr)
        return 128 + signal.SIGTERM
    except Exception as error:
        from service.model.graph import ArtefactError  # imported here, because it needs NumPy and onnx

        if not isinstance(error, ArtefactError):
            raise
        message = str(error)
    print(coloured("error:", sys.stderr, fg="red", bold=True), message, file=sys.stderr)
    return 1


def _warnings_above_progress() -> AbstractContextManager[None]:
    """Print warnings on their own lines above a progress bar, unless the calling program has configured logging."""
    if logging.getLogger().handlers:
        return nullcontext()
    try:
        from tqdm.contrib.logging import logging_redirect_tqdm
    except ModuleNotFoundError:  # without tqdm no command has a progress bar
        return nullcontext()
    redirected: AbstractContextManager[None] = logging_redirect_tqdm()
    return redirected


def lhc_anomaly() -> int:
    """Run the script `lhc-anomaly`: the commands of the service and of training."""
    from service import __main__ as service

    if instruction := os.environ.get(VARIABLE):
        purposes = {name: command.purpose for name, command in COMMANDS.items()}
        return complete(instruction, purposes, service.commands.commands)
    command = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if command == "--version" or command in service.commands.commands:
        return service.alone("lhc-anomaly")
    if command in {"-h", "--help"}:
        replace_streams()
        parser = _parser("lhc-anomaly")
        parser.add_argument("--version", action="store_true", help="show the version and exit")
        print(parser.format_help(), end="")
        for name, served in service.commands.commands.items():
            purpose = served.get_short_help_str(80)
            print(f"  {name:<11} {purpose[0].lower()}{purpose[1:].removesuffix('.')}")
        print(f'\ncompletion in bash (or zsh_source, fish_source):\n  eval "$({VARIABLE}=bash_source lhc-anomaly)"')
        return 0
    if command not in COMMANDS:
        names = [*service.commands.commands, *COMMANDS]
        nearest = difflib.get_close_matches(command, names, n=1)
        hint = f"did you mean {nearest[0]}?" if nearest else f"expected one of {', '.join(names)}"
        print(f"lhc-anomaly: error: no such command {command!r}, {hint}", file=sys.stderr)
        return 2
    return alone("lhc-anomaly")


def alone(program: str = "python -m training") -> int:
    """Run `main` as the whole process: SIGINT before or after the command ends the process without a traceback."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # unless SIGINT is ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    replace_streams()
    return main(program=program)


def _parser(program: str) -> argparse.ArgumentParser:
    listing = "\n".join(f"  {name:<11} {command.purpose}" for name, command in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog=program, epilog=f"commands:\n{listing}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="one of the commands below")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="see COMMAND --help")
    return parser


if __name__ == "__main__":
    sys.exit(alone())
