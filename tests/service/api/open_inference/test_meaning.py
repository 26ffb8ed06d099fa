"""What the Open Inference Protocol says, whichever way it is written: descriptions, parameters, statistics."""

from collections.abc import Iterator
from time import monotonic, time

import pytest
from litestar.testing import TestClient

from service.api.app import Application, create_app
from service.api.open_inference import parameters
from service.api.open_inference.description import BOOLEAN, server_metadata
from service.api.open_inference.statistics import Timer
from service.errors import InvalidRequestError, NotReadyError, OverloadedError, UnknownModelError
from service.inference.deployment import SMALL_BATCH_EVENTS, Model
from service.metrics.counters import Inference, Metrics
from service.metrics.exposition import render
from service.metrics.rows import PARTS, SharedRow, create_rows
from service.model.artefact import Artefact
from service.settings import Settings
from tests.artefacts import N_FEATURES
from tests.live import samples


@pytest.fixture
def application(artefact: Artefact) -> Iterator[Application]:
    """Serve without earlier requests."""
    application = create_app(Settings(), artefact)
    with TestClient(application.main):
        yield application


@pytest.fixture
def model(application: Application) -> Model:
    """Return the model in use."""
    return application.deployment.model


def test_the_model_is_described_as_clients_of_triton_read_it(application: Application) -> None:
    """The metadata have the axis of the events, the configuration has not, and no batch is longer than a body."""
    served = application.served
    metadata = served.metadata("sphere", "1")
    assert (metadata.name, metadata.versions, metadata.platform) == ("sphere", ["1"], "onnxruntime_onnx")
    assert [(one.name, one.datatype, one.shape) for one in (*metadata.inputs, *metadata.outputs)] == [
        ("features", "FP32", [-1, N_FEATURES]),
        ("anomaly_score", "FP32", [-1, 1]),
    ]
    config = served.config(2000, "sphere")
    assert [(one.data_type, one.dims) for one in (*config.input, *config.output)] == [
        ("TYPE_FP32", [N_FEATURES]),
        ("TYPE_FP32", [1]),
    ]
    assert config.max_batch_size == 2000 // (4 * N_FEATURES)
    assert served.config(1, "sphere").max_batch_size == 1
    assert [(one.name, one.version, one.state) for one in served.index()] == [("sphere", "1", "READY")]
    assert server_metadata("a").extensions == ["a"]
    assert BOOLEAN == "BOOL"


def test_the_served_name_is_a_setting(artefact: Artefact) -> None:
    """With the setting, no other name is known; before there is a model, none is."""
    application = create_app(Settings(served_name="simple"), artefact)
    with pytest.raises(NotReadyError, match="starting"):
        application.served.find("simple")
    assert application.served.index() == []
    with TestClient(application.main):
        assert application.served.find_ready("simple", "1") is application.deployment.model
        for name, version, named in (
            ("sphere", "", "'sphere' is not found"),
            ("simple", "2", "'simple' version 2 is not found"),
            ("simple", "one", "'simple' version one is not found"),
        ):
            with pytest.raises(UnknownModelError, match=f"^Request for unknown model: {named}$"):
                application.served.find(name, version)
        application.deployment.status = "draining"
        assert [one.reason for one in application.served.index()] == ["draining"]
        application.served.find("simple")
        with pytest.raises(NotReadyError, match="draining"):
            application.served.find_ready("simple")


def test_known_parameters_are_read_and_others_ignored(model: Model, subtests: pytest.Subtests) -> None:
    """A working point is named, a timeout is a whole number of microseconds, and anything else may be anything."""
    asked = {"working_point": "tight", "timeout": 60_000_000, "sequence_id": 0, "x": [1]}
    given = parameters.read_parameters(asked, model)
    assert given.point is not None
    assert (given.point.name, given.timeout_us) == ("tight", 60_000_000)
    assert parameters.read_parameters({"x": None}, model) == parameters.NO_PARAMETERS
    assert parameters.response_parameters(model, given.point) == {
        "model_identity": model.identity,
        "score_threshold": 8,
    }
    for wrong, message in (
        ({"working_point": 1}, "parameter working_point is 1, expected the name of one"),
        ({"working_point": "x"}, "working_point is 'x', expected one of loose, tight"),
        ({"timeout": -1}, "parameter timeout is -1, expected a whole number of us"),
        ({"timeout": True}, "parameter timeout is True"),
        ({"timeout": "1"}, "parameter timeout is '1'"),
        ({"sequence_id": 7}, "parameter sequence_id is 7: sequences are not offered"),
        ({"timeout": 1e9}, "parameter timeout is 1000000000.0"),
    ):
        with subtests.test(msg=str(wrong)), pytest.raises(InvalidRequestError, match=message):
            parameters.read_parameters(wrong, model)
    given.check_timeout(monotonic())
    parameters.NO_PARAMETERS.check_timeout(0.0)
    with pytest.raises(OverloadedError, match="timeout of 60000000 us is over"):
        given.check_timeout(monotonic() - 61)


