"""Compiled code on disk, one file an entry, shared by any number of processes.

Nothing here is ever an error of the user's program: an unreadable folder, a full disk or a damaged
entry is a miss. The folder is `$DLC_CACHE`, else `$XDG_CACHE_HOME/dlc`, else `~/.cache/dlc`;
`DLC_CACHE=off` turns the cache off.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path

from dlc.runtime.files import write_atomically

__all__ = ["digest_of_tree", "folder", "get", "put"]

MAGIC = b"dlc-cache-1\n"
CHECKSUM_BYTES = 32
SIZE_CAP = 1 << 30
STALE_SECONDS = 3600.0  # no process writes one entry for an hour: its temporary file is an orphan
SUFFIX = ".entry"
_KEY = re.compile(r"[0-9A-Za-z_.-]{1,160}")


def folder() -> Path | None:
    """The folder of the cache, made if need be; None if it is off or can't be trusted or made."""
    chosen = os.environ.get("DLC_CACHE", "")
    if chosen.lower() == "off":
        return None
    try:
        path = Path(chosen) if chosen else _home() / "dlc"
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path if _is_trusted(path) else None
    except (OSError, RuntimeError):  # RuntimeError: there is no home
        return None


def _home() -> Path:
    """Where the user's caches are."""
    chosen = os.environ.get("XDG_CACHE_HOME", "")
    return Path(chosen) if chosen else Path.home() / ".cache"


def _is_trusted(path: Path) -> bool:
    """What lies there is run as code: nobody else may own the folder, or write into it."""
    found = path.stat()
    return found.st_uid == os.geteuid() and not found.st_mode & stat.S_IWOTH


def get(key: str) -> bytes | None:
    """The entry of `key`; None if there is none or it is damaged."""
    path = _path(key)
    if path is None:
        return None
    try:
        content = path.read_bytes()
    except OSError:
        return None
    head = len(MAGIC) + CHECKSUM_BYTES
    data = content[head:]
    if not content.startswith(MAGIC) or content[len(MAGIC) : head] != _checksum(key, data):
        with contextlib.suppress(OSError):
            path.unlink()
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # the oldest entries are evicted first: "old" means not used
    return data


def put(key: str, data: bytes) -> None:
    """Keep `data` as the entry of `key`, if that is possible."""
    path = _path(key)
    if path is None or len(data) > SIZE_CAP // 4:
        return
    try:
        write_atomically(path, MAGIC, _checksum(key, data), data)
        _evict(path.parent)
    except OSError:
        return


def _path(key: str) -> Path | None:
    """The file of `key`; ValueError for a key that is no file name."""
    if not _KEY.fullmatch(key):
        raise ValueError(f"not a key of the cache: {key!r}")
    root = folder()
    return None if root is None else root / (key + SUFFIX)


def _checksum(key: str, data: bytes) -> bytes:
    """Covers the key too, so that a renamed entry is a damaged one."""
    return blake2b(data, digest_size=CHECKSUM_BYTES, key=_key_digest(key)).digest()


def _key_digest(key: str) -> bytes:
    """A key of fixed size for the checksum."""
    return blake2b(key.encode(), digest_size=32).digest()


def _evict(root: Path) -> None:
    """Remove orphans, then the entries unused for longest until the rest fits the cap.

    Another process may remove the same files at the same time: what is gone already is fine.
    """
    found: list[tuple[float, int, str]] = []
    now = time.time()
    with os.scandir(root) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                status = entry.stat()
                if entry.name.endswith(".tmp") and now - status.st_mtime > STALE_SECONDS:
                    os.unlink(entry.path)
                elif entry.name.endswith(SUFFIX):
                    found.append((status.st_mtime, status.st_size, entry.path))
    excess = sum(size for _, size, _ in found) - SIZE_CAP
    for _, size, path in sorted(found):
        if excess <= 0:
            break
        excess -= size
        with contextlib.suppress(OSError):
            os.unlink(path)


_trees: dict[str, str] = {}


def digest_of_tree(paths: Iterable[Path | str], suffixes: tuple[str, ...] = (".py",)) -> str:
    """A digest of the contents of all files under `paths` whose names end so, as hex digits.

    It stands for "this very compiler" in keys: a version number would miss an edited file. Reading
    and hashing a few hundred files costs 10 ms, so the digest is kept in the cache under the names,
    sizes and times of change (in ns) of the files, which one `stat` a file gives. No ordinary edit
    keeps all three; a new time alone changes no digest.
    """
    files = _files(paths, suffixes)
    stamp = blake2b(digest_size=20)
    for name, file in files:
        status = os.stat(file)
        stamp.update(f"{name}\0{file}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    key = "tree-" + stamp.hexdigest()
    if key not in _trees:
        kept = get(key)
        _trees[key] = kept.decode() if kept is not None else _digest_contents(files)
        if kept is None:
            put(key, _trees[key].encode())
    return _trees[key]


def _files(paths: Iterable[Path | str], suffixes: tuple[str, ...]) -> list[tuple[str, str]]:
    """(name within its tree, file), sorted: the digest does not depend on where the tree lies.

    As texts: an object for each path would take as long as asking for the files.
    """
    found: list[tuple[str, str]] = []
    for root in map(Path, paths):
        if root.is_file():
            found.append((root.name, str(root)))
            continue
        start = len(str(root)) - len(root.name)
        for base, folders, names in os.walk(root):
            folders[:] = sorted(name for name in folders if name != "__pycache__")
            inside = [os.path.join(base, name) for name in names if name.endswith(suffixes)]
            found += [(file[start:].replace(os.sep, "/"), file) for file in inside]
    return sorted(found)


def _digest_contents(files: list[tuple[str, str]]) -> str:
    """The digest itself: names and contents."""
    digest = blake2b(digest_size=20)
    for name, file in files:
        with open(file, "rb") as opened:
            data = opened.read()
        digest.update(f"{name}\0{len(data)}\n".encode())
        digest.update(data)
    return digest.hexdigest()
