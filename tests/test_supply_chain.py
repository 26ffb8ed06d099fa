"""What the image is made of: each package at one version, with hashes, and nothing beside them."""

import re
import shlex
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.live import live_service

ROOT = Path(__file__).parent.parent
CONTAINERFILE = (ROOT / "Containerfile").read_text()
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
WANTED = {
    "service.txt": PYPROJECT["project"]["dependencies"] + PYPROJECT["project"]["optional-dependencies"]["grpc"],
    "tools.txt": PYPROJECT["dependency-groups"]["tools"],
}
"""What each lock file is made from."""

ENVIRONMENTS = [
    {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "platform_machine": machine,
    }
    for python in ("3.11", "3.12", "3.13", "3.14")
    for machine in ("x86_64", "aarch64")
]


class Locked(NamedTuple):
    """A requirement of a lock file, its hashes, and who needs it."""

    requirement: Requirement
    hashes: set[str]
    needed_by: set[str]

    @property
    def name(self) -> str:
        """The package's name as registries compare it."""
        return canonicalize_name(self.requirement.name)

    @property
    def version(self) -> str:
        """The version that it is locked at."""
        [pin] = self.requirement.specifier
        assert pin.operator == "==", self.requirement
        return pin.version


def read_lock(name: str) -> list[Locked]:
    """Read a lock file: a requirement with its hashes on continued lines, then who needs it, in comments."""
    text = (ROOT / "requirements" / name).read_text()
    locked = []
    for block in re.findall(r"^[a-z0-9].*\n(?: .*\n)*", text, re.MULTILINE):
        parents = re.findall(r"^ +#(?: via|  ) ([\w.-]+)", block, re.MULTILINE)
        hashes = set(re.findall(r"--hash=(sha256:[0-9a-f]{64})\b", block))
        locked.append(
            Locked(Requirement(block.partition("\\\n")[0]), hashes, {str(canonicalize_name(name)) for name in parents})
        )
    return locked


@pytest.mark.parametrize("lock", WANTED)
def test_every_package_is_locked_with_its_hashes(lock: str) -> None:
    """Each line names one version and what its files hash to; none says where they are to come from."""
    locked = read_lock(lock)
    assert locked
    assert [str(package.requirement) for package in locked if not package.version or not package.hashes] == []
    text = (ROOT / "requirements" / lock).read_text()
    assert "://" not in text
    assert not re.search(r"^ *-(?!-hash=)", text, re.MULTILINE)


@pytest.mark.parametrize("lock", WANTED)
def test_each_dependency_is_locked_inside_its_range(lock: str, subtests: pytest.Subtests) -> None:
    """On every Python and processor each dependency of pyproject.toml has one locked version, in the range it asks."""
    locked = read_lock(lock)
    for environment in ENVIRONMENTS:
        with subtests.test(python=environment["python_version"], machine=environment["platform_machine"]):
            versions: dict[str, list[str]] = {}
            for package in locked:
                if package.requirement.marker is None or package.requirement.marker.evaluate(dict(environment)):
                    versions.setdefault(package.name, []).append(package.version)
            assert {name: found for name, found in versions.items() if len(found) > 1} == {}
            for wanted in map(Requirement, WANTED[lock]):
                [version] = versions.get(canonicalize_name(wanted.name), ["missing"])
                assert version != "missing", f"{wanted} is in pyproject.toml and not locked: make lock"
                assert wanted.specifier.contains(version), f"{wanted} is locked at {version}: make lock"


@pytest.mark.parametrize("lock", WANTED)
def test_nothing_is_locked_that_nothing_needs(lock: str) -> None:
    """What a lock file has is a dependency of pyproject.toml, or of something that it has."""
    needed_by = {package.name: package.needed_by for package in read_lock(lock)}
    needed = {str(canonicalize_name(Requirement(wanted).name)) for wanted in WANTED[lock]}
    while further := {name for name, parents in needed_by.items() if parents & needed} - needed:
        needed |= further
    assert set(needed_by) == needed


@pytest.mark.slow
@pytest.mark.process
def test_a_forged_package_is_refused(tmp_path: Path) -> None:
    """The image's own install command takes no file that has a locked name and version and other content."""
    package = next(package for package in read_lock("service.txt") if package.name == "litestar")
    information = f"litestar-{package.version}.dist-info"
    with zipfile.ZipFile(tmp_path / f"litestar-{package.version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr("litestar/__init__.py", "forged = True\n")
        wheel.writestr(
            f"{information}/METADATA", f"Metadata-Version: 2.1\nName: litestar\nVersion: {package.version}\n"
        )
        wheel.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{information}/RECORD", "")
    lock = tmp_path / "lock.txt"
    hashes = "".join(f" --hash={digest}" for digest in sorted(package.hashes))
    install = re.search(r"install (.*) -r requirements/service\.txt", CONTAINERFILE)
    assert install is not None
    for line in (f"{package.requirement}{hashes}", str(package.requirement)):
        lock.write_text(line + "\n")
        flags = [*shlex.split(install[1]), "--no-index", "--find-links", str(tmp_path)]
        into = ["--target", str(tmp_path / "installed"), "-r", str(lock)]
        command = [sys.executable, "-m", "pip", "--isolated", "install", *flags, *into]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode != 0, done.stdout
        assert "hash" in done.stderr.lower(), done.stderr
        assert not (tmp_path / "installed").exists()


def test_what_the_image_copies_is_there() -> None:
    """Every source of the Containerfile's copies exists, and .containerignore lets it, and nothing else, through."""
    sources = {
        source
        for line in re.findall(r"^COPY (?!--from)(.*)$", CONTAINERFILE, re.MULTILINE)
        for source in line.split()[:-1]
    }
    passed = re.findall(r"^!(.*)$", (ROOT / ".containerignore").read_text(), re.MULTILINE)
    assert sources == set(passed)
    assert [source for source in sources if not (ROOT / source).exists()] == []


@pytest.mark.slow
@pytest.mark.process
def test_the_service_needs_nothing_but_what_is_locked(tmp_path: Path) -> None:
    """With every package hidden that is not locked, the service starts, scores, and shows its pages."""
    locked = {package.name for package in read_lock("service.txt")}
    hidden = sorted(
        module
        for module, owners in packages_distributions().items()
        if not locked & set(map(canonicalize_name, owners)) and module not in {"service", "training"}
    )
    assert {"torch", "pip", "pytest"} <= set(hidden)
    (tmp_path / "sitecustomize.py").write_text(
        f"""
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {set(hidden)!r}:
            raise ModuleNotFoundError(f"{{name}} is not locked", name=name)

sys.meta_path.insert(0, Hidden())
"""
    )
    event = [-1205.6, 641.3, 88.1, 212.4, 160.2, 58.1, 33.0, 1188.2, -655.9, 402.7, 95.3, 41.8, 25.7, 18.2]
    model = ROOT / "exported" / "autoencoder.onnx"
    with live_service(model, "--workers", "2", env={"PYTHONPATH": str(tmp_path)}) as service:
        with httpx.Client(base_url=service.base_url, timeout=30) as client:
            response = client.post("/score", json={"features": event})
            assert (response.status_code, list(response.json())) == (200, ["anomaly_score"])
            for page in ("/health", "/model", "/metrics", "/docs"):
                assert client.get(page).status_code == 200, page
        assert service.stop() == 0
