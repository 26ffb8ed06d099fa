"""Expansion of a command's file arguments, and the paths of outputs."""

import glob
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from training.errors import EventsError, PartsError
from training.files import require_output

LIST = "@"  # prefix of the name of a file with names


def named_files(names: Iterable[str]) -> list[Path]:
    """Return the files for names, patterns such as data/*.h5, and lists @FILE with one of these a line.

    Each file is returned once; the matches of a pattern are sorted by name. Raises EventsError for a pattern without a
    match or an empty list, OSError when a list cannot be read.
    """
    found: dict[Path, None] = {}
    for name in names:
        files = _listed(Path(name.removeprefix(LIST))) if name.startswith(LIST) else _matching(name)
        found |= dict.fromkeys(files)
    return list(found)


def _listed(path: Path) -> list[Path]:
    lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    files = [file for line in lines if line.strip() for file in _matching(line.strip())]
    if not files:
        raise EventsError(f"{path}: names no file, expected one name a line")
    return files


def _matching(name: str) -> list[Path]:
    if glob.escape(name) == name or Path(name).exists():
        return [Path(name)]
    found = sorted(glob.glob(name, recursive=True))  # noqa: PTH207  Path.glob takes no absolute pattern
    if not found:
        raise EventsError(f"no file matches '{name}': check the pattern")
    return [Path(one) for one in found]


def require_outputs(files: Sequence[Path], folder: Path, ending: str, *inputs: Path) -> None:
    """Raise PartsError when two files have the same output, and OSError when an output cannot be written.

    The output of a file is in the existing `folder` and has the file's stem. `inputs` are other files that an output
    must not replace.
    """
    outputs: dict[str, Path] = {}
    for file in files:
        other = outputs.setdefault(file.stem, file)
        if other is not file:
            raise PartsError(
                f"{other} and {file} would both be scored into {folder / (file.stem + ending)}: rename one, or score "
                "them into different folders"
            )
        require_output(folder / (file.stem + ending), file, *inputs)


class Shard(NamedTuple):
    """One of N shards of a list of files, counted from 0."""

    number: int
    shards: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Parse K/N. Raises ValueError for any other text, and if K is not in 0 to N - 1."""
        match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text, re.ASCII)
        if match is None or not int(match[1]) < int(match[2]):
            raise ValueError(
                f"{text!r} is no shard, expected K/N with K from 0 to N - 1, such as 0/4, 1/4, 2/4 and 3/4"
            )
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.shards}"

    def of(self, files: Sequence[Path]) -> Sequence[Path]:
        """Return every N-th file from the K-th on."""
        return files[self.number :: self.shards]
