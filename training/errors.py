"""The errors that a user of the training commands can cause and correct.

TrainingError
 |- EventsError      a file of events that cannot be used
 |- PartsError       work in parts that cannot be started, resumed or finished
 |- PoolError        processes that cannot be started
 |- CheckpointError  a run that cannot be started, resumed or read
 `- ExportError      a model that may not be written as an artefact

Each says what was wrong, where, what was expected and what to do; the command line prints it as one line.
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
    """Anything below; a command ends with this message and exit code 1."""


class EventsError(TrainingError):
    """A file of events cannot be used."""


class PartsError(TrainingError):
    """Work in parts cannot be started, resumed or finished."""


class PoolError(TrainingError):
    """The processes that should share the work cannot be started."""


class CheckpointError(TrainingError):
    """A run's folder cannot be used: missing, incomplete or made with another configuration."""


class ExportError(TrainingError):
    """A graph failed a check that it must pass before it is written."""


class Terminated(BaseException):
    """SIGTERM was received: the command ends now, with its files as an interrupt leaves them."""


def explained(error: OSError) -> str:
    """Return what an error of the system says, without its number: reason, remedy where one is known, and file."""
    reason = error.strerror or str(error)
    if error.errno in _REMEDIES and reason == os.strerror(error.errno):
        reason = f"{reason}; {_REMEDIES[error.errno]}"
    return reason if error.filename is None else f"{reason}: {error.filename}"
