"""Two services behind a balancer, each of which can be ended and started again at its address."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.targets.balancers import Balancer, Kind, Site, balancing, find_site
from tests.live import LiveService, live_service


class Farm:
    """Two services and their balancer."""

    def __init__(self, stack: ExitStack, kind: Kind, models: tuple[Path, Path], flags: tuple[str, ...]) -> None:
        self.models = models
        self._stack, self._flags = stack, flags
        self._site: Site = find_site()
        self.services = [self._start(place) for place in range(len(models))]
        self.balancer: Balancer = stack.enter_context(balancing(kind, self._site))

    @property
    def urls(self) -> dict[str, str]:
        """Where the balancer is reached over each protocol."""
        return {"http": self.balancer.base_url, "grpc": f"grpc://{self.balancer.grpc_address}"}

    def restart(self, place: int) -> None:
        """Start a service that has ended, and wait until the balancer uses it."""
        self.services[place] = self._start(place)
        self.balancer.wait_for(len(self.services))

    def _start(self, place: int) -> LiveService:
        ports = ("--port", str(self._site.http), "--grpc-port", str(self._site.grpc))
        address = ("--host", self._site.servers[place], *ports)
        return self._stack.enter_context(live_service(self.models[place], *address, *self._flags))


@contextmanager
def farm(kind: Kind, *models: Path, flags: tuple[str, ...] = ()) -> Iterator[Farm]:
    """Run services with two model files behind a balancer until the end of the block."""
    first, second = models
    with ExitStack() as stack:
        yield Farm(stack, kind, (first, second), flags)
