"""Readers of events files, chosen by the suffix of the file's name."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from pathlib import Path

from training.errors import EventsError
from training.events.frame import Frame

# Suffix -> module and function that opens the table of a key. Modules are imported on use, because each command needs
# only some of the packages.
READERS = {
    ".csv": ("csv", "open_csv"),
    ".csv.gz": ("csv", "open_csv"),
    ".parquet": ("parquet", "open_parquet"),
    ".pq": ("parquet", "open_parquet"),
    ".npy": ("npy", "open_array"),
    ".root": ("root", "open_root"),
}
HDF5 = ("hdf5", "open_hdf5")  # for any other suffix: published files end in .h5, .hdf5, .hdf and .features

Reader = Callable[[Path, str | None], AbstractContextManager[Frame]]


@contextmanager
def open_frame(path: str | Path, key: str | None = None) -> Iterator[Frame]:
    """Open the table `key` of a file, or its only table, while the context lasts.

    The suffix of the name determines the format; files with any other suffix are read as HDF5. Raises EventsError when
    the file does not exist, cannot be read, has no such table or no rows, or has several tables and no key is given.
    """
    path = Path(path)
    if not path.exists():
        raise EventsError(f"{path}: there is no such file. Check the path.")
    if not path.is_file():
        raise EventsError(f"{path}: is not a file, expected one of events.")
    with _reader_of(path)(path, key) as frame:
        yield frame


def _reader_of(path: Path) -> Reader:
    name = path.name.lower()
    module, function = next((reader for ending, reader in READERS.items() if name.endswith(ending)), HDF5)
    try:
        reader: Reader = getattr(import_module(f"training.events.{module}"), function)
    except ModuleNotFoundError as error:
        remedy = f"pip install 'lhc-anomaly[{'root' if module == 'root' else 'train'}]'"
        raise EventsError(f"{path}: reading it needs the package {error.name}: {remedy}") from error
    return reader
