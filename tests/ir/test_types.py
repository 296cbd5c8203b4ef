"""Types: interned, and their text reads back."""

from __future__ import annotations

import numpy as np
import pytest

from dlc.ir.dims import symbol
from dlc.ir.types import (
    DTYPES,
    F32,
    I32,
    parse_type,
    rows,
    sparse,
    substitute_type,
    tensor,
    tuple_type,
    type_symbols,
)

N, H = symbol("N"), symbol("H")
TYPES = [
    tensor(F32), tensor(F32, (N, 10)), tensor(I32, ((H - 3) // 2 + 1, 2 * N)),
    tuple_type((tensor(F32, (N,)), tensor(I32))), tuple_type(()),
    tuple_type((tuple_type((tensor(F32),)), tensor(I32, (2,)))),
    sparse(F32, (N, H)), rows(F32, (H, 8), N), rows(F32, (H, 8), N + 1),
]


@pytest.mark.parametrize("kind", TYPES, ids=str)
def test_text_reads_back_to_the_same_object(kind: object) -> None:
    assert parse_type(str(kind)) is kind


def test_equal_types_are_one_object_however_they_are_made() -> None:
    assert tensor(F32) is tensor(F32, ()) is tensor(dtype=F32)
    assert tensor(F32, (N + 1,)) is tensor(F32, (1 + N,))
    assert tensor(F32, (N,)) is not tensor(F32, (H,))


def test_substitution() -> None:
    kind = tuple_type((rows(F32, (H, 8), N), tensor(F32, (N * H,)), sparse(F32, (N, N))))
    right = tuple_type((rows(F32, (H, 8), 3), tensor(F32, (3 * H,)), sparse(F32, (3, 3))))
    assert substitute_type(kind, {"N": 3}) is right
    assert type_symbols(kind) == {"N", "H"}
    assert type_symbols(right) == {"H"}


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_dtypes_have_numpy_names_of_their_size(dtype: object) -> None:
    name = dtype.numpy  # type: ignore[attr-defined]
    size = 4 if str(dtype) == "bf16" else dtype.size  # type: ignore[attr-defined]
    assert np.dtype(name).itemsize == size


@pytest.mark.parametrize("text", [
    "", "f33", "f32[", "f32[N", "f32[N +]", "(f32", "sparse", "f32 of N", "rows f32[N]"])
def test_bad_text_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a type|dim"):
        parse_type(text)
