"""Faults of the Python client."""

from tests.mutants.fault import Fault, Part

FAILURES = "tests/service/client/test_failures.py"
FALLBACK = "tests/service/client/test_fallback.py"
MODELS = "tests/service/client/test_models.py"
PARTS = "tests/service/client/test_parts.py"
REMOTE = "tests/training/jobs/test_remote.py"

CLIENT = (
    Part(
        "service/client/parts.py",
        PARTS,
        [
            Fault("the last part is longer than the events", "min(start + size, n_events)", "start + size"),
            Fault("the bytes of a request are not limited", "min(max_events, max_bytes // row_bytes)", "max_events"),
            Fault("an event is named by its place in the part", "events[{part.start + row}]", "events[{row}]"),
        ],
    ),
    Part(
        "service/client/call.py",
        MODELS,
        [
            Fault("scores of two models are mixed", "if reply.model == expected:", "if True:"),
            Fault(
                "a model that was replaced is an error",
                "if self._asked_model is not None:\n                    break",
                "break",
            ),
            Fault(
                "the fallback may be any model",
                "expected = self._servers.model if settles else await asyncio.shield(settled)",
                "expected = None",
                FALLBACK,
            ),
            Fault(
                "Retry-After is not honoured",
                "pause_s(attempt) if error.retry_after_s is None else error.retry_after_s",
                "pause_s(attempt)",
                f"{FAILURES}::test_retry_after_is_honoured",
            ),
        ],
    ),
    Part(
        "service/client/servers.py",
        FAILURES,
        [
            Fault("a failed server is asked again at once", "self._free_at[index] = max(", "max("),
            Fault("only the first server is asked", "for offset in range(total)]", "for offset in range(1)]"),
        ],
    ),
    Part(
        "service/client/transport.py",
        f"{FAILURES}::test_failures_of_a_proxy_are_retried_and_refusals_are_not",
        [
            Fault("a gateway's failure is not retried", "502, 503, 504}", "503}"),
            Fault(
                "a request has no timeout",
                "asyncio.timeout(self._request_s)",
                "asyncio.timeout(None)",
                f"{FAILURES}::test_timeouts",
            ),
        ],
    ),
    Part(
        "training/jobs/remote.py",
        REMOTE,
        [
            Fault("finished parts are scored again", "if not scored.path(part).exists()", ""),
            Fault("parts are of any model", '"model": scored.model, ', ""),
            Fault("a file is scored by any model", "score(rows, scored.model)", "score(rows, None)"),
        ],
    ),
)
