"""How tests see a training command refuse what it was given."""

import pytest

from training.__main__ import main


def refused(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 1) -> str:
    """Run a command that must end with this exit status, and return its last line, which says why.

    Status 2 is that of wrong arguments.
    """
    capsys.readouterr()
    try:
        ended: object = main(list(arguments))
    except SystemExit as stop:
        ended = stop.code
    assert ended == status
    lines = capsys.readouterr().err.splitlines()
    assert not any(line.startswith("Traceback") for line in lines)
    assert lines[-1].startswith(f"python -m training {arguments[0]}") or status == 1
    return lines[-1]
