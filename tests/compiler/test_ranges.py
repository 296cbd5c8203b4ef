"""What is proved of index expressions."""

from __future__ import annotations

import pytest

from dlc.compiler.kernels.ranges import nonnegative
from dlc.ir.dims import Dim, maximum, minimum, symbol

H, Y, K = symbol("H"), symbol("i"), symbol("k")
# The rows that a tap of a convolution with padding 1 reads: `i + k - 1`, those inside.
TAPS: dict[str, tuple[Dim, Dim]] = {
    "i": (0, H - 1), "k": (maximum(1 - Y, 0), minimum(3, H - Y + 1) - 1)}


@pytest.mark.parametrize(("dim", "proved"), [
    (Y + K - 1, True), (H - Y - K, True), (Y + K - 2, False), (H - Y - K - 1, False),
    (2 - K, True), (1 - K, False),
])
def test_an_index_that_another_bounds(dim: Dim, proved: bool) -> None:
    assert nonnegative(dim, TAPS) == proved
