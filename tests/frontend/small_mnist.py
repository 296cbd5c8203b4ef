"""A small MNIST for tests: idx files of a few examples, some of which may be made wrong."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np


def idx(*shape: int, elements: bytes | None = None, kind: int = 8) -> bytes:
    """The bytes of an idx file; elements count up where none are given."""
    if elements is None:
        elements = bytes(i % 10 for i in range(int(np.prod(shape))))
    return struct.pack(f">2x2B{len(shape)}I", kind, len(shape), *shape) + elements


def write_mnist(folder: Path, count: int = 20, **files: bytes) -> Path:
    """A small MNIST in `folder`; `files` replaces some, `_` standing for `-`."""
    folder.mkdir(exist_ok=True)
    for prefix in ("train", "t10k"):
        contents = {
            f"{prefix}-images-idx3-ubyte": idx(count, 28, 28),
            f"{prefix}-labels-idx1-ubyte": idx(count),
        }
        for name, content in contents.items():
            (folder / name).write_bytes(files.get(name.replace("-", "_"), content))
    return folder
