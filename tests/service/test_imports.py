"""Importing the service loads no offline code and changes nothing in the process; the layers are in pyproject.toml."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "service").rglob("*.py")
    if not path.stem.startswith("__")
)


def test_importing_the_service_has_no_effects() -> None:
    """Importing every module loads neither torch nor h5py nor training, and leaves environment and logging alone."""
    assert len(MODULES) > 30
    script = f"""
import logging, os, sys
environ, handlers = dict(os.environ), list(logging.root.handlers)
for module in {MODULES!r}:
    __import__(module)
assert not {{"torch", "h5py", "training"}} & set(sys.modules), sorted(sys.modules)
assert "onnxruntime" not in sys.modules
assert dict(os.environ) == environ
assert logging.root.handlers == handlers and logging.root.level == logging.WARNING
"""
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)
