"""The shipped graphs score as other runtimes compute them, by the formulas of the ONNX standard."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from service.model.artefact import GOLDEN_ATOL, GOLDEN_RTOL, INPUT_NAME, OUTPUT_NAME, load_artefact
from service.model.scorer import Scorer
from tests.training import samples
from training.events.events import read_events
from training.fitting.export import extreme_events

EXPORTED = Path(__file__).parents[3] / "exported"
LARGEST = np.finfo(np.float32).max


class Softplus(OpRun):
    """The operator by the formula of the standard, in float32."""

    op_domain = ""

    def _run(self, values: NDArray[np.float32], **_: Any) -> tuple[NDArray[np.float32]]:
        return (np.log(np.exp(values) + np.float32(1)),)


@pytest.mark.parametrize("model", ["autoencoder.onnx", "exposed/autoencoder.onnx"])
def test_another_runtime_gives_the_same_scores(model: str) -> None:
    """Where softplus is computed as ln(1 + e^x), extreme events score finitely too, and the same."""
    artefact = load_artefact(EXPORTED / model)
    ordinary = read_events(EXPORTED / "sample.h5").features[:500]
    extreme = np.stack([np.full(14, LARGEST), np.full(14, -LARGEST), *extreme_events()]).astype(np.float32)
    events = np.concatenate([ordinary, samples.degenerate(), extreme])
    expected = Scorer(artefact).score(events)
    assert expected.max() > 100  # where e^x is beyond float32
    reference = ReferenceEvaluator(onnx.load_model_from_string(artefact.graph), new_ops=[Softplus])
    outputs = reference.run([OUTPUT_NAME], {INPUT_NAME: events})
    assert isinstance(outputs, list)
    found = np.asarray(outputs[0])
    assert np.all(np.isfinite(found))
    np.testing.assert_allclose(found, expected, rtol=GOLDEN_RTOL, atol=GOLDEN_ATOL)
