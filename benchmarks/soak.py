"""A long run with everything that goes wrong: nothing may be lost, every score must be right, memory must stay.

    python -m benchmarks.soak --minutes 20

Ctrl+C ends it early, with the report so far. It does not know how fast the service is.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from benchmarks import machine, results
from benchmarks.course import LOAD, Course, Findings
from benchmarks.figures import plot_soak
from benchmarks.results import Soak
from benchmarks.tables import soak_text
from benchmarks.tally import Failure, Outcome, Report, merged
from benchmarks.vitals import growths

MODEL = "exported/autoencoder.onnx"
LOST = {Outcome.RESET, Outcome.CUT}
SHOWN = 50
"""More failures than this are only counted."""
POINTS = 240
"""How many samples of each process, and of the latency, are kept."""

T = TypeVar("T")


def main(argv: Sequence[str] | None = None) -> int:
    """Run, write the results and the figure, and print the report; 1 if anything failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default=MODEL, help="artefact (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=20, help="how long (default: %(default)s)")
    flags = parser.parse_args(argv)
    begun = datetime.now(UTC)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        course = Course(Path(folder), flags.model, flags.minutes)
        try:
            course.run()
        except (RuntimeError, OSError) as error:
            course.found.faults.append(str(error))
        except KeyboardInterrupt:
            print("ended before the first request, or before the last had its reply", file=sys.stderr)
            return 1
    for fault in judge(course.found):
        print(f"FAULT: {fault}", file=sys.stderr)
    if not course.found.reports:  # it never came to a request
        return 1
    soak = sum_up(course, begun, f"python -m benchmarks.soak --minutes {flags.minutes:g}")
    results.write(results.SOAK, soak)
    plot_soak(soak, results.SOAK_FIGURE)
    print(soak_text(soak))
    return 1 if soak.faults else 0


def judge(found: Findings) -> list[str]:
    """Give everything that is not in order."""
    faults = list(found.faults)
    cut, failed = failures(found)
    faults += [f"{name}: {failure}" for name, failure in failed[:SHOWN]]
    if len(failed) > SHOWN:
        faults.append(f"{len(failed) - SHOWN} failures more")
    if len(cut) > found.cut_at_most:
        faults.append(f"{len(cut)} requests were lost at kills of workers that had {found.cut_at_most} sockets")
    if found.bursts and not merged(found.bursts).outcomes[Outcome.REFUSED]:
        faults.append("no burst was more than the service takes: no request was refused")
    faults += [f"the memory grows: {growth}" for growth in growths(found.vitals) if not growth.flat]
    return faults


def failures(found: Findings) -> tuple[list[tuple[str, Failure]], list[tuple[str, Failure]]]:
    """Give the requests that were lost in a worker that was killed, and those that failed without that excuse."""
    kills = [event.second for event in found.events if event.what == "kill"]
    # The clients' clocks began with the course's, but for those of bursts, which meet no kill.
    steady = [(name, failure) for name, report in found.reports.items() for failure in report.failures]
    burst = [("bursts", failure) for report in found.bursts for failure in report.failures]
    cut = [one for one in steady if by_kill(one[1], kills)]
    return cut, [one for one in steady if not by_kill(one[1], kills)] + burst


def sum_up(course: Course, begun: datetime, command: str) -> Soak:
    """Make the results."""
    found = course.found
    reports: dict[str, Report] = {**found.reports, **({"bursts": merged(found.bursts)} if found.bursts else {})}
    cut, failed = failures(found)
    return Soak(
        models=course.models,
        commit=machine.commit(),
        command=command,
        started=begun.isoformat(timespec="seconds"),
        machine=machine.describe(),
        versions=machine.versions(),
        load=LOAD,
        minutes=found.seconds / 60,
        requests={name: results.Counts.of(report) for name, report in reports.items()},
        left=found.left,
        log=dict(found.log),
        cut_by_kills=len(cut),
        failures=len(failed),
        faults=judge(found),
        events=found.events,
        growths=growths(found.vitals),
        vitals={name: thinned(seen) for name, seen in found.vitals.items()},
        seconds=thinned(found.reports["small"].by_second),
    )


def by_kill(failure: Failure, kills: Sequence[float]) -> bool:
    """Tell whether a request was lost while a worker was killed."""
    return failure.outcome in LOST and any(failure.began_s - 1 <= kill <= failure.ended_s + 1 for kill in kills)


def thinned(found: list[T]) -> list[T]:
    """Keep some, evenly."""
    return found[:: max(1, len(found) // POINTS)]


if __name__ == "__main__":
    sys.exit(main())
