"""Event rates: parsing, and conversion to background efficiencies."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from service.model.artefact import WorkingPoint
from training.errors import ExportError
from training.evaluation.facts import UNITS_HZ, in_hertz


@dataclass(frozen=True)
class RateTarget:
    """The rate of selected events of a working point, at a given input rate of background."""

    name: str  # of the working point
    rate_hz: float
    input_rate_hz: float
    prescale: int = 1  # one in `prescale` events above the threshold is kept

    @property
    def background_efficiency(self) -> float:
        """Fraction of background above the threshold."""
        return self.rate_hz * self.prescale / self.input_rate_hz

    def check(self, events: int, least_events_above: int) -> None:
        """Raise ExportError for a rate above the input rate, and if too few of `events` are above the threshold."""
        if self.background_efficiency >= 1:
            most = in_hertz(self.input_rate_hz / self.prescale)
            raise ExportError(
                f"the rate {self.name} is expected to be less than {most}, the input rate of "
                f"{in_hertz(self.input_rate_hz)} over the prescale of {self.prescale}: ask for a lower rate"
            )
        if int(events * self.background_efficiency) < least_events_above:
            raise ExportError(
                f"the rate {self.name} is a background efficiency of {self.background_efficiency:g}, and its threshold "
                f"needs {least_events_above / self.background_efficiency:,.0f} background events, but there are "
                f"{events:,}: give more, ask for a higher rate, or for one before a --prescale"
            )


def parse_rate(text: str) -> float:
    """Return a rate such as 750Hz, 1kHz or 40MHz in Hz. Raises ValueError for an invalid rate."""
    found = re.fullmatch(rf"(\d+(?:\.\d+)?)({'|'.join(UNITS_HZ)})", text, re.ASCII)
    if found is None or (hertz := float(found[1]) * UNITS_HZ[found[2]]) == 0:
        raise ValueError(f"{text!r} is no rate, expected a positive number with Hz, kHz or MHz, such as 1kHz or 40MHz")
    return hertz


def targets_of(points: Iterable[WorkingPoint]) -> list[RateTarget]:
    """Return the rates that define working points."""
    return [
        RateTarget(point.name, point.rate_hz, point.input_rate_hz, point.prescale)
        for point in points
        if point.rate_hz is not None and point.input_rate_hz is not None
    ]
