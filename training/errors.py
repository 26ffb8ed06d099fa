"""The errors that a user of the training commands can cause and mend.

TrainingError
 |- EventsError      a file of events that cannot be used
 |- PartsError       a file made in parts that cannot be begun, resumed or finished
 |- CheckpointError  a run that cannot be started, resumed or read
 `- ExportError      a model that may not be written as an artefact

Each says what was wrong, where, what was expected and what to do; the command line prints it as one line.
"""


class TrainingError(Exception):
    """Anything below; a command ends with this message and exit code 1."""


class EventsError(TrainingError):
    """A file of events cannot be used."""


class PartsError(TrainingError):
    """A file that is made in parts cannot be begun, resumed or finished."""


class CheckpointError(TrainingError):
    """A run's folder cannot be used: missing, incomplete or made with another configuration."""


class ExportError(TrainingError):
    """A graph failed a check that it must pass before it is written."""


class Terminated(BaseException):
    """SIGTERM arrived: end now, and leave things as tidy as an interrupt does."""
