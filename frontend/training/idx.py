"""Reader of idx files (MNIST's format), gzipped or plain.

Two zero bytes, a byte for the element type, a byte for the number of dims, the dims as big-endian
32-bit integers, the elements. Here only unsigned bytes (type 8) are read.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from dlc.frontend.errors import user_error

_UNSIGNED_BYTE = 8
# Deflate can't pack tighter than this: a header that promises more lies, and is not believed
# before memory is taken for it.
_TIGHTEST = 1032


def read_idx(file: Path, dims: tuple[int, ...]) -> NDArray[np.uint8]:
    """The elements of `file`: u8[N, *dims] with N >= 1, read straight into the one array.

    UserError for a file that can't be read, is of another type or shape, is shorter or longer
    than its header says, or holds nothing.
    """
    try:
        with _open(file) as stream:
            shape = _read_header(file, stream, dims)
            return _read_elements(file, stream, shape)
    except (OSError, EOFError, zlib.error) as error:
        raise user_error("data", f"{file} can't be read: {_reason(error)}") from error


def _open(file: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(file)) if file.suffix == ".gz" else file.open("rb")


def _reason(error: Exception) -> str:
    if isinstance(error, EOFError):
        return "it is truncated (the gzip stream does not end)"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)


def _read_header(file: Path, stream: BinaryIO, dims: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that the header gives, once it is known to be what is expected."""
    rank = 1 + len(dims)
    header = stream.read(4 + 4 * rank)
    expected = bytes((0, 0, _UNSIGNED_BYTE, rank))
    if header[:4] != expected:
        raise user_error(
            "data",
            f"{file} is not the idx file that is expected: it begins with {header[:4].hex(' ')}, "
            f"not {expected.hex(' ')} (unsigned bytes, {rank} dim{'s' * (rank > 1)})",
        )
    if len(header) < 4 + 4 * rank:
        raise user_error("data", f"{file} is truncated: its header ends after {len(header)} bytes")
    shape = struct.unpack(f">{rank}I", header[4:])
    if shape[1:] != dims:
        raise user_error(
            "data", f"{file} holds examples of shape {_by(shape[1:])}, expected {_by(dims)}"
        )
    if shape[0] == 0:
        raise user_error("data", f"{file} holds no examples")
    return shape


def _read_elements(file: Path, stream: BinaryIO, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    size = math.prod(shape)
    if size > _TIGHTEST * file.stat().st_size:
        raise user_error(
            "data",
            f"{file} is truncated: {file.stat().st_size} bytes can't hold the {size} elements "
            f"of its header ({_by(shape)})",
        )
    elements = np.empty(size, np.uint8)
    found = _read_into(stream, elements.data)
    if found < size:
        raise user_error(
            "data", f"{file} is truncated: expected {size} elements ({_by(shape)}), found {found}"
        )
    if stream.read(1):
        raise user_error(
            "data", f"{file} goes on after the {size} elements of its header ({_by(shape)})"
        )
    return elements.reshape(shape)


def _read_into(stream: BinaryIO, target: memoryview) -> int:
    """Fills `target` as far as the stream reaches; how many bytes that was."""
    found = 0
    while found < len(target):
        count = stream.readinto(target[found : found + (1 << 20)])  # type: ignore[attr-defined]
        if not count:
            break
        found += count
    return found


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "one number"
