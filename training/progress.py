"""The progress of long work: a bar on a terminal, a plain line now and then elsewhere, each with rate and time left."""

import sys
from time import monotonic
from typing import Any

from tqdm import tqdm

INTERVAL_S = 10.0
"""Between two plain lines."""

PLAIN = "{desc}{n_fmt} of {total_fmt}{unit}, {rate_noinv_fmt}, {remaining} left{postfix}"


class Progress(tqdm):  # type: ignore[misc]  # tqdm has no stubs
    """A progress bar of tqdm on standard error, which writes whole lines where that is no terminal."""

    disable: bool

    def __init__(self, **options: Any) -> None:
        """Take the options of tqdm by name."""
        self._plain, self._shown_s = not sys.stderr.isatty(), monotonic()
        self._line = ""
        if options.get("desc"):
            options["desc"] += ": "  # which tqdm adds to a bar alone
        plain = {"bar_format": PLAIN, "mininterval": INTERVAL_S, "maxinterval": INTERVAL_S}
        super().__init__(**options, **(plain if self._plain else {}))

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Show how far the work is."""
        if not self._plain:
            super().display(msg, pos)
        elif monotonic() - self._shown_s >= INTERVAL_S:  # not after each warning, which has tqdm draw the bar again
            self._write_line()

    def clear(self, nolock: bool = False) -> None:
        """Make room for another line where there is a bar."""
        if not self._plain:
            super().clear(nolock)

    def close(self) -> None:
        """Show the end of the work, unless all of it had been done before."""
        if self._plain and not self.disable:
            if self.n != self.initial:
                self._write_line()
            self.disable = True  # nothing is left to be done for lines
        super().close()

    def _write_line(self) -> None:
        self._shown_s = monotonic()
        line = str(self).replace(",  ", ", ")  # tqdm pads the rate
        if line != self._line:
            self.fp.write(f"{line}\n")
        self._line = line
