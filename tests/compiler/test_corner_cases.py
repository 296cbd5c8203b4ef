"""Numbers and shapes at the edges: nan, infinities, signs of zero, large integers, ties."""

from __future__ import annotations

import numpy as np
import pytest

from dlc.compiler.pipeline import dump_graph
from dlc.ir.dims import Dim, symbol
from dlc.ir.graph import Builder, Graph, Param, Value
from dlc.ir.interpret import run_graph
from dlc.ir.ops.contract import matmul_spec, spec
from dlc.ir.scalar import Array
from dlc.ir.types import BF16, BOOL, F16, F32, F64, I32, I64, U8, DType, tensor
from tests.compiler.compiled import CompiledGraph

N = symbol("N")
SPECIAL = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 3e38, -3e38)


def value(name: str, *dims: Dim, dtype: DType = F32) -> Value:
    return Value(name, tensor(dtype, dims))


def function(
    b: Builder, inputs: list[Value], *results: Value, updates: dict[Value, Value] | None = None
) -> CompiledGraph:
    """Results, and updates: which variable gets which value."""
    updated = updates or {}
    params = (*map(Param, inputs), *(Param(v, "var") for v in updated))
    changes = tuple((variable.name, new) for variable, new in updated.items())
    graph = Graph("f", params, tuple(b.nodes), results, changes)
    return CompiledGraph(graph)


def special(rng: np.random.Generator, shape: tuple[int, ...], dtype: DType) -> Array:
    """A few numbers that are no ordinary ones among ordinary ones."""
    x = rng.integers(-3, 4, shape).astype(dtype.numpy)
    some = rng.random(shape) < 0.06
    x[some] = rng.choice(np.array(SPECIAL, dtype.numpy), int(some.sum()))
    return x


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
def test_largest_among_special_numbers(dtype: DType) -> None:
    """nan wins, the first of equals wins; along every axis, in vectors and their tails."""
    b = Builder("xy")
    x, y = value("x", N, 37, dtype=dtype), value("y", 5, N, 3, dtype=dtype)
    results = [b.op(op, v, **how) for v in (x, y) for k in range(len(v.dims))
               for op, how in (("argmax", {"axis": k}), ("reduce_max", {"axes": (k,)}))]
    compiled = function(b, [x, y], *results)
    rng = np.random.default_rng(0)
    for n in (1, 2, 17, 37, 100):
        compiled.check([special(rng, (n, 37), dtype), special(rng, (5, n, 3), dtype)])
        compiled.check([np.full((n, 37), -np.inf, dtype.numpy), np.full((5, n, 3), np.nan,
                                                                        dtype.numpy)])


def test_softmax_of_rows_of_infinities() -> None:
    b = Builder("x")
    x = value("x", N, 10)
    compiled = function(b, [x], *(b.op(op, x, axis=1) for op in ("softmax", "log_softmax")))
    rows = np.zeros((37, 10), np.float32)
    rows[::3] = -np.inf
    rows[1::3, 4] = -np.inf
    rows[2::3] = 1e30
    compiled.check([rows], 1e-6, 1e-6)


def test_zeros_keep_their_signs() -> None:
    """Two kernels that differ by the sign of a zero alone are two."""
    b = Builder("xy")
    x, y = value("x", N), value("y", N)
    kept = [b.op("select", b.op("gt", v, b.constant(0.0, v.type)), v, b.constant(zero, v.type))
            for v, zero in ((x, 0.0), (y, -0.0))]
    results = [*kept, b.op("neg", x), b.op("mul", y, b.constant(-1.0, x.type))]
    compiled = function(b, [x, y], *results)
    array = np.array([0.0, -0.0, -1.0, 2.0] * 5, np.float32)
    found, expected = compiled.run([array] * 2), run_graph(compiled.meaning, [array] * 2)
    for a, e in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, e)
        np.testing.assert_array_equal(np.signbit(a), np.signbit(e))