def test_only_the_models_tensors_are_taken(model: Model, subtests: pytest.Subtests) -> None:
    """Another name, datatype or shape is refused, as are outputs that the model does not have."""
    assert parameters.check_input("features", "FP32", [7, 5], 5) == 7
    for name, datatype, shape in (
        ("x" * 1000, "FP32", [1, 5]),
        ("features", "FP64", [1, 5]),
        ("features", "FP32", [5]),
        ("features", "FP32", []),
        ("features", "FP32", [0, 5]),
        ("features", "FP32", [-1, 5]),
        ("features", "FP32", [1, 6]),
        ("features", "FP32", [1, 1, 5]),
        ("features", "FP32", [1] * 100_000),
    ):
        with subtests.test(msg=f"{name[:9]} {datatype} {shape[:4]}"), pytest.raises(InvalidRequestError) as caught:
            parameters.check_input(name, datatype, shape, 5)
        assert len(str(caught.value)) < 300
    point = model.working_point("loose")
    assert parameters.check_outputs([], None) == ("anomaly_score",)
    assert parameters.check_outputs([], point) == ("anomaly_score", "accepted")
    assert parameters.check_outputs(["accepted"], point) == ("accepted",)
    for names, message in (
        (["accepted"], "needs the parameter working_point"),
        (["x"], "unexpected output 'x', expected 'anomaly_score'$"),
        (["anomaly_score", "anomaly_score"], "named twice"),
    ):
        with subtests.test(msg=str(names)), pytest.raises(InvalidRequestError, match=message):
            parameters.check_outputs(names, None)


def test_the_parts_of_a_request_add_up(application: Application, model: Model) -> None:
    """Four parts make the whole; requests that share a call of the runtime count it once."""
    statistics = application.statistics
    timer = Timer(monotonic() - 2.0)
    assert list(timer.time_reading([1, 2])) == [1, 2]
    timer.note_scored()
    statistics.note_success(timer, model, 3)
    statistics.note_success(timer, model, 4)
    statistics.note_success(timer, model, SMALL_BATCH_EVENTS + 1)
    statistics.note_success(timer, model, 4097)
    statistics.note_failure(Timer(monotonic() - 1.0))
    report = statistics.report("sphere")
    parts = report.inference_stats
    assert (parts.success.count, parts.queue.count, parts.fail.count) == (4, 4, 1)
    assert report.inference_count == 3 + 4 + SMALL_BATCH_EVENTS + 1 + 4097
    assert report.execution_count == 1 + 1 + 2
    assert parts.fail.ns >= 1e9
    assert parts.queue.ns >= 8e9
    whole = parts.queue.ns + parts.compute_input.ns + parts.compute_infer.ns + parts.compute_output.ns
    assert whole == pytest.approx(parts.success.ns, rel=1e-6)
    assert abs(report.last_inference / 1000 - time()) < 60


def test_waits_that_no_request_can_time_are_in_the_queue() -> None:
    """A request has waited for the event loop as long as a timer; what gRPC held back is noted by itself."""
    metrics = Metrics([])
    metrics.note_loop_lag(0.25)
    for _ in range(3):
        metrics.note_inference(Inference(True, 10, 1, (1.0, 0.0, 0.125, 0.25, 0.5, 0.125)))
    metrics.note_inference(Inference(False, 0, 0, (0.0, 1.0, 0.0, 0.0, 0.0, 0.0)))
    metrics.note_waits(2.0)
    totals = metrics.inferences()
    assert dict(zip(PARTS, totals.parts_ns, strict=True)) == {
        "success": 3 * 1_250_000_000 + 2_000_000_000,
        "fail": 1_000_000_000,
        "queue": 3 * 375_000_000 + 2_000_000_000,
        "compute_input": 750_000_000,
        "compute_infer": 1_500_000_000,
        "compute_output": 375_000_000,
    }


def test_workers_report_together_under_the_names_that_dashboards_query() -> None:
    """The metrics are those of Triton, of all workers, with the served name; they are there before any request."""
    path = create_rows(2)
    first, second = (Metrics([], SharedRow(path, place), "simple") for place in range(2))
    for metrics in (first, second):
        timer = Timer(monotonic() - 1.0)
        timer.note_read(monotonic())
        timer.note_scored()
        metrics.note_inference(timer.success(100, 1))
        metrics.note_inference(timer.failure())
        metrics.set_inflight(3, 0, 0)
        metrics.fold()
    text = render(second).decode()
    labels = '{model="simple",version="1"}'
    for name, value in (("request_success", 2), ("request_failure", 2), ("count", 200), ("exec_count", 2)):
        assert f"nv_inference_{name}{labels} {value}.0\n" in text
    counted = samples(text)
    assert counted["nv_inference_pending_request_count model=simple version=1"] == 6
    assert counted["nv_inference_queue_duration_us_total model=simple version=1"] == pytest.approx(2e6, rel=0.5)
    assert counted["nv_inference_request_duration_us_total model=simple version=1"] == pytest.approx(2e6, rel=0.5)
    named = Metrics([])
    assert "nv_inference" not in render(named).decode()
    named.use_model("sphere@0123")
    assert 'nv_inference_count{model="sphere",version="1"} 0.0' in render(named).decode()


def test_the_lag_of_the_event_loop_is_published() -> None:
    """Its mean is the sum over the count."""
    metrics = Metrics([])
    metrics.note_loop_lag(0.25)
    metrics.note_loop_lag(0.5)
    counted = samples(render(metrics).decode())
    assert counted["anomaly_loop_lag_seconds_sum"] == 0.75
    assert counted["anomaly_loop_lag_seconds_count"] == 2
