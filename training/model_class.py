"""Classes of models, by the information about signals that they use."""

from enum import StrEnum


class ModelClass(StrEnum):
    """The information about signals that a model uses. Results of different classes are not comparable."""

    BACKGROUND_ONLY = "background only"
    STATED_PRIOR = "background + stated prior"  # trained on background, with a preference set by hand
    EXPOSED = "exposed to signals"
    TRAINED_ON_DATA = "trained on these data"  # the searched events were used in the training