@pytest.mark.parametrize("dtype", [I32, I64, U8], ids=str)
def test_integers_wrap_and_are_exact(dtype: DType) -> None:
    """Sums and products modulo 2**bits; comparisons and maxima beyond what a float can hold."""
    info = np.iinfo(dtype.numpy)
    b = Builder("xy")
    x, y = value("x", N, 19, dtype=dtype), value("y", N, 19, dtype=dtype)
    top = b.constant(info.max - 1, x.type)
    results = [
        b.op("add", x, y), b.op("mul", x, y), b.op("sub", x, y), b.op("maximum", x, y),
        b.op("eq", x, top), b.op("minimum", x, top), b.op("reduce_max", x, axes=(1,)),
        b.op("argmax", x, axis=1), b.op("argmax", x, axis=0), b.op("reduce_max", x, axes=(0,)),
        b.sum(x, (1,)), b.sum(x, (0,)), b.op("pad", x, low=(0, 1), high=(0, 1), value=info.max)]
    compiled = function(b, [x, y], *results)
    rng = np.random.default_rng(0)
    for n in (1, 37, 130):
        near = rng.integers(info.max - 3, info.max, (n, 19), dtype.numpy, endpoint=True)
        any_ = rng.integers(info.min, info.max, (n, 19), dtype.numpy, endpoint=True)
        compiled.check([near, any_])
        compiled.check([np.full((n, 19), info.min, dtype.numpy), near])


def test_bools_from_anywhere() -> None:
    """Bools that are loaded, computed, chosen, moved, reduced and kept."""
    b = Builder(["p", "q", "x", "state"])
    p, q = value("p", N, 17, dtype=BOOL), value("q", N, 17, dtype=BOOL)
    x, state = value("x", N, 17), value("state", 17, dtype=BOOL)
    both = b.op("and", p, b.op("not", q))
    chosen = b.op("select", both, q, b.op("gt", x, b.constant(0.0, x.type)))
    spread = b.broadcast(state, chosen.dims, (1,))
    count = b.sum(b.op("or", chosen, spread), (0,))
    new = b.op("gt", count, b.constant(3, count.type))
    results = (both, chosen, b.op("select", chosen, x, b.op("neg", x)), count,
               b.op("transpose", chosen, order=(1, 0)), b.cast(chosen, F64),
               b.op("eq", p, q), b.op("pad", p, low=(0, 1), high=(0, 2), value=1.0))
    compiled = function(b, [p, q, x], *results, updates={state: new})
    rng = np.random.default_rng(0)
    for n in (1, 37, 70):
        flags = [rng.random((n, 17)) < 0.5 for _ in range(2)]
        compiled.check([*flags, rng.standard_normal((n, 17)).astype("f4"), rng.random(17) < 0.5])


def test_values_are_not_read_where_the_kernel_writes_them() -> None:
    """`x + x.T` needs all of x first; so do a variable's shift and its sum with its transpose."""
    b = Builder("wv")
    w, v = value("w", 6, 6), value("v", 9)
    x = b.op("exp", w)
    sum_ = b.op("add", x, b.op("transpose", x, order=(1, 0)))
    shifted = b.op("pad", v, low=(1,), high=(-1,), value=1.0)
    turned = b.op("add", w, b.op("transpose", w, order=(1, 0)))
    compiled = function(b, [], sum_, updates={w: turned, v: b.op("add", shifted, v)})
    rng = np.random.default_rng(0)
    compiled.check([rng.standard_normal((6, 6)).astype("f4"),
                    rng.standard_normal(9).astype("f4")], 1e-6, 1e-6)


def test_pads_within_pads() -> None:
    """Each pad has its own number, and an axis of one element has borders too."""
    b = Builder("xy")
    x, y = value("x", N, 5), value("y", 4, 1)
    inner = b.op("pad", x, low=(0, 1), high=(0, 0), value=2.0)
    outer = b.op("pad", inner, low=(0, 2), high=(0, 1), value=3.0)
    cut = b.op("slice", x, start=(0, 1), step=(1, 1), dims=(N, 3))
    of_cut = b.op("pad", cut, low=(0, 1), high=(0, 2), value=4.0)
    spread = b.broadcast(x, (2, N, 5), (1, 2))
    of_spread = b.op("pad", spread, low=(1, 0, 1), high=(0, 0, 1), value=5.0)
    thin = b.op("pad", y, low=(1, 2), high=(0, 1), value=6.0)
    compiled = function(b, [x, y], outer, of_cut, of_spread, thin)
    rng = np.random.default_rng(0)
    for n in (1, 37):
        compiled.check([rng.standard_normal((n, 5)).astype("f4"),
                        rng.standard_normal((4, 1)).astype("f4")])


