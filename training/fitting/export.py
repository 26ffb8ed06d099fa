"""Export: a trained run as one self-describing ONNX file, checked against torch."""

import copy
import logging
import subprocess
import warnings
from dataclasses import asdict
from pathlib import Path

import msgspec
import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnxscript import opset20

from service import __version__
from service.model.artefact import (
    GOLDEN_ATOL,
    GOLDEN_RTOL,
    INPUT_NAME,
    NETWORK_SCORE_NAME,
    OUTPUT_NAME,
    SCHEMA_VERSION,
    Artefact,
    GoldenPairs,
    Metadata,
    Scaler,
    with_metadata,
)
from service.model.scorer import Scorer
from training.detectors.presets import check_config
from training.detectors.quantum import QuantumAutoencoder
from training.detectors.scorer import AnomalyScorer
from training.detectors.weak import WeakScorer
from training.errors import EventsError, ExportError
from training.events.events import FEATURE_NAMES, digest
from training.events.features import DIJET, FeatureSet
from training.fitting.reference import make_reference
from training.fitting.run import Run, read_source, split
from training.fitting.working_points import check_floor, derive_working_points

OPSET = 20

# Tolerance between the scores of the exported graph and of torch. Both compute in float32, with different orders of
# summation; a relative error of 1e-4 is within the uncertainty of the thresholds.
PARITY_RTOL = 1e-4
PARITY_ATOL = 1e-6
PARITY_BATCHES = (1, 2, 7, 4096)

GOLDEN_PAIRS = 8


def export(run: Run, calibration: NDArray[np.float32], model_version: str) -> Artefact:
    """Return the run's best detector as an artefact, with working points from background features (m, n).

    Thresholds are computed from the scores of the exported graph, with which they are compared. Raises ExportError when
    these differ from torch's by more than PARITY_RTOL and as `check_floor` does, TrainingError for a configuration that
    an artefact cannot have, and ArtefactError when the service would not accept the file.
    """
    check_config(run.config)
    scorer = run.best_scorer()
    return artefact_of(scorer, describe(run, scorer, model_version, calibration), calibration)


def artefact_of(scorer: AnomalyScorer | WeakScorer, metadata: Metadata, calibration: NDArray[np.float32]) -> Artefact:
    """Return a detector as an artefact with working points from features (m, n). Raises errors as `export` does."""
    graph = to_onnx(scorer)
    exported = Scorer(with_metadata(graph, metadata))
    check_parity(exported, scorer, calibration)
    scores, floor = exported.score(calibration), scorer.range.floor.item()
    points = derive_working_points(scores, digest(calibration))
    check_floor(points, floor)
    reference = make_reference(calibration, scores, floor)
    return with_metadata(graph, msgspec.structs.replace(metadata, working_points=points, reference=reference))


def to_onnx(scorer: AnomalyScorer | WeakScorer) -> onnx.ModelProto:
    """Return the graph of a detector: `features` float32 (batch, n) -> `anomaly_score` float32 (batch,)."""
    example = torch.zeros(2, len(scorer.features.names))  # a batch of one would become a constant of the graph
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch's own, about its internals
        warnings.simplefilter("ignore", FutureWarning)
        program = torch.onnx.export(
            scorer.eval(),
            (example,),
            dynamo=True,
            external_data=False,
            opset_version=OPSET,
            input_names=[INPUT_NAME],
            output_names=[OUTPUT_NAME],
            dynamic_shapes={"features": {0: torch.export.Dim("batch")}},
            # The exporter's own translation adds a comparison and a selection, which ONNX Runtime does not need.
            custom_translation_table={torch.ops.aten.softplus.default: opset20.Softplus},
            verbose=False,
        )
    if program is None:
        raise ExportError("torch returned no ONNX program: the installed torch is not the one this project asks for")
    graph: onnx.ModelProto = program.model_proto
    _name_network_score(graph.graph)
    # The exporter stores stack traces, with paths of this machine, in every node.
    for node in graph.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    for field in (graph.graph, *graph.graph.value_info, *graph.graph.input, *graph.graph.output):
        field.ClearField("metadata_props")
    onnx.checker.check_model(graph, full_check=True)
    return graph


