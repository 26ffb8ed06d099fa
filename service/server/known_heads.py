"""Request heads that a worker has parsed and answered before, and what they ask for: see `short_way`.

The id of a request differs each time, so heads are kept without its characters.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from service.api.extensions import SHORTCUT, Headers, Shortcut
from service.api.middleware import CLIENT_NAME
from service.api.request_id import REQUEST_ID, VALUE
from service.inference.deployment import Deployment, Model
from service.security.api_keys import KeyRing
from service.server.cycle import Cycle, id_header, response_head

MAX_HEADS: Final = 1024
"""Maximum number of known heads of a worker, of at most `SLICE_BYTES` each; the oldest is removed first."""

ID_START: Final = b"\r\n%b:" % REQUEST_ID
ID_LINE: Final = re.compile(rb"(?i)\r\n%b:[ \t]*(%b)[ \t]*\r\n" % (REQUEST_ID, VALUE.pattern))

Client = tuple[str, int] | None
NoteRequest = Callable[["KnownHead", int, float, int, Client, str | None], None]
"""Counts and logs a request: its head, status, seconds and scored events, and the client's address and name."""


@dataclass(frozen=True, slots=True)
class KnownHead:
    """A head that was parsed and answered before."""

    shortcut: Shortcut
    body_bytes: int
    response_head: bytes
    """The status line and the headers of the response, except its length and those of the connection."""
    client: Client
    """The client that a proxy names in the head; None without."""
    client_name: str | None
    """The owner of the API key in the head; None where there are no keys."""
    request_id: bytes | None = None
    """The id of the request, from the head that arrived."""


class KnownHeads:
    """The known heads of a worker, until the model or the API keys change.

    The time of a look-up depends on the head's hash, whose seed is random, and so reveals nothing about a key in it.
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
        """Return the known head with these bytes; None if there is none."""
        keys = None if self._keys is None else self._keys.keys
        if self._model is not self._deployment.current or self._valid_keys is not keys:
            self._model, self._valid_keys = self._deployment.current, keys
            self._heads.clear()
            self.generation += 1
        known = self._heads.get(head)
        return self._find_with_id(head) if known is None else known

    def add(self, head: bytes, generation: int, client: Client, cycle: Cycle, headers: Headers) -> None:
        """Add a head that arrived from `client` in this generation, and that is answered with these headers."""
        self.find(head)  # removes outdated heads
        scope: Any = cycle.scope
        shortcut = scope["extensions"][SHORTCUT]
        if shortcut is None or not cycle.keep_alive or generation != self.generation:
            return
        named = None if scope["client"] == client else scope["client"]
        blank, request_id = _blank_id(head)
        if blank.lower().count(ID_START) != (request_id is not None):
            return  # several, or one that is ignored: they may differ each time
        if len(self._heads) == MAX_HEADS:
            del self._heads[next(iter(self._heads))]
        owner = None if self._keys is None else scope[CLIENT_NAME]
        self._heads[blank] = KnownHead(shortcut, cycle.announced_bytes, response_head(200, headers), named, owner)

    def _find_with_id(self, head: bytes) -> KnownHead | None:
        """Return the known head that differs only in the characters of its id; None if there is none."""
        blank, request_id = _blank_id(head)
        known = None if request_id is None else self._heads.get(blank)
        if known is None:
            return None
        response_head = known.response_head + id_header(request_id)
        return KnownHead(known.shortcut, known.body_bytes, response_head, known.client, known.client_name, request_id)


def _blank_id(head: bytes) -> tuple[bytes, bytes | None]:
    """Replace the first id in a head by its length, marked by an end of head, which no head has inside.

    Also return the id, None if there is none.
    """
    place = head.lower().find(ID_START)
    line = None if place < 0 else ID_LINE.match(head, place)
    if line is None:
        return head, None
    return b"%b\r\n\r\n%d%b" % (head[: line.start(1)], len(line[1]), head[line.end(1) :]), line[1]
