"""What each module may and may not import."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SERVICE = Path(__file__).parents[2] / "service"
MODULES = sorted(path.stem for path in SERVICE.glob("*.py") if not path.stem.startswith("__"))


def test_the_service_needs_nothing_of_the_training() -> None:
    """Importing the whole service loads neither torch nor h5py nor training, and leaves the process as it was."""
    script = f"""
import logging, os, sys
environ, handlers = dict(os.environ), list(logging.root.handlers)
for module in {MODULES!r}:
    __import__("service." + module)
assert not {{"torch", "h5py", "training"}} & set(sys.modules), sorted(sys.modules)
assert "onnxruntime" not in sys.modules
assert dict(os.environ) == environ
assert logging.root.handlers == handlers and logging.root.level == logging.WARNING
"""
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)


@pytest.mark.parametrize(
    ("module", "unknown"),
    [
        ("artefact", {"litestar", "uvicorn", "onnxruntime", "service"}),
        ("scorer", {"litestar", "uvicorn", "msgspec", "service.wire", "service.errors"}),
        ("faults", {"litestar", "uvicorn", "service"}),
        ("rows", {"litestar", "uvicorn", "onnxruntime", "service.routes", "service.scorer", "service.body"}),
        ("json_rows", {"litestar", "uvicorn", "onnxruntime", "service.msgpack_rows", "service.routes", "service.wire"}),
        ("msgpack_rows", {"litestar", "uvicorn", "onnxruntime", "service.json_rows", "service.routes", "service.wire"}),
        ("body", {"uvicorn", "msgspec", "numpy", "service.wire", "service.rows", "service.routes"}),
        ("scheduling", {"litestar", "uvicorn", "msgspec", "service.wire", "service.rows", "service.artefact"}),
        ("connections", {"litestar", "uvicorn", "multiprocessing", "signal", "service"}),
        ("protocol", {"litestar", "msgspec", "service.wire", "service.routes", "service.errors"}),
        ("replies", {"uvicorn", "msgspec", "numpy", "service"}),
        ("metrics", {"uvicorn", "msgspec", "onnxruntime", "service"}),
        ("wire", {"litestar", "uvicorn", "onnxruntime", "service.artefact", "service.scorer", "service.routes"}),
        ("settings", {"litestar", "uvicorn", "os", "service"}),
        (
            "routes",
            {"uvicorn", "onnxruntime", "numpy", "service.wire", "service.scorer", "service.server", "service.app"},
        ),
        ("scoring", {"uvicorn", "onnxruntime", "msgspec.msgpack", "service.routes", "service.server", "service.app"}),
        ("server", {"litestar", "onnxruntime", "numpy", "service.processes", "service.wire"}),
        ("processes", {"litestar", "uvicorn", "onnxruntime", "numpy", "service.app", "service.wire"}),
        ("app", {"uvicorn", "onnxruntime", "service.server"}),
    ],
)
def test_modules_do_not_know_what_they_say_they_do_not(module: str, unknown: set[str]) -> None:
    """A module imports nothing of what its first lines say it does not know."""
    imported: set[str] = set()
    for node in ast.walk(ast.parse((SERVICE / f"{module}.py").read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    parents = {".".join(name.split(".")[: depth + 1]) for name in imported for depth in range(name.count(".") + 1)}
    assert not parents & unknown
