"""FastAPI with eager torch: the module that was exported, rebuilt from the graph's configuration and weights."""

import json
import sys

from benchmarks.peers.fastapi_app import WEB_PACKAGES, run
from benchmarks.peers.surface import Floats, Score, json_batch, single
from benchmarks.peers.surface import raw_batch as binary_batch

__all__ = ["NAME", "NOTES", "PACKAGES", "PYTHON", "binary_batch", "json_batch", "serve", "single"]

NAME = "FastAPI + torch"
PACKAGES: tuple[str, ...] = (
    *WEB_PACKAGES,
    "torch==2.13.0",
    "onnx==1.23.2",
    "numpy==2.4.6",
    *("scikit-learn==1.9.1", "h5py==3.16.0", "hdf5plugin==7.1.0", "msgspec==0.22.0"),  # what training.detectors imports
)
PYTHON = sys.executable
NOTES = "The same application; torch runs eagerly, in inference mode, on one thread."


def serve(model: str, port: int) -> None:
    """Serve the module of the graph at the path `model` until SIGTERM."""
    run(open_module(model), port)


def open_module(model: str) -> Score:
    """Rebuild the torch module whose export the file at `model` is, and return what scores events with it."""
    import onnx
    import torch
    from onnx import numpy_helper

    from training.detectors.presets import TrainingConfig
    from training.detectors.scorer import AnomalyScorer

    torch.set_num_threads(1)  # one core: more threads would only wait
    exported = onnx.load(model)
    described = {
        prop.key: json.loads(prop.value) for prop in exported.metadata_props if prop.key in ("training", "scaler")
    }
    module = AnomalyScorer(TrainingConfig(**described["training"]["configuration"])).eval()
    constants = {tensor.name: torch.tensor(numpy_helper.to_array(tensor)) for tensor in exported.graph.initializer}
    # The graph has the scaler's constants folded into a product.
    constants |= {f"scaler.{name}": torch.tensor(described["scaler"][name]) for name in ("mean", "scale")}
    module.load_state_dict({name: constants[name] for name in module.state_dict()})

    @torch.inference_mode()
    def score(events: Floats) -> Floats:
        scores: Floats = module(torch.tensor(events)).numpy()
        return scores

    return score