def _name_network_score(graph: onnx.GraphProto) -> None:
    """Name the network's score, an input of the final Max operator, for explanations."""
    (last,) = (node for node in graph.node if OUTPUT_NAME in node.output)
    if last.op_type != "Max":
        raise ExportError(f"the graph ends with {last.op_type}, expected Max of the network's score and the range's")
    found = last.input[0]
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [NETWORK_SCORE_NAME if name == found else name for name in names]
    for value in graph.value_info:
        if value.name == found:
            value.name = NETWORK_SCORE_NAME


def torch_scores(scorer: AnomalyScorer | WeakScorer, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return torch's scores (m,) of features (m, n), the reference that all other implementations must reproduce."""
    with torch.no_grad():
        scores: NDArray[np.float32] = scorer(torch.from_numpy(np.ascontiguousarray(features))).numpy()
    return scores


def extreme_events(features: FeatureSet = DIJET) -> NDArray[np.float32]:
    """Return numerically extreme events, (m, n): zeros, huge values, empty jets, negative masses."""
    scales = np.array([0.0, 1e-30, 1e-3, 1.0, 1e3, 1e6, 1e35], dtype=np.float32)
    if not features.of_jets:
        return np.outer(np.concatenate([scales, -scales]), np.ones(len(features.names))).astype(np.float32)
    ordinary = np.array([900, 900, 500, 150, 100, 50, 30] * 2, dtype=np.float32)
    no_second_jet = np.where(np.arange(14) < 7, ordinary, 0)
    negative_mass = np.where(np.isin(np.arange(14), (3, 10)), -3e-5, ordinary)
    return np.concatenate(
        [scales[:, None] * ordinary, -scales[:, None] * ordinary, [no_second_jet, negative_mass]]
    ).astype(np.float32)


def check_parity(exported: Scorer, reference: AnomalyScorer | WeakScorer, features: NDArray[np.float32]) -> None:
    """Raise ExportError unless graph and torch agree for all batch sizes in PARITY_BATCHES and for extreme events."""
    repeated = np.resize(features, (max(PARITY_BATCHES), features.shape[1]))
    for batch in (*(repeated[:size] for size in PARITY_BATCHES), extreme_events(reference.features)):
        found, expected = exported.score(batch), torch_scores(reference, batch)
        # A score that is not finite is an error even if torch returns the same: every event must have a score.
        wrong = ~np.isclose(found, expected, rtol=PARITY_RTOL, atol=PARITY_ATOL) | ~np.isfinite(found)
        if wrong.any():
            event = int(np.flatnonzero(wrong)[0])
            raise ExportError(
                f"the graph scores event {event} of a batch of {len(batch)} as {found[event]:.9g} and torch as "
                f"{expected[event]:.9g}, expected agreement within {PARITY_RTOL:g} relative: nothing was written. "
                f"The event is {batch[event].tolist()}"
            )


def code_version() -> str:
    """Return the version of this code, with the commit if it runs from its own checkout, and `-dirty` if modified."""
    root = Path(__file__).resolve().parents[2]

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True).stdout

    try:
        if Path(git("rev-parse", "--show-toplevel").strip()) != root:  # installed inside another repository
            return __version__
        return f"{__version__}+{git('describe', '--always', '--dirty', '--exclude=*', '--abbrev=12').strip()}"
    except (OSError, subprocess.CalledProcessError):
        return __version__


