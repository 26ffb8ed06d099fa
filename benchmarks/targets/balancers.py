"""Balancers as targets: HAProxy and Envoy, with the files of `deploy/`, in front of servers on addresses of their own.

Loopback addresses (127.x.y.z) replace the machines in the files, so that all servers can have the same ports.
"""

import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

import httpx

from benchmarks.targets.launcher import START_S, Server, starting

ROOT: Final = Path(__file__).parents[2]
PROGRAMS: Final = os.pathsep.join([str(ROOT / "build" / "balancers" / "bin"), os.environ.get("PATH", ""), "/usr/sbin"])
"""Search path of balancers; `make build/balancers/ready` installs Envoy."""


class Kind(NamedTuple):
    """A balancer: its file, its program, and the names of its metrics."""

    program: str
    remedy: str
    """How to install it."""
    file: Path
    version: str
    """Argument that prints the version."""
    check: tuple[str, ...]
    """Arguments before the file to check it."""
    serve: tuple[str, ...]
    """Arguments before the file to start."""
    operations_port: str
    metrics: str
    """The path of the metrics on the operations port."""
    label: str
    """Format of the name in metrics for a protocol."""
    healthy: str
    """The metric with the number of servers in use, as a regular expression."""
    retries: str
    """The metrics whose sum is the number of retried requests, as a regular expression."""
    round_robin: Mapping[str, str]
    """The text that is replaced in the file for each server in turn."""


HAPROXY: Final = Kind(
    program="haproxy",
    remedy="apt-get install haproxy",
    file=ROOT / "deploy" / "haproxy" / "haproxy.cfg",
    version="-v",
    check=("-c", "-f"),
    serve=("-db", "-f"),
    operations_port="8404",
    metrics="/metrics",
    label='proxy="{}_servers"',
    healthy="haproxy_backend_active_servers",
    retries="haproxy_backend_(?:retry|redispatch)_warnings_total",
    round_robin={"balance leastconn": "balance roundrobin"},
)
ENVOY: Final = Kind(
    program="envoy",
    remedy="make build/balancers/ready",
    file=ROOT / "deploy" / "envoy" / "envoy.yaml",
    version="--version",
    check=("--mode", "validate", "--log-level", "warning", "-c"),
    serve=("--disable-hot-restart", "--log-level", "warning", "-c"),
    operations_port="9901",
    metrics="/stats/prometheus",
    label='envoy_cluster_name="{}"',
    healthy="envoy_cluster_membership_healthy",
    retries="envoy_cluster_upstream_rq_retry",
    round_robin={
        "load_balancing_policies.least_request.v3.LeastRequest": "load_balancing_policies.round_robin.v3.RoundRobin",
        "load_balancing_policies.least_request": "load_balancing_policies.round_robin",
        "selection_method: FULL_SCAN": "",
    },
)
KINDS: Final = {kind.program: kind for kind in (HAPROXY, ENVOY)}
PROTOCOLS: Final = ("http", "grpc")
PLACEHOLDERS: Final = ("192.0.2.11", "192.0.2.12")
"""The servers in the files."""


class Site(NamedTuple):
    """Addresses of a balancer and two servers, and ports that are free on each."""

    balancer: str
    servers: tuple[str, str]
    http: int
    grpc: int
    operations: int


