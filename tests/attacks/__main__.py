"""Attack a service of this machine and print what bystanders feel: `python -m tests.attacks [NAME ...]`."""

import tempfile
from pathlib import Path

import click

from tests.attacks.attacks import ATTACKS
from tests.attacks.bystanders import Felt


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(ATTACKS)))
@click.option("--seconds", default=10.0, show_default=True, help="Seconds of each attack.")
@click.option("--keys/--no-keys", default=True, help="Whether the service needs a key, which attackers do not have.")
def main(names: tuple[str, ...], seconds: float, keys: bool) -> None:
    """Attack services of the shipped model, one after the other, and print what bystanders feel."""
    for name in names or ATTACKS:
        attack = ATTACKS[name]
        with (
            tempfile.TemporaryDirectory() as folder,
            attack.target(Path(folder), "--max-connections=200", keys=keys) as target,
            attack.during(target),
        ):
            felt = Felt.during(target, seconds)
        print(f"{name:<17}{felt}", flush=True)


if __name__ == "__main__":
    main()
