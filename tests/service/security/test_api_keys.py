"""API keys: the file, the commands that write it, and the name that a key belongs to."""

import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import cast

import pytest

from service.__main__ import main
from service.security.api_keys import HashedKey, KeyRing, KeysError, add_key, read_keys, remove_keys

DIGEST = "a" * 64
OTHER_DIGEST = "b" * 64


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Name a file of keys that is not there yet."""
    return tmp_path / "keys"


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "service", "keys", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_key_is_shown_once_and_kept_as_its_digest(path: Path) -> None:
    """The command prints 256 random bits; the file has their SHA-256 under the name, and is its owner's alone."""
    added = command("add", "alice", path)
    key = added.stdout.strip()
    assert (added.returncode, len(key)) == (0, 43)
    assert path.read_text() == f"alice {sha256(key.encode()).hexdigest()}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert key not in added.stderr
    assert KeyRing(path).owner(key.encode()) == "alice"
    listed = command("list", path)
    assert listed.stdout == f"alice {sha256(key.encode()).hexdigest()[:12]}\n"
    assert [entry.name for entry in path.parent.iterdir()] == ["keys"]


def test_every_key_belongs_to_its_name_and_nothing_else_does(path: Path) -> None:
    """Each key belongs to its name, also where a name has several; what is nearly a key belongs to none."""
    keys = [(name, add_key(name, path)) for name in ("alice", "bob", "alice", "c@d.e_f-1")]
    ring = KeyRing(path)
    assert len({key for _, key in keys}) == 4
    for name, key in keys:
        assert ring.owner(key.encode()) == name
        for wrong in (key[:-1], key + "A", key.swapcase(), sha256(key.encode()).hexdigest(), "", name):
            assert ring.owner(wrong.encode()) is None


def test_a_key_is_replaced_while_both_work(path: Path) -> None:
    """A second key is added, then the first removed by the first digits of its digest, as the list shows them."""
    old = add_key("alice", path)
    new = add_key("alice", path)
    ring = KeyRing(path)
    assert ring.owner(old.encode()) == ring.owner(new.encode()) == "alice"
    assert main(["keys", "remove", "alice", str(path), sha256(old.encode()).hexdigest()[:12]]) == 0
    assert ring.owner(old.encode()) == "alice"  # until it is read again
    ring.reload(path)
    assert (ring.owner(old.encode()), ring.owner(new.encode())) == (None, "alice")


def test_removing_a_name_removes_all_its_keys(path: Path) -> None:
    """And leaves the other lines as they are, comments too."""
    path.write_text(f"# ours\n\nalice {DIGEST}\n  # and theirs\nbob {OTHER_DIGEST}\nalice {'c' * 64}\n")
    assert remove_keys("alice", path) == 2
    assert path.read_text() == f"# ours\n\n  # and theirs\nbob {OTHER_DIGEST}\n"


def test_the_last_key_can_be_removed(path: Path) -> None:
    """With a file without keys every request is refused."""
    key = add_key("alice", path)
    ring = KeyRing(path)
    assert remove_keys("alice", path) == 1
    ring.reload(path)
    assert ring.owner(key.encode()) is None


class Uncomparable(bytes):
    """A digest that is compared by hmac alone."""

    __hash__ = bytes.__hash__

    def __eq__(self, _other: object) -> bool:
        raise AssertionError("compared in a time that depends on where the first difference is")


def test_a_key_is_compared_with_all_in_constant_time(path: Path) -> None:
    """Neither the digits of a digest nor the place of a key in the file can be measured."""
    key = add_key("alice", path)
    ring = KeyRing(path)
    ring.keys = tuple(one._replace(digest=Uncomparable(one.digest)) for one in ring.keys)
    assert ring.owner(key.encode()) == "alice"
    assert ring.owner(b"wrong") is None
    ring.keys = (*ring.keys, HashedKey("bob", cast(bytes, None)))
    with pytest.raises(TypeError, match="bytes-like"):  # it goes on behind the key that fits
        ring.owner(key.encode())


WRONG_COMMANDS = [
    (["remove", "carol"], "has no key of carol: list the keys with python -m service keys list FILE"),
    (["remove", "alice", "dddd"], "has no key of alice dddd: list the keys with python -m service keys list FILE"),
    (["remove", "#"], "NAME is '#', expected 1 to 64 letters, digits or ._@-"),
    (["add", "two words"], "NAME is 'two words', expected 1 to 64 letters, digits or ._@-"),
    (["add", "a\nb " + DIGEST], "NAME is 'a\\nb "),
    (["add", "x" * 65], "expected 1 to 64"),
]


