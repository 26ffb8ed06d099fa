"""Files that appear whole or not at all, whatever ends their writing, and their digests."""

import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from training.interrupts import raise_if_stopped, uninterrupted

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def require_output(path: str | Path, *inputs: str | Path | None) -> None:
    """Raise OSError when `path` can never be written: before long work, and not after it.

    Its folder is missing or not writable, it is a folder or a device, or it is one of the inputs, which a result must
    not replace; None is none.
    """
    final = Path(path).resolve()
    if not final.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "No folder to write this file in; create it first", str(final))
    if final.exists() and not final.is_file():
        raise OSError(errno.EINVAL, "Not a regular file, and so not replaced; choose another output", str(final))
    if final in (Path(one).resolve() for one in inputs if one is not None):
        raise OSError(errno.EINVAL, "This is the input, and so not replaced; choose another output", str(final))
    _require_writable(final.parent)


def require_folder(folder: str | Path) -> None:
    """Raise OSError when results can never be written into `folder`, there already or not: before long work."""
    final = Path(folder).resolve()
    nearest = next(one for one in (final, *final.parents) if one.exists())
    if not nearest.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "A file, expected a folder; choose another output", str(nearest))
    _require_writable(nearest)


def _require_writable(folder: Path) -> None:
    if not os.access(folder, os.W_OK | os.X_OK):
        reason = "This folder cannot be written in; change its permissions, or choose another output"
        raise PermissionError(errno.EACCES, reason, str(folder))


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary sibling of `path` to write, and rename it over `path` once it is complete and on the disk.

    The sibling is empty and ends in the same suffix, by which many writers choose a format. On any failure, an
    interrupt included, it is removed and `path` stays as it was; what a killed process left of it is taken over by the
    next that writes the same file. Raises OSError as `require_output` does, when the disk is full, when nothing was
    written, and when another process is writing the same file.
    """
    with _temporary(path) as file:
        yield file.path
        file.complete()
        _rename([file])


def write_files(folder: Path, contents: Mapping[str, bytes | None]) -> None:
    """Write files into a folder, made where it is not there: all are on the disk before the first of them appears.

    A name without content is removed: what an earlier run left there does not belong to the others. A failure or an
    interrupt leaves all as they were. A kill or a power cut between two of the last steps, the renames, leaves whole
    files, of which some are new and some old. Raises OSError as `atomic_write` does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        files = []
        for name, content in contents.items():
            if content is not None:
                files.append(stack.enter_context(_temporary(folder / name)))
                files[-1].path.write_bytes(content)
                files[-1].complete()
        _rename(files, [folder / name for name, content in contents.items() if content is None])


class _Temporary(NamedTuple):
    """A locked file to write, and the one that it will replace."""

    path: Path
    final: Path
    descriptor: int

    def complete(self) -> None:
        """Put what was written on the disk. Raises OSError when it is nothing."""
        os.fsync(self.descriptor)
        if not os.fstat(self.descriptor).st_size:
            raise OSError(errno.ENODATA, "Nothing was written, and so it stays as it was", str(self.final))


@contextmanager
def _temporary(path: str | Path) -> Iterator[_Temporary]:
    """Lock and empty the temporary sibling of `path` for the length of the context, and remove it on a failure."""
    require_output(path)
    final = Path(path).resolve()  # a link keeps pointing where it did
    temporary = final.with_name(f".{final.stem}.part{final.suffix}")
    try:
        descriptor = _locked(temporary, os.O_RDWR | os.O_CREAT, final)
        try:
            os.truncate(descriptor, 0)
            yield _Temporary(temporary, final, descriptor)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in NO_SPACE or error.filename not in (None, str(temporary)):
            raise
        reason = f"{os.strerror(error.errno)}, and so not written; make room and repeat the command"
        raise OSError(error.errno, reason, str(final)) from error


def _rename(files: Sequence[_Temporary], unwanted: Sequence[Path] = ()) -> None:
    """Rename complete files over those that they replace and remove the unwanted: no signal ends it half-way."""
    raise_if_stopped()
    with uninterrupted():
        for file in files:
            file.path.replace(file.final)
        for path in unwanted:
            path.unlink(missing_ok=True)
        for folder in {path.parent for path in (*(file.final for file in files), *unwanted)}:
            _sync(folder)


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Make `folder` where it is not there, and lock it against other processes that call this.

    Raises OSError when another process has it locked: what both wrote would fit neither.
    """
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # the other process removed it as it ended
            descriptor = _locked(folder, os.O_RDONLY, folder)
            break
    try:
        yield
    finally:
        os.close(descriptor)


def _locked(path: Path, flags: int, shown: Path) -> int:
    """Open `path` and return its descriptor, which locks it until it is closed or the process ends, even by a kill.

    Without a lock where the file system has none, as some NFS and Lustre mounts. Raises BlockingIOError, which names
    `shown`, when another process has it locked.
    """
    while True:
        descriptor = os.open(path, flags, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            reason = "another process is writing this; wait until it has ended, or choose another output"
            raise BlockingIOError(errno.EAGAIN, reason, str(shown)) from None
        except OSError:
            return descriptor
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        os.close(descriptor)  # the other process had just ended, and renamed or removed what was opened


def _sync(folder: Path) -> None:
    """Write a folder's entries to the disk, so that a rename outlasts a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: str | Path) -> str:
    """Return the SHA-256 of the file at `path` in hexadecimal. Raises OSError when it cannot be read."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
