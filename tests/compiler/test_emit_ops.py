"""Every elementwise op of the registry as machine code, held against its formula in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dlc.compiler.llvm.target import Target, host
from dlc.ir.dims import symbol
from dlc.ir.loops import Apply, Const, For, Load, Mask, Splat, Store
from dlc.ir.ops import OPS
from dlc.ir.ops.elementwise import evaluate_formula
from dlc.ir.ops.op import Op, Sample
from dlc.ir.scalar import COMPARISONS, NumpyBuilder
from dlc.ir.types import (
    BOOL,
    F16,
    F32,
    F64,
    I8,
    I32,
    I64,
    U8,
    DType,
    TensorType,
    parse_type,
    tensor,
)
from tests.compiler.loop_runner import function, run

Array = np.ndarray[Any, Any]
N, i = symbol("N"), symbol("i")
FORMULAS = sorted(name for name, op in OPS.items() if op.formula is not None)
SPECIAL = (0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 3e38, -3e38, 1e-30, 0.5, -0.5, 2.5, 88.8)


def _values(dtype: DType, count: int, sample: Sample, seed: int) -> Array:
    chance = np.random.default_rng(seed)
    if dtype is BOOL:
        return chance.random(count) < 0.5
    low, high = (max(sample.low, 0), min(sample.high, 255)) if dtype is U8 else (
        sample.low, sample.high)
    if dtype.is_integer:
        return chance.integers(int(low), int(high) + 1, count).astype(dtype.numpy)
    return chance.uniform(low, high, count).astype(dtype.numpy)


def _run(
    op: str, attrs: tuple[tuple[str, Any], ...], dtypes: list[DType], to: DType,
    arrays: list[Array], lanes: int, target: Target | None = None,
) -> Array:
    """`op` on arrays, by a loop over vectors with a masked tail."""
    count = len(arrays[0])
    names = [f"x{k}" for k in range(len(arrays))]
    loads = [Load(f"v{k}", name, i, dtype, lanes, "m")
             for k, (name, dtype) in enumerate(zip(names, dtypes, strict=True))]
    body = For("i", 0, N, (
        Mask("m", i, N, lanes), *loads,
        Apply("r", op, tuple(f"v{k}" for k in range(len(names))), to, dtypes[0], lanes, attrs),
        Store("out", i, "r", to, lanes, "m")), lanes)
    out = np.zeros(count, "uint8" if to is BOOL else to.numpy)
    pointers = dict(zip(names, dtypes, strict=True)) | {"out": to}
    run(function((body,), pointers, ("N",)), *arrays, out, target=target, N=count)
    return out.astype(bool) if to is BOOL else out


def _same_bits(found: Array, expected: Array, zeros: bool = True) -> None:
    """Equal to the last bit; any nan is a nan, and zeros have a sign if `zeros`."""
    np.testing.assert_array_equal(found, expected)
    if zeros and found.dtype.kind == "f":
        known = ~np.isnan(expected)
        np.testing.assert_array_equal(np.signbit(found[known]), np.signbit(expected[known]))


def _dtypes(sample: Sample, wide: bool) -> list[DType]:
    found = []
    for text in sample.types:
        kind = parse_type(text)
        assert isinstance(kind, TensorType)
        found.append(F64 if wide and kind.dtype is F32 else kind.dtype)
    return found


def _result(op: Op, dtypes: list[DType], sample: Sample) -> DType:
    kinds = op.infer(tuple(tensor(d, (N,)) for d in dtypes), dict(sample.attrs), ())
    assert isinstance(kinds[0], TensorType)
    return kinds[0].dtype


def _cases(name: str) -> list[tuple[Sample, list[DType]]]:
    """One sample for each combination of element types and attributes."""
    found: dict[object, tuple[Sample, list[DType]]] = {}
    for sample in OPS[name].samples:
        for wide in (False, True):
            dtypes = _dtypes(sample, wide)
            found.setdefault((tuple(dtypes), sample.attrs), (sample, dtypes))
    return list(found.values())


@pytest.mark.parametrize("lanes", [1, 16, 32])
@pytest.mark.parametrize("name", FORMULAS)
def test_formula(name: str, lanes: int) -> None:
    for sample, dtypes in _cases(name):
        op = OPS[name]
        arrays = [_values(dtype, 101, sample, seed) for seed, dtype in enumerate(dtypes)]
        to = _result(op, dtypes, sample)
        expected = np.broadcast_to(evaluate_formula(op, dict(sample.attrs), *arrays), 101)
        found = _run(name, sample.attrs, dtypes, to, arrays, lanes)
        if F64 in dtypes:  # fma rounds twice in NumPy
            np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)
        else:
            _same_bits(found, expected)


@pytest.mark.parametrize("name", [n for n in FORMULAS if OPS[n].samples[0].types
                                  and set(_dtypes(OPS[n].samples[0], False)) == {F32}])
def test_formula_on_special_values(name: str) -> None:
    op, count = OPS[name], len(OPS[name].samples[0].types)
    grid = np.meshgrid(*[np.array(SPECIAL, np.float32)] * count)
    arrays = [np.ascontiguousarray(a.reshape(-1)) for a in grid]
    to = _result(op, [F32] * count, op.samples[0])
    expected = evaluate_formula(op, dict(op.samples[0].attrs), *arrays)
    found = _run(name, op.samples[0].attrs, [F32] * count, to, arrays, 16)
    if name in ("mod", "floordiv"):  # exact for quotients below 2**24 only
        with np.errstate(all="ignore"):
            small = ~(np.abs(arrays[0] / arrays[1]) > 2 ** 24)
        found, expected = found[small], expected[small]
    _same_bits(found, expected, zeros=name not in ("maximum", "minimum"))


@pytest.mark.parametrize("lanes", [1, 16])
@pytest.mark.parametrize("dtype", [I32, I64, U8])
@pytest.mark.parametrize("op", ["floordiv", "mod", "maximum", "minimum", "add", "mul", "sub",
                                "and", "or", "xor", *COMPARISONS])
def test_integers(op: str, dtype: DType, lanes: int) -> None:
    info = np.iinfo(dtype.numpy)
    values = np.array([info.min, info.max, 0, 1, 2, 7, info.max - 1, info.min + 1,
                       *([-1, -2, -7] if info.min else [])], dtype.numpy)
    a, b = (np.ascontiguousarray(x.reshape(-1)) for x in np.meshgrid(values, values))
    to = BOOL if op in COMPARISONS else dtype
    expected = NumpyBuilder().primitive(op, a, b)
    np.testing.assert_array_equal(_run(op, (), [dtype, dtype], to, [a, b], lanes), expected)


@pytest.mark.parametrize("to", [I32, I64, U8, I8, BOOL])
@pytest.mark.parametrize("dtype", [F32, F64])
def test_floats_to_integers_saturate(dtype: DType, to: DType) -> None:
    x = np.array([*SPECIAL, 127.9, 128, -128.9, -129, 255.9, 256, 2.0 ** 31, -(2.0 ** 31),
                  2.0 ** 63, -(2.0 ** 63), 2147483520, 1e19, -1e19, 1.9, -1.9], dtype.numpy)
    expected = NumpyBuilder().cast(x, to)
    found = _run("cast", (("to", to),), [dtype], to, [x], 16)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("lanes", [1, 16])
def test_doubles_become_halves_in_one_rounding(lanes: int) -> None:
    """Also what lies so near to the middle of two halves that it is the middle in f32."""
    rng = np.random.default_rng(0)
    halves = rng.integers(0, 2 ** 16, 2000).astype(np.uint16).view(np.float16)
    with np.errstate(all="ignore"):
        above = np.nextafter(halves, np.float16(np.inf)).astype(np.float64)
        middle = (halves.astype(np.float64) + above) / 2
        x = np.concatenate([halves, middle, middle * (1 + 1e-15), middle * (1 - 1e-15),
                            [*SPECIAL, 65504, 65519.99999999, 65520, 1e300, -1e300, 1e-300]])
        expected = x.astype(np.float16)
    found = _run("cast", (("to", F16),), [F64], F16, [x], lanes)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("cpu", ["", "plain"])
@pytest.mark.parametrize("lanes", [1, 4, 16, 32])
@pytest.mark.parametrize("dtype", [F32, F64])
def test_powers_of_two(dtype: DType, lanes: int, cpu: str) -> None:
    """Both ways: by the instruction of AVX-512, where there is one, and by products."""
    target = host()
    if cpu:
        target = Target(target.triple, target.cpu, target.features.replace("+avx512", "-avx512"))
    top = 127 if dtype is F32 else 1023
    n = np.arange(-2 * top + 4, 2 * top - 3, 3).astype(dtype.numpy)
    for start in (1.5, -1.25 * 2.0 ** (top - 1), 1.75 * 2.0 ** (2 - top)):
        x = np.full(len(n), start, dtype.numpy)
        expected = NumpyBuilder().primitive("ldexp", x, n)
        normal = (np.abs(expected) >= np.finfo(dtype.numpy).tiny) | (expected == 0)
        found = _run("ldexp", (), [dtype, dtype], dtype, [x, n], lanes, target)
        _same_bits(found[normal], expected[normal])


def test_constants_are_as_good_as_registers() -> None:
    x = np.array(SPECIAL * 2, np.float32)[:16]
    body = (Load("v", "x", 0, F32, 16), Const("c", 0.5, F32), Splat("s", "c", F32, 16),
            Apply("a", "maximum", ("v", "s"), F32, F32, 16), Store("y", 0, "a", F32, 16),
            Apply("b", "minimum", ("s", "v"), F32, F32, 16), Store("z", 0, "b", F32, 16))
    y, z = np.zeros(16, np.float32), np.zeros(16, np.float32)
    run(function(body, "xyz"), x, y, z)
    np.testing.assert_array_equal(y, np.maximum(x, np.float32(0.5)))
    np.testing.assert_array_equal(z, np.minimum(np.float32(0.5), x))
