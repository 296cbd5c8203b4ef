"""Files that are there in full or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path

__all__ = ["write_atomically"]


def write_atomically(path: Path, *parts: bytes | memoryview, durable: bool = False) -> None:
    """Write `parts` to `path`: into a temporary file of the same folder, which is then renamed.

    `durable` also waits for the disk. On any failure the temporary file is removed, the file that
    was there stays as it was, and the OSError is raised. A symbolic link is followed; a device or
    pipe (`/dev/null`) is written to, not replaced.
    """
    path = Path(os.path.realpath(path))
    mode = _mode(path)
    if mode is not None and not stat.S_ISREG(mode):
        with open(path, "wb", buffering=0) as device:
            _write_all(device.fileno(), parts)
        return
    temporary = path.with_name(f".{path.name[:40]}.{secrets.token_hex(8)}.tmp")
    try:
        _write_new(temporary, parts, durable)
        if mode is not None:
            os.chmod(temporary, stat.S_IMODE(mode))
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    if durable:
        _sync_folder(path.parent)


def _mode(path: Path) -> int | None:
    """Kind and permissions of what is there; None for nothing."""
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return None


def _write_new(path: Path, parts: tuple[bytes | memoryview, ...], durable: bool) -> None:
    """A file that was not there before."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        _write_all(handle, parts)
        if durable:
            os.fsync(handle)
    finally:
        os.close(handle)


def _write_all(handle: int, parts: tuple[bytes | memoryview, ...]) -> None:
    """All bytes of all parts: one `write` may take fewer."""
    for part in parts:
        rest = memoryview(part).cast("B")
        while rest:
            rest = rest[os.write(handle, rest) :]


def _sync_folder(folder: Path) -> None:
    """Make the new name durable too, where the file system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
