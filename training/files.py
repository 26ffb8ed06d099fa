"""Atomic writes of files, locks and digests."""

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
    """Raise OSError if `path` cannot be written. Call it before long work.

    Checked are: the folder exists and is writable, `path` is not a folder or a device, and it is none of the inputs
    (None is ignored), which a result must not replace.
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
    """Raise OSError if results cannot be written into `folder`, existing or new. Call it before long work."""
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
    """Yield a temporary file next to `path`, and rename it to `path` once it is complete and synced to disk.

    The temporary file is empty and has the same suffix, because many writers choose the format by it. On any failure,
    including an interrupt, it is removed and `path` is unchanged. A temporary file left by a killed process is reused
    by the next write of the same file. Raises OSError as `require_output` does, when the disk is full, when nothing
    was written, and when another process is writing the same file.
    """
    with _temporary(path) as file:
        yield file.path
        file.complete()
        _rename([file])


def write_files(folder: Path, contents: Mapping[str, bytes | None]) -> None:
    """Write files into a folder, created if missing; all are synced to disk before the first is renamed into place.

    Files whose content is None are removed: they are left from an earlier run. A failure or an interrupt leaves all
    files unchanged. A kill or a power cut between two of the final renames leaves complete files, some new and some
    old. Raises OSError as `atomic_write` does.
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
    """A locked temporary file and the file that it will replace."""

    path: Path
    final: Path
    descriptor: int

    def complete(self) -> None:
        """Sync the file to disk. Raises OSError when nothing was written."""
        os.fsync(self.descriptor)
        if not os.fstat(self.descriptor).st_size:
            raise OSError(errno.ENODATA, "Nothing was written; the file is unchanged", str(self.final))


@contextmanager
def _temporary(path: str | Path) -> Iterator[_Temporary]:
    """Create and lock the temporary file for `path` while the context lasts; remove it on a failure."""
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
    """Rename complete files to their final names and remove the unwanted ones, with signals delayed until the end."""
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
    """Create `folder` if it is missing, and lock it against other processes that call this function.

    Raises OSError when another process has it locked.
    """
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # the other process removed it when it ended
            descriptor = _locked(folder, os.O_RDONLY, folder)
            break
    try:
        yield
    finally:
        os.close(descriptor)


def _locked(path: Path, flags: int, shown: Path) -> int:
    """Open and lock `path` and return its file descriptor; the lock ends when it is closed or the process ends.

    There is no lock on file systems without locks, such as some NFS and Lustre mounts. Raises BlockingIOError, naming
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
        os.close(descriptor)  # the other process has just ended, and has renamed or removed the opened file


def _sync(folder: Path) -> None:
    """Sync a folder's entries to disk, so that a rename survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: str | Path) -> str:
    """Return the SHA-256 of the file at `path` in hexadecimal. Raises OSError when it cannot be read."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
