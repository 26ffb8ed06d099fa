"""Post bodies with foreign clients, and through proxies, and count the refusals that arrive.

`python -m tests.service.server.foreign.clients --times 20` prints a table for every client whose program is installed.
"""

import os
import shutil
import socket
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import click
import requests

from service.security.api_keys import add_key
from tests.artefacts import write_artefact
from tests.live import TIMEOUT_S, LiveService, live_service, wait_until
from tests.service.server.exchange import LONG_TIMEOUTS, Connection, begin
from tests.service.server.refusals import CASES, OPEN_LIMITS, Case

HERE: Final = Path(__file__).parent
MIB: Final = 2**20
LIMIT_S: Final = 600

Statuses = list[str]
Client = Callable[[str, Path, int, Mapping[str, str]], Statuses]
"""Posts a file to a URL so many times with these headers, and gives each status, or what came instead of it."""


def _program(*command: str) -> Client:
    """Have a program post the file again and again."""

    def statuses(url: str, body: Path, times: int, headers: Mapping[str, str]) -> Statuses:
        fields = [f"{name}: {value}" for name, value in headers.items()]
        run = subprocess.run(
            [*command, url, str(body), str(times), *fields], capture_output=True, text=True, timeout=LIMIT_S, check=True
        )
        return run.stdout.splitlines()

    return statuses


def _curl(url: str, body: Path, times: int, headers: Mapping[str, str]) -> Statuses:
    command = ["curl", "--silent", "--show-error", "--output", "/dev/null", "--write-out", "%{http_code}"]
    fields = [part for name, value in headers.items() for part in ("--header", f"{name}: {value}")]
    command += [*fields, "--data-binary", f"@{body}", url]
    runs = (subprocess.run(command, capture_output=True, text=True, check=False) for _ in range(times))
    return [run.stderr.strip() or run.stdout for run in runs]


def _urllib(url: str, body: Path, times: int, headers: Mapping[str, str]) -> Statuses:
    request = urllib.request.Request(url, body.read_bytes(), dict(headers))

    def status() -> str:
        try:
            urllib.request.urlopen(request, timeout=LIMIT_S).read()
        except urllib.error.HTTPError as error:
            with error:
                error.read()
                return str(error.code)
        except OSError as error:
            return repr(error)
        return "200"

    return [status() for _ in range(times)]


def _requests(url: str, body: Path, times: int, headers: Mapping[str, str]) -> Statuses:
    content, found = body.read_bytes(), []
    with requests.Session() as session:
        for _ in range(times):
            try:
                found.append(str(session.post(url, data=content, headers=headers, timeout=LIMIT_S).status_code))
            except OSError as error:
                found.append(repr(error))
    return found


def _through(proxy: Callable[[int, int, Path], tuple[str, list[str]]]) -> Client:
    """Have urllib post to a proxy before the service; `proxy` gives its configuration and command."""

    def statuses(url: str, body: Path, times: int, headers: Mapping[str, str]) -> Statuses:
        port, path = url.removeprefix("http://127.0.0.1:").split("/", 1)
        with _running(proxy, int(port)) as proxy_port:
            return _urllib(f"http://127.0.0.1:{proxy_port}/{path}", body, times, headers)

    return statuses


def _nginx(port: int, service_port: int, folder: Path) -> tuple[str, list[str]]:
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    user = "" if os.geteuid() else "user root;"
    configuration = f"""
        {user} daemon off; pid {folder}/pid; error_log {folder}/log; events {{}}
        http {{
            access_log off; client_max_body_size 0; {paths}
            server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{service_port}; }} }}
        }}
    """
    return configuration, ["nginx", "-e", f"{folder}/log", "-c"]


def _haproxy(port: int, service_port: int, _: Path) -> tuple[str, list[str]]:
    configuration = f"""
defaults
    mode http
    timeout connect 5s
    timeout client {LIMIT_S}s
    timeout server {LIMIT_S}s
frontend main
    bind 127.0.0.1:{port}
    default_backend service
backend service
    server one 127.0.0.1:{service_port}
"""
    return configuration, ["haproxy", "-f"]


@contextmanager
def _running(proxy: Callable[[int, int, Path], tuple[str, list[str]]], service_port: int) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        configuration, command = proxy(port, service_port, Path(folder))
        path = Path(folder, "configuration")
        path.write_text(configuration)
        with subprocess.Popen([*command, str(path)], stderr=subprocess.DEVNULL) as process:
            try:
                wait_until(lambda: _listens(port))
                yield port
            finally:
                process.terminate()
                process.wait(TIMEOUT_S)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


CLIENTS: Final[dict[str, tuple[str, Client]]] = {
    "urllib": ("python3", _urllib),
    "requests": ("python3", _requests),
    "curl": ("curl", _curl),
    "Go": ("go", _program("go", "run", str(HERE / "refused.go"))),
    "Java": ("java", _program("java", str(HERE / "Refused.java"))),
    "nginx": ("nginx", _through(_nginx)),
    "HAProxy": ("haproxy", _through(_haproxy)),
}
"""Each client with the program that it needs."""


def installed(name: str) -> bool:
    """Return whether a client's program is there."""
    return shutil.which(CLIENTS[name][0]) is not None


def refusals(name: str, service: LiveService, case: Case, n_bytes: int, times: int, key: str) -> Counter[str]:
    """Count what a client gets for a request that is refused."""
    with tempfile.NamedTemporaryFile() as body:
        body.write(b"\xff" * n_bytes)
        body.flush()
        return Counter(CLIENTS[name][1](service.base_url + case.path, Path(body.name), times, case.headers(key)))


@contextmanager
def refusing() -> Iterator[tuple[LiveService, LiveService, str]]:
    """Serve with keys, and once more with no room for another request, and give a key of the first."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        key, model = add_key("tester", Path(folder, "keys")), write_artefact(Path(folder, "model.onnx"))
        service = stack.enter_context(live_service(model, "--api-keys", f"{folder}/keys", *OPEN_LIMITS))
        full = stack.enter_context(live_service(model, "--max-inflight-bytes", "1000", *LONG_TIMEOUTS))
        begin(stack.enter_context(Connection(full)), 20)
        yield service, full, key


def _table(name: str, sizes: list[int], times: int) -> str:
    """Ask everything of one client, with services of its own, and write a line for each size."""
    lines = []
    with refusing() as (service, full, key):
        for n_bytes in sizes:
            found = {case.status: refusals(name, service, case, n_bytes, times, key) for case in CASES}
            found[503] = refusals(name, full, Case(503), n_bytes, times, "")
            told = ", ".join(f"{status}: {counts[str(status)]}" for status, counts in found.items())
            wrong = {text for status, counts in found.items() for text in counts if text != str(status)}
            lines.append(f"{name:9}{n_bytes // MIB:4} MiB, of {times}:  {told}  {' '.join(sorted(wrong))[:300]}")
    return "\n".join(lines)


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(CLIENTS)))
@click.option("--times", default=20, show_default=True, help="Requests for each status and size.")
@click.option("--mib", "sizes", multiple=True, default=(1, 6, 12, 70), show_default=True, help="Sizes of bodies.")
def main(names: tuple[str, ...], times: int, sizes: tuple[int, ...]) -> None:
    """Print how many refusals arrive, for each client, size and status."""
    chosen = [name for name in names or CLIENTS if installed(name)]
    with ThreadPoolExecutor(len(chosen)) as pool:
        for lines in pool.map(lambda name: _table(name, [size * MIB for size in sizes], times), chosen):
            print(lines, flush=True)


if __name__ == "__main__":
    main()
