"""The verification of a new model in a process of its own, which the model may crash.

python -m service.reload.verification FILE [IN_USE]

It prints the model's identity and exits with 0, or prints the reason for a refusal and exits with 1. The new model has
to be compatible with the clients of IN_USE.
"""

import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from service.model.artefact import ArtefactError, Metadata, parse_artefact
from service.model.graph import refusal
from service.model.scorer import Scorer

VERIFY_S: Final = 30
"""Timeout of a verification; a model of common size takes one second, mostly for imports."""

PACKAGES: Final = Path(__file__).parents[2]
"""The folder from which the child imports the service, whatever its current directory contains."""

ADDRESS_BYTES: Final = 8 * 2**30
"""Maximum address space of a verification, for the runtime's libraries and a call's intermediate results."""


def verify(path: str, in_use: str | None = None) -> str:
    """Load the file in a child process, check its golden pairs, and return the model's identity.

    Raises ArtefactError if that fails, takes too much time or memory, or ends the process, and if the model is not
    compatible with the clients of the model `in_use`.
    """
    command = [sys.executable, "-m", "service.reload.verification", path, *([in_use] if in_use else [])]
    too_much = f"its verification took more than {VERIFY_S} s or all memory; export the model again"
    try:
        ended = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
            timeout=VERIFY_S,
            check=False,
            cwd=PACKAGES,
        )
    except subprocess.TimeoutExpired as error:
        raise ArtefactError(too_much) from error
    except OSError as error:
        raise ArtefactError(f"no process could verify it: {error.strerror}; raise the limits and reload") from error
    if ended.returncode in {-signal.SIGXCPU, -signal.SIGKILL}:
        raise ArtefactError(too_much)
    if ended.returncode < 0:
        cause = signal.Signals(-ended.returncode).name
        raise ArtefactError(f"it ended the process that verified it with {cause}; export the model again")
    said = ended.stdout.strip().rpartition("\n")[2]
    if ended.returncode or not said:
        raise ArtefactError(said or f"the process that verified it ended with {ended.returncode} and no reason")
    return said


def main(argv: Sequence[str] | None = None) -> int:
    """Verify the named file and print the verdict; returns 0, or 1 for a refused file."""
    path, *in_use = sys.argv[1:] if argv is None else argv
    _limit_resources()
    try:
        artefact = parse_artefact(Path(path).read_bytes())
        for other in in_use:
            check_clients(artefact.metadata, parse_artefact(Path(other).read_bytes()).metadata)
        Scorer(artefact)
        status, said = 0, artefact.identity
    except MemoryError:
        status, said = 1, f"it takes more than {ADDRESS_BYTES} bytes of address space to verify"
    except Exception as error:  # any other failure is the file's fault
        status, said = 1, str(error) or type(error).__name__
    sys.stdout.buffer.write(said.encode(errors="backslashreplace"))
    return status


def check_clients(new: Metadata, in_use: Metadata) -> None:
    """Require that requests for the model `in_use` mean the same for the new one; raises ArtefactError.

    Features are sent by position, so other names or units would give wrong scores without a notice.
    """
    remedy = "restart the service to serve it, or set --reload-any-model"
    if len(new.feature_names) != len(in_use.feature_names):
        raise refusal("features", str(len(new.feature_names)), f"{len(in_use.feature_names)} as in use", remedy)
    described = (zip(one.feature_names, one.feature_units, strict=True) for one in (new, in_use))
    for place, (found, expected) in enumerate(zip(*described, strict=True)):
        if found != expected:
            raise refusal(f"feature {place}", " in ".join(found), f"{' in '.join(expected)} as in use", remedy)
    names = [point.name for point in new.working_points]
    for point in in_use.working_points:
        if point.name not in names:
            raise refusal("working points", ", ".join(names) or "none", f"{point.name} as in use", remedy)


def _limit_resources() -> None:
    """Make the kernel kill this process first if memory runs out, without a core dump."""
    for limit, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, VERIFY_S),
        (resource.RLIMIT_AS, ADDRESS_BYTES),
    ):
        _, hard = resource.getrlimit(limit)
        resource.setrlimit(limit, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))
    with suppress(OSError):  # where memory runs out, this process goes first
        Path("/proc/self/oom_score_adj").write_text("1000")


if __name__ == "__main__":
    sys.exit(main())
