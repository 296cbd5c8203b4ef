"""What ops with indices that are data mean, against NumPy; and what they refuse."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from dlc.ir.graph import Attr, Builder, Graph, Param, Value
from dlc.ir.interpret import run_graph
from dlc.ir.ops import OPS, TypeRuleError
from dlc.ir.scalar import Array
from dlc.ir.types import DTYPES, parse_type
from tests.ir.support import random_array
from tests.ir.test_gradients import backward

KINDS = [name for name in DTYPES if name != "bf16"]  # NumPy has no bf16
NUMBERS = [name for name in KINDS if name != "bool"]
FLOATS = ("f16", "f32", "f64")
SPECIAL = [np.nan, 0.0, -0.0, np.inf, -np.inf, 1.0, -1.0, 1e-45, -1e-45, 3.4e38, 2.0, -np.nan, 1.0,
           5e-324, -5e-324, 1e300, 6e-8, -6e-8, 0.0, -0.0, np.nan, 65504.0]


def run(op: str, arrays: Sequence[Array], **attrs: Attr) -> Array:
    """The result of one op on arrays."""
    names = {t.numpy: t.name for t in reversed(DTYPES.values()) if t.name != "bf16"}
    kinds = [parse_type(f"{names[a.dtype.name]}{list(a.shape) if a.ndim else ''}") for a in arrays]
    values = [Value(f"x{k}", kind) for k, kind in enumerate(kinds)]
    b = Builder(v.name for v in values)
    results = b.emit(op, *values, **attrs)
    graph = Graph(op, tuple(map(Param, values)), tuple(b.nodes), results)
    return run_graph(graph, arrays)[0]


def draw(dtype: str, *shape: int, high: int = 50, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    return np.asarray(rng.integers(0, high, shape)).astype(DTYPES[dtype].numpy)


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("index", ["i8", "i16", "i32", "i64", "u8"])
def test_gather_takes(dtype: str, index: str) -> None:
    x, ids = draw(dtype, 5, 7, 3), draw(index, 4, 2, high=7)
    np.testing.assert_array_equal(run("gather", [x, ids], axis=1), np.take(x, ids, 1))
    first = draw(index, 4, 2, high=5, seed=1)
    np.testing.assert_array_equal(run("gather", [x, first, ids], axis=0), x[first, ids])
    np.testing.assert_array_equal(run("gather", [x, ids[0, 0]], axis=1), x[:, ids[0, 0]])


@pytest.mark.parametrize("dtype", NUMBERS)
def test_scatter_adds_in_order(dtype: str) -> None:
    base, ids = draw(dtype, 6, 3), draw("i32", 40, high=6)
    updates = draw(dtype, 40, 3, high=3, seed=2)
    expected = base.copy()
    np.add.at(expected, ids, updates)
    np.testing.assert_array_equal(
        run("scatter", [base, updates, ids], axis=0, mode="add"), expected)


def test_sums_of_scatter_are_rounded_in_the_order_of_the_indices() -> None:
    big, ids = np.float32(2**24), np.zeros((2, 2), np.int32)
    updates = np.array([[big, 1], [1, -big]], np.float32)
    (found,) = run("scatter", [np.zeros(1, np.float32), updates, ids], axis=0, mode="add")
    assert found == 0  # 2**24 + 1 is 2**24 each time; another order gives 1 or 2


@pytest.mark.parametrize("dtype", KINDS)
def test_the_last_one_set_stays(dtype: str) -> None:
    base, ids, updates = draw(dtype, 2, 5), draw("i64", 30, high=5), draw(dtype, 2, 30, seed=3)
    expected = base.copy()
    for k, place in enumerate(ids):
        expected[:, place] = updates[:, k]
    np.testing.assert_array_equal(
        run("scatter", [base, updates, ids], axis=1, mode="set"), expected)


@pytest.mark.parametrize("mode", ["add", "set"])
def test_no_indices_change_nothing(mode: str) -> None:
    base, ids = draw("f32", 4, 3), np.zeros((0, 2), np.int32)
    given = [base, np.zeros((0, 2, 3), np.float32), ids]
    np.testing.assert_array_equal(run("scatter", given, axis=0, mode=mode), base)
    assert run("gather", [base, ids], axis=0).shape == (0, 2, 3)


@pytest.mark.parametrize("bad", [-1, 4])
def test_an_index_out_of_range_is_found(bad: int) -> None:
    with pytest.raises(IndexError, match=f"index {bad} is out of range for an axis of 4"):
        run("gather", [draw("f32", 4, 3), np.array([0, bad])], axis=0)


@pytest.mark.parametrize(("op", "kinds", "attrs", "message"), [
    ("gather", ("f32[4, 3]", "f32[2]"), {"axis": 0}, "an index of gather is f32[2], not of int"),
    ("gather", ("f32[4, 3]", "i32[2]", "i32[3]"), {"axis": 0}, "the indices of gather differ"),
    ("gather", ("f32[4, 3]", "i32[2]"), {"axis": 2}, "gather with 1 indices from axis 2"),
    ("gather", ("f32[4, 3]", "i32", "i32", "i32"), {"axis": 0}, "gather with 3 indices"),
    ("scatter", ("f32[4, 3]", "f32[2, 4]", "i32[2]"), {"axis": 0, "mode": "add"},
     "the updates of scatter are f32[2, 4], not f32[2, 3]"),
    ("scatter", ("bool[4]", "bool[2]", "i32[2]"), {"axis": 0, "mode": "add"}, "does not add bool"),
    ("scatter", ("f32[4]", "f32[2]", "i32[2]"), {"axis": 0, "mode": "max"}, "does not max f32[4]"),
    ("cumsum", ("f32[4]",), {"axis": 1, "reverse": False}, "cumsum of f32[4] along axis 1"),
    ("flip", ("f32[4]",), {"axes": (0, 0)}, "flip of f32[4] along axes (0, 0)"),
    ("argsort", ("f32",), {}, "f32 has none"),
    ("radix_pass", ("i16[4]", "i32[4]"), {"shift": 0}, "keys of i32 or i64"),
    ("radix_pass", ("i32[4]", "i32[4]"), {"shift": 4}, "4 is not where a digit of i32 starts"),
    ("bits", ("bf16[4]",), {}, "bits takes f16, f32, f64, not bf16[4]"),
])
def test_what_does_not_fit(
    op: str, kinds: tuple[str, ...], attrs: dict[str, Attr], message: str
) -> None:
    with pytest.raises(TypeRuleError) as error:
        OPS[op].infer(tuple(map(parse_type, kinds)), attrs, ())
    assert message in str(error.value)


def sortable(dtype: str, n: int) -> list[Array]:
    """Rows with ties, with special numbers, and with all bit patterns."""
    rng = np.random.default_rng(n)
    kind = DTYPES[dtype].numpy
    ties = np.asarray(rng.integers(0, 3, n)).astype(kind)
    patterns = rng.integers(0, 256, n * DTYPES[dtype].size, dtype=np.uint8)
    rows = [ties, patterns % 2 == 1 if dtype == "bool" else patterns.view(kind)]
    if dtype in FLOATS:
        with np.errstate(over="ignore"):
            rows.append(np.resize(np.array(SPECIAL), n).astype(kind))
            rows.append(rng.permutation(np.resize(np.array(SPECIAL), n)).astype(kind))
    return rows


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("n", [0, 1, 2, 17, 300])
def test_argsort_and_what_it_is_made_of(dtype: str, n: int) -> None:
    x = np.stack(sortable(dtype, n))
    expected = np.argsort(x, -1, kind="stable")
    np.testing.assert_array_equal(run("argsort", [x]), expected)
    value = Value("x", parse_type(f"{dtype}[{len(x)}, {n}]"))
    b = Builder(["x"])
    (made,) = b.emit("argsort", value)
    node = b.nodes.pop()
    decompose = OPS["argsort"].decompose
    assert decompose is not None
    results = decompose(b, node)
    assert made.type is results[0].type
    found = run_graph(Graph("sort", (Param(value),), tuple(b.nodes), results), [x])
    np.testing.assert_array_equal(found[0], expected)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dtype", ["f32", "f64", "i32", "i64", "u8", "bool"])
def test_cumsum(dtype: str, reverse: bool) -> None:
    x = draw(dtype, 3, 9)
    way = slice(None, None, -1 if reverse else 1)
    total = np.cumsum(x[:, way], 1, dtype="i4" if dtype in ("u8", "bool") else x.dtype)[:, way]
    found = run("cumsum", [x], axis=1, reverse=reverse)
    assert found.dtype == total.dtype
    np.testing.assert_array_equal(found, total)


def test_the_gradient_of_what_was_set_goes_to_the_last_update() -> None:
    values = [Value(name, parse_type(kind)) for name, kind in (
        ("base", "f64[4]"), ("updates", "f64[3]"), ("ids", "i32[3]"))]
    b = Builder(v.name for v in values)
    results = b.emit("scatter", *values, axis=0, mode="set")
    graph = Graph("f", tuple(map(Param, values)), tuple(b.nodes), results)
    back, kept = backward(graph, OPS["scatter"])
    assert kept == [0, 1]
    g = random_array(np.random.default_rng(0), results[0].tensor, OPS["scatter"].samples[0])
    base, updates = run_graph(back, [np.zeros(4), np.ones(3), np.array([2, 0, 2], "i4"), g])
    np.testing.assert_array_equal(base, [0, g[1], 0, g[3]])
    np.testing.assert_array_equal(updates, [0, g[0], g[2]])
