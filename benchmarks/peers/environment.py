"""A virtual environment for each peer, in build/peers/, made once and again when its packages change."""

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from importlib.metadata import requires
from pathlib import Path

ENVIRONMENTS = Path("build/peers")


def install(key: str, packages: Sequence[str], python: str) -> Path:
    """Build the environment of a peer from the interpreter `python`, unless it is there, and return its Python.

    Without packages that is `python` itself. Raises RuntimeError with the reason that pip gives.
    """
    ENVIRONMENTS.mkdir(parents=True, exist_ok=True)
    if not packages:
        return Path(python)
    folder = ENVIRONMENTS / key
    installed, log, wanted = folder / "packages", ENVIRONMENTS / f"{key}.pip.log", "\n".join(packages) + "\n"
    executable = folder.absolute() / "bin" / "python"
    if installed.exists() and installed.read_text() == wanted:
        return executable
    shutil.rmtree(folder, ignore_errors=True)
    with log.open("w") as output:
        for command in (
            [python, "-m", "venv", str(folder)],
            [str(executable), "-m", "pip", "install", "--disable-pip-version-check", *packages],
        ):
            if subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False).returncode:
                raise RuntimeError(f"not installed: {last_line(log)}")
    installed.write_text(wanted)
    return executable


def installed_versions(executable: Path, packages: Sequence[str]) -> dict[str, str]:
    """Return the installed versions of `packages`, or without any of what our own service needs.

    Raises RuntimeError where pip fails, or one of them is missing.
    """
    packages = packages or [required for required in requires("lhc-anomaly") or () if "extra ==" not in required]
    command = [str(executable), "-m", "pip", "list", "--disable-pip-version-check", "--format=json"]
    listed = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if listed.returncode:
        raise RuntimeError(f"{' '.join(command)} ends with status {listed.returncode}, expected 0")
    versions = {_canonical(package["name"]): package["version"] for package in json.loads(listed.stdout)}
    names = [re.split(r"[^\w.-]", package)[0] for package in packages]
    if missing := [name for name in names if _canonical(name) not in versions]:
        raise RuntimeError(f"{executable} has no {', '.join(missing)}; install what is missing")
    return {name: versions[_canonical(name)] for name in names}


def last_line(log: Path) -> str:
    """Return the last line of a log that says anything."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "no output"


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