def test_variables_that_change_places() -> None:
    """Rotations of three, with one returned as it was, and a table as a new value."""
    b = Builder("abcd")
    one, two, three, four = (value(name, 2, 3) for name in "abcd")
    table = b.op("table", dtype=F32, dims=(2, 3), values=(1.0, 2.0, 3.0, 4.0, 5.0, 6.0))
    compiled = function(b, [], one, table, one,
                        updates={one: two, two: three, three: one, four: table})
    rng = np.random.default_rng(0)
    compiled.check([rng.standard_normal((2, 3)).astype("f4") for _ in range(4)])


def test_addresses_are_64_bits_wide() -> None:
    """An offset beyond 2**31 is computed in i64."""
    b = Builder("x")
    x = value("x", N, 1 << 20, dtype=U8)
    last = b.op("slice", x, start=(N - 1, (1 << 20) - 1), step=(1, 1), dims=(1, 1))
    graph = Graph("f", (Param(x),), tuple(b.nodes), (last,))
    text = dump_graph(graph, "llvm")
    assert "trunc" not in text
    assert "getelementptr i8" in text


def test_views_of_values_in_which_the_batch_does_not_lead() -> None:
    """`[M, 4, N]` may be stored in blocks of N, but not if it is seen in other dims."""
    b = Builder(["x", "w", "h"])
    x, w, h = value("x", N, 6), value("w", 6, 4), value("h", symbol("M"), 4, N)
    y = b.op("tanh", b.op("contract", x, w, **matmul_spec(x.dims, w.dims)))
    rows = b.broadcast(b.op("transpose", y, order=(1, 0)), h.dims, (1, 2))
    t = b.op("mul", b.op("exp", h), rows)
    seen = b.reshape(t, (symbol("M"), 2, 2, N))
    compiled = function(b, [x, w, h], b.op("reduce_max", seen, axes=(1,)),
                        b.op("reduce_max", t, axes=(2,)), y)
    rng = np.random.default_rng(0)
    for n, m in ((1, 1), (5, 3), (37, 20), (17, 40)):
        compiled.check([rng.standard_normal(d).astype("f4") for d in ((n, 6), (6, 4), (m, 4, n))],
                       1e-5, 1e-5)


def test_groups_do_not_wait_for_each_other() -> None:
    """A select of one group, another one, and what is made of the other one's rows."""
    b = Builder("xy")
    x, y = value("x", N, 6), value("y", N, 6)
    chosen = b.op("gt", x, b.constant(0.0, x.type))
    curve = b.op("tanh", y)
    rows = b.broadcast(b.op("reduce_max", curve, axes=(1,)), x.dims, (0,))
    compiled = function(b, [x, y], b.op("select", chosen, curve, rows), curve)
    rng = np.random.default_rng(0)
    for n in (1, 37):
        compiled.check([rng.standard_normal((n, 6)).astype("f4") for _ in "xy"], 1e-6, 1e-6)


def test_indices_of_contractions_may_have_any_names() -> None:
    """Even those that the indices of kernels have."""
    b = Builder("x")
    x, (i, j) = value("x", N, 2), map(symbol, ("i0", "i1"))
    spread = b.op("contract", x, **spec({"i0": N, "i1": 2}, ((i, j),), (i, 2 * j), (N, 6)))
    turned = b.op("contract", x, **spec({"i1": N, "i0": 2}, ((j, i),), (2 * i, j), (5, N)))
    compiled = function(b, [x], spread, turned)
    for n in (1, 37):
        compiled.check([np.random.default_rng(0).standard_normal((n, 2)).astype("f4")])


