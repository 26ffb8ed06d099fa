"""README is true: its console blocks are run, and their output is what it says."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.settings import settings_table
from tests.live import live_service
from training.__main__ import COMMANDS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()

# What stands for any text in an expected output: timings, hashes, what depends on the processor.
ANYTHING = "..."


def steps() -> list[tuple[str, str]]:
    """Return (command, expected output) for each `$` of README's console blocks, in order."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```", README, re.MULTILINE | re.DOTALL):
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            lines = step.splitlines(keepends=True)
            end = next(end for end in range(1, len(lines) + 1) if is_complete("".join(lines[:end])))
            found.append(("".join(lines[:end]), "".join(lines[end:])))
    return found


def is_complete(command: str) -> bool:
    """Tell whether bash would not wait for another line: for a closing quote, the end of a document, a next line."""
    parsed = subprocess.run(["bash", "-n", "-c", command], capture_output=True, check=False)
    return parsed.returncode == 0 and not parsed.stderr and not command.endswith("\\\n")


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """Make a folder with the shipped files and nothing else, and start the service that README starts."""
    folder = tmp_path_factory.mktemp("newcomer")
    (folder / "exported").symlink_to(ROOT / "exported")
    with live_service(ROOT / "exported" / "autoencoder.onnx") as service:
        yield folder, service.base_url.removeprefix("http://")


def test_console_blocks_are_true(newcomer: tuple[Path, str]) -> None:
    """Every command of README succeeds and prints what README says it prints."""
    folder, address = newcomer
    # README's `python` is the one of these tests; a README is read without colours or progress bars.
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    assert steps(), "README has no console blocks"
    for command, expected in steps():
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command.replace("localhost:8000", address)],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"$ {command}\n{done.stderr}"
        pattern = re.escape(expected.rstrip("\n")).replace(re.escape(ANYTHING), ".*?")
        printed = done.stdout.rstrip("\n")
        assert re.fullmatch(pattern, printed, re.DOTALL), f"$ {command}\nREADME:\n{expected}\nprinted:\n{printed}"


def test_every_setting_is_in_the_table() -> None:
    """README's table of settings is the one that the code prints."""
    assert settings_table() in README


def test_every_training_command_is_named() -> None:
    """README names every command of the offline half."""
    assert [command for command in COMMANDS if f"training {command}" not in README] == []


def test_every_make_target_exists() -> None:
    """Every `make` target that README or the architecture page names is in the Makefile."""
    named = set(re.findall(r"(?:`|^)make ([a-z]+)", README + (ROOT / "ARCHITECTURE.md").read_text(), re.MULTILINE))
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert named - targets == set()


def test_every_linked_file_exists() -> None:
    """Every relative link of README, ARCHITECTURE and the model card leads to a file of the repository."""
    for page in (ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "exported" / "model_card.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert target.startswith("http") or (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_container_runs_the_service_alone() -> None:
    """The Containerfile installs no extra and starts the service without a shell."""
    text = (ROOT / "Containerfile").read_text()
    assert not re.search(r"\[(train|simulate|dev|bench)", text)
    entrypoint = re.search(r"^ENTRYPOINT \[(.*)\]", text, re.MULTILINE)
    assert entrypoint is not None
    assert shlex.split(entrypoint.group(1).replace(",", " "))[-2:] == ["-m", "service"]
