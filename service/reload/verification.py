"""The verification of a new model in a process of its own, which the model may take down.

python -m service.reload.verification FILE

It prints the model's identity and exits with 0, or prints why the file is refused and exits with 1.
"""

import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from service.model.artefact import ArtefactError, parse_artefact
from service.model.scorer import Scorer

VERIFY_S: Final = 30
"""The longest time that a verification may take; a model of common size takes one second, most of it imports."""

PACKAGES: Final = Path(__file__).parents[2]
"""The folder that the child imports the service from, whatever lies in the current one."""

ADDRESS_BYTES: Final = 8 * 2**30
"""The address space that a verification may take, for the runtime's libraries and a call's intermediate results."""


def verify(path: str) -> str:
    """Load the file in a child process, have it reproduce its golden pairs, and give the model's identity.

    Raises ArtefactError where that fails, takes too much time or memory, or ends the process.
    """
    command = [sys.executable, "-m", "service.reload.verification", path]
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
    """Verify the named file and print the verdict; gives 0, or 1 where it is refused."""
    [path] = sys.argv[1:] if argv is None else argv
    _limit_resources()
    try:
        artefact = parse_artefact(Path(path).read_bytes())
        Scorer(artefact)
        status, said = 0, artefact.identity
    except MemoryError:
        status, said = 1, f"it takes more than {ADDRESS_BYTES} bytes of address space to verify"
    except Exception as error:  # whatever it is, the file is at fault
        status, said = 1, str(error) or type(error).__name__
    sys.stdout.buffer.write(said.encode(errors="backslashreplace"))
    return status


def _limit_resources() -> None:
    """Have the kernel end this process rather than any other, without a core dump."""
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
