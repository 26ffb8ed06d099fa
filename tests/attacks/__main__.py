"""Attack a service of this machine and print the latencies of other clients: `python -m tests.attacks [NAME ...]`."""

import tempfile
from pathlib import Path

import click

from tests.attacks.attacks import ATTACKS
from tests.attacks.latencies import Latencies


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(ATTACKS)))
@click.option(
    "--seconds", type=click.FloatRange(min=0, min_open=True), default=10.0, show_default=True, help="Of each attack."
)
@click.option("--keys/--no-keys", default=True, help="Whether the service needs a key, which attackers do not have.")
def main(names: tuple[str, ...], seconds: float, keys: bool) -> None:
    """Attack services of the shipped model, one after the other, and print the latencies of other clients."""
    for name in names or ATTACKS:
        attack = ATTACKS[name]
        with (
            tempfile.TemporaryDirectory() as folder,
            attack.target(Path(folder), "--max-connections=200", keys=keys) as target,
        ):
            print(f"{name:<17}{Latencies.under(attack, target, seconds)}", flush=True)


if __name__ == "__main__":
    main()
