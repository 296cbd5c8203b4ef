"""The cache on disk: what was put is got, and no fault of the disk is an error."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dlc.runtime import cache


def entry(folder: Path, key: str) -> Path:
    """The file of an entry."""
    return folder / (key + cache.SUFFIX)


def test_round_trip(cache_folder: Path) -> None:
    assert cache.get("key") is None
    for data in (b"", b"some bytes", os.urandom(100_000)):
        cache.put("key", data)
        assert cache.get("key") == data
    assert [path.name for path in cache_folder.iterdir()] == ["key.entry"]
    assert cache.folder() == cache_folder


def test_where_it_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DLC_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.folder() == tmp_path / "xdg" / "dlc"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.folder() == tmp_path / ".cache" / "dlc"
    monkeypatch.setenv("DLC_CACHE", "off")
    assert cache.folder() is None
    cache.put("key", b"data")
    assert cache.get("key") is None


@pytest.mark.parametrize("at", [0, 5, 20, 43, 44, 50, -1])
def test_a_damaged_entry_is_a_miss_and_goes(cache_folder: Path, at: int) -> None:
    cache.put("key", b"some bytes")
    file = entry(cache_folder, "key")
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(data)
    assert cache.get("key") is None
    assert not file.exists()


def test_a_cut_or_renamed_entry_is_a_miss(cache_folder: Path) -> None:
    cache.put("one", b"some bytes")
    whole = entry(cache_folder, "one").read_bytes()
    for length in (0, 3, len(cache.MAGIC), 44, len(whole) - 1):
        entry(cache_folder, "one").write_bytes(whole[:length])
        assert cache.get("one") is None
    entry(cache_folder, "two").write_bytes(whole)
    assert cache.get("two") is None


def test_keys_are_file_names() -> None:
    for key in ("", "../x", "a/b", "x" * 200):
        with pytest.raises(ValueError, match="not a key"):
            cache.get(key)


def test_a_full_disk_is_a_miss(cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int, data: Sequence[int]) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        cache.put("key", b"data")
    assert cache.get("key") is None
    assert list(cache_folder.iterdir()) == []


def test_no_folder_can_be_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("DLC_CACHE", str(tmp_path / "file" / "cache"))
    cache.put("key", b"data")
    assert cache.get("key") is None


def test_a_folder_that_anybody_may_write_is_not_trusted(cache_folder: Path) -> None:
    cache.put("key", b"data")
    cache_folder.chmod(0o777)
    assert cache.get("key") is None


def test_the_longest_unused_go_first(cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "SIZE_CAP", 10_000)
    for age, key in enumerate(("new", "middle", "old")):
        cache.put(key, bytes(2400))
        os.utime(entry(cache_folder, key), (10**9 - age, 10**9 - age))
    assert cache.get("old") is not None  # used: now the youngest
    orphan = cache_folder / ".x.tmp"
    orphan.write_bytes(b"left behind")
    os.utime(orphan, (10**9, 10**9))
    cache.put("fourth", bytes(2400))
    cache.put("fifth", bytes(2400))
    kept = {path.name.removesuffix(cache.SUFFIX) for path in cache_folder.iterdir()}
    assert kept == {"new", "old", "fourth", "fifth"}
    assert not orphan.exists()


MANY = """
from dlc.runtime import cache
for turn in range(200):
    cache.put("shared", b"x" * 5000)
    found = cache.get("shared")
    assert found is None or found == b"x" * 5000
print("well")
"""


def test_many_processes_on_one_key() -> None:
    started: list[Any] = [
        subprocess.Popen([sys.executable, "-c", MANY], stdout=subprocess.PIPE) for _ in range(4)
    ]
    assert [each.communicate(timeout=60)[0] for each in started] == [b"well\n"] * 4
    assert cache.get("shared") == b"x" * 5000


def test_digest_of_a_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = tmp_path / "tree"
    (tree / "inner").mkdir(parents=True)
    (tree / "one.py").write_text("1")
    (tree / "inner" / "two.py").write_text("2")
    first = cache.digest_of_tree([tree])
    (tree / "notes.txt").write_text("not code")
    os.utime(tree / "one.py", (10**9, 10**9))
    assert cache.digest_of_tree([tree]) == first
    (tree / "one.py").write_text("3")
    second = cache.digest_of_tree([tree])
    (tree / "inner" / "two.py").rename(tree / "inner" / "three.py")
    third = cache.digest_of_tree([tree])
    assert len({first, second, third}) == 3
    monkeypatch.setattr(cache, "_trees", {})
    monkeypatch.setattr(cache, "_digest_contents", lambda files: "read again")
    assert cache.digest_of_tree([tree]) == third  # kept on disk: no file was read
