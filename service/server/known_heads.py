"""The heads that a worker has parsed and answered, and what they ask for: see `short_way`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from service.api.extensions import SHORTCUT, Headers, Shortcut
from service.api.middleware import CLIENT_NAME
from service.inference.deployment import Deployment, Model
from service.security.api_keys import KeyRing
from service.server.cycle import Cycle, response_head

MAX_HEADS: Final = 1024
"""How many heads a worker knows, of at most `SLICE_BYTES` each; the one that was added first is forgotten first."""

Client = tuple[str, int] | None
NoteRequest = Callable[["KnownHead", int, float, int, Client, str | None], None]
"""Counts and logs a request: its head, status, seconds and scored events, and the client's address and name."""


@dataclass(frozen=True, slots=True)
class KnownHead:
    """A head that was parsed and answered before."""

    shortcut: Shortcut
    body_bytes: int
    response_head: bytes
    """The status line and the headers of the response, but for its length and the connection's."""
    client: Client
    """The client that a proxy names in the head; None without."""
    client_name: str | None
    """The owner of the API key in the head; None where there are no keys."""


class KnownHeads:
    """The heads that a worker knows, until the model or the API keys change.

    Looking up a head takes a time that depends on its hash, whose seed is random, and so tells nothing of a key in it.
    """

    def __init__(self, deployment: Deployment, keys: KeyRing | None, note: NoteRequest) -> None:
        self._deployment = deployment
        self._keys = keys
        self._model: Model | None = None
        self._valid_keys: object = None
        """The model and the keys that the heads were answered with."""
        self._heads: dict[bytes, KnownHead] = {}
        self.note = note
        self.generation = 0

    def find(self, head: bytes) -> KnownHead | None:
        """Give what is known of a head."""
        keys = None if self._keys is None else self._keys.keys
        if self._model is not self._deployment.current or self._valid_keys is not keys:
            self._model, self._valid_keys = self._deployment.current, keys
            self._heads.clear()
            self.generation += 1
        return self._heads.get(head)

    def add(self, head: bytes, generation: int, client: Client, cycle: Cycle, headers: Headers) -> None:
        """Keep a head that arrived in this generation from a client and is answered with these headers."""
        self.find(head)  # which forgets what is not valid any more
        scope: Any = cycle.scope
        shortcut = scope["extensions"][SHORTCUT]
        if shortcut is None or not cycle.keep_alive or generation != self.generation:
            return
        named = None if scope["client"] == client else scope["client"]
        if len(self._heads) == MAX_HEADS:
            del self._heads[next(iter(self._heads))]
        owner = None if self._keys is None else scope[CLIENT_NAME]
        self._heads[head] = KnownHead(shortcut, cycle.announced_bytes, response_head(200, headers), named, owner)
