"""Errors that a user of the training commands can correct.

TrainingError
 |- EventsError      an events file that cannot be used
 |- PartsError       work in parts that cannot be started, resumed or finished
 |- PoolError        worker processes that cannot be started
 |- CheckpointError  a run that cannot be started, resumed or read
 `- ExportError      a model that cannot be written as an artefact

Each message names the place, the problem, the expectation and the remedy; the command line prints it as one line.
"""

import errno
import os

_REMEDIES = {
    errno.ENOENT: "check the path",
    errno.EACCES: "change its permissions, or choose another",
    errno.ENOSPC: "make room and repeat the command",
    errno.EDQUOT: "make room and repeat the command",
}


class TrainingError(Exception):
    """Base class of these errors; a command prints the message and ends with exit code 1."""


class EventsError(TrainingError):
    """An events file cannot be used."""


class PartsError(TrainingError):
    """Work in parts cannot be started, resumed or finished."""


class PoolError(TrainingError):
    """The worker processes cannot be started."""


class CheckpointError(TrainingError):
    """A run's folder cannot be used: missing, incomplete or made with another configuration."""


class ExportError(TrainingError):
    """A graph failed a check before it was written."""


class Terminated(BaseException):
    """SIGTERM was received; the command ends, and its files are left as after an interrupt."""


def explained(error: OSError) -> str:
    """Return the message of an OSError without its number: reason, remedy if one is known, and file."""
    reason = error.strerror or str(error)
    if error.errno in _REMEDIES and reason == os.strerror(error.errno):
        reason = f"{reason}; {_REMEDIES[error.errno]}"
    return reason if error.filename is None else f"{reason}: {error.filename}"
