"""Copies of files, in a directory that is its owner's alone: nobody else changes what is served from there.

It does not know what the files are.
"""

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

PRIVATE: Final = 0o600
"""The mode of a copy."""


class CopyError(Exception):
    """A file cannot be copied: the message names it, the fault and the remedy."""


class Copies:
    """A directory of copies, made when the first is."""

    def __init__(self) -> None:
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._n_copies = 0

    def place(self, name: str) -> Path:
        """Give a path, that begins with `name`, for a new file; raises CopyError where there can be no directory."""
        try:
            if self._directory is None:
                self._directory = tempfile.TemporaryDirectory(prefix="anomaly-files-", ignore_cleanup_errors=True)
        except OSError as error:
            where = tempfile.gettempdir() if tempfile.tempdir else "the temporary directory"
            raise CopyError(f"cannot copy files to {where}: {error.strerror}; set TMPDIR elsewhere") from error
        self._n_copies += 1
        return Path(self._directory.name, f"{name}-{self._n_copies}")

    def make(self, source: str, name: str) -> Path:
        """Copy a small file, and give the path of the copy; raises CopyError."""
        copied = self.place(name)
        try:
            content = Path(source).read_bytes()
            copied.touch(PRIVATE)
            copied.write_bytes(content)
        except OSError as error:
            copied.unlink(missing_ok=True)
            reason = f"{error.strerror}; make room there, or set TMPDIR elsewhere"
            raise CopyError(f"cannot copy {source} to {copied.parent}: {reason}") from error
        return copied

    def remove(self, copied: Iterable[str]) -> None:
        """Remove copies that nobody reads any more."""
        for path in copied:
            Path(path).unlink(missing_ok=True)

    def close(self) -> None:
        """Remove all."""
        if self._directory is not None:
            self._directory.cleanup()
