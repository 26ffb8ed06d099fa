"""Requests to infer over HTTP: where to cut the body, the length of its JSON, and the body."""

from collections.abc import Callable

from tests.artefacts import sample_events

N_FEATURES = 3
ALL_JSON = b"\xff\xff"
"""In place of the length of the JSON that a tensor follows."""


def seeds() -> list[bytes]:
    """Write good requests of every layout."""
    from tests.service.api.open_inference.infer_bodies import JSON_LENGTH, LAYOUTS

    events, written = sample_events(4, N_FEATURES), []
    more = {"id": "7", "outputs": [{"name": "anomaly_score"}], "x": [{"data": [[1, 2]]}]}
    bodies = [write(events) for write in LAYOUTS.values()]
    bodies += [LAYOUTS[name](events, **more) for name in ("nested", "flat", "binary")]
    for body, headers in bodies:
        length = int(headers[JSON_LENGTH]).to_bytes(2, "little") if headers else ALL_JSON
        written += [cut + length + body for cut in (b"\x00\x80\xff", b"\x20\x21\x22")]
    return written


def check_request() -> Callable[[bytes], None]:
    """Make the check: the rows of a slow reference or a refusal, whole and in pieces alike."""
    from tests.service.formats import infer_references, references

    def check(data: bytes) -> None:
        body, length = data[5:], data[3:5]
        json_bytes = None if length == ALL_JSON else int.from_bytes(length, "little")
        infer_references.check(body, references.pieces_of(body, [place / 255 for place in data[:3]]), json_bytes)

    return check
