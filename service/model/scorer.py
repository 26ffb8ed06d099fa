"""Features to anomaly scores: the ONNX Runtime session."""

import os
from functools import cache
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from service.model.artefact import GOLDEN_ATOL, GOLDEN_RTOL, INPUT_NAME, OUTPUT_NAME, Artefact, ArtefactError
from service.model.graph import shortened

# Larger calls exceed the processor's cache and make the runtime's memory arena grow permanently.
CHUNK_EVENTS = 4096

# The runtime computes the last rows of a call differently where they do not fill its vectors, and their scores differ
# in the last bit. Calls of whole vectors, the longest of any processor, give an event the same bits in any batch.
VECTOR_EVENTS = 16

# The memory limit of all graphs in a process, for weights and intermediate results: beyond it the runtime raises an
# error, where a graph that unfolds to any size would have the process killed.
RUNTIME_BYTES = 2**30


def whole_vectors(n_events: int) -> int:
    """Round a number of events up to one that fills the runtime's vectors."""
    return -(-n_events // VECTOR_EVENTS) * VECTOR_EVENTS


class Scorer:
    """One ONNX Runtime session on one thread; `score` may be called from several threads at once."""

    def __init__(self, artefact: Artefact) -> None:
        """Open a session for `artefact` and reproduce its golden pairs.

        Raises ArtefactError if the runtime refuses the graph, or gives another score than the golden one.
        """
        onnxruntime = _runtime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 4  # errors are raised as exceptions; stderr is for the service's log
        # Left to guess, the runtime may read bytes that were checked as ONNX in its own format, which is unchecked.
        options.add_session_config_entry("session.load_model_format", "ONNX")
        options.add_session_config_entry("session.use_env_allocators", "1")  # the one limited to RUNTIME_BYTES
        self.artefact = artefact
        try:
            self._session = onnxruntime.InferenceSession(artefact.graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime's exceptions share no base class of their own
            raise ArtefactError(f"ONNX Runtime cannot load {artefact.identity}: {shortened(str(error))}") from error
        self._reproduce_golden_pairs()

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Score `features` (n, n_features) float32, raw and in the artefact's order, as (n,) float32.

        Raises ValueError for another shape or type.
        """
        n_features = self.artefact.n_features
        if features.dtype != np.float32 or features.ndim != 2 or features.shape[1] != n_features:
            raise ValueError(
                f"features are {features.dtype} {features.shape}, expected float32 (n, {n_features}): "
                f"convert them with numpy.asarray(features, numpy.float32).reshape(-1, {n_features})"
            )
        features = np.ascontiguousarray(features)
        if len(features) <= CHUNK_EVENTS:
            return self._run(features)
        scores = np.empty(len(features), np.float32)
        for start in range(0, len(features), CHUNK_EVENTS):
            chunk = slice(start, start + CHUNK_EVENTS)
            scores[chunk] = self._run(features[chunk])
        return scores

    def _run(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        n_events = len(features)
        if n_events % VECTOR_EVENTS:
            filled = np.zeros((whole_vectors(n_events), self.artefact.n_features), np.float32)
            filled[:n_events] = features
            features = filled
        scores: NDArray[np.float32] = self._session.run([OUTPUT_NAME], {INPUT_NAME: features})[0]
        if scores.shape != (len(features),):
            raise ArtefactError(
                f"{self.artefact.identity} gives scores of shape {scores.shape} for {len(features)} events, "
                f"expected one score for each event; export the model again"
            )
        return scores[:n_events]

    def _reproduce_golden_pairs(self) -> None:
        """Score the golden pairs once, and repeated to a chunk of CHUNK_EVENTS, the largest call there is."""
        golden = self.artefact.metadata.golden
        events, expected = np.array(golden.features, np.float32), np.array(golden.anomaly_scores)
        for n_events in (len(events), max(len(events), CHUNK_EVENTS)):
            try:
                scores = self.score(np.resize(events, (n_events, events.shape[1])))
            except ArtefactError:
                raise
            except Exception as error:
                reason = shortened(str(error))
                raise ArtefactError(f"ONNX Runtime cannot run {self.artefact.identity}: {reason}") from error
            close = np.isclose(scores, np.resize(expected, n_events), rtol=GOLDEN_RTOL, atol=GOLDEN_ATOL)
            for event in np.flatnonzero(~close):
                pair = event % len(events)
                raise ArtefactError(
                    f"{self.artefact.identity} does not reproduce golden pair {pair}: got {scores[event]:.9g}, "
                    f"expected {expected[pair]:.9g} within {GOLDEN_RTOL:g} relative; "
                    f"the file is damaged or its export is wrong: export the model again"
                )


@cache
def _runtime() -> ModuleType:
    """Import ONNX Runtime and set its memory limit, once in a process."""
    # Telemetry is on unless this is set before the import. Both are here because importing a module of the service
    # does not touch the environment.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    memory = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    onnxruntime.create_and_register_allocator(memory, onnxruntime.OrtArenaCfg({"max_mem": RUNTIME_BYTES}))
    runtime: ModuleType = onnxruntime
    return runtime
