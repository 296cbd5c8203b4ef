"""Accuracy of the formulas, in units in the last place, over all magnitudes."""

from __future__ import annotations

import numpy as np
import pytest

from dlc.ir.ops import OPS
from dlc.ir.scalar import Array, NumpyBuilder
from tests.ir.sweep_math import WIDE, errors

SMALLEST = {np.float32: 2.0**-126, np.float64: 2.0**-1022}
ONE_OPERAND = [name for name in WIDE if name not in ("pow", "sqrt")]


def numbers(dtype: type, count: int = 40_000) -> Array:
    """Numbers of all magnitudes, many of the usual ones, and the special ones."""
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, count, dtype=np.uint64).astype(np.uint32)
    usual = [rng.uniform(-a, a, count // 2) for a in (0.01, 1, 5, 20, 110)]
    special = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, SMALLEST[dtype], SMALLEST[dtype] / 8]
    with np.errstate(all="ignore"):
        return np.concatenate([
            bits.view(np.float32).astype(np.float64), *usual, special]).astype(dtype)


def formula(name: str, *xs: Array) -> Array:
    op = OPS[name]
    assert op.formula is not None
    return np.asarray(op.formula(NumpyBuilder(), {}, *xs))


def check(found: Array, right: Array, units: float) -> None:
    """`found` within `units` of `right` (of a wider type) where that is normal, special alike."""
    assert errors(found, right).max() <= units


@pytest.mark.parametrize("name", ONE_OPERAND)
def test_f32_is_within_two_units(name: str) -> None:
    x = numbers(np.float32)
    with np.errstate(all="ignore"):
        right = WIDE[name](x.astype(np.float64))
    check(formula(name, x), right, 2)


@pytest.mark.parametrize("name", ONE_OPERAND)
@pytest.mark.skipif(np.finfo(np.longdouble).eps > 1e-18, reason="no wider type to compare with")
def test_f64_is_within_four_units(name: str) -> None:
    x = numbers(np.float64, 4000)
    with np.errstate(all="ignore"):
        right = WIDE[name](x.astype(np.longdouble))
    check(formula(name, x), right, 4)


def test_pow_f32_is_within_one_unit() -> None:
    x = np.abs(numbers(np.float32))
    rng = np.random.default_rng(1)
    usual = rng.uniform(-20, 20, x.size).astype(np.float32)
    y = np.where(rng.random(x.size) < 0.8, usual, rng.permutation(x))
    with np.errstate(all="ignore"):
        right = np.power(x.astype(np.float64), y.astype(np.float64))
    check(formula("pow", x, y), right, 1)


@pytest.mark.skipif(np.finfo(np.longdouble).eps > 1e-18, reason="no wider type to compare with")
@pytest.mark.parametrize(("limit", "units"), [(1, 2), (30, 4), (700, 32)])
def test_pow_f64(limit: float, units: float) -> None:
    rng = np.random.default_rng(1)
    x = np.exp(rng.uniform(-5, 5, 20_000))
    y = rng.uniform(-limit, limit, x.size) / np.maximum(np.abs(np.log(x)), 1e-2)
    with np.errstate(all="ignore"):
        right = np.power(x.astype(np.longdouble), y.astype(np.longdouble))
    check(formula("pow", x, y), right, units)


@pytest.mark.parametrize("name", ["expm1", "log1p", "tanh", "erf", "sin"])
def test_the_sign_of_zero_stays(name: str) -> None:
    y = formula(name, np.array([0.0, -0.0], np.float32))
    np.testing.assert_array_equal(np.signbit(y), [False, True])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pow_of_all_kinds_of_numbers(dtype: type) -> None:
    """As NumPy and C have it: with signs of zeros, whole and odd exponents, inf and nan."""
    some = [0, 1, 2, 3, 0.5, 1.5, 7, 16777216, 16777218, 1e30, np.inf]
    x, y = np.meshgrid(*[np.array([*some, *(-n for n in some), -0.0, np.nan], dtype)] * 2)
    with np.errstate(all="ignore"):
        right = np.power(x, y)
    found = formula("pow", x.ravel(), y.ravel()).reshape(x.shape)
    np.testing.assert_allclose(found, right, rtol=1e-6 if dtype is np.float32 else 1e-14)
    meant = ~np.isnan(right) & ~np.isnan(found)
    np.testing.assert_array_equal(np.signbit(found[meant]), np.signbit(right[meant]))


def test_half_precision_is_computed_in_f32() -> None:
    x = np.linspace(-4, 4, 33).astype(np.float16)
    y = formula("tanh", x)
    assert y.dtype == np.float16
    np.testing.assert_array_equal(y, np.tanh(x.astype(np.float64)).astype(np.float16))
