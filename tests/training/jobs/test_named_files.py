"""Files are named one by one, by patterns and in lists, and dealt to shards."""

from pathlib import Path

import pytest

from training.errors import EventsError, PartsError
from training.jobs.named_files import Shard, named_files, require_outputs


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Enter a folder with some files below data/."""
    for name in ("data/b.h5", "data/a.h5", "data/x/a.h5", "data/[1].h5", "data/\udce9.h5", "data/notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"events")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_names_patterns_and_lists(folder: Path, subtests: pytest.Subtests) -> None:
    """A pattern is sorted, a name stays whether it is there or not, a list has either, and a file comes once."""
    Path("list").write_bytes(b"data/b.h5\n\n  data/?.h5 \nabsent.h5\n")
    by_name = ["data/[1].h5", "data/a.h5", "data/b.h5", "data/\udce9.h5"]
    for names, expected in (
        (["data/*.h5"], by_name),
        ([f"{folder}/data/*.h5"], [f"{folder}/{name}" for name in by_name]),
        (["data/**/a.h5"], ["data/a.h5", "data/x/a.h5"]),
        (["data/b.h5", "data/a.h5", "absent.h5"], ["data/b.h5", "data/a.h5", "absent.h5"]),
        (["data/[1].h5"], ["data/[1].h5"]),
        (["data/a.h5", "data/*.h5"], ["data/a.h5", "data/[1].h5", "data/b.h5", "data/\udce9.h5"]),
        (["@list"], ["data/b.h5", "data/a.h5", "data/\udce9.h5", "absent.h5"]),
    ):
        with subtests.test(names=names):
            assert named_files(names) == list(map(Path, expected))


def test_what_stands_for_no_file_is_refused(folder: Path) -> None:
    """A pattern without a match, an empty list and a missing one are named."""
    (folder / "empty").write_text("\n\n")
    with pytest.raises(EventsError, match=r"^no file matches 'data/\*\.hdf5': check the pattern$"):
        named_files(["data/*.hdf5"])
    with pytest.raises(EventsError, match=r"^empty: names no file, expected one name a line$"):
        named_files(["@empty"])
    with pytest.raises(FileNotFoundError, match="absent"):
        named_files(["@absent"])


def test_two_files_of_one_output_are_refused(folder: Path) -> None:
    """Equal stems in two folders or of two suffixes end the command before anything is scored; so does an input."""
    out = folder / "scored"
    out.mkdir()
    for other in ("data/x/a.h5", "data/a.hdf5"):
        with pytest.raises(PartsError) as caught:
            require_outputs([Path("data/a.h5"), Path("data/b.h5"), Path(other)], out, ".parquet")
        assert str(caught.value) == (
            f"data/a.h5 and {other} would both be scored into {out}/a.parquet: rename one, or score them into "
            "different folders"
        )
    with pytest.raises(OSError, match="This is the input"):
        require_outputs([Path("data/b.h5"), Path("data/a.h5")], folder / "data", ".h5")
    require_outputs([Path("data/a.h5"), Path("data/b.h5")], out, ".parquet")


def test_shards_have_every_file_once(subtests: pytest.Subtests) -> None:
    """Whatever the number of shards, each file is in one, and their lengths differ by one at most."""
    files = [Path(f"{index}.h5") for index in range(10)]
    for shards in (1, 2, 3, 10, 11):
        with subtests.test(shards=shards):
            dealt = [Shard.parse(f"{number}/{shards}").of(files) for number in range(shards)]
            assert sorted(file for shard in dealt for file in shard) == files
            assert max(map(len, dealt)) - min(map(len, dealt)) <= 1
    assert str(Shard.parse("0/4")) == "0/4"


@pytest.mark.parametrize(
    "text", ["4/4", "5/4", "-1/4", "0/0", "1", "1/", "/4", "1/2/3", "a/b", " 0/4", "0/4\n", "\u0660/4"]
)
def test_what_is_no_shard_is_refused(text: str) -> None:
    """Shards count from 0, as batch systems count their jobs."""
    with pytest.raises(ValueError, match="expected K/N with K from 0 to N - 1, such as 0/4, 1/4, 2/4 and 3/4"):
        Shard.parse(text)