def test_a_wrong_command_changes_nothing(
    path: Path, subtests: pytest.Subtests, capsys: pytest.CaptureFixture[str]
) -> None:
    """It ends with 1, a line that says why, and the file as it was."""
    text = f"#\nalice {DIGEST}"
    path.write_text(text)
    for [verb, name, *digest], message in WRONG_COMMANDS:
        with subtests.test(msg=f"{verb} {name}"):
            assert main(["keys", verb, name, str(path), *digest]) == 1
            printed = capsys.readouterr()
            assert printed.out == ""
            assert printed.err.startswith("error: ")
            assert message in printed.err
            assert path.read_text() == text


def test_a_file_keeps_its_mode_and_a_link_stays_a_link(path: Path) -> None:
    """A file that a service of another user may read is one afterwards; a last line without an end is ended."""
    path.write_text(f"alice {DIGEST}")
    path.chmod(0o644)
    link = path.with_name("link")
    link.symlink_to(path)
    add_key("bob", link)
    assert link.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [key.name for key in read_keys(path)] == ["alice", "bob"]


def test_keys_added_at_once_are_all_there(path: Path) -> None:
    """Commands that run at the same time lose none of each other's keys, and a reader sees no half of a file."""
    names = [f"client{n}" for n in range(4)]
    add_key("first", path)
    with ThreadPoolExecutor(4) as pool:
        added = [pool.submit(command, "add", name, path) for name in names]
        while not all(future.done() for future in added):
            assert read_keys(path)
        assert {future.result().returncode for future in added} == {0}
    assert sorted(key.name for key in read_keys(path)) == sorted(["first", *names])


def test_keys_are_on_the_disk_before_the_file_is_replaced(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut leaves the old keys or the new ones: the new file is synchronised while the old one is there."""
    add_key("first", path)
    synchronise = os.fsync
    seen: list[tuple[int, int]] = []

    def record(descriptor: int) -> None:
        seen.append((len(read_keys(Path(f"/proc/self/fd/{descriptor}"))), len(read_keys(path))))
        synchronise(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    add_key("second", path)
    assert seen == [(2, 1)]


def test_a_directory_that_cannot_be_written_to_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the file cannot be written, no key is printed that would not work."""
    assert main(["keys", "add", "alice", str(tmp_path / "nowhere" / "keys")]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"error: {tmp_path / 'nowhere' / 'keys'}: No such file or directory; give a file in")


KEY = "correct-horse-battery-staple-0123456789abcdefghi"
WRONG_FILES: list[tuple[str | bytes, str]] = [
    ("alice\n", "{path}, line 1 has 1 words, expected a name and a digest"),
    (f"#\nalice {DIGEST} x\n", "{path}, line 2 has 3 words, expected a name and a digest"),
    (f"alice {KEY}\n", "{path}, line 1: the digest is corr... of 48 characters, expected 64 digits"),
    ("alice abc\n", "{path}, line 1: the digest is abc... of 3 characters, expected 64 digits of 0-9a-f"),
    (f"alice {DIGEST[:-1]}g\n", "{path}, line 1: the digest is aaaa... of 64 characters, expected 64 digits"),
    (f"alice {'a' * 66}\n", "{path}, line 1: the digest is aaaa... of 66 characters, expected 64 digits"),
    (f"alice {'A' * 64}\n", "{path}, line 1: the digest is AAAA... of 64 characters, expected 64 digits"),
    (f"al/ce {DIGEST}\n", "{path}, line 1: the name is 'al/ce', expected 1 to 64 letters, digits or ._@-"),
    (f"a {DIGEST}\nb {DIGEST}\n", "{path}, line 2: the digest aaaaaaaaaaaa... is that of line 1: remove one"),
    (b"\xff\xfe", "{path} is not UTF-8 at byte 0: give a file made with"),
]


def test_a_wrong_file_is_refused_in_words(path: Path, subtests: pytest.Subtests) -> None:
    """The message names the file, the line, the value and the remedy; a key in the place of its digest is not shown."""
    for content, message in WRONG_FILES:
        with subtests.test(msg=str(content)):
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
            with pytest.raises(KeysError) as refused:
                KeyRing(path)
            assert message.format(path=path) in str(refused.value)
            assert "staple" not in str(refused.value)


def test_a_path_without_a_regular_file_is_refused(path: Path) -> None:
    """A missing file, a directory and a pipe without a writer are refused at once."""
    path.mkdir()
    os.mkfifo(path / "pipe")
    for wrong, message in (
        (path / "missing", "No such file or directory; create it with"),
        (path, "is not a regular file"),
        (path / "pipe", "is not a regular file"),
    ):
        with pytest.raises(KeysError, match=message):
            KeyRing(wrong)


def test_a_wrong_file_leaves_the_ring_as_it_was(path: Path) -> None:
    """A reload of a file that is damaged or gone is refused whole: keys that were valid stay valid."""
    key = add_key("alice", path)
    ring = KeyRing(path)
    good = path.read_text()
    for bad in (f"{good}bob\n", None):
        if bad is None:
            path.unlink()
        else:
            path.write_text(bad)
        with pytest.raises(KeysError):
            ring.reload(path)
        assert ring.owner(key.encode()) == "alice"
