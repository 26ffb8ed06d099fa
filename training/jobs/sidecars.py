"""Sidecars of the outputs in a folder: the input file, model and options of each, and the outcome."""

from pathlib import Path
from typing import Self, TypeVar

import msgspec

from training.files import sha256_of

Record = TypeVar("Record", "Sidecar", "Failure")

FOLDER = "_sidecars"  # readers of a folder of Parquet files skip names that begin with _


class Origin(msgspec.Struct, frozen=True):
    """The inputs of an output; the same origin gives the same bytes."""

    input_bytes: int
    input_modified_ns: int
    model_sha256: str
    keys: list[str]
    label: str | None
    columns: dict[str, str]
    working_point: str | None
    model_column: bool

    def difference(self, other: Self) -> str:
        """Describe the first difference between an older origin and this one."""
        name = next(name for name in self.__struct_fields__ if getattr(self, name) != getattr(other, name))
        was, now = (str(getattr(one, name))[:12] for one in (other, self))
        what = "the file has changed since" if name.startswith("input") else f"{name} was {was}, and is {now} now"
        return f"scored before: {what}"


class Sidecar(msgspec.Struct, frozen=True):
    """The record of a finished output; its size and time make reading the output again unnecessary."""

    input: str
    origin: Origin
    rows: int
    output: str
    output_bytes: int
    output_modified_ns: int
    output_sha256: str
    seconds: float
    warnings: list[str] = []

    @classmethod
    def of(cls, output: Path, file: Path, origin: Origin, rows: int, seconds: float, warnings: list[str]) -> "Sidecar":
        """Return the record of an output that has just been written."""
        found = output.stat()
        written = (output.name, found.st_size, found.st_mtime_ns, sha256_of(output))
        return cls(str(file), origin, rows, *written, round(seconds, 3), warnings)

    def is_intact(self, output: Path) -> bool:
        """Return whether the output is unchanged, by its size and time or, if only the time differs, its digest."""
        try:
            now = output.stat()
            if now.st_size != self.output_bytes:
                return False
            return now.st_mtime_ns == self.output_modified_ns or sha256_of(output) == self.output_sha256
        except OSError:
            return False


class Failure(msgspec.Struct, frozen=True):
    """The reason why the last attempt at a file failed."""

    input: str
    reason: str


def sidecar_of(output: Path) -> Path:
    """Return the path of an output's sidecar."""
    return output.parent / FOLDER / f"{output.name}.json"


def failure_of(output: Path) -> Path:
    """Return the path of an output's failure record."""
    return output.parent / FOLDER / f"{output.name}.failed.json"


def read_record(path: Path, kind: type[Record]) -> Record | None:
    """Return a record, or None if it is missing or damaged."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError):
        return None
