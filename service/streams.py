"""Standard streams that never fail a command: closed or full ones, pipes without a reader, odd encodings."""

import io
import os
import sys
from typing import Any, TextIO

import click


class OutputError(OSError):
    """Standard output cannot be written, for a reason other than a reader that has gone."""


class _Stream(io.FileIO):
    """A standard stream that discards output after its reader has gone.

    On any other error, such as a full disk, standard error discards the text, and standard output raises OutputError
    once.
    """

    def __init__(self, descriptor: int, discards: bool) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._discards = discards

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            gone = isinstance(error, BrokenPipeError)
            if gone or not self._discards:
                os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            if gone or self._discards:
                return len(data)
            raise OutputError(error.errno, f"standard output cannot be written: {error.strerror}") from error


def replace_streams() -> None:
    """Replace standard output and error for the rest of the process; a closed one becomes the null device."""
    for name, errors in (("stdin", None), ("stdout", "replace"), ("stderr", "backslashreplace")):
        stream = getattr(sys, name)
        if stream is None:  # else the next file would get its number, and the output of C libraries
            descriptor, encoding = os.open(os.devnull, os.O_RDWR), "utf-8"
            os.set_inheritable(descriptor, True)
        else:
            descriptor, encoding = stream.fileno(), stream.encoding
        if errors:
            binary = io.BufferedWriter(_Stream(descriptor, discards=name == "stderr"))
            setattr(sys, name, io.TextIOWrapper(binary, encoding, errors, line_buffering=True))


def coloured(text: str, stream: TextIO, **style: Any) -> str:
    """Style a text as click.style does if the stream is a terminal and NO_COLOR is unset or empty."""
    shown = stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return click.style(text, **style) if shown else text
