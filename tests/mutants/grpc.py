"""Faults of calls over gRPC."""

from tests.mutants.fault import Fault, Part

CALLS = "tests/service/server/rpc/test_calls.py"
LIMITS = "tests/service/server/rpc/test_limits.py"
SECURITY = "tests/service/server/rpc/test_security.py"
STOP = "tests/service/server/rpc/test_stop.py"
STREAMS = "tests/service/server/rpc/test_streams.py"
KNOWN = f"{CALLS}::test_a_known_request_is_checked_as_the_first_was"
SLOW = f"{LIMITS}::test_slow_messages_are_counted_and_the_clients_with_most_lose_theirs"

GRPC = (
    Part(
        "service/api/open_inference/grpc_request.py",
        KNOWN,
        [
            Fault("the length of a known request is not checked", "_check_length(raw, known)", "pass"),
            Fault(
                "a known request keeps its model",
                " or known.model is not self._served.deployment.current",
                "",
                f"{STOP}::test_a_new_model_is_used_by_the_next_call",
            ),
            Fault(
                "numbers beside bytes are ignored",
                "for field, _ in given.inputs[0].contents.ListFields():",
                "for field, _ in []:",
                f"{CALLS}::test_wrong_requests_are_the_clients_fault",
            ),
        ],
    ),
    Part(
        "service/api/open_inference/grpc_infer.py",
        CALLS,
        [
            Fault("single events have no room of their own", "if asked.n_events == 1 else", "if False else", LIMITS),
            Fault("a length has one digit", "while left > 0x7F:", "while False:"),
            Fault("a timeout among the parameters is ignored", "if asked.parameters.timeout_us:", "if False:"),
            Fault("a wrong request ends the stream", "if type(error) is NotReadyError:", "if True:", STREAMS),
        ],
    ),
    Part(
        "service/server/rpc/handlers.py",
        STOP,
        [
            Fault("keys are not checked", "if self._keys is not None and path", "if False and path", SECURITY),
            Fault("streams hold the stop up", "self._receiving.end_streams()", "pass"),
            Fault("Watch does not report a change", "self._health_changed.set()", "pass"),
            Fault("a client that left counts as an error", "if _cancelled():", "if False:", LIMITS),
        ],
    ),
    Part(
        "service/server/rpc/backlog.py",
        "tests/service/server/rpc/test_backlog.py",
        [
            Fault(
                "calls that never begin wait for ever",
                "self._least, math.inf, now_s",
                "self._least, self._least, now_s",
            ),
            Fault(
                "calls that never begin are forgotten at once", "min(self._least, self._least_before)", "self._least"
            ),
        ],
    ),
    Part(
        "service/server/rpc/receiving.py",
        SLOW,
        [
            Fault("any number of messages is slow", "if len(slow) <= self._most_slow or", "if True or"),
            Fault("the client with the fewest loses its own", "counts.most_common(1)", "counts.most_common()[-1:]"),
            Fault(
                "a call that was cancelled has no message",
                "            await sleep(CANCELLED_S)\n",
                "",
                f"{LIMITS}::test_a_client_that_leaves_stops_costing_work",
            ),
        ],
    ),
    Part(
        "service/server/rpc/server.py",
        LIMITS,
        [
            Fault(
                "streams that Python has yet to let go of count",
                '("grpc.http.overload_protection", 0)',
                '("grpc.http.overload_protection", 1)',
            ),
            Fault("compressed messages are inflated", '("grpc.compression_enabled_algorithms_bitset", 1),', "", CALLS),
            Fault("the certificate stays", "if current is None or current is served:", "if True:", SECURITY),
            Fault(
                "gRPC stops while calls arrive",
                "while monotonic() < refuses_until_s and",
                "while False and",
                f"{STOP}::test_every_call_has_an_end_when_the_service_stops_under_load",
            ),
        ],
    ),
)
