"""Score events from Python, with retries: the standard library and NumPy are enough.

python client.py http://localhost:8000
"""

import http.client
import sys
import time
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

EVENT = [-1205.6, 641.3, 88.1, 212.4, 160.2, 58.1, 33.0, 1188.2, -655.9, 402.7, 95.3, 41.8, 25.7, 18.2]
HEADERS = {"Content-Type": "application/octet-stream"}


class ScoringError(Exception):
    """The service refused the request; the message is its own."""


class Client:
    """One kept-alive connection to the service."""

    def __init__(self, url: str, tries: int = 5, timeout_s: float = 60) -> None:
        parts = urlsplit(url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.netloc, timeout=timeout_s)
        self._tries = tries

    def score(self, events: NDArray[np.float32]) -> tuple[NDArray[np.float32], str]:
        """Return the scores (n,) of events (n, 14) and the version of the model; raises ScoringError."""
        body = np.ascontiguousarray(events, "<f4").tobytes()
        problem = ""
        for attempt in range(self._tries):
            try:
                self._connection.request("POST", "/score/batch", body, HEADERS)
                response = self._connection.getresponse()
                content = response.read()
            except (
                OSError,
                http.client.HTTPException,
            ) as error:  # ended without a response: scoring twice does no harm
                self._connection.close()
                problem, wait_s = repr(error), 2.0**attempt / 10
            else:
                if response.status == 200:
                    return np.frombuffer(content, "<f4"), response.headers["Model-Version"]
                problem = f"{response.status}: {content.decode()}"
                if response.status != 503:
                    break
                wait_s = float(response.headers.get("Retry-After", 1))
            if attempt + 1 < self._tries:
                time.sleep(wait_s)
        raise ScoringError(problem)


def main() -> int:
    """Score two events and print the result."""
    url = sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8000"
    events = np.array([EVENT, EVENT], np.float32)
    events[1, 3:5] += 300  # mass and tau1 of the first jet, as of two heavy prongs
    scores, model = Client(url).score(events)
    print(f"{model}: {scores}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
