"""The window of recent events: half a minute, or longer where there are few."""

import numpy as np

from service.drift.comparison import MIN_EVENTS
from service.drift.window import LONGEST_S, STEP_S, WINDOW_S, Totals, Window


def totals(n_events: int) -> Totals:
    """Make the totals of so many events, all of which are sampled."""
    return Totals(n_events, np.array([n_events // 10]), n_events, 2.0 * n_events, np.array([n_events, 0]))


def recent(rate_hz: float, seconds: int) -> tuple[Totals, float]:
    """Return the window after some seconds at a constant rate, updated each second."""
    window = Window()
    for second in range(seconds + 1):
        found = window.recent(100.0 + second, totals(int(second * rate_hz)))
    return found


def test_the_window_is_half_a_minute() -> None:
    """At rates that give enough events it reaches so far back and no further than one step more."""
    found, window_s = recent(1000.0, 300)
    assert WINDOW_S <= window_s <= WINDOW_S + STEP_S
    assert found.events == found.sampled_events == found.bins[0] == 1000 * window_s
    assert found.accepted[0] == found.events // 10
    assert found.sampled_score == 2.0 * found.events


def test_the_window_is_longer_where_events_are_few() -> None:
    """At low rates it reaches back to the last MIN_EVENTS events, and at lower ones an hour."""
    found, window_s = recent(5.0, 2000)
    assert MIN_EVENTS <= found.sampled_events <= 1.25 * MIN_EVENTS
    assert window_s < 1.25 * MIN_EVENTS / 5
    found, window_s = recent(0.05, 3 * LONGEST_S)
    assert LONGEST_S * 0.8 <= window_s <= LONGEST_S
    assert found.events < MIN_EVENTS


def test_the_window_forgets_what_is_an_hour_old() -> None:
    """Where nothing comes for an hour, nothing is left of the events before."""
    window = Window()
    window.recent(0.0, totals(0))
    window.recent(60.0, totals(5000))
    for second in range(61, 2 * LONGEST_S, 100):
        found, _ = window.recent(float(second), totals(5000))
    assert found.events == 0


def test_the_window_begins_anew_where_totals_fall() -> None:
    """A worker that changes to another model takes its counts along."""
    window = Window()
    for second in range(40):
        window.recent(float(second), totals(100 * second))
    found, window_s = window.recent(40.0, totals(1000))
    assert (found.events, window_s) == (0, 0.0)
