"""The score of a model's stated prior without the learned part, as a baseline."""

import numpy as np
from numpy.typing import NDArray

from service.model.artefact import Artefact
from training.evaluation.facts import class_of
from training.evaluation.model import features_of
from training.events.kinematics import SIMPLE, ln_simple
from training.model_class import ModelClass

Floats = NDArray[np.float64]


def prior_scores(artefact: Artefact, features: NDArray[np.floating]) -> Floats | None:
    """Return the score of a model's stated prior alone for features (n, 14), (n,): higher for simpler jets.

    It is the sum of those quantities of SIMPLE of both jets that the model uses, with their signs, in standard
    deviations of its training. Return None for a model without a prior or without these constants.
    """
    scaler = artefact.metadata.scaler
    constants = dict(zip(scaler.names, zip(scaler.mean, scaler.scale, strict=True), strict=True))
    if class_of(artefact.metadata.training) is not ModelClass.STATED_PRIOR or not features_of(artefact).of_jets:
        return None
    seen = {name: values for name, values in ln_simple(features).items() if name in constants}
    if not seen:
        return None
    total = np.zeros(len(features))
    for name, values in seen.items():
        mean, deviation = constants[name]
        total += SIMPLE[name[: -len("j1")]] * (values - mean) / deviation
    return total
