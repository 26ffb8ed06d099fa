"""Progress is a bar on a terminal and whole lines elsewhere, both with rate and time left."""

import io
import logging
import os
import re
import sys
import termios
from select import select

import pytest
from tqdm.contrib.logging import logging_redirect_tqdm

from training.progress import Progress

LINE = r"5 of 5 events, [\d.]+k? events/s, 00:00 left, all\n"


def work() -> None:
    """Do five events, and warn of something on the way."""
    with Progress(total=5, unit=" events") as bar, logging_redirect_tqdm():
        bar.update(3)
        logging.getLogger("work").warning("odd")
        bar.set_postfix_str("all", refresh=False)
        bar.update(2)


def test_lines_are_whole_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file gets lines with count, rate and time left, a warning between them, and nothing that moves a cursor."""
    monkeypatch.setattr(sys, "stderr", written := io.StringIO())
    work()
    assert re.fullmatch(f"odd\n{LINE}", written.getvalue())


def test_a_line_is_written_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """After each interval there is one, here after each step, with the name of the work."""
    monkeypatch.setattr("training.progress.INTERVAL_S", 0.0)
    monkeypatch.setattr(sys, "stderr", written := io.StringIO())
    with Progress(total=2, unit=" toys", desc="null") as bar:
        bar.update()
        bar.update()
    assert re.fullmatch(
        r"(null: 0 of 2 toys, .*\n)?null: 1 of 2 toys, .* toys/s, .* left\n(null: 2 of 2 toys, .*\n)+",
        written.getvalue(),
    )
    lines = written.getvalue().splitlines()
    assert len(lines) == len(set(lines))
    assert "  " not in written.getvalue()


def test_work_that_was_done_before_has_no_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that is repeated and finds nothing left to do says nothing of rates."""
    monkeypatch.setattr(sys, "stderr", written := io.StringIO())
    with Progress(total=2, initial=2, unit=" steps"):
        pass
    assert written.getvalue() == ""


def test_a_terminal_shows_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """There the line is drawn again, with the fraction done, rate and time left."""
    reading, writing = os.openpty()
    termios.tcsetwinsize(reading, (24, 80))
    with os.fdopen(writing, "w", buffering=1) as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        work()
        shown = "".join(iter(lambda: os.read(reading, 65536).decode() if select([reading], [], [], 0)[0] else "", ""))
    os.close(reading)
    assert "\r" in shown
    assert re.search(r"100%\|.*\| 5/5 \[00:00<00:00, .* events/s, all\]", shown)
