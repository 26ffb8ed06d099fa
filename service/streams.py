"""Standard streams that cost no command its result: closed or full ones, pipes without a reader, odd encodings."""

import io
import os
import sys
from typing import Any, TextIO

import click


class OutputError(OSError):
    """Standard output cannot be written, and not because nothing reads it any more."""


class _Stream(io.FileIO):
    """A standard stream that discards what is written after its reader has gone.

    Standard error discards what meets any other error, as on a full disk; standard output raises OutputError once.
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
        if stream is None:  # its number is free: the next file would get it, and what C libraries print
            descriptor, encoding = os.open(os.devnull, os.O_RDWR), "utf-8"
            os.set_inheritable(descriptor, True)
        else:
            descriptor, encoding = stream.fileno(), stream.encoding
        if errors:
            binary = io.BufferedWriter(_Stream(descriptor, discards=name == "stderr"))
            setattr(sys, name, io.TextIOWrapper(binary, encoding, errors, line_buffering=True))


def coloured(text: str, stream: TextIO, **style: Any) -> str:
    """Give a text the style of click.style where the stream is a terminal, and NO_COLOR is not set or empty."""
    shown = stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return click.style(text, **style) if shown else text
