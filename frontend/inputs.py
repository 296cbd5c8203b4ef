"""What a compiled function takes, as records, calls and `train` blocks know it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from dlc.ir.dataclass import dataclass

if TYPE_CHECKING:
    from dlc.frontend.training.data_set import Field

Dim = int | str | Sequence["Dim"]
# The settings of a `train` block that are no parameters of its functions.
KEYS: Final = ("data", "step", "test", "batch", "length", "epochs")
SPARSE: Final = "sparse "  # stands before the element type of a sparse matrix


@dataclass(frozen=True, slots=True)
class Input:
    """A parameter of a compiled function; `default` is None where it must be given.

    `sizes` are symbols that a sparse matrix alone says: those that no array has.
    """

    name: str
    dtype: str
    dims: tuple[Dim, ...]
    default: float | None
    text: str
    sizes: tuple[str, ...] = ()

    def takes(self, field: Field) -> bool:
        """Whether batches of `field` fit: a symbol for their size, symbols or equal dims else."""
        if self.dtype != field.dtype or len(self.dims) != 1 + len(field.dims):
            return False
        dims = list(self.dims)
        size = dims.pop(field.axis)
        others = [d for d in dims if isinstance(d, str)]
        return (
            isinstance(size, str)
            and size not in others
            and len(set(others)) == len(others)
            and all(isinstance(d, str) or d == n for d, n in zip(dims, field.dims, strict=True))
        )
