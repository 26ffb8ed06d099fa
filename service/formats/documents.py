"""What JSON and MessagePack share: documents with one key, which msgspec decodes."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.errors import InvalidRequestError
from service.formats import faults
from service.formats.faults import Source
from service.formats.format import EVENT_BYTES, BatchReader, Content, Format, longest_event
from service.formats.raw import read_one


class DocumentReader(BatchReader):
    """Reads a batch in a document; what is wrong with one is looked for around the fault only."""

    language: str
    decode_body: Callable[[bytes], Any]
    decode_row: Callable[[bytes], list[float]]
    start_bytes = EVENT_BYTES
    """What is wrong with the start of a body shows within so many bytes."""

    def _refuse_row(self, data: bytes, last: bool) -> None:
        """Raise the fault of the row that `data` starts with, or keep `data` while it does not show."""
        place, most = f"events[{self._read}]", longest_event(len(self._names))
        source = self._source(place, len(data), last, most)
        fault = faults.row_fault(self.decode_row, data[:most], source)
        late = f"{place} does not end within {most} bytes, expected a list of {len(self._names)} numbers"
        self._refuse(fault, data, last, most, late)

    def _refuse_body(self, data: bytes, last: bool, before: bytes = b"") -> None:
        """Raise the fault of the body, of which `data` is left after what `before` stands for, or keep `data`."""
        source = self._source("", len(before) + len(data), last, len(before) + self.start_bytes)
        fault = faults.body_fault(self.decode_body, before + data[: self.start_bytes], source)
        late = f'the first {self.start_bytes} bytes are not those of a batch, expected an object with the key "events"'
        self._refuse(fault, data, last, self.start_bytes, late)

    def _refuse(self, fault: str | None, data: bytes, last: bool, most: int, late: str) -> None:
        """Raise a fault that was found in the first `most` bytes of `data`, or the fault that none was found."""
        if fault is None and (len(data) > longest_event(len(self._names)) or (last and len(data) > most)):
            fault = late
        if fault is None and last:
            fault = faults.ends_early(self.language, self.n_bytes)
        if fault is not None:
            raise InvalidRequestError(fault)
        self._rest = data

    def _source(self, place: str, n_bytes: int, last: bool, most: int) -> Source:
        more = not last or n_bytes > most
        return Source(self.language, "events", self._names, place, self.n_bytes - n_bytes, more)


class DocumentFormat(Format):
    """A format of documents."""

    language: str
    decode_event: Callable[[bytes], Any]

    def _event(self, body: bytes, feature_names: Sequence[str]) -> NDArray[Any]:
        try:
            features: list[float] | bytes = type(self).decode_event(body).features
        except ValueError as error:
            fault = faults.decode_fault(error, body, Source(self.language, "features", feature_names))
            raise InvalidRequestError(fault or faults.ends_early(self.language, len(body))) from error
        if not self._has_one_key(body):
            raise InvalidRequestError(faults.repeated("features"))
        if isinstance(features, bytes):
            return read_one(features, len(feature_names), "features is")
        if len(features) != len(feature_names):
            raise InvalidRequestError(faults.count_fault("the event", features, feature_names))
        return np.array(features)

    @abstractmethod
    def _has_one_key(self, body: bytes) -> bool:
        """Tell whether a body that was decoded has its key once."""

    def schema(self, content: Content) -> dict[str, Any]:
        """Describe the document."""
        return {"title": content.title, **content.document}
