"""Rows of JSON numbers, read straight into a float32 block; in C, and only there where it could be built."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

MORE: Final[int]
"""The data ended before the next row was complete."""
FULL: Final[int]
"""The block has no room for another row."""
END: Final[int]
"""The `]` that ends the list of rows was read."""
ODD: Final[int]
"""What comes next is no row of as many finite float32 numbers as the block has columns."""

def read_rows(data: bytes, start: int, block: NDArray[np.float32], filled: int, /) -> tuple[int, int, int]:
    """Read rows `[number, ...]`, each with the `,` or `]` after it, from data[start:] into block[filled:].

    The block is (capacity, n_features), C-contiguous and writable; the row after those read may be written over.
    Returns the number of rows read, the offset of the first byte after them, and why it stopped: MORE, FULL, END, ODD.
    A number becomes what `np.float32(float(text))` is. Raises ValueError or TypeError for arguments that do not fit.
    """

def read_flat_rows(data: bytes, start: int, block: NDArray[np.float32], filled: int, /) -> tuple[int, int, int]:
    """Read rows as `read_rows` does from one list of numbers without brackets between the rows, after its first one."""

def read_event(data: bytes, start: int, block: NDArray[np.float32], place: int, /) -> int:
    """Read a list of numbers at data[start:] into the row block[place], which may be written over in any case.

    Returns the offset of what follows it and the space after it, or -1 if it is no list of as many finite float32
    numbers as the block has columns. The numbers and arguments are those of `read_rows`.
    """
