"""Files of finished parts, in NumPy's .npy format."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.errors import PartsError
from training.files import atomic_write


def write_part(path: Path, rows: NDArray[Any]) -> None:
    """Write the rows of a part atomically. Raises OSError when the file cannot be written."""
    whole = BytesIO()  # in memory first, because NumPy does not report a full disk
    np.save(whole, rows)
    with atomic_write(path) as temporary:
        temporary.write_bytes(whole.getbuffer())


def read_part(path: Path, events: int) -> NDArray[np.float32]:
    """Return the rows of a finished part, (events, ...). Raises PartsError when it is damaged."""
    try:
        rows: NDArray[np.float32] = np.load(path)
    except (ValueError, EOFError) as error:
        raise PartsError(f"{path} is damaged: {error}. Remove it and repeat the command.") from error
    if len(rows) != events:
        raise PartsError(f"{path} has {len(rows)} rows, expected {events}. Remove it and repeat the command.")
    return rows
