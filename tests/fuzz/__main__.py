"""Throw made and damaged input at every decoder, at the HTTP service and at the model file, for a limited time.

python -m tests.fuzz --minutes 10 [--seed 1]

It does not know what the targets check: see decoders.py, sanitized.py, http.py and model_file.py.
"""

import argparse
import importlib.util
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.fuzz import decoders, http, model_file, sanitized

REMEDY = "atheris is not installed: `make fuzz` installs it and runs this (or: pip install --editable '.[fuzz]')"
FINDINGS = Path("fuzz-findings")
LEAST_S = 5.0

TARGETS: dict[str, Callable[[float, int], int]] = {
    **decoders.RUNS,
    "JSON rows in C, sanitized": sanitized.run,
    "HTTP service": http.run,
    "model file": model_file.run,
}


class Row(NamedTuple):
    """What became of a target."""

    target: str
    cases: int
    seconds: float
    finding: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz every target in turn and print a table; the status is 1 if there was a finding, and 2 without atheris."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10, help="how long all targets take together (default: 10)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**31), help="to repeat a run")
    parser.add_argument("--target", choices=TARGETS, action="append", help="only this one; may be given several times")
    given = parser.parse_args(arguments)
    if importlib.util.find_spec("atheris") is None:
        print(REMEDY, file=sys.stderr)
        return 2
    names = given.target or list(TARGETS)
    seconds = max(given.minutes * 60 / len(names), LEAST_S)
    print(f"seed {given.seed}, {len(names)} targets of {seconds:.0f} s")
    rows = [fuzz(name, seconds, given.seed) for name in names]
    print("\n".join(table(rows)))
    return 1 if any(row.finding for row in rows) else 0


def fuzz(name: str, seconds: float, seed: int) -> Row:
    """Fuzz one target."""
    print(f"{name}: {seconds:.0f} s ...", flush=True)
    started, cases, finding = time.monotonic(), 0, ""
    try:
        cases = TARGETS[name](seconds, seed)
    except AssertionError as error:
        finding = kept(name, str(error))
    return Row(name, cases, time.monotonic() - started, finding)


def kept(name: str, finding: str) -> str:
    """Print a finding and keep it in a file, whose path is given."""
    FINDINGS.mkdir(exist_ok=True)
    path = FINDINGS / f"{name.replace(' ', '-').replace(',', '')}.txt"
    path.write_text(finding)
    print(f"FINDING in {name}: {path}\n{finding[-2000:]}", flush=True)
    return str(path)


def table(rows: Sequence[Row]) -> list[str]:
    """Lay the outcomes out for people."""
    lines = [f"{'target':30} {'cases':>12} {'seconds':>8} {'cases/s':>9}  findings"]
    for row in rows:
        rate = row.cases / row.seconds if row.seconds else 0.0
        lines.append(f"{row.target:30} {row.cases:12,} {row.seconds:8.1f} {rate:9,.0f}  {row.finding or 'none'}")
    cases, seconds = sum(row.cases for row in rows), sum(row.seconds for row in rows)
    found = sum(bool(row.finding) for row in rows)
    return [*lines, f"{'together':30} {cases:12,} {seconds:8.1f} {'':9}  {found}"]


if __name__ == "__main__":
    sys.exit(main())
