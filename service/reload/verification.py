"""A model's file before it is served: copied, then verified in a process of its own, which it may take down.

python -m service.reload.verification FILE

It does not know what is served, nor what the copy is for. The command prints one line of JSON: `identity`, or `error`.
"""

import hashlib
import os
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from service.model.artefact import ArtefactError, parse_artefact
from service.model.scorer import Scorer

VERIFY_S: Final = 30
"""The time that the verification may take; a good model of common size takes one second, of imports."""

ADDRESS_BYTES: Final = 8 * 2**30
"""The address space that the verification may take, for the runtime's libraries and a call's intermediate results."""

COPY_BYTES: Final = 2**20
READABLE: Final = 0o400
"""The mode of a copy, which is its owner's alone."""


class Verdict(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a verification found: the model's identity, or why it may not be served."""

    identity: str = ""
    error: str = ""


def copy(source: str, target: Path, max_bytes: int) -> str:
    """Copy the file at `source` to the new file `target`, and give the SHA-256 of the copy.

    Raises ArtefactError if it cannot be read, is not a regular file or has more than `max_bytes`, or if the copy cannot
    be written.
    """
    digest = hashlib.sha256()
    try:
        # Not waiting: there may be a pipe, which nobody writes to.
        with os.fdopen(os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as opened:
            if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
                raise ArtefactError(f"{source!r} is not a regular file; give the path of an exported .onnx file")
            with _Target(target) as written:
                n_bytes = 0
                while piece := opened.read(COPY_BYTES):
                    n_bytes += len(piece)
                    if n_bytes > max_bytes:
                        raise ArtefactError(
                            f"{source!r} has more than {max_bytes} bytes; give a smaller file, or --max-model-bytes"
                        )
                    digest.update(piece)
                    written.write(piece)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ArtefactError(f"cannot read the artefact {source!r}: {reason}; is it an exported .onnx file?") from error
    return digest.hexdigest()


def verify(copied: Path) -> str:
    """Load the file in a process of its own, have it reproduce its golden pairs, and give the model's identity.

    Raises ArtefactError where that fails, takes too long or too much, or ends the process.
    """
    with subprocess.Popen(
        [sys.executable, "-m", "service.reload.verification", str(copied)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            said, _ = process.communicate(timeout=2 * VERIFY_S)  # its own alarm ends it before
        except subprocess.TimeoutExpired:
            process.kill()
            said, _ = process.communicate()
    if process.returncode in {-signal.SIGALRM, -signal.SIGXCPU, -signal.SIGKILL}:
        raise ArtefactError(f"it took more than {VERIFY_S} s or all memory to verify; export the model again")
    if process.returncode < 0:
        cause = signal.Signals(-process.returncode).name
        raise ArtefactError(f"it ended the process that verified it with {cause}; export the model again")
    try:
        verdict = msgspec.json.decode(said.splitlines()[-1], type=Verdict)
    except (IndexError, msgspec.DecodeError) as error:
        status = process.returncode
        raise ArtefactError(f"the process that verified it ended with {status} and no verdict") from error
    if verdict.error:
        raise ArtefactError(verdict.error)
    return verdict.identity


def main(argv: Sequence[str] | None = None) -> int:
    """Verify the file that is named, and print the verdict; gives 0, or 1 where it is refused."""
    [path] = sys.argv[1:] if argv is None else argv
    _limit()
    try:
        artefact = parse_artefact(Path(path).read_bytes())
        Scorer(artefact)
        verdict = Verdict(identity=artefact.identity)
    except MemoryError:
        verdict = Verdict(error=f"it takes more than {ADDRESS_BYTES} bytes of address space to verify")
    except Exception as error:  # whatever it is, the file is at fault
        verdict = Verdict(error=str(error) or type(error).__name__)
    sys.stdout.buffer.write(msgspec.json.encode(verdict) + b"\n")
    return 1 if verdict.error else 0


class _Target:
    """A new file, whose errors are not those of the file that it is copied from."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> "_Target":
        try:
            self._file = os.fdopen(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, READABLE), "wb", 0)
        except OSError as error:
            raise self._fault(error) from error
        return self

    def write(self, piece: bytes) -> None:
        """Write all of it."""
        rest = memoryview(piece)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise self._fault(error) from error

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._file.close()
        if kind is not None:
            self._path.unlink(missing_ok=True)

    def _fault(self, error: OSError) -> ArtefactError:
        where = self._path.parent
        return ArtefactError(f"cannot copy it to {where}: {error.strerror}; make room there, or set TMPDIR elsewhere")


def _limit() -> None:
    """Have the kernel end this process rather than any other, with nothing left of it."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    signal.alarm(VERIFY_S)
    for limit, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, VERIFY_S),
        (resource.RLIMIT_AS, ADDRESS_BYTES),
    ):
        _, hard = resource.getrlimit(limit)
        resource.setrlimit(limit, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))
    with suppress(OSError):  # where memory runs out, this one goes first
        Path("/proc/self/oom_score_adj").write_text("1000")


if __name__ == "__main__":
    sys.exit(main())
