"""The routes of the live page: its files and its server-sent events."""

from functools import cache
from importlib.resources import files
from typing import Final

from litestar import MediaType, Response, get
from litestar.di import NamedDependency
from litestar.exceptions import NotFoundException
from litestar.params import FromPath

from service.api.dashboard.state import StateEvents

PAGE, ASSETS, EVENTS = "/", "/dashboard", "/dashboard/events"

ASSET_TYPES: Final = {"page.js": "text/javascript", "page.css": "text/css"}

HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}


@get(PAGE, include_in_schema=False, sync_to_thread=False)
def page() -> Response[bytes]:
    """Show the page."""
    return Response(_asset("page.html"), media_type=MediaType.HTML, headers=HEADERS)


@get(f"{ASSETS}/{{name:str}}", include_in_schema=False, sync_to_thread=False)
def assets(name: FromPath[str]) -> Response[bytes]:
    """Send one of the page's files, by a table, so that clients cannot name paths of the file system."""
    if name not in ASSET_TYPES:
        raise NotFoundException()
    return Response(_asset(name), media_type=ASSET_TYPES[name])


@get(EVENTS, include_in_schema=False, sync_to_thread=False)
def events(state_events: NamedDependency[StateEvents]) -> Response[bytes]:
    """Send the current state as one server-sent event."""
    return Response(state_events.read(), media_type="text/event-stream")


DASHBOARD = (page, assets, events)
"""The routes of the page, on the same port as those of the operations."""


@cache
def _asset(name: str) -> bytes:
    return (files(__package__) / name).read_bytes()
