"""A shell completes the commands of both halves, their options, choices and files."""

import os
import subprocess
import sys

import pytest

CODE = "import sys; from training.__main__ import lhc_anomaly; sys.exit(lhc_anomaly())"


def asked(instruction: str, words: str = "") -> str:
    """Run the script as a shell does to complete the last of some words."""
    environment = {
        "_LHC_ANOMALY_COMPLETE": instruction,
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    asking = [sys.executable, "-c", CODE]
    done = subprocess.run(asking, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("lhc-anomaly se", ["plain,search", "plain,serve", "plain,settings"]),
        ("lhc-anomaly train --pre", ["plain,--preset"]),
        ("lhc-anomaly train --preset c", ["plain,classic"]),
        ("lhc-anomaly train --preset = c", ["plain,classic"]),
        ("lhc-anomaly train --preset classic ev", ["file,ev"]),
        ("lhc-anomaly client sc", ["plain,score"]),
        ("lhc-anomaly client score --working", ["plain,--working-point"]),
        ("lhc-anomaly serve --log-level w", ["plain,warning"]),
        ("lhc-anomaly check --api-keys k", ["file,k"]),
        ("lhc-anomaly keys r", ["plain,remove"]),
    ],
)
def test_the_last_word_is_completed(words: str, expected: list[str]) -> None:
    """Names of commands and options, choices of an option, else files; an equals sign is a word of its own in bash."""
    assert asked("bash_complete", words).splitlines() == expected


def test_every_shell_has_a_script() -> None:
    """The script asks the program by the name that it is installed under."""
    for shell in ("bash", "zsh", "fish"):
        assert "_LHC_ANOMALY_COMPLETE=" + shell in asked(f"{shell}_source")
