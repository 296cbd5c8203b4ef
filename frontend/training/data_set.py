"""What a data set is: fields, two parts, and how it is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dlc.frontend.errors import user_error
from dlc.ir.dataclass import dataclass

Array = NDArray[np.generic]


class Parameter(Protocol):
    """A parameter of a function that is fed: its name, element type and dims."""

    @property
    def name(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def dims(self) -> tuple[object, ...]: ...


@dataclass(frozen=True, slots=True)
class Field:
    """One array of a data set: batches of it have the examples along `axis`, and `dims` else."""

    name: str
    dtype: str
    dims: tuple[int, ...]
    axis: int = 0

    def __str__(self) -> str:
        dims = [*map(str, self.dims)]
        dims.insert(self.axis, "N")
        return f"{self.name}: {self.dtype}[{', '.join(dims)}]"


@dataclass(frozen=True, slots=True)
class Part:
    """The examples of one part: an array for each field, equally long, examples in front."""

    arrays: Mapping[str, Array]

    @property
    def size(self) -> int:
        return len(next(iter(self.arrays.values())))


@dataclass(frozen=True, slots=True)
class DataSet:
    """A data set in memory."""

    name: str
    train: Part
    test: Part


@dataclass(frozen=True, slots=True)
class Kind:
    """What is known of a data set before it is read, and how to read it from a folder.

    fields: the fields, from the parameters that are to be fed and the `length` of the block.
    files:  what lies in its folder, in words.
    unit:   what its examples are called.
    """

    name: str
    fields: Callable[[Sequence[Parameter], int], tuple[Field, ...]]
    load: Callable[[Path, tuple[Field, ...]], DataSet]
    files: str
    unit: str
    takes_length: bool = False


def existing(folder: Path, name: str) -> Path:
    """The file `name` in a folder, gzipped or not; UserError if there is neither."""
    for file in (folder / name, folder / f"{name}.gz"):
        if file.is_file():
            return file
    raise user_error("data", f"{folder} lacks {name} (or {name}.gz)")