def test_a_new_value_may_be_a_view_of_what_was_computed() -> None:
    b = Builder("vx")
    v, x = value("v", 2, 3), value("x", 6)
    flat = b.op("tanh", x)
    compiled = function(b, [x], b.op("exp", flat), updates={v: b.reshape(flat, (2, 3))})
    compiled.check([np.arange(6, dtype="f4"), np.zeros((2, 3), "f4")], 1e-6, 1e-6)


def test_half_precision_products() -> None:
    b = Builder("xw")
    x, w = value("x", N, 7, dtype=F16), value("w", 7, 5, dtype=F16)
    y = b.op("contract", x, w, **matmul_spec(x.dims, w.dims))
    rng = np.random.default_rng(0)
    left, right = (rng.standard_normal(s).astype("f2") for s in ((5, 7), (7, 5)))
    (found,) = function(b, [x, w], y).run([left, right])
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, left.astype("f4") @ right.astype("f4"), rtol=0, atol=0.02)


def test_products_of_16_bits_add_up_in_f32() -> None:
    b = Builder("xw")
    x, w = value("x", N, 1000, dtype=BF16), value("w", 1000, 5, dtype=BF16)
    wide = b.op("cast", b.op("contract", x, w, **matmul_spec(x.dims, w.dims)), to=F32)
    (found,) = function(b, [x, w], wide).run([np.ones((5, 1000), "f4"), np.ones((1000, 5), "f4")])
    np.testing.assert_array_equal(found, np.full((5, 5), 1000, "f4"))  # 256 + 1 is 256 in bf16


@pytest.mark.parametrize("fill", [0.0, -0.0, 0.5])
def test_parts_side_by_side_are_read_many_at_once(fill: float) -> None:
    """The gradients of slices: sums of pads, whose reads may lie outside."""
    x, y = Value("x", tensor(F32, (N, 37))), Value("y", tensor(F32, (N, 91)))
    b = Builder(["x", "y"])
    wide = [b.op("pad", v, low=(0, low), high=(0, 128 - low - v.dims[1]), value=fill)
            for v, low in ((x, 0), (y, 37))]
    graph = Graph("f", (Param(x), Param(y)), tuple(b.nodes), tuple(wide))
    assert "alloc lanes" not in dump_graph(graph, "loops")
    rng = np.random.default_rng(3)
    CompiledGraph(graph).check([rng.normal(size=(5, n)).astype(np.float32) for n in (37, 91)])


@pytest.mark.parametrize("name", ["result.0", "result.1", "h.turns", "h.first", "h.old"])
def test_values_called_like_memory_that_lowering_makes(name: str) -> None:
    """Copies of results that lie elsewhere, and what a loop carries, have names of their own."""
    x, w = value("x", N, 4), value("w", 4, 4)
    b = Builder("xw")
    inner = Builder("aw")
    a = value("a", N, 4)
    after = inner.op("contract", a, w, **matmul_spec(a.dims, w.dims))
    turn = Graph("turn", (Param(a), Param(w)), tuple(inner.nodes), (after,))
    (h,) = b.emit("scan", x, w, hint="h", regions=(turn,), carried=1, items=0, length=3,
                  reverse=False)
    named = b.op("contract", h, w, hint=name, **matmul_spec(x.dims, w.dims))
    y = b.op("contract", named, w, hint="y", **matmul_spec(x.dims, w.dims))
    assert named.name == name
    rng = np.random.default_rng(0)
    arrays = [rng.integers(-3, 4, shape).astype(np.float32) for shape in ((5, 4), (4, 4))]
    function(b, [x, w], y, x, h).check(arrays)


def test_tables_by_names_that_assembly_does_not_have() -> None:
    b = Builder("x")
    x = value("x", 3)
    first = b.op("table", hint="α", dtype=F32, dims=(3,), values=(1.0, 2.0, 5.0))
    second = b.op("table", hint="β", dtype=F32, dims=(3,), values=(4.0, 1.0, 7.0))
    y = b.op("add", b.op("mul", x, first), second)
    function(b, [x], y).check([np.array([1, 2, 3], np.float32)])
