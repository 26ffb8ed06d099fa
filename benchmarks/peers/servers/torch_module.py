"""The module that was exported, in eager torch: rebuilt from the graph's configuration and weights."""

import json

from benchmarks.peers.servers.graph import Floats, Score


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
    # Of the range, files of older exports have nothing, and no file has what only the export looks at.
    wanted = [name for name in module.state_dict() if name in constants or not name.startswith("range.")]
    module.load_state_dict({name: constants[name] for name in wanted}, strict=False)

    @torch.inference_mode()
    def score(events: Floats) -> Floats:
        scores: Floats = module(torch.tensor(events)).numpy()
        return scores

    return score
