"""Layouts: where each element lies, and that the way there and back loses nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlc.runtime.layout import Layout


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    """Up to four axes, each split into up to three nested digits, in any order."""
    dims = draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))
    digits = []
    for axis in range(len(dims)):
        divisor = 1
        own = [(axis, 1)]
        for factor in draw(st.lists(st.integers(2, 4), max_size=2)):
            divisor *= factor
            own.insert(0, (axis, divisor))
        digits.append(own)
    turns = draw(st.permutations([axis for axis, own in enumerate(digits) for _ in own]))
    return Layout.make(dims, [digits[axis].pop(0) for axis in turns])


def place(layout: Layout, index: tuple[int, ...]) -> tuple[int, ...]:
    """Where an element lies, straight from the definition of digits."""
    left = list(index)
    found = []
    for axis, divisor in layout.digits or [(axis, 1) for axis in range(len(index))]:
        found.append(left[axis] // divisor)
        left[axis] %= divisor
    return tuple(found)


@given(layouts())
@settings(max_examples=150, deadline=None)
def test_there_and_back(layout: Layout) -> None:
    logical = np.arange(1, 1 + np.prod(layout.dims)).reshape(layout.dims)
    storage = np.full(layout.storage_shape, -1)
    layout.store(logical, storage)
    back = layout.read(storage)
    np.testing.assert_array_equal(back, logical)
    assert back.flags.c_contiguous
    assert not np.shares_memory(back, storage)
    for index in np.ndindex(layout.dims):
        assert storage[place(layout, index)] == logical[index]
    assert np.count_nonzero(storage) == logical.size  # the padding is zero
    assert storage.size == layout.elements


def test_blocked_channels() -> None:
    layout = Layout.make([20, 3, 5], [[1, 1], [0, 16], [2, 1], [0, 1]])
    assert layout.storage_shape == (3, 2, 5, 16)
    assert layout.elements == 480


def test_row_major_has_no_digits() -> None:
    assert Layout.make([2, 3], [[0, 1], [1, 1]]) == Layout.make([2, 3], None)
    assert Layout.make([], None).storage_shape == ()


@pytest.mark.parametrize(
    "digits",
    [[[0, 1]], [[0, 2], [1, 1]], [[0, 1], [0, 2], [1, 1]], [[0, 6], [0, 4], [0, 1], [1, 1]],
     [[0, 0], [1, 1]], [[0, 1], [1, 1], [2, 1]]],
)  # fmt: skip
def test_what_is_no_layout(digits: list[list[int]]) -> None:
    with pytest.raises(ValueError, match=r"digits|divisors"):
        Layout.make([4, 6], digits)
