"""The log: one JSON object per line on stderr, written by a thread, so that a blocked stderr delays no request."""

import logging.config
import os
import queue
import sys
import threading
import time
from contextlib import suppress
from typing import Final

from pythonjsonlogger.core import RESERVED_ATTRS

WAITING_BYTES: Final = 2**18
"""Maximum bytes of lines that wait to be written; further lines are dropped and counted."""

END_S: Final = 2.0
"""Maximum seconds that the process waits at its end for the last lines to be written."""

BLOCKED_S: Final = 0.05
"""Retry interval in seconds when stderr is non-blocking and full."""


class StderrHandler(logging.Handler):
    """Writes to stderr in a thread of its own."""

    n_dropped = 0
    """Number of lines that this process has dropped."""

    def __init__(self) -> None:
        super().__init__()
        # Not the stream: its lock could block the interpreter's exit, and its number may be reused once it is closed.
        self._descriptor = None if sys.stderr is None else sys.stderr.fileno()
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._n_queued = self._n_written = 0
        self._n_reported = StderrHandler.n_dropped
        self._thread = threading.Thread(target=self._write_lines, daemon=True)
        if self._descriptor is not None:
            self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a line, or drop it if the queue is full."""
        try:
            line = f"{self.format(record)}\n".encode(errors="backslashreplace")
        except Exception:
            self.handleError(record)
            return
        if self._descriptor is None or self._n_queued - self._n_written + len(line) > WAITING_BYTES:
            StderrHandler.n_dropped += 1
            return
        self._n_queued += len(line)
        self._lines.put(line)

    def close(self) -> None:
        """Wait briefly for the last lines to be written."""
        super().close()
        if self._thread.is_alive():
            self._lines.put(None)
            self._thread.join(END_S)

    def _write_lines(self) -> None:
        while (line := self._lines.get()) is not None:
            self._write(line)
            self._n_written += len(line)
            if StderrHandler.n_dropped > self._n_reported and self._n_written == self._n_queued:
                n_dropped, self._n_reported = StderrHandler.n_dropped - self._n_reported, StderrHandler.n_dropped
                logging.getLogger(__name__).warning("log lines were dropped", extra={"lines": n_dropped})

    def _write(self, line: bytes) -> None:
        assert self._descriptor is not None
        with suppress(OSError):  # the reader has gone
            while line:
                try:
                    line = line[os.write(self._descriptor, line) :]
                except BlockingIOError:
                    time.sleep(BLOCKED_S)


def configure_logging(level: str) -> None:
    """Write log records of `level` or above, from any library, and Python's warnings to stderr as JSON lines."""
    logging.captureWarnings(True)
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {
                "json": {
                    "()": "pythonjsonlogger.json.JsonFormatter",
                    "fmt": ["levelname", "name", "process", "message"],
                    "rename_fields": {"levelname": "level", "name": "logger", "process": "pid", "message": "event"},
                    "reserved_attrs": [*RESERVED_ATTRS, "color_message"],  # uvicorn's, for terminals
                    "timestamp": True,
                }
            },
            "handlers": {"stderr": {"()": StderrHandler, "formatter": "json"}},
            "root": {"level": level.upper(), "handlers": ["stderr"]},
        }
    )
