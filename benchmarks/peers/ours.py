"""Our own service, as a peer like the others."""

import os
import sys

from benchmarks.peers.surface import Floats, Question, json_batch, raw_batch, single

__all__ = ["NAME", "NOTES", "PACKAGES", "PYTHON", "binary_batch", "json_batch", "serve", "single"]

NAME = "this service"
PACKAGES: tuple[str, ...] = ()  # it is what runs this
PYTHON = sys.executable
NOTES = "Its defaults."


def serve(model: str, port: int) -> None:
    """Become `python -m service`."""
    flags = ["--model", model, "--port", str(port), "--workers", "1"]
    os.execv(sys.executable, [sys.executable, "-m", "service", *flags])


def binary_batch(events: Floats) -> Question:
    """Ask for the scores of `events` (n, features) as float32 rows."""
    return raw_batch(events, "/score/batch")
