"""Standard streams that cost no command its result: closed or full ones, pipes without a reader, odd encodings."""

import io
import os
import sys
from typing import Any


class _Stream(io.FileIO):
    """A standard stream that discards what is written after its reader has gone; standard error, after any error.

    Standard output raises any other error once.
    """

    def __init__(self, descriptor: int, discards: bool) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._discards = discards

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            if self._discards or isinstance(error, BrokenPipeError):
                return super().write(data)
            raise


def replace_streams() -> None:
    """Replace standard output and error for the rest of the process; a closed one becomes the null device."""
    for name, errors in (("stdin", None), ("stdout", "replace"), ("stderr", "backslashreplace")):
        stream = getattr(sys, name)
        if stream is None:  # its number is free: the next file would get it, and what C libraries print
            descriptor, encoding = os.open(os.devnull, os.O_RDWR), "utf-8"
            os.set_inheritable(descriptor, True)
        else:
            descriptor, encoding = stream.fileno(), stream.encoding
        if errors:
            binary = io.BufferedWriter(_Stream(descriptor, discards=name == "stderr"))
            setattr(sys, name, io.TextIOWrapper(binary, encoding, errors, line_buffering=True))
