"""Files that are there in full or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

__all__ = ["write_atomically"]


def write_atomically(path: Path, *parts: bytes | memoryview, durable: bool = False) -> None:
    """Write `parts` to `path`: into a temporary file of the same folder, which is then renamed.

    `durable` also waits for the disk. On any failure the temporary file is removed, the file that
    was there stays as it was, and the OSError is raised.
    """
    handle, temporary = tempfile.mkstemp(
        prefix=f".{path.name[:40]}.", suffix=".tmp", dir=path.parent
    )
    try:
        try:
            for part in parts:
                _write_all(handle, part)
            if durable:
                os.fsync(handle)
        finally:
            os.close(handle)
        _take_over_mode(temporary, path)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    if durable:
        _sync_folder(path.parent)


def _write_all(handle: int, part: bytes | memoryview) -> None:
    """All bytes of `part`: one `write` may take fewer."""
    rest = memoryview(part).cast("B")
    while rest:
        rest = rest[os.write(handle, rest) :]


def _take_over_mode(temporary: str, path: Path) -> None:
    """A temporary file is private; the result has the mode that it had, or a new file's."""
    try:
        mode = path.stat().st_mode & 0o777
    except OSError:
        mask = os.umask(0)
        os.umask(mask)
        mode = 0o666 & ~mask
    os.chmod(temporary, mode)


def _sync_folder(folder: Path) -> None:
    """Make the new name durable too, where the file system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