class Balancer:
    """A running balancer and its address."""

    def __init__(self, kind: Kind, site: Site, server: Server) -> None:
        self._kind, self._site = kind, site
        self.server = server
        self.base_url = f"http://{site.balancer}:{site.http}"
        self.grpc_address = f"{site.balancer}:{site.grpc}"

    def processes(self) -> list[int]:
        """Return the IDs of its processes."""
        return self.server.processes()

    def healthy(self) -> dict[str, int]:
        """Return the number of servers in use for each protocol."""
        return self._read(self._kind.healthy)

    def retries(self) -> dict[str, int]:
        """Return the number of retried requests for each protocol."""
        return self._read(self._kind.retries)

    def wait_for(self, healthy: int) -> None:
        """Wait until `healthy` servers are in use for both protocols. Raises RuntimeError after the timeout."""
        deadline, found = time.monotonic() + START_S, {}
        while time.monotonic() < deadline and self.server.process.poll() is None:
            with suppress(httpx.TransportError):  # it does not listen yet
                found = self.healthy()
            if list(found.values()) == [healthy] * len(PROTOCOLS):
                return
            time.sleep(0.05)
        raise RuntimeError(f"{self._kind.program} uses {found} servers, expected {healthy}:\n{self.server.log_text}")

    def _read(self, metric: str) -> dict[str, int]:
        url = f"http://{self._site.balancer}:{self._site.operations}{self._kind.metrics}"
        text = httpx.get(url, trust_env=False).text
        labels = {protocol: re.escape(self._kind.label.format(protocol)) for protocol in PROTOCOLS}
        return {
            protocol: sum(map(int, re.findall(rf"^{metric}{{[^}}]*{label}[^}}]*}} (\d+)", text, re.MULTILINE)))
            for protocol, label in labels.items()
        }


def find_program(kind: Kind) -> str | None:
    """Return the path of a balancer's program; None where it is not installed."""
    return shutil.which(kind.program, path=PROGRAMS)


def require_program(kind: Kind) -> str:
    """Return the path of a balancer's program; raises RuntimeError where it is not installed."""
    program = find_program(kind)
    if program is None:
        raise RuntimeError(f"{kind.program} is not installed: {kind.remedy}")
    return program


def version(kind: Kind) -> str:
    """Return the version of a balancer. Raises RuntimeError if it is not installed."""
    asked = subprocess.run([require_program(kind), kind.version], capture_output=True, text=True, check=True)
    found = re.search(r"\d+\.\d+\.\d+", asked.stdout)
    return found[0] if found else "unknown"


def find_site() -> Site:
    """Return addresses that no other process uses, and ports that are free on each."""
    high, low = divmod(os.getpid() % 2**16, 2**8)
    balancer, *servers = (f"127.{high}.{low}.{last}" for last in (10, 11, 12))
    with ExitStack() as stack:
        listening = [stack.enter_context(socket.create_server((balancer, 0))) for _ in range(3)]
        http, grpc, operations = (one.getsockname()[1] for one in listening)
    return Site(balancer, (servers[0], servers[1]), http, grpc, operations)


def configuration(kind: Kind, site: Site, replaced: Mapping[str, str]) -> str:
    """Return the configuration of a balancer for a site, with some texts replaced."""
    here = {
        **dict(zip(PLACEHOLDERS, site.servers, strict=True)),
        "8000": str(site.http),
        "8001": str(site.grpc),
        kind.operations_port: str(site.operations),
        "bind :": f"bind {site.balancer}:",
        "0.0.0.0": site.balancer,
        "127.0.0.1": site.balancer,
    }
    text = re.sub("|".join(map(re.escape, here)), lambda found: here[found[0]], kind.file.read_text())
    for old, new in replaced.items():
        text = text.replace(old, new)
    return text


@contextmanager
def balancing(
    kind: Kind, site: Site, *, cores: Collection[int] | None = None, replaced: Mapping[str, str] | None = None
) -> Iterator[Balancer]:
    """Run a balancer until the end of the block; at its start both servers are in use.

    Raises RuntimeError if it is not installed or does not start.
    """
    program = require_program(kind)
    with tempfile.TemporaryDirectory(prefix=f"{kind.program}-") as folder:
        file = Path(folder, kind.file.name)
        file.write_text(configuration(kind, site, replaced or {}))
        with starting([program, *kind.serve, str(file)], cores=cores, log=Path(folder, "log")) as server:
            balancer = Balancer(kind, site, server)
            balancer.wait_for(len(site.servers))
            yield balancer
