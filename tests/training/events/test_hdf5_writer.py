"""What is written to HDF5, pandas and PyTables open; it appears whole or not at all."""

import errno
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tables

from training.errors import EventsError
from training.events.hdf5_writer import write_frame
from training.events.readers import open_frame


def test_pandas_opens_what_is_written(tmp_path: Path) -> None:
    """Values, dtypes and the order of columns come back to the last bit, whatever chunks they were written in.

    PyTables knows every node, compressed as any HDF5 can read.
    """
    path, rows = tmp_path / "events.h5", 120_000
    values = np.random.default_rng(7).normal(0, 1000, (rows, 3)).astype("f4")
    written = pd.DataFrame(values, columns=["a", "b", "c"]).assign(label=np.arange(rows) % 3, n=np.int16(3))
    written = written.assign(score=np.linspace(0, 1, rows))[["label", "a", "score", "b", "c", "n"]]
    parts = [written[:1], written[1:900], *(written[i : i + 30_011] for i in range(900, rows, 30_011))]
    write_frame(path, ({name: part[name].to_numpy() for name in part} for part in parts), {"model": "density@1"})
    opened = pd.read_hdf(path)
    pd.testing.assert_frame_equal(opened, written, check_index_type=False)
    assert opened.index.tolist() == list(range(rows))
    with open_frame(path) as frame:
        assert frame.columns == tuple(written.columns)
        np.testing.assert_array_equal(frame.read(frame.columns), written.to_numpy(np.float64))
    with tables.open_file(str(path)) as file:
        assert {type(node).__name__ for node in file.walk_nodes("/df", "Leaf")} == {"Array", "EArray"}
        assert file.root.df.block0_values.filters.complib == "zlib"


def stopped(path: Path, program: str) -> list[str]:
    """Run a program on a file, which must stay as it was, and return the lines that it prints; it must end well."""
    path.write_text("old")
    ended = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    assert ended.stderr == ""
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]
    return ended.stdout.splitlines()


@pytest.mark.process
def test_a_full_disk_is_one_error_whenever_it_comes(tmp_path: Path) -> None:
    """Wherever the room ends, the error of the system is raised, the old file stays, and the process ends well."""
    program = """
import resource, sys, numpy as np
from training.events.hdf5_writer import write_frame
rows = np.random.default_rng(0).normal(size=(4, 50_000)).astype("f4")
for limit in (0, 100, 2048, 5000, 100_000, 600_000, 700_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        write_frame(sys.argv[1], [{"a": values} for values in rows])
    except OSError as error:
        print(error.errno, error.filename)
"""
    assert stopped(tmp_path / "events.h5", program) == [f"{errno.EFBIG} {tmp_path / 'events.h5'}"] * 7


@pytest.mark.process
def test_an_interrupt_is_one_exception_whenever_it_comes(tmp_path: Path) -> None:
    """Wherever SIGINT arrives, in HDF5 too, it is raised once, the old file stays, and the process ends well."""
    program = """
import itertools, os, signal, sys, threading, numpy as np
from training.events.hdf5_writer import write_frame
rows = np.random.default_rng(0).normal(size=20_000)
for attempt in range(15):
    threading.Timer(0.02 + 0.005 * attempt, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        write_frame(sys.argv[1], itertools.repeat({"a": rows}))
    except KeyboardInterrupt:
        print("interrupted")
"""
    assert stopped(tmp_path / "events.h5", program) == ["interrupted"] * 15


def test_no_rows_write_no_file(tmp_path: Path) -> None:
    """A file without rows could not be read again, and so is not written."""
    for chunks in ([], [{"a": np.empty(0)}]):
        with pytest.raises(EventsError, match=r"events\.h5: there are no rows to write"):
            write_frame(tmp_path / "events.h5", chunks)
    assert list(tmp_path.iterdir()) == []


def test_chunks_that_do_not_fit_are_refused(tmp_path: Path, subtests: pytest.Subtests) -> None:
    """Columns, their order, dtypes and lengths must agree, and be numbers; an old file is then left alone."""
    path, first = tmp_path / "events.h5", {"a": np.ones(3), "b": np.ones(3)}
    path.write_text("old")
    cases: list[tuple[list[dict[str, Any]], str]] = [
        ([first, {"a": np.ones(2)}], "after row 3, expected"),
        ([first, {"b": np.ones(2), "a": np.ones(2)}], "after row 3, expected"),
        ([first, {"a": np.ones(2, "f4"), "b": np.ones(2)}], "after row 3, expected"),
        ([first, {"a": np.ones(2), "b": np.ones(1)}], r"different lengths \[1, 2\] after row 3"),
        *(([{"a": np.array([value])}], "column 'a' is .*, expected floats or") for value in ("x", True, 1j)),
    ]
    for chunks, reason in cases:
        with subtests.test(reason=reason, first=str(chunks[0])):
            with pytest.raises(ValueError, match=reason):
                write_frame(path, chunks)
            assert path.read_text() == "old"
            assert list(tmp_path.iterdir()) == [path]
