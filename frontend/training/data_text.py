"""A text as windows of bytes: `text i32[length, N]`, time in front.

Windows overlap by one byte, so that a model that predicts each byte from those before it is asked
for every byte once. The first 90 % of the text are for training, the last 5 % for tests, and what
lies between for choosing among models.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dlc.frontend.errors import user_error
from dlc.frontend.training.data_set import DataSet, Field, Kind, Parameter, Part

TRAIN_SHARE: Final = 0.90
TEST_SHARE: Final = 0.05


def _fields(wanted: Sequence[Parameter], length: int) -> tuple[Field, ...]:
    return (Field("text", "i32", (length,), axis=1),)


def _load(folder: Path, fields: tuple[Field, ...]) -> DataSet:
    length = fields[0].dims[0]
    content = _read(folder)
    train, test = (content[:int(len(content) * TRAIN_SHARE)],
                   content[len(content) - int(len(content) * TEST_SHARE):])
    return DataSet("text", _windows(folder, train, length), _windows(folder, test, length))


def _read(folder: Path) -> NDArray[np.uint8]:
    """The bytes of the only text in a folder."""
    files = sorted(f for f in folder.iterdir() if f.name.endswith((".txt", ".txt.gz")))
    if len(files) != 1:
        found = ", ".join(f.name for f in files) or "none"
        raise user_error("data", f"{folder} must hold one .txt or .txt.gz file, and holds {found}")
    try:
        content = files[0].read_bytes()
        if files[0].name.endswith(".gz"):
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise user_error("data", f"{files[0]} can't be read: {error}") from error
    return np.frombuffer(content, np.uint8)


def _windows(folder: Path, content: NDArray[np.uint8], length: int) -> Part:
    """All whole windows, as views of the text."""
    if len(content) < length:
        raise user_error("data", f"the text in {folder} is too short: a part of it has "
                         f"{len(content)} bytes, and length is {length}")
    windows = np.lib.stride_tricks.sliding_window_view(content, length)
    return Part({"text": windows[::max(length - 1, 1)]})


TEXT: Final = Kind("text", _fields, _load, "one .txt or .txt.gz file", "windows",
                   takes_length=True)