def describe(run: Run, scorer: AnomalyScorer, model_version: str, calibration: NDArray[np.float32]) -> Metadata:
    """Return the metadata without working points and reference, with golden pairs from calibration features (m, n)."""
    training_rows, held_out_rows = split(run.source.events, run.config)
    return Metadata(
        schema_version=SCHEMA_VERSION,
        model_name=run.config.name,
        model_version=model_version,
        feature_names=list(scorer.features.names),
        feature_units=list(scorer.features.units),
        scaler=Scaler(list(scorer.feature_map.names), scorer.scaler.mean.tolist(), scorer.scaler.scale.tolist()),
        working_points=[],
        training={
            "class": str(run.config.model_class),
            "configuration": asdict(run.config),
            "exposure": {"events": run.exposure.events, "sha256": run.exposure.sha256} if run.exposure else None,
            "training_events": len(training_rows),
            "held_out_events": len(held_out_rows),
            "epochs": len(run.curve),
            "best_epoch": run.best_epoch.epoch,
            "held_out_loss": run.best_epoch.validation_loss,
            "torch": str(torch.__version__),
            **(scorer.network.facts if isinstance(scorer.network, QuantumAutoencoder) else {}),
        },
        data_sha256=run.source.sha256,
        code_version=code_version(),
        golden=golden_pairs(scorer, calibration),
    )


def golden_pairs(scorer: AnomalyScorer | WeakScorer, calibration: NDArray[np.float32]) -> GoldenPairs:
    """Return events with torch's scores: from the least to the most anomalous of (m, n), and from far out in the tail.

    Events in the tail are left out if their scores in float32 and float64 differ by more than a tenth of the golden
    tolerance, because processors round differently.
    """
    order = np.argsort(torch_scores(scorer, calibration))
    far = tail_events(calibration[order[len(order) // 2]], scorer.features)
    with torch.no_grad():
        exact = copy.deepcopy(scorer).double()(torch.from_numpy(far).double()).numpy()
    stable = np.isclose(torch_scores(scorer, far), exact, rtol=GOLDEN_RTOL / 10, atol=GOLDEN_ATOL / 10)
    evenly = np.linspace(0, len(order) - 1, GOLDEN_PAIRS).astype(int)
    features = np.concatenate([calibration[order[evenly]], far[stable]])
    return GoldenPairs(features.tolist(), torch_scores(scorer, features).tolist())


def tail_events(ordinary: NDArray[np.float32], features: FeatureSet = DIJET) -> NDArray[np.float32]:
    """Return variations of an ordinary event (n,) that are far out in the tail: (m, n)."""
    if not features.of_jets:
        apart = np.diag(1000 * (1 + np.abs(ordinary)))
        scaled = np.stack([ordinary * 1000, ordinary / 1000])
        return np.concatenate([scaled, ordinary + apart, ordinary - apart]).astype(np.float32)
    jets = ordinary.reshape(2, 7)
    one_jet, reversed_taus = np.concatenate([jets[0], 0 * jets[1]]), jets[:, [0, 1, 2, 3, 6, 5, 4]].reshape(14)
    far = [ordinary * np.float32(1000), ordinary / np.float32(1000), one_jet, reversed_taus]
    for name, value in (("tau3j1", 1e5), ("mj2", 2e4), ("pzj1", -1e5), ("pyj2", 1e6), ("tau1j2", -10.0)):
        event = ordinary.copy()
        event[FEATURE_NAMES.index(name)] = value
        far.append(event)
    return np.stack(far)


def read_held_out(run: Run) -> NDArray[np.float32]:
    """Return the features of the run's held-out part, (m, n). Raises ExportError if its events file has changed."""
    source = run.source
    try:
        _, features = read_source(list(map(Path, source.files)), source.layout, list(map(Path, source.labels)))
    except EventsError as error:
        raise ExportError(
            f"the events that the run was trained on cannot be read: {error} Or give background with --calibration."
        ) from error
    if digest(features) != run.source.sha256:
        raise ExportError(
            f"{', '.join(source.files)} no longer hold the events that the run was trained on; give background with "
            "--calibration"
        )
    return features[split(len(features), run.config)[1]]
