"""Files appear whole or not at all."""

import hashlib
import os
from pathlib import Path

import pytest

from training.files import atomic_write, exclusive, require_folder, require_output, sha256_of


def test_the_file_appears_only_when_complete(tmp_path: Path) -> None:
    """Until the context ends the path does not exist; then it holds what was written, and nothing else is left."""
    path = tmp_path / "scores.csv"
    with atomic_write(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failure_leaves_the_old_file(tmp_path: Path, failure: type[BaseException]) -> None:
    """Whatever ends the writing early, an interrupt included, the old file stays and no temporary is left behind."""
    path = tmp_path / "scores.csv"
    path.write_text("old")

    def write_half() -> None:
        with atomic_write(path) as temporary:
            temporary.write_text("half")
            raise failure

    with pytest.raises(failure):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_writing_nothing_is_a_failure(tmp_path: Path) -> None:
    """A context that writes not a byte raises, and the old file stays."""
    path = tmp_path / "scores.csv"
    path.write_text("old")
    with pytest.raises(OSError, match="Nothing was written"), atomic_write(path):
        pass
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_temporary_is_a_sibling_with_the_same_suffix(tmp_path: Path) -> None:
    """Writers that choose a format by suffix choose the right one, and the rename stays on one file system."""
    with atomic_write(tmp_path / "scores.parquet") as temporary:
        temporary.write_text("whole")
        assert (temporary.parent, temporary.suffix) == (tmp_path.resolve(), ".parquet")


def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    """The file is as readable as one that the writer had opened directly."""
    (tmp_path / "plain").touch()
    with atomic_write(tmp_path / "atomic") as temporary:
        temporary.write_text("whole")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_what_a_killed_process_left_is_taken_over(tmp_path: Path) -> None:
    """The half of a file that nobody writes any more makes room for the next attempt, of which nothing is left over."""
    path = tmp_path / "scores.csv"
    with atomic_write(path) as temporary:
        temporary.write_text("whole")
    temporary.write_bytes(bytes(1 << 20))
    with atomic_write(path) as again:
        assert again == temporary
        assert again.stat().st_size == 0
        again.write_text("newer")
    assert path.read_text() == "newer"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_written_by_one_at_a_time(tmp_path: Path) -> None:
    """Whoever comes second is told so, by the file's own name, and disturbs nothing; afterwards the way is free."""
    path = tmp_path / "scores.csv"
    with atomic_write(path) as temporary:
        temporary.write_text("first")
        with (
            pytest.raises(BlockingIOError, match="Another process is writing this; wait") as caught,
            atomic_write(path),
        ):
            pytest.fail("reached the body")
        assert caught.value.filename == str(path.resolve())
    assert path.read_text() == "first"
    with atomic_write(path) as temporary:
        temporary.write_text("second")
    assert path.read_text() == "second"


def test_a_folder_is_kept_to_one_at_a_time(tmp_path: Path) -> None:
    """The folder is made; until the context ends, even by an error, nobody else gets in."""
    folder = tmp_path / "run"

    def fail() -> None:
        with exclusive(folder):
            with pytest.raises(BlockingIOError, match="Another process is writing this; wait"), exclusive(folder):
                pytest.fail("reached the body")
            raise FileNotFoundError("of the body")

    with pytest.raises(FileNotFoundError, match="of the body"):
        fail()
    with exclusive(folder):
        assert folder.is_dir()
        folder.rmdir()
    with exclusive(folder):
        assert folder.is_dir()


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


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    """Writing through a symbolic link replaces the file it points to."""
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    with atomic_write(link) as temporary:
        temporary.write_text("new")
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_a_missing_folder_is_named_before_anything_is_written(tmp_path: Path) -> None:
    """The error names the path and says what to do, before the first byte is computed."""
    path = tmp_path / "missing" / "scores.csv"
    with pytest.raises(FileNotFoundError, match="create it first") as caught, atomic_write(path):
        pytest.fail("reached the body")
    assert caught.value.filename == str(path.resolve())


@pytest.mark.parametrize("path", [Path(os.devnull), Path(os.curdir)])
def test_a_device_or_folder_is_never_replaced(path: Path) -> None:
    """Only a regular file is renamed over."""
    with pytest.raises(OSError, match="Not a regular file"), atomic_write(path):
        pytest.fail("reached the body")


def test_an_input_is_never_replaced(tmp_path: Path) -> None:
    """A result may not take the place of what it is made from, by whatever path that is named."""
    events = tmp_path / "events.h5"
    events.touch()
    link = tmp_path / "link.h5"
    link.symlink_to(events)
    require_output(tmp_path / "scores.h5", events)
    for out in (events, link):
        with pytest.raises(OSError, match="This is the input"):
            require_output(out, tmp_path / "other.h5", events)


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    """The digest is the standard one in hexadecimal, for a file larger than any buffer too."""
    content = os.urandom(1 << 20) + b"odd"
    path = tmp_path / "data"
    path.write_bytes(content)
    assert sha256_of(path) == hashlib.sha256(content).hexdigest()


def test_sha256_of_a_missing_file_names_it(tmp_path: Path) -> None:
    """What cannot be read raises the system's own error, with the path."""
    with pytest.raises(FileNotFoundError, match="absent"):
        sha256_of(tmp_path / "absent")
