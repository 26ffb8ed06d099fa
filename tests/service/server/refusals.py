"""Requests that are refused while their bodies arrive."""

from typing import Final, NamedTuple


class Case(NamedTuple):
    """A request that is refused while its body arrives."""

    status: int
    path: str = "/score/batch"
    content_type: str = "application/octet-stream"
    accept: str = "*/*"
    key: bool = True

    def headers(self, key: str) -> dict[str, str]:
        """Return its headers."""
        authorisation = {"Authorization": f"Bearer {key}"} if self.key and key else {}
        return {"Content-Type": self.content_type, "Accept": self.accept, **authorisation}


CASES: Final = [
    Case(400),  # NaN in the first event
    Case(401, key=False),
    Case(404, path="/nowhere"),
    Case(405, path="/health"),
    Case(406, accept="text/html"),
    Case(413, path="/score"),
    Case(415, content_type="text/csv"),
]
OPEN_LIMITS: Final = (
    *("--max-body-bytes", str(2**28)),
    *("--max-inflight-bytes", str(10**10)),
    *("--max-inflight-events", str(10**9)),
)
"""No body here is too long, nor too much beside others."""
