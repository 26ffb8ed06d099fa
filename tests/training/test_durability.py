"""A file that has appeared outlasts a power cut, and a lock is worth something only on the file that is there now."""

import fcntl
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from training.files import atomic_write, exclusive


def test_the_content_is_on_the_disk_before_the_rename_and_the_rename_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole file is synchronised while the old one still has its name, and then the folder with the new name."""
    path, synchronise = tmp_path / "scores.csv", os.fsync
    path.write_text("old")
    seen: list[tuple[str, str]] = []

    def record(descriptor: int) -> None:
        opened = Path(f"/proc/self/fd/{descriptor}").resolve()
        folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        seen.append((str(opened) if folder else opened.read_text(), path.read_text()))
        synchronise(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    with atomic_write(path) as temporary:
        temporary.write_text("whole")
    assert seen == [("whole", "old"), (str(tmp_path.resolve()), "whole")]


def before_the_first_lock(monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
    """Let another process make a change after the next file to lock was opened, and before it is locked."""
    changes, lock = [change], fcntl.flock

    def late(descriptor: int, operation: int) -> None:
        if changes:
            changes.pop()()
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)


def test_a_file_that_was_renamed_before_it_was_locked_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The temporary file of a process that has just finished is the result by then: another one is written."""
    path = tmp_path / "scores.csv"
    with atomic_write(path) as temporary:
        temporary.write_text("of another process")
    temporary.write_text("of another process")
    before_the_first_lock(monkeypatch, lambda: temporary.rename(path))
    with atomic_write(path) as again:
        again.write_text("new")
        assert path.read_text() == "of another process"
    assert path.read_text() == "new"


def test_a_folder_that_was_removed_before_it_was_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder of a process that has just finished is gone by then: the lock is on a new one."""
    folder = tmp_path / "parts"
    folder.mkdir()
    before_the_first_lock(monkeypatch, folder.rmdir)
    with exclusive(folder):
        assert folder.is_dir()
        with pytest.raises(BlockingIOError), exclusive(folder):
            pytest.fail("reached the body")
