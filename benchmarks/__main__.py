"""The command line of the benchmarks: one command per scenario, and the tables of the results."""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from benchmarks.peers.catalogue import PEERS
from benchmarks.report import results, tables
from benchmarks.report.figures import draw
from benchmarks.report.results import OURS
from service.model.artefact import ArtefactError
from service.settings import HELP_OPTIONS
from training.errors import TrainingError


def option(name: str, default: Any, text: str, kind: Any = None) -> click.Option:
    """Return an option whose default is shown in the help."""
    return click.Option([name], type=kind, default=default, show_default=True, help=text)


COUNT = click.IntRange(min=1)
MINUTES = click.FloatRange(min=0, min_open=True)
OTHERS = click.Choice([name for name in PEERS if name != OURS])
SCENARIOS: dict[str, tuple[str, list[click.Parameter]]] = {
    "balancers": (
        "Measure balancers in front of a fast and a slow server.",
        [option("--rounds", 3, "Runs of each case.", COUNT)],
    ),
    "bench": (
        "Measure the service beside its ceilings.",
        [option("--rounds", 7, "Runs of each case with a goal.", COUNT)],
    ),
    "load": (
        "Run Locust against a service.",
        [option("--users", 8, "Concurrent clients.", COUNT), option("--seconds", 30, "Duration.", COUNT)],
    ),
    "memory": (
        "Measure the memory of the service under the largest bodies.",
        [option("--minutes", 10.0, "Duration.", MINUTES)],
    ),
    "overload": (
        "Measure the service under four times the load that it admits.",
        [option("--rounds", 7, "Runs of each case.", COUNT)],
    ),
    "peers": (
        "Measure other ways to serve the model, all or some; exit status 1 if one failed.",
        [
            click.Argument(["names"], nargs=-1, type=OTHERS, metavar="[PEER]..."),
            option("--rounds", 7, "Runs of each case.", COUNT),
            option("--seconds", 1, "Duration of a run.", COUNT),
        ],
    ),
    "profile": (
        "Profile the service under one CASE of bench.",
        [
            click.Argument(["case"], default="json-10k"),
            option("--out", Path("profile.svg"), "An .svg, or .json for speedscope.", click.Path(path_type=Path)),
        ],
    ),
    "protocols": (
        "Measure the same events over each protocol of the service.",
        [option("--rounds", 7, "Runs of each case.", COUNT)],
    ),
    "files": (
        "Score many files into a folder by one process, by all cores and by engines.",
        [
            option("--files", 16, "Files of events.", COUNT),
            option("--events", 1_310_720, "Events in each file.", COUNT),
            option("--rounds", 3, "Runs of each way.", COUNT),
        ],
    ),
    "scaling": (
        "Measure one and two workers at three loads, and simulate them and many more.",
        [option("--rounds", 5, "Runs of each load.", COUNT)],
    ),
    "soak": (
        "Load, reload, overload and kill the service, and count every request; exit status 1 after any fault.",
        [option("--minutes", 20.0, "Duration.", MINUTES)],
    ),
}
"""Scenario -> its module, its help, and the parameters of its `run` besides the model."""


@click.group(context_settings=HELP_OPTIONS)
def commands() -> None:
    """Measure the service; the results go to benchmarks/results/."""


def add(name: str, text: str, parameters: list[click.Parameter]) -> None:
    """Add the command of a scenario, whose result is stored and shown, or is the exit status."""

    def run(**options: Any) -> int:
        found = import_module(f"benchmarks.scenarios.{name}").run(**options)
        if isinstance(found, int):
            return found
        if isinstance(found, str):
            click.echo(found)
            return 0
        results.write(found)
        draw(found)
        click.echo(tables.text(found))
        for error in found.errors():
            click.echo(f"error: {error}", err=True)
        return 1 if found.errors() else 0

    model = option("--model", "exported/autoencoder.onnx", "Artefact to serve.")
    commands.add_command(click.Command(name, params=[model, *parameters], callback=run, help=text))


for scenario, (purpose, arguments) in SCENARIOS.items():
    add(scenario, purpose, arguments)


@commands.command("tables")
def write_tables() -> None:
    """Write the tables of the pages, and the figures, from the results."""
    tables.write_pages()


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 1 with a one-line message for a failure."""
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
