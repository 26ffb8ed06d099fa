"""Features to anomaly scores: the ONNX Runtime session."""

import os
from copy import copy
from functools import cache
from types import ModuleType
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from service.model.artefact import (
    GOLDEN_ATOL,
    GOLDEN_RTOL,
    INPUT_NAME,
    OUTPUT_NAME,
    Artefact,
    ArtefactError,
    load_artefact,
)
from service.model.graph import of_network, parse_model, shortened
from service.model.rows import Frame, as_rows

# Larger calls exceed the processor's cache and make the runtime's memory arena grow permanently.
CHUNK_EVENTS = 4096

# The runtime computes the last rows of a call differently where they do not fill its vectors, and their scores differ
# in the last bit. Calls of whole vectors, the longest of any processor, give an event the same bits in any batch.
VECTOR_EVENTS = 16

# The memory limit of all graphs in a process, for weights and intermediate results: beyond it the runtime raises an
# error, where a graph that unfolds to any size would have the process killed.
RUNTIME_BYTES = 2**30


# Events that are scored among others when a model is verified, and the feature values of the others.
INDEPENDENT_EVENTS = 8
FOREIGN_FEATURES = (1.0, -1.0, 1e30, -1e30)


def whole_vectors(n_events: int) -> int:
    """Round a number of events up to one that fills the runtime's vectors."""
    return -(-n_events // VECTOR_EVENTS) * VECTOR_EVENTS


class Scorer:
    """One ONNX Runtime session on one thread; several threads may use it at once."""

    def __init__(self, artefact: Artefact) -> None:
        """Open a session for `artefact`, reproduce its golden pairs and score them among other events.

        Raises ArtefactError if the runtime refuses the graph, gives another score than the golden one, or gives a score
        that depends on the other events of the call.
        """
        self.artefact = artefact
        self._session = self._open(artefact.graph)
        try:
            self._reproduce_golden_pairs()
            self._require_independence()
        except ArtefactError:
            raise
        except Exception as error:
            raise ArtefactError(f"ONNX Runtime cannot run {artefact.identity}: {shortened(str(error))}") from error

    def of_network(self) -> Self:
        """Return a scorer without the check of the training's range; this one if the graph has no such output."""
        network = of_network(parse_model(self.artefact.graph))
        if network is None:
            return self
        scorer = copy(self)
        scorer._session = self._open(network.SerializeToString())
        return scorer

    def _open(self, graph: bytes) -> Any:
        """Open a session for a graph; raises ArtefactError."""
        onnxruntime = _runtime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 4  # errors are raised as exceptions; stderr is for the service's log
        # Without it, the runtime might read the bytes, which were checked as ONNX, in its own unchecked format.
        options.add_session_config_entry("session.load_model_format", "ONNX")
        options.add_session_config_entry("session.use_env_allocators", "1")  # the one limited to RUNTIME_BYTES
        try:
            return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime's exceptions share no base class of their own
            raise ArtefactError(
                f"ONNX Runtime cannot load {self.artefact.identity}: {shortened(str(error))}"
            ) from error

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Verify the artefact at `path` and open a session for it; raises ArtefactError."""
        return cls(load_artefact(path))

    def score(self, events: ArrayLike | Frame) -> NDArray[np.float32]:
        """Score `events` as (n,) float32: raw features (n, n_features) in the artefact's order, or a frame with them.

        A frame, such as one of pandas, has a column for each feature; other columns are ignored. Raises ValueError for
        other shapes, missing columns and values that are not finite numbers.
        """
        return self.score_rows(as_rows(events, self.artefact.metadata.feature_names))

    def score_rows(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Score `rows` (n, n_features), finite float32, as (n,) float32, without checks."""
        rows = np.ascontiguousarray(rows)
        if len(rows) <= CHUNK_EVENTS:
            return self._run(rows)
        scores = np.empty(len(rows), np.float32)
        for start in range(0, len(rows), CHUNK_EVENTS):
            chunk = slice(start, start + CHUNK_EVENTS)
            scores[chunk] = self._run(rows[chunk])
        return scores

    def bind(self, rows: NDArray[np.float32]) -> "BoundRows":
        """Bind `rows` (n, n_features), n whole vectors, to score their first rows in place after each change."""
        return BoundRows(self._session, rows)

    def _run(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        n_events = len(features)
        if n_events % VECTOR_EVENTS:
            filled = np.empty((whole_vectors(n_events), features.shape[1]), np.float32)
            filled[:n_events], filled[n_events:] = features, 0
            features = filled
        scores: NDArray[np.float32] = self._session.run([OUTPUT_NAME], {INPUT_NAME: features})[0]
        if scores.shape != (len(features),):
            raise ArtefactError(
                f"{self.artefact.identity} gives scores of shape {scores.shape} for {len(features)} events, "
                f"expected one score for each event; export the model again"
            )
        return scores[:n_events]

    def _reproduce_golden_pairs(self) -> None:
        """Score the golden pairs once, and repeated to a chunk of CHUNK_EVENTS, the largest call."""
        golden = self.artefact.metadata.golden
        events, expected = np.array(golden.features, np.float32), np.array(golden.anomaly_scores)
        for n_events in (len(events), max(len(events), CHUNK_EVENTS)):
            scores = self.score_rows(np.resize(events, (n_events, events.shape[1])))
            close = np.isclose(scores, np.resize(expected, n_events), rtol=GOLDEN_RTOL, atol=GOLDEN_ATOL)
            for event in np.flatnonzero(~close):
                pair = event % len(events)
                raise ArtefactError(
                    f"{self.artefact.identity} does not reproduce golden pair {pair}: got {scores[event]:.9g}, "
                    f"expected {expected[pair]:.9g} within {GOLDEN_RTOL:g} relative; "
                    f"the file is damaged or its export is wrong: export the model again"
                )

    def _require_independence(self) -> None:
        """Require the same bits for golden events among zeros, which are the padding, and among other events.

        Calls of the same length take the same path through the runtime, so only the graph can mix events.
        """
        golden = np.array(self.artefact.metadata.golden.features, np.float32)
        rows = np.zeros((INDEPENDENT_EVENTS, 2, golden.shape[1]), np.float32)
        rows[:, 0] = np.resize(golden, rows[:, 0].shape)  # every other row
        alone = self.score_rows(rows.reshape(-1, rows.shape[2]))[::2]
        for foreign in (*FOREIGN_FEATURES, np.roll(rows[:, 0], 1, axis=0) * 1.5):
            rows[:, 1] = foreign
            among = self.score_rows(rows.reshape(-1, rows.shape[2]))[::2]
            for event in np.flatnonzero(alone.view(np.uint32) != among.view(np.uint32)):
                raise ArtefactError(
                    f"{self.artefact.identity} mixes events: golden pair {event % len(golden)} scores "
                    f"{alone[event]:.9g}, and {among[event]:.9g} among others; "
                    f"export a graph in which no operator reduces over the batch"
                )


class BoundRows:
    """Rows that are bound to the runtime once and scored in place, which saves a quarter of a short call.

    Not safe for use by several threads at once.
    """

    def __init__(self, session: Any, rows: NDArray[np.float32]) -> None:
        self._session = session
        self._rows = rows
        self._scores = np.empty(len(rows), np.float32)
        self._bindings = [self._bind(n_rows) for n_rows in range(VECTOR_EVENTS, len(rows) + 1, VECTOR_EVENTS)]

    def score(self, n_events: int) -> NDArray[np.float32]:
        """Score the first rows as (n_events,) float32; the rows after them up to a whole vector must be finite."""
        self._session.run_with_iobinding(self._bindings[(n_events - 1) // VECTOR_EVENTS])
        return self._scores[:n_events].copy()

    def _bind(self, n_rows: int) -> Any:
        binding, rows, scores = self._session.io_binding(), self._rows, self._scores
        binding.bind_input(INPUT_NAME, "cpu", 0, np.float32, (n_rows, rows.shape[1]), rows.ctypes.data)
        binding.bind_output(OUTPUT_NAME, "cpu", 0, np.float32, (n_rows,), scores.ctypes.data)
        return binding


@cache
def _runtime() -> ModuleType:
    """Import ONNX Runtime and set its memory limit, once in a process."""
    # Telemetry is on unless this is set before the import. Both are here, so that importing a module of the service
    # does not change the environment.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    memory = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    onnxruntime.create_and_register_allocator(memory, onnxruntime.OrtArenaCfg({"max_mem": RUNTIME_BYTES}))
    runtime: ModuleType = onnxruntime
    return runtime
