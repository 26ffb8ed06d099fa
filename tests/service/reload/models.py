"""Models for tests of reloads: alike but for the scale of their scores, so that a score tells which one gave it."""

import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
from onnx import numpy_helper

from service.model.artefact import load_artefact
from tests.artefacts import metadata, model, oracle, sample_events, write_artefact

EVENT = sample_events(1)


class Made(NamedTuple):
    """A model's file, its identity, and the score that it gives EVENT."""

    path: Path
    identity: str
    score: float


def make(path: Path, factor: float) -> Made:
    """Write a model whose scores are those of the oracle times `factor`."""
    described = metadata()
    golden = described.golden
    golden.anomaly_scores[:] = [score * factor for score in golden.anomaly_scores]
    built = model(described)
    [scale] = [tensor for tensor in built.graph.initializer if tensor.name == "scale"]
    scale.CopyFrom(numpy_helper.from_array((numpy_helper.to_array(scale) / factor**0.5).astype(np.float32), "scale"))
    write_artefact(path, built)
    return Made(path, load_artefact(path).identity, float(oracle(EVENT)[0]) * factor)


def put(one: Made, served: Path) -> None:
    """Put a model where the service looks, atomically."""
    aside = served.with_suffix(".new")
    shutil.copyfile(one.path, aside)
    aside.rename(served)
