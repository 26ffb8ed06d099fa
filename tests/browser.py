"""A real browser without a window, led by the DevTools protocol over two pipes."""

import json
import os
import shutil
import subprocess
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-headless")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--hide-scrollbars"]
TIMEOUT_S = 60


class Page:
    """A page of the browser."""

    def __init__(self, requests: BinaryIO, responses: BinaryIO) -> None:
        """Open a page over two pipes."""
        self._requests = requests
        self._responses = responses
        self._number = 0
        self._session: str | None = None
        self.errors: list[str] = []
        """What the page has reported as an error."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        """Call a method of the protocol, and return its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        self._requests.write(json.dumps(message).encode() + b"\0")
        while True:
            received = json.loads(self._read())
            if received.get("id") == self._number:
                assert "error" not in received, received["error"]
                return received["result"]
            self._note(received)

    def open(self, url: str, width: int = 1280, height: int = 1000, *, dark: bool = False) -> None:
        """Show a URL in a window of this size."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        mobile = width < 600
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        self.call("Page.navigate", url=url)

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression in the page."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, expression: str) -> None:
        """Wait until an expression holds in the page."""
        deadline = time.monotonic() + TIMEOUT_S
        while not self.evaluate(expression):
            assert time.monotonic() < deadline, f"not within {TIMEOUT_S} s: {expression}"
            time.sleep(0.1)

    def screenshot(self, path: Path) -> None:
        """Write a picture of the whole page."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(b64decode(shot["data"]))

    def _read(self) -> bytes:
        message = bytearray()
        while (byte := self._responses.read(1)) != b"\0":
            assert byte, "the browser has ended"
            message += byte
        return bytes(message)

    def _note(self, event: Any) -> None:
        parameters = event.get("params", {})
        if event["method"] == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.errors.append(parameters["entry"]["text"])
        elif event["method"] == "Runtime.exceptionThrown":
            self.errors.append(str(parameters["exceptionDetails"]))
        elif event["method"] == "Runtime.consoleAPICalled" and parameters["type"] in {"error", "warning", "assert"}:
            self.errors.append(str(parameters["args"]))


@contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """Start the browser with a profile of its own, and open an empty page."""
    assert CHROMIUM is not None
    requests, responses = os.pipe(), os.pipe()
    # It reads from descriptor 3 and writes to 4, whatever their numbers are here.
    command = ["bash", "-c", f'exec "$@" 3<&{requests[0]} 4>&{responses[1]}', "bash", CHROMIUM, *FLAGS]
    inherited = (requests[0], responses[1])
    with subprocess.Popen(
        [*command, f"--user-data-dir={profile}"], pass_fds=inherited, stderr=subprocess.DEVNULL
    ) as process:
        for end in inherited:
            os.close(end)
        with os.fdopen(requests[1], "wb", 0) as to_it, os.fdopen(responses[0], "rb") as from_it:
            try:
                yield Page(to_it, from_it)
            finally:
                process.terminate()
                process.wait(TIMEOUT_S)
