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
        ("access", {"uvicorn", "numpy", "onnxruntime", "service.wire", "service.routes", "service.scoring"}),
        ("admission", {"litestar", "uvicorn", "msgspec", "numpy", "service.wire", "service.rows", "service.scorer"}),
        ("app", {"uvicorn", "onnxruntime", "service.server"}),
        ("artefact", {"litestar", "uvicorn", "onnxruntime", "service.scorer", "service.wire", "service.settings"}),
        ("body", {"uvicorn", "msgspec", "numpy", "service.wire", "service.rows", "service.routes"}),
        ("candidate", {"litestar", "uvicorn", "service.rollout", "service.server", "service.settings"}),
        (
            "connections",
            {
                "litestar",
                "uvicorn",
                "multiprocessing",
                "signal",
                "service.server",
                "service.processes",
                "service.protocol",
            },
        ),
        ("descriptors", {"litestar", "uvicorn", "socket", "asyncio", "service"}),
        ("limits", {"litestar", "uvicorn", "socket", "asyncio", "service.protocol", "service.scoring"}),
        ("faults", {"litestar", "uvicorn", "service"}),
        ("follower", {"litestar", "uvicorn", "signal", "service.candidate", "service.server", "service.supervisor"}),
        ("graph", {"litestar", "uvicorn", "onnxruntime", "service"}),
        ("json_rows", {"litestar", "uvicorn", "onnxruntime", "service.msgpack_rows", "service.routes", "service.wire"}),
        ("keys", {"litestar", "uvicorn", "service"}),
        ("logs", {"litestar", "uvicorn", "service"}),
        ("metrics", {"uvicorn", "msgspec", "onnxruntime", "service"}),
        ("msgpack_rows", {"litestar", "uvicorn", "onnxruntime", "service.json_rows", "service.routes", "service.wire"}),
        ("npy_rows", {"litestar", "uvicorn", "onnxruntime", "service.json_rows", "service.routes", "service.wire"}),
        ("openapi", {"uvicorn", "onnxruntime", "service.routes", "service.scoring", "service.server"}),
        ("pages", {"uvicorn", "onnxruntime", "numpy", "service.openapi", "service.routes", "service.scoring"}),
        ("probe", {"litestar", "uvicorn", "onnxruntime", "numpy", "urllib", "service.server", "service.app"}),
        ("processes", {"litestar", "uvicorn", "onnxruntime", "numpy", "service.app", "service.wire"}),
        ("protocol", {"litestar", "numpy", "onnxruntime", "service.wire", "service.routes", "service.scoring"}),
        ("replies", {"uvicorn", "msgspec", "numpy", "service"}),
        ("rollout", {"litestar", "uvicorn", "onnxruntime", "socket", "service.follower", "service.server"}),
        (
            "routes",
            {"uvicorn", "onnxruntime", "numpy", "service.wire", "service.scorer", "service.server", "service.app"},
        ),
        ("rows", {"litestar", "uvicorn", "onnxruntime", "service.routes", "service.scorer", "service.body"}),
        ("scheduling", {"litestar", "uvicorn", "msgspec", "service.wire", "service.rows", "service.artefact"}),
        ("scorer", {"litestar", "uvicorn", "msgspec", "service.wire", "service.errors"}),
        ("scoring", {"uvicorn", "onnxruntime", "msgspec.msgpack", "service.routes", "service.server", "service.app"}),
        ("server", {"litestar", "onnxruntime", "numpy", "service.processes", "service.wire"}),
        ("settings", {"litestar", "uvicorn", "os", "service"}),
        ("supervisor", {"litestar", "uvicorn", "onnxruntime", "numpy", "service.app", "service.wire"}),
        ("tls", {"litestar", "uvicorn", "socket", "service.connections", "service.protocol"}),
        ("wire", {"litestar", "uvicorn", "onnxruntime", "service.artefact", "service.scorer", "service.routes"}),
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
