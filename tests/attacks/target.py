"""The service that is attacked: the shipped model, with or without API keys and TLS."""

import fcntl
import http.client
import json
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import trustme

from benchmarks.targets.launcher import clean_environment
from service import SHIPPED_MODEL
from service.security.api_keys import add_key
from tests.live import TIMEOUT_S, LiveService, live_service
from tests.service.security.certificates import CertificateFiles, client_context

PIPE_BYTES = 4096


class Target(NamedTuple):
    """A running service, what its files are, and how a client of it connects."""

    service: LiveService
    model: Path
    temporary: Path
    """What the service has as TMPDIR."""
    key: str | None
    tls: ssl.SSLContext | None

    @property
    def port(self) -> int:
        """The port on 127.0.0.1."""
        return self.service.address[1]

    @property
    def grpc_address(self) -> str:
        """The address of gRPC, where it has a port."""
        return str(self.service.wait_for("ready")["grpc_address"])

    @property
    def headers(self) -> dict[str, str]:
        """What a client sends that has a key, where one is needed."""
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}

    def connection(self) -> http.client.HTTPConnection:
        """Make a client that has yet to connect."""
        host, port = self.service.address
        if self.tls is not None:
            return http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=self.tls)
        return http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)

    def get(self, path: str) -> str:
        """Ask for a path with the key; the response has to be right."""
        connection = self.connection()
        try:
            connection.request("GET", path, headers=self.headers)
            response = connection.getresponse()
            body = response.read().decode()
            assert response.status == 200, body
            return body
        finally:
            connection.close()


@contextmanager
def target(folder: Path, *flags: str, keys: bool, tls: bool, log_is_read: bool) -> Iterator[Target]:
    """Serve a copy of the shipped model with files in `folder`, one worker unless `flags` say otherwise."""
    model, temporary = folder / "model.onnx", folder / "temporary"
    shutil.copyfile(SHIPPED_MODEL, model)
    temporary.mkdir()
    key = add_key("client", folder / "keys") if keys else None
    context = None
    if keys:
        flags += ("--api-keys", str(folder / "keys"))
    if tls:
        authority = trustme.CA()
        flags += CertificateFiles.issue(authority, folder).flags
        context = client_context(authority)
    serve = live_service if log_is_read else unread_service
    with serve(str(model), *flags, env={"TMPDIR": str(temporary)}) as service:
        yield Target(service, model, temporary, key, context)


@contextmanager
def unread_service(model: str, *flags: str, env: dict[str, str]) -> Iterator[LiveService]:
    """Serve with a pipe as stderr that is not read once the service is ready."""
    command = [sys.executable, "-m", "service", "--model", model, "--port", "0", "--workers", "1", *flags]
    with subprocess.Popen(command, stderr=subprocess.PIPE, env={**clean_environment(), **env}) as process:
        try:
            assert process.stderr is not None
            fcntl.fcntl(process.stderr, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
            while (line := json.loads(process.stderr.readline()))["event"] != "ready":
                pass
            service = LiveService(process, Path())
            service.base_url = line["url"]
            yield service
        finally:
            process.kill()
