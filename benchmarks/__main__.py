"""The command line of the benchmarks: one command a scenario, and the tables of their results."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from benchmarks.peers import NAMES
from benchmarks.report import results, tables
from benchmarks.report.peers import peers_text
from service.model.artefact import ArtefactError
from service.settings import HELP_OPTIONS
from training.errors import TrainingError

model = click.option("--model", default="exported/autoencoder.onnx", show_default=True, help="Artefact to serve.")


def option(name: str, default: Any, text: str) -> Callable[..., Any]:
    """Make an option whose default is shown."""
    return click.option(name, type=type(default), default=default, show_default=True, help=text)


@click.group(context_settings=HELP_OPTIONS)
def commands() -> None:
    """Measure the service; the results go to benchmarks/results/."""


@commands.command()
@model
@option("--rounds", 7, "Turns of each case with a goal.")
def bench(model: str, rounds: int) -> None:
    """Measure the service beside its ceilings."""
    from benchmarks.report.figures import plot_latency
    from benchmarks.scenarios.bench import run

    found = run(model, rounds)
    results.write(results.BENCH, found)
    plot_latency(found.latency, results.LATENCY_FIGURE)
    click.echo(tables.bench_text(found))


@commands.command()
@model
@click.argument("case", default="json-10k")
@click.option("--out", type=Path, default="profile.svg", show_default=True, help="An .svg, or .json for speedscope.")
def profile(model: str, case: str, out: Path) -> None:
    """Profile the service under one CASE of bench."""
    from benchmarks.scenarios.profile import run

    click.echo(run(model, case, out))


@commands.command()
@model
@option("--users", 8, "Concurrent clients.")
@option("--seconds", 30, "Duration.")
def load(model: str, users: int, seconds: int) -> int:
    """Run Locust against a service."""
    from benchmarks.scenarios.load import run

    return run(model, users, seconds)


@commands.command()
@model
@option("--minutes", 10.0, "Duration.")
def memory(model: str, minutes: float) -> None:
    """Measure the memory of the service under the largest bodies."""
    from benchmarks.report.figures import plot_memory
    from benchmarks.scenarios.memory import run

    found = run(model, minutes)
    results.write(results.MEMORY, found)
    plot_memory(found, results.MEMORY_FIGURE)
    click.echo(tables.memory_text(found))


@commands.command()
@model
@option("--rounds", 7, "Turns of each case.")
def overload(model: str, rounds: int) -> None:
    """Measure the service under four times the load that it admits."""
    from benchmarks.scenarios.overload import run

    found = run(model, rounds)
    results.write(results.OVERLOAD, found)
    click.echo(tables.overload_text(found))


@commands.command()
@model
@option("--minutes", 20.0, "Duration.")
def soak(model: str, minutes: float) -> int:
    """Load, reload, overload and kill the service, and count every request; exit status 1 after any fault."""
    from benchmarks.report.figures import plot_soak
    from benchmarks.scenarios.soak import run

    found = run(model, minutes)
    for fault in found.faults:
        click.echo(f"FAULT: {fault}", err=True)
    results.write(results.SOAK, found)
    plot_soak(found, results.SOAK_FIGURE)
    click.echo(tables.soak_text(found))
    return 1 if found.faults else 0


@commands.command()
@model
@click.argument("names", nargs=-1, type=click.Choice(NAMES), metavar="[PEER]...")
@option("--rounds", 5, "Turns of each peer.")
@option("--seconds", 3, "Length of a case in a turn.")
def peers(model: str, names: tuple[str, ...], rounds: int, seconds: int) -> int:
    """Measure other ways to serve the model, all or some; exit status 1 if one failed."""
    from benchmarks.scenarios.peers import run

    found = run(model, names or NAMES, rounds, seconds)
    results.write(results.PEERS, found)
    click.echo(peers_text(found))
    return 1 if any(peer.failure for peer in found.peers.values()) else 0


@commands.command("tables")
def write_tables() -> None:
    """Write the tables of docs/performance.md and benchmarks/README.md from the results."""
    tables.write_pages()


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command, and give its exit status: 1 with a line of message for a failure."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        return commands.main(argv, prog_name="python -m benchmarks", standalone_mode=False) or 0
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return error.exit_code
    except click.UsageError as error:
        error.show()
        return error.exit_code
    except (ArtefactError, TrainingError, RuntimeError, OSError) as error:
        click.echo(f"error: {error}", err=True)
        return 1
    except click.Abort:
        return 130


if __name__ == "__main__":
    sys.exit(main())
