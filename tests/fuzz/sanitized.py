"""The JSON reader in C, built with the compiler's checks of addresses and undefined behaviour, under damaged rows.

python -m tests.fuzz.sanitized EXTENSION SECONDS SEED

It does not know what the numbers should be: see decoders.py.
"""

import importlib.util
import os
import random
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

from tests.fuzz.damage import damage

SOURCE = Path(__file__).parents[2] / "service" / "formats" / "_json_rows.c"
FLAGS = ["-O1", "-g", "-shared", "-fPIC", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
EXTRA_S = 120

ROWS = [
    b"[1,2,3],[-4.5,6e7,0.1]]",
    b"[123456.789012345678,-0.00000000001234567,3.4e38] , [1E-45,0,-0] ]",
    b"[" + b"7" * 40 + b",0." + b"1" * 60 + b",1e-400],[16777217.0000000000000000001,1,2]]",
]
PARTS = [b"[", b"]", b",", b"-", b".", b"e", b"E+", b"0", b"9" * 20, b" ", b"\x00", b"\xff", b"1e39", b"\n" * 40]


def run(seconds: float, seed: int) -> int:
    """Build the extension with checks, read damaged rows with it for so long, and give the number of cases.

    Raises AssertionError with what the checks say. Where there is no compiler with them, no case is read.
    """
    compiler = shutil.which("gcc")
    if compiler is None:
        print("no gcc: the extension is not built with checks", flush=True)
        return 0
    with tempfile.TemporaryDirectory() as directory:
        extension = Path(directory, "_json_rows.so")
        include = sysconfig.get_path("include")
        built = subprocess.run(
            [compiler, *FLAGS, f"-I{include}", str(SOURCE), "-o", str(extension)],
            capture_output=True,
            text=True,
            check=False,
        )
        runtimes = [_runtime(compiler, name) for name in ("libasan.so", "libubsan.so")]
        if built.returncode != 0 or not all(runtimes):
            print(f"gcc has no sanitizers: the extension is not built with checks\n{built.stderr}", flush=True)
            return 0
        ran = subprocess.run(
            [sys.executable, "-m", "tests.fuzz.sanitized", str(extension), str(seconds), str(seed)],
            # Python's own allocator would hide where an object ends.
            env={
                **os.environ,
                "LD_PRELOAD": ":".join(runtimes),
                "PYTHONMALLOC": "malloc",
                "ASAN_OPTIONS": "detect_leaks=0",
            },
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds + EXTRA_S,
            check=False,
        )
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-6000:]
    return int(ran.stdout.split()[-1])


def _runtime(compiler: str, name: str) -> str:
    """Find a library of the compiler; empty where it has none."""
    path = subprocess.run(
        [compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True
    ).stdout.strip()
    return path if Path(path).is_absolute() else ""


def damaged(chance: random.Random) -> bytes:
    """Damage rows."""
    return damage(b",".join(chance.choices(ROWS, k=chance.randint(1, 3))), chance, PARTS, chance.randint(0, 4))


def read(extension: str, seconds: float, seed: int) -> int:
    """Read damaged rows for so long, and give the number of cases."""
    import numpy as np

    spec = importlib.util.spec_from_file_location("_json_rows", extension)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    chance, until, cases = random.Random(seed), time.monotonic() + seconds, 0
    while time.monotonic() < until:
        text, start, filled = damaged(chance), 0, chance.randint(0, 4)
        block = np.full((4, chance.randint(1, 4)), np.nan, np.float32)
        n_rows, stop, state = module.read_rows(text, start, block, filled)
        assert 0 <= n_rows <= 4 - filled, text
        assert start <= stop <= len(text), text
        assert np.isfinite(block[filled : filled + n_rows]).all(), text
        assert state in range(4), text
        place = chance.randint(0, 3)
        assert -1 <= module.read_event(text, start, block, place) <= len(text), text
        cases += 1
    return cases


if __name__ == "__main__":
    print(read(sys.argv[1], float(sys.argv[2]), int(sys.argv[3])))
