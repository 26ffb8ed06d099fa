"""Progress of long work, with rate and time left: a bar on a terminal, plain lines at intervals elsewhere."""

import sys
from time import monotonic
from typing import Any

from tqdm import tqdm

INTERVAL_S = 10.0
"""Interval between two plain lines."""

PLAIN = "{desc}{n_fmt} of {total_fmt}{unit}, {rate_noinv_fmt}, {remaining} left{postfix}"


class Progress(tqdm):  # type: ignore[misc]  # tqdm has no stubs
    """A tqdm progress bar on standard error; prints whole lines if standard error is not a terminal."""

    disable: bool

    def __init__(self, **options: Any) -> None:
        """Pass the options to tqdm by name."""
        self._plain, self._shown_s = not sys.stderr.isatty(), monotonic()
        self._line = ""
        if options.get("desc"):
            options["desc"] += ": "  # tqdm adds it to a bar only
        plain = {"bar_format": PLAIN, "mininterval": INTERVAL_S, "maxinterval": INTERVAL_S}
        super().__init__(**options, **(plain if self._plain else {}))

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Show the progress."""
        if not self._plain:
            super().display(msg, pos)
        elif monotonic() - self._shown_s >= INTERVAL_S:  # not after each warning, for which tqdm redraws the bar
            self._write_line()

    def clear(self, nolock: bool = False) -> None:
        """Clear the bar, if there is one, for another line."""
        if not self._plain:
            super().clear(nolock)

    def close(self) -> None:
        """Show the final progress, unless all the work had been done before."""
        if self._plain and not self.disable:
            if self.n != self.initial:
                self._write_line()
            self.disable = True  # nothing more to do for plain lines
        super().close()

    def _write_line(self) -> None:
        self._shown_s = monotonic()
        line = str(self).replace(",  ", ", ")  # tqdm pads the rate
        if line != self._line:
            self.fp.write(f"{line}\n")
        self._line = line
