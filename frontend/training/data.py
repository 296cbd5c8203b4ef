"""Data sets by name: what a `train` block's `data = "mnist"` means.

A data set has fields (named and typed as a function's parameters are) and two parts, `train` and
`test`. To add one, write a loader and give it a row in `DATA_SETS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dlc.frontend.errors import user_error
from dlc.frontend.training.idx import read_idx

Array = NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class Field:
    """One array of a data set; its shape is the number of examples and then `dims`."""

    name: str
    dtype: str
    dims: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}[{', '.join(('N', *map(str, self.dims)))}]"


@dataclass(frozen=True, slots=True)
class Part:
    """The examples of one part: an array for each field, equally long."""

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
    """What is known of a data set before it is read, and how to read it from a folder."""

    name: str
    fields: tuple[Field, ...]
    load: Callable[[Path], DataSet]


def find(name: str) -> Kind:
    """The data set called `name`; an unknown name is an error that lists the known ones."""
    if name not in DATA_SETS:
        known = ", ".join(f'"{known}"' for known in sorted(DATA_SETS))
        raise user_error("data", f'there is no data set "{name}"', f"known are {known}")
    return DATA_SETS[name]


def folder_of(name: str, program: Path, given: str | None) -> Path:
    """Where the data set lies: the folder that was given, or `data/NAME` beside the program."""
    folder = Path(given) if given is not None else program.parent / "data" / name
    if not folder.is_dir():
        raise user_error(
            "data",
            f'the data set "{name}" is not there: {folder} is no folder',
            f"put its files there, or name their folder: --data DIR ({_files_of(name)})",
        )
    return folder


def _files_of(name: str) -> str:
    return ", ".join(_MNIST_FILES) if name == "mnist" else "its files"


_MNIST_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def _mnist(folder: Path) -> DataSet:
    return DataSet("mnist", _mnist_part(folder, "train"), _mnist_part(folder, "t10k"))


def _mnist_part(folder: Path, prefix: str) -> Part:
    """One part of MNIST: `image u8[N, 28, 28]` and `label u8[N]`, labels 0 to 9."""
    image_file = _existing(folder, f"{prefix}-images-idx3-ubyte")
    label_file = _existing(folder, f"{prefix}-labels-idx1-ubyte")
    images = read_idx(image_file, (28, 28))
    labels = read_idx(label_file, ())
    if len(images) != len(labels):
        raise user_error(
            "data",
            f"{image_file} holds {len(images)} pictures, "
            f"but {label_file.name} beside it {len(labels)} labels",
        )
    _check_labels(label_file, labels, 10)
    return Part({"image": images, "label": labels})


def _check_labels(file: Path, labels: NDArray[np.uint8], classes: int) -> None:
    wrong = np.flatnonzero(labels >= classes)
    if len(wrong):
        place = int(wrong[0])
        raise user_error(
            "data",
            f"{file}: label {labels[place]} (of example {place}) is out of range: "
            f"expected 0 to {classes - 1}; {len(wrong)} of {len(labels)} labels are out of range",
        )


def _existing(folder: Path, name: str) -> Path:
    """The file `name`, gzipped or not."""
    for file in (folder / name, folder / f"{name}.gz"):
        if file.is_file():
            return file
    raise user_error("data", f"{folder} lacks {name} (or {name}.gz)")


DATA_SETS: Mapping[str, Kind] = {
    "mnist": Kind("mnist", (Field("image", "u8", (28, 28)), Field("label", "u8", ())), _mnist),
}
