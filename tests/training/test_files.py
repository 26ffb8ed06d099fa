"""Files appear whole or not at all, outlast a power cut, and are written by one process at a time."""

import errno
import fcntl
import hashlib
import os
import signal
import stat
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from training.errors import Terminated
from training.files import atomic_write, exclusive, require_folder, require_output, sha256_of, write_files
from training.interrupts import stoppable


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give the path of a file that may be there already: it holds what was written before."""
    path = tmp_path / "scores.csv"
    path.write_text("old")
    return path


def test_the_file_appears_only_when_complete(path: Path) -> None:
    """Until the context ends the old file stays; then it holds what was written, and nothing else is left.

    What is written meanwhile is a sibling of the same suffix, by which some writers choose a format, and the file is as
    readable as any new one.
    """
    with atomic_write(path) as temporary:
        temporary.write_text("whole")
        assert (temporary.parent, temporary.suffix) == (path.parent.resolve(), ".csv")
        assert path.read_text() == "old"
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]
    (path.parent / "plain").touch()
    assert path.stat().st_mode == (path.parent / "plain").stat().st_mode


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, SystemExit, None])
def test_a_failure_leaves_the_old_file(path: Path, failure: type[BaseException] | None) -> None:
    """Whatever ends the writing early, or nothing written at all, the old file stays and no temporary is left."""

    def write_half() -> None:
        with atomic_write(path) as temporary:
            if failure:
                temporary.write_text("half")
                raise failure

    with pytest.raises(failure or OSError, match=None if failure else "Nothing was written"):
        write_half()
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_what_a_killed_process_left_is_taken_over(path: Path) -> None:
    """A partial file whose writer has ended makes room for the next attempt, of which nothing is left over."""
    with atomic_write(path) as temporary:
        temporary.write_text("whole")
    temporary.write_bytes(bytes(1 << 20))
    with atomic_write(path) as again:
        assert again == temporary
        assert again.stat().st_size == 0
        again.write_text("newer")
    assert path.read_text() == "newer"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("lock", [atomic_write, exclusive])
def test_one_writes_at_a_time(path: Path, lock: Callable[[Path], AbstractContextManager[Path | None]]) -> None:
    """A second writer of a file or a folder is refused with its name and changes nothing; afterwards it can write."""
    target = path if lock is atomic_write else path.parent / "run"

    def write(text: str, failure: type[Exception] | None = None) -> None:
        with lock(target) as file:
            (file or target / "file").write_text(text)
            with pytest.raises(BlockingIOError, match="another process is writing this; wait") as caught, lock(target):
                pytest.fail("reached the body")
            assert caught.value.filename == str(target)
            if failure:
                raise failure

    write("first")
    with pytest.raises(FileNotFoundError):
        write("second", FileNotFoundError)
    write("third")
    written = target if target.is_file() else target / "file"
    assert written.read_text() == "third"


def test_a_file_system_without_locks_is_written_all_the_same(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where locks are not to be had, as on some NFS and Lustre mounts, files and folders are written without them."""

    def refuse(descriptor: int, operation: int) -> None:  # noqa: ARG001
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with exclusive(path.parent / "run"), atomic_write(path) as temporary:
        temporary.write_text("whole")
    assert path.read_text() == "whole"


def test_a_folder_of_results_is_judged_before_the_work(tmp_path: Path) -> None:
    """A folder may be missing, and so may those above it; a file in its place, or in theirs, is named."""
    require_folder(tmp_path)
    require_folder(tmp_path / "new" / "newer")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "new"):
        with pytest.raises(NotADirectoryError, match="A file, expected a folder") as caught:
            require_folder(folder)
        assert caught.value.filename == str((tmp_path / "file").resolve())


def test_links_and_inputs_stay(path: Path) -> None:
    """Writing through a link replaces the file it points to; no result takes the place of its input, nor by a link."""
    link, other = path.with_name("link.csv"), path.with_name("other.csv")
    link.symlink_to(path)
    with atomic_write(link) as temporary:
        temporary.write_text("new")
    assert link.is_symlink()
    assert path.read_text() == "new"
    require_output(other, path, None)
    for out in (path, link):
        for given in (path, link):
            with pytest.raises(OSError, match="This is the input"):
                require_output(out, other, given)


def test_an_impossible_output_is_named_before_anything_is_written(path: Path) -> None:
    """A missing folder, a device and a folder are refused before the first byte is computed."""
    for impossible, error, reason in (
        (path.parent / "missing" / "scores.csv", FileNotFoundError, "create it first"),
        (Path(os.devnull), OSError, "Not a regular file"),
        (Path(os.curdir), OSError, "Not a regular file"),
    ):
        with pytest.raises(error, match=reason) as caught, atomic_write(impossible):
            pytest.fail("reached the body")
        assert caught.value.filename == str(impossible.resolve())


def test_sha256_is_that_of_the_bytes(path: Path) -> None:
    """The digest is the standard one, for a file larger than any buffer too; a missing file is named."""
    content = os.urandom(1 << 20) + b"odd"
    path.write_bytes(content)
    assert sha256_of(path) == hashlib.sha256(content).hexdigest()
    with pytest.raises(FileNotFoundError, match="absent"):
        sha256_of(path.with_name("absent"))


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


def test_files_that_belong_together_are_on_the_disk_before_the_first_appears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is synchronised while the folder still holds the old ones, and no signal ends the renames half-way."""
    old, new = {"one": b"old", "two": b"old", "three": b"old"}, {"one": b"1", "two": b"2"}
    write_files(tmp_path, old)
    synchronise, rename = os.fsync, os.replace
    seen: list[str] = []

    def record(descriptor: int) -> None:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            assert {name: (tmp_path / name).read_bytes() for name in old} == old
            seen.append(Path(f"/proc/self/fd/{descriptor}").read_text())
        synchronise(descriptor)

    def interrupt(*paths: Path) -> None:
        rename(*paths)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(os, "fsync", record)
    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(Terminated), stoppable():
        write_files(tmp_path, {**new, "three": None})
    assert seen == ["1", "2"]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == new


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
