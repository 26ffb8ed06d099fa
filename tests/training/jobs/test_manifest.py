"""Finished parts are never taken for those of other work."""

from pathlib import Path

import pytest

from tests.training.jobs.numbers import MANIFEST
from training.errors import PartsError
from training.jobs.manifest import QUOTED_CHARACTERS, claimed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a folder with one finished part."""
    folder = tmp_path / "events.h5.parts"
    with claimed(folder, MANIFEST):
        (folder / "part.npy").touch()
    return folder


def refused(folder: Path, manifest: dict[str, object]) -> str:
    """Claim a folder with that manifest, in vain, and return why; it must be left as it was."""
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(PartsError) as caught, claimed(folder, manifest):
        pass
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    return str(caught.value)


def test_a_folder_is_claimed_again_with_the_same_manifest(folder: Path) -> None:
    """The finished parts stay, what a killed process left of others is removed, and one call at a time has them.

    A folder in which nothing was finished yet may be used for other work.
    """
    (folder / ".part.part.npy").touch()
    with claimed(folder, MANIFEST):
        assert {path.name for path in folder.iterdir()} == {"manifest.json", "part.npy"}
        with pytest.raises(BlockingIOError), claimed(folder, MANIFEST):
            pytest.fail("reached the body")
    (folder / "part.npy").unlink()
    with claimed(folder, {"seed": 2}):
        assert '"seed": 2' in (folder / "manifest.json").read_text()


def test_parts_of_other_work_are_refused(folder: Path, subtests: pytest.Subtests) -> None:
    """The message names the folder and what differs."""
    for key, value, message in (
        ("seed", 2, "its seed is 1, expected 2"),
        ("settings", ("a", "c"), "its settings is ['a', 'b'], expected ['a', 'c']"),
        ("versions", {"numpy": "3"}, "its versions is {'numpy': '2'}, expected {'numpy': '3'}"),
    ):
        with subtests.test(key):
            assert refused(folder, {**MANIFEST, key: value}).startswith(
                f"{folder} holds parts of other work: {message}. Repeat the command that started it, "
            )


def test_a_long_difference_is_quoted_where_it_differs(tmp_path: Path) -> None:
    """Of values that are longer than a line the message has what surrounds the first difference, with ellipses."""
    settings = [f"setting {number}" for number in range(1000)]
    with claimed(tmp_path / "parts", {"settings": settings}):
        (tmp_path / "parts" / "part.npy").touch()
    for place, (before, after) in {0: ("", "..."), 500: ("...", "..."), 999: ("...", "")}.items():
        message = refused(tmp_path / "parts", {"settings": [*settings[:place], "another", *settings[place + 1 :]]})
        found, wanted = message.split(" its settings is ")[1].split(". Repeat ")[0].split(", expected ")
        assert f"'setting {place}'" in found
        assert "'another'" in wanted
        for quoted in (found, wanted):
            assert len(quoted) <= QUOTED_CHARACTERS + len(before + after)
            assert quoted.startswith(before or "['")
            assert quoted.endswith(after or "']")


def test_parts_without_a_readable_manifest_are_refused(folder: Path) -> None:
    """A manifest that is damaged or missing is an error that says so and names the remedy."""
    path = folder / "manifest.json"
    path.write_text('{"seed": ')
    assert f"{path} is damaged" in refused(folder, MANIFEST)
    path.unlink()
    assert refused(folder, MANIFEST).startswith(f"{folder} holds parts but no manifest.json")
