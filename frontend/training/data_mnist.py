"""MNIST (LeCun, Cortes and Burges): `image u8[N, 28, 28]` and `label u8[N]`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dlc.frontend.errors import user_error
from dlc.frontend.training.data_set import DataSet, Field, Kind, Part, existing
from dlc.frontend.training.idx import read_idx

FIELDS: Final = (Field("image", "u8", (28, 28)), Field("label", "u8", ()))
_MNIST_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def _mnist(folder: Path, fields: tuple[Field, ...]) -> DataSet:
    return DataSet("mnist", _mnist_part(folder, "train"), _mnist_part(folder, "t10k"))


def _mnist_part(folder: Path, prefix: str) -> Part:
    """One part of MNIST: `image u8[N, 28, 28]` and `label u8[N]`, labels 0 to 9."""
    image_file = existing(folder, f"{prefix}-images-idx3-ubyte")
    label_file = existing(folder, f"{prefix}-labels-idx1-ubyte")
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


MNIST: Final = Kind("mnist", lambda wanted, length: FIELDS, _mnist, ", ".join(_MNIST_FILES),
                    "images")
