"""The environments of peers in build/peers/, created once and again when the packages change."""

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from importlib.metadata import requires
from pathlib import Path
from typing import Final

ENVIRONMENTS = Path("build/peers")
BUN: Final = "bun"
"""In place of the interpreter of a peer: its packages are npm's, and the one of this name runs it."""


def install(key: str, packages: Sequence[str], interpreter: str) -> Path:
    """Build the environment of a peer for an interpreter, unless it is there, and return what runs its programs.

    Without packages that is the interpreter itself. Raises RuntimeError with the reason that pip or npm gives.
    """
    ENVIRONMENTS.mkdir(parents=True, exist_ok=True)
    if not packages:
        return Path(interpreter)
    folder = (ENVIRONMENTS / key).absolute()
    installed, log, wanted = folder / "packages", ENVIRONMENTS / f"{key}.install.log", "\n".join(packages) + "\n"
    executable = folder / ("node_modules/@oven/bun-linux-x64/bin/bun" if interpreter == BUN else "bin/python")
    if installed.exists() and installed.read_text() == wanted:
        return executable
    shutil.rmtree(folder, ignore_errors=True)
    pip = [str(executable), "-m", "pip", "install", "--disable-pip-version-check", *packages]
    # The packages' scripts would only move the program, and fetch libraries for GPUs.
    npm = ["npm", "install", "--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund"]
    npm += [package.replace("==", "@") for package in packages]
    if interpreter == BUN and not shutil.which("npm"):
        raise RuntimeError("npm is not installed; on Debian: apt-get install npm")
    with log.open("w") as output:
        for command in [npm] if interpreter == BUN else [[interpreter, "-m", "venv", str(folder)], pip]:
            if subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False).returncode:
                raise RuntimeError(f"not installed: {last_line(log)}")
    installed.write_text(wanted)
    return executable


def installed_versions(executable: Path, packages: Sequence[str]) -> dict[str, str]:
    """Return the installed versions of `packages`, or without any of what our own service needs.

    Raises RuntimeError where pip fails, or one of them is missing.
    """
    packages = packages or [required for required in requires("lhc-anomaly") or () if "extra ==" not in required]
    versions = _npm_versions(executable.parents[3]) if executable.name == BUN else _pip_versions(executable)
    names = [re.split(r"[^\w.-]", package)[0] for package in packages]
    if missing := [name for name in names if _canonical(name) not in versions]:
        raise RuntimeError(f"{executable} has no {', '.join(missing)}; install what is missing")
    return {name: versions[_canonical(name)] for name in names}


def last_line(log: Path) -> str:
    """Return the last non-empty line of a log."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "no output"


def _pip_versions(executable: Path) -> dict[str, str]:
    command = [str(executable), "-m", "pip", "list", "--disable-pip-version-check", "--format=json"]
    listed = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if listed.returncode:
        raise RuntimeError(f"{' '.join(command)} ends with status {listed.returncode}, expected 0")
    return {_canonical(package["name"]): package["version"] for package in json.loads(listed.stdout)}


def _npm_versions(modules: Path) -> dict[str, str]:
    packages = [json.loads(manifest.read_bytes()) for manifest in modules.glob("*/package.json")]
    return {_canonical(package["name"]): package["version"] for package in packages}


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
