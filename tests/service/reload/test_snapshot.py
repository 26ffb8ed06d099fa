"""Sealed copies of files, and how a process applies them."""

import asyncio
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from service.metrics.counters import Metrics
from service.metrics.exposition import render
from service.reload.applier import Applier
from service.reload.snapshot import KEYS, MODEL, Applied, CopyError, Snapshot, add_copy, close_copy, read_file
from service.security.api_keys import KeyRing, add_key
from service.settings import Settings
from tests.live import samples


def test_a_copy_can_be_read_by_path_and_not_be_changed() -> None:
    """Neither this process nor a child of it can write to it, and both read it."""
    path = add_copy(b"content")
    assert Path(path).read_bytes() == b"content"
    assert subprocess.run(["cat", path], capture_output=True, check=True).stdout == b"content"
    script = "import os, sys; os.write(os.open(sys.argv[1], os.O_WRONLY), b'other')"
    refused = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=False)
    assert "PermissionError" in refused.stderr
    with pytest.raises(PermissionError):
        os.truncate(path, 0)


def test_a_closed_copy_is_gone() -> None:
    """Its memory is given back, and other copies stay."""
    first, second = add_copy(b"1"), add_copy(b"2")
    close_copy(first)
    assert not Path(first).exists()
    assert Path(second).read_bytes() == b"2"
    close_copy(second)


def test_what_is_no_file_of_that_size_is_refused(tmp_path: Path) -> None:
    """A pipe, a directory, a missing and a large file are refused by name, and none is waited for."""
    pipe, large = tmp_path / "pipe", tmp_path / "large"
    os.mkfifo(pipe)
    large.write_bytes(bytes(11))
    assert read_file(str(large), 11) == bytes(11)
    for path, fault in (
        (pipe, "is not a regular file"),
        (tmp_path, "Is a directory"),
        (tmp_path / "missing", "No such file or directory"),
        (large, "it has 11 bytes, expected at most 10"),
    ):
        with pytest.raises(CopyError, match=fault) as refused:
            read_file(str(path), 10)
        assert str(path) in str(refused.value)


def test_files_are_told_apart_by_their_revision(tmp_path: Path) -> None:
    """A later copy may have an earlier one's path: it is loaded, and what cannot be loaded is tried again."""
    keys = tmp_path / "keys"
    keys.write_text("old " + "0" * 64)
    first = Snapshot(0, Settings(api_keys=str(keys)), "", {KEYS: 0, MODEL: 0})
    applied: list[Applied] = []
    metrics = Metrics([])

    async def apply_all() -> None:
        ring = KeyRing(keys)
        applier = Applier(first, metrics, ring, lambda _: None, applied.append)
        for revision, text, successful in ((1, "new", 0), (2, f"new {'1' * 64}", 1)):
            keys.write_text(text)
            replaced = {KEYS: 1, MODEL: 0}
            applier.submit(msgspec.structs.replace(first, revision=revision, file_revisions=replaced))
            async with asyncio.timeout(10):
                while min(applier.applied.tried.values()) < revision:
                    await asyncio.sleep(0)
            assert samples(render(metrics).decode())["anomaly_last_reload_successful file=keys"] == successful
            assert applied[-1] == applier.applied
        assert [key.name for key in ring.keys] == ["new"]

    asyncio.run(apply_all())
    assert applied[-1] == Applied(2, {KEYS: 2, MODEL: 2}, {KEYS: 1, MODEL: 0})


def test_keys_do_not_wait_for_a_model_that_is_loaded(model_path: Path, tmp_path: Path) -> None:
    """A process that is busy with a large model refuses a removed key at once, and says that it has."""
    keys, busy = tmp_path / "keys", threading.Event()
    key = add_key("old", keys)
    first = Snapshot(0, Settings(api_keys=str(keys), model=str(model_path)), "", {KEYS: 0, MODEL: 0})

    async def apply_all() -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        waiting = asyncio.get_running_loop().run_in_executor(None, busy.wait)
        ring, loaded = KeyRing(keys), asyncio.Event()
        applier = Applier(first, Metrics([]), ring, lambda _: loaded.set(), lambda _: None)
        applier.submit(msgspec.structs.replace(first, revision=1, file_revisions={KEYS: 0, MODEL: 1}))
        await asyncio.sleep(0)
        keys.write_text("")
        applier.submit(msgspec.structs.replace(first, revision=2, file_revisions={KEYS: 2, MODEL: 1}))
        await asyncio.sleep(0)
        assert ring.owner(key.encode()) is None
        assert applier.applied == Applied(2, {KEYS: 2, MODEL: 0}, {KEYS: 2, MODEL: 0})
        busy.set()
        await waiting
        async with asyncio.timeout(30):
            await loaded.wait()
            while applier.applied != Applied(2, {KEYS: 2, MODEL: 2}, {KEYS: 2, MODEL: 1}):
                await asyncio.sleep(0)

    asyncio.run(apply_all())
