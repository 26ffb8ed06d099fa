"""The errors that a user of the training commands can cause and correct.

TrainingError
 |- EventsError      a file of events that cannot be used
 |- PartsError       work in parts that cannot be started, resumed or finished
 |- PoolError        processes that cannot be started
 |- CheckpointError  a run that cannot be started, resumed or read
 `- ExportError      a model that may not be written as an artefact

Each says what was wrong, where, what was expected and what to do; the command line prints it as one line.
"""


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
