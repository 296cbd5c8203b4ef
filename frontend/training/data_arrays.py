"""Arrays of one's own: `train/NAME.npy` and `test/NAME.npy` feed the parameter NAME.

The first axis of each file is that of the examples; element type and the other dims are those of
the parameter. Without a folder `test`, tests run on the training part.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from dlc.frontend.errors import user_error
from dlc.frontend.training.data_set import Array, DataSet, Field, Kind, Parameter, Part


def _fields(wanted: Sequence[Parameter], length: int) -> tuple[Field, ...]:
    """One field for each parameter that has a size of its own in front and known dims behind."""
    found = []
    for parameter in wanted:
        inner = tuple(d for d in parameter.dims[1:] if isinstance(d, int))
        if parameter.dims and len(inner) == len(parameter.dims) - 1:
            found.append(Field(parameter.name, parameter.dtype, inner))
    return tuple(found)


def _load(folder: Path, fields: tuple[Field, ...]) -> DataSet:
    train = _part(folder / "train", fields)
    test = _part(folder / "test", fields) if (folder / "test").is_dir() else train
    return DataSet("arrays", train, test)


def _part(folder: Path, fields: tuple[Field, ...]) -> Part:
    arrays = {field.name: _array(folder / f"{field.name}.npy", field) for field in fields}
    sizes = {name: len(array) for name, array in arrays.items()}
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{name}.npy has {size}" for name, size in sizes.items())
        raise user_error("data", f"the files in {folder} differ in their examples: {told}")
    if not sizes or not min(sizes.values()):
        raise user_error("data", f"{folder} holds no examples")
    return Part(arrays)


def _array(file: Path, field: Field) -> Array:
    try:
        array: Array = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise user_error("data", f"{file} can't be read: {error}") from error
    names = {"u": "u", "i": "i", "f": "f", "b": "bool"}
    kind = names.get(array.dtype.kind, "?")
    dtype = kind if kind == "bool" else f"{kind}{array.dtype.itemsize * 8}"
    if dtype != field.dtype or array.shape[1:] != field.dims:
        raise user_error("data", f"{file} holds {array.dtype}{list(array.shape)}, and the program "
                         f"takes {field}")
    return array


ARRAYS: Final = Kind("arrays", _fields, _load,
                     "train/NAME.npy and test/NAME.npy for each parameter NAME", "examples")
