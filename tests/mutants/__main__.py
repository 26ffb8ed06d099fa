"""Set faults into a copy of the code, one at a time, and tell which of them the tests notice.

python -m tests.mutants [PATTERN ...]

With patterns, only the faults whose file or description contains one. Without, tests/mutants/RESULTS.md is written.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

from tests.mutants.fault import Fault, Part
from tests.mutants.faults import PARTS

ROOT: Final = Path(__file__).resolve().parents[2]
RESULTS: Final = Path(__file__).with_name("RESULTS.md")
TIMEOUT_S: Final = 120
NOTICED, UNNOTICED, EQUIVALENT = "noticed", "unnoticed", "equivalent"
TIMED_OUT, KILLED = "timed out", "killed"
"""Not noticed: a slow test of a machine with other work ends in the same way."""
OUTCOMES: Final = (NOTICED, UNNOTICED, TIMED_OUT, KILLED, EQUIVALENT)
PASSED, FAILED = 0, 1
"""What pytest exits with."""


class Outcome(NamedTuple):
    """What became of a fault."""

    file: str
    fault: Fault
    outcome: str


def main(patterns: Sequence[str]) -> int:
    """Try the faults and print what was noticed; return 1 if a fault was not."""
    chosen = [
        (part, fault)
        for part in PARTS
        for fault in part.faults
        if not patterns or any(pattern in f"{part.file} {fault.what}" for pattern in patterns)
    ]
    started = time.monotonic()
    with TemporaryDirectory(prefix="mutants-") as folder:
        outcomes = try_faults(copy_tree(Path(folder)), chosen)
    print(summary(outcomes), f"{(time.monotonic() - started) / 60:.0f} minutes")
    if not patterns:
        RESULTS.write_text(results(outcomes, (time.monotonic() - started) / 60), "utf-8")
    return int(any(one.outcome not in (NOTICED, EQUIVALENT) for one in outcomes))


def copy_tree(folder: Path) -> Path:
    """Copy the files that git knows, and the C extension."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    built = ROOT.glob("service/formats/*.so")
    for name in [*os.fsdecode(tracked).split("\0")[:-1], *(str(path.relative_to(ROOT)) for path in built)]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)
    return folder


def try_faults(tree: Path, chosen: Sequence[tuple[Part, Fault]]) -> list[Outcome]:
    """Run the tests of each fault, once without any and then with it; raises RuntimeError where they fail without."""
    passing: set[str] = set()
    outcomes = []
    for part, fault in chosen:
        tests, path, started = part.tests_of(fault), tree / part.file, time.monotonic()
        if tests not in passing:
            if (status := run_tests(tree, tests)) != PASSED:
                raise RuntimeError(f"pytest {tests} ends with {status} without a fault, expected {PASSED}")
            passing.add(tests)
        content = path.read_text("utf-8")
        path.write_text(part.changed(fault, content), "utf-8")
        status = run_tests(tree, tests)
        path.write_text(content, "utf-8")
        if status is not None and status > FAILED:  # the tests could not run
            raise RuntimeError(f"pytest {tests} ends with {status} with the fault {fault.what!r}, expected {FAILED}")
        outcome = outcome_of(fault, status)
        outcomes.append(Outcome(part.file, fault, outcome))
        print(f"{outcome:<10} {time.monotonic() - started:4.0f} s  {part.file}: {fault.what}", flush=True)
    return outcomes


def outcome_of(fault: Fault, status: int | None) -> str:
    """Say what became of a fault by the exit status of pytest: negative for a signal, None for a timeout."""
    if status is None:
        return TIMED_OUT
    if status < 0:
        return KILLED
    return NOTICED if status == FAILED else EQUIVALENT if fault.equivalent else UNNOTICED


def run_tests(tree: Path, tests: str) -> int | None:
    """Return the exit status of pytest; None where it takes too long."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *shlex.split(tests)]
    # Without files of byte code, of which one could be taken for that of the file before it was changed.
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    output = subprocess.DEVNULL
    with subprocess.Popen(
        command, cwd=tree, env=environment, stdout=output, stderr=output, start_new_session=True
    ) as started:
        try:
            return started.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return None
        finally:
            if started.poll() is None:
                os.killpg(started.pid, signal.SIGKILL)


def summary(outcomes: Sequence[Outcome]) -> str:
    """Say how many of the faults that matter were noticed."""
    matter = [one for one in outcomes if one.outcome != EQUIVALENT]
    n_noticed = sum(one.outcome == NOTICED for one in matter)
    return f"{n_noticed} of {len(matter)} faults noticed, a score of {n_noticed / max(len(matter), 1):.2f}"


def results(outcomes: Sequence[Outcome], minutes: float) -> str:
    """Write the score, a table by file, and what was not noticed."""
    commit = ["git", "describe", "--always", "--dirty", "--exclude=*", "--abbrev=12"]
    described = subprocess.run(commit, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    lines = [
        "# Deliberate faults and the tests",
        "",
        f"`make mutants` on {datetime.now(UTC):%Y-%m-%d}, commit {described}, {minutes:.0f} minutes: "
        f"{summary(outcomes)}.",
        "",
        f"| file | {' | '.join(OUTCOMES)} |",
        f"|{'---|' * (1 + len(OUTCOMES))}",
    ]
    for file in dict.fromkeys(one.file for one in outcomes):
        found = [one.outcome for one in outcomes if one.file == file]
        lines.append(f"| `{file}` | {' | '.join(str(found.count(name)) for name in OUTCOMES)} |")
    for outcome in OUTCOMES[1:]:
        some = [one for one in outcomes if one.outcome == outcome]
        lines += ["", f"## {outcome.capitalize()}", "", *([] if some else ["None."])]
        lines += [
            f"- `{one.file}`: {one.fault.what}{': ' + one.fault.equivalent if one.fault.equivalent else ''}"
            for one in some
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
