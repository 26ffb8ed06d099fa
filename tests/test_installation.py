"""The package as it is installed: what the wheel holds, and that it serves from any folder.

All tests are slow: the wheel is built once, its C function compiled (5 s), and installed in an environment of its own
(6 s), which takes the dependencies from that of the tests. Neither needs a network.
"""

import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import httpx
import pytest

from service import __version__
from service.model.artefact import load_artefact
from tests.live import LiveService

pytestmark = [pytest.mark.slow, pytest.mark.process]

ROOT = Path(__file__).parent.parent
MODEL = ROOT / "exported" / "autoencoder.onnx"
EVENT = [-1205.6, 641.3, 88.1, 212.4, 160.2, 58.1, 33.0, 1188.2, -655.9, 402.7, 95.3, 41.8, 25.7, 18.2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy of what the package is made of, so that nothing is left in the checkout."""
    try:
        version("setuptools")
    except PackageNotFoundError:
        pytest.skip("the wheel cannot be built offline without setuptools: pip install 'setuptools>=77'")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for part in ("service", "training"):
        shutil.copytree(ROOT / part, source / part, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    (source / "exported").mkdir()
    for file in (MODEL, ROOT / "pyproject.toml", ROOT / "README.md", ROOT / "LICENSE"):
        shutil.copy(file, source / file.relative_to(ROOT))
    flags = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *flags, str(source)], check=True, capture_output=True)
    [built] = folder.glob("*.whl")
    return built


def test_the_wheel_holds_both_halves_and_the_shipped_model(wheel: Path) -> None:
    """It has every file of both packages, the default model among them, and no tests, benchmarks or reports."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        assert archive.read("service/autoencoder.onnx") == MODEL.read_bytes()
    held = {name for name in names if ".dist-info/" not in name and not name.endswith(".so")}
    files = (path for part in ("service", "training") for path in (ROOT / part).rglob("*.*") if path.is_file())
    assert held == {str(path.relative_to(ROOT)) for path in files if path.suffix not in {".so", ".pyc"}}
    assert {"service/formats/_json_rows.pyi", "service/py.typed", "training/py.typed"} <= held


def test_the_wheel_has_the_version_of_the_code(wheel: Path) -> None:
    """The package's version is `service.__version__`, and the metadata name Python and licence."""
    with zipfile.ZipFile(wheel) as archive:
        [file] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = archive.read(file).decode()
    for line in (f"Version: {__version__}", "Requires-Python: >=3.11", "License-Expression: Apache-2.0"):
        assert f"\n{line}\n" in metadata


def test_it_serves_the_shipped_model_from_another_folder(wheel: Path, tmp_path: Path) -> None:
    """Installed alone in an environment, `lhc-anomaly serve` scores with the shipped model, wherever it is started."""
    environment, elsewhere = tmp_path / "environment", tmp_path / "elsewhere"
    elsewhere.mkdir()
    venv.create(environment, symlinks=True)
    python, script = environment / "bin" / "python", environment / "bin" / "lhc-anomaly"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True)
    [packages] = environment.glob("lib/python*/site-packages")
    # Paths that a .pth file adds are searched last, and their own .pth files, the checkout's among them, are not read.
    (packages / "tests.pth").write_text(sysconfig.get_path("purelib") + "\n")

    def run(*command: str | Path) -> str:
        return subprocess.run(command, cwd=elsewhere, check=True, capture_output=True, text=True).stdout

    assert Path(run(python, "-c", "import service; print(service.__file__)").strip()).parent.parent == packages
    identity = load_artefact(MODEL).identity
    assert run(script, "--version") == f"lhc-anomaly {__version__}\n"
    assert run(script, "check") == f"{packages / 'service' / 'autoencoder.onnx'}: {identity}\n"
    log = tmp_path / "log"
    with log.open("wb") as stderr:
        command = [str(script), "serve", "--port", "0", "--workers", "1"]
        service = LiveService(subprocess.Popen(command, cwd=elsewhere, stderr=stderr), log)
    try:
        url = service.wait_for("ready")["url"]
        response = httpx.post(f"{url}/score", json={"features": EVENT}, timeout=30)
        assert (response.status_code, list(response.json())) == (200, ["anomaly_score"])
        assert response.headers["Model-Version"] == identity
        assert httpx.get(f"{url}/docs", timeout=30).status_code == 200
    finally:
        assert service.stop() == 0
