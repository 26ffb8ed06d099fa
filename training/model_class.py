"""The classes of models, by what they know of signals."""

from enum import StrEnum


class ModelClass(StrEnum):
    """What a model knows of signals; figures of two classes do not belong in one table."""

    BACKGROUND_ONLY = "background only"
    STATED_PRIOR = "background + stated prior"  # learned from background, with a preference put in by hand
    EXPOSED = "exposed to signals"
    TRAINED_ON_DATA = "trained on these data"  # the events that it searches took part in the training
