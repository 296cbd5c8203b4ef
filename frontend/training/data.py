"""Data sets by name: what a `train` block's `data = "mnist"` means.

A data set has fields (named and typed as a function's parameters are) and two parts, `train` and
`test`. To add one, write a loader and give it a row in `DATA_SETS`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from dlc.frontend.errors import user_error
from dlc.frontend.training.data_arrays import ARRAYS
from dlc.frontend.training.data_mnist import MNIST
from dlc.frontend.training.data_patches import PATCHES
from dlc.frontend.training.data_set import Array, DataSet, Field, Kind, Parameter, Part
from dlc.frontend.training.data_text import TEXT
from dlc.ir.diagnostics import did_you_mean

DATA_SETS: Mapping[str, Kind] = {kind.name: kind for kind in (ARRAYS, MNIST, PATCHES, TEXT)}


def find(name: str) -> Kind:
    """The data set called `name`; an unknown name is an error that lists the known ones."""
    if name not in DATA_SETS:
        known = ", ".join(f'"{known}"' for known in sorted(DATA_SETS))
        help = did_you_mean(name, DATA_SETS) or f"known are {known}"
        raise user_error("data", f'there is no data set "{name}"', help)
    return DATA_SETS[name]


def folder_of(name: str, program: Path, given: str | None) -> Path:
    """Where the data set lies: the folder that was given, or `data/NAME` beside the program."""
    folder = Path(given) if given is not None else program.parent / "data" / name
    if not folder.is_dir():
        raise user_error(
            "data",
            f'the data set "{name}" is not there: {folder} is no folder',
            f"put its files there, or name their folder: --data DIR ({find(name).files})",
        )
    return folder


def load(name: str, program: Path, given: str | None, fields: Sequence[Field]) -> DataSet:
    """The data set called `name` with `fields`, from its folder; UserError if it can't be read."""
    return find(name).load(folder_of(name, program, given), tuple(fields))


__all__ = ["DATA_SETS", "Array", "DataSet", "Field", "Kind", "Parameter", "Part", "find",
           "folder_of", "load"]
