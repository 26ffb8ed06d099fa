"""Attack a service of this machine and print what bystanders feel: `python -m tests.attacks [NAME ...]`."""

import subprocess
import sys
from pathlib import Path

import click

from service.settings import SHIPPED_MODEL
from tests.attacks.bystanders import Waits, watch
from tests.attacks.clients import ATTACKS, valid_event
from tests.live import LiveService, live_service


def under_attack(service: LiveService, name: str, key: str | None, n_features: int, seconds: float) -> Waits:
    """Measure what bystanders feel during one attack."""
    _, port = service.address
    command = [sys.executable, "-m", "tests.attacks.clients", name, str(port), str(seconds + 2)]
    with subprocess.Popen(command) as attacker:
        try:
            return watch(service.pid, port, valid_event(n_features), key, seconds)
        finally:
            attacker.kill()


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(ATTACKS)))
@click.option("--seconds", default=10.0, show_default=True, help="Seconds of each attack.")
def main(names: tuple[str, ...], seconds: float) -> None:
    """Attack the shipped model's service with one worker, keys required."""
    for name in names or ATTACKS:
        with live_service(Path(SHIPPED_MODEL).resolve(), "--max-connections", "200") as service:
            waits = under_attack(service, name, None, 14, seconds)
            print(waits.line(name), flush=True)
            for fault in sorted(set(waits.faults))[:3]:
                print(f"    {fault}")


if __name__ == "__main__":
    main()
