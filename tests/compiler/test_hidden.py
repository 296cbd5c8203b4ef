"""Parts of rows that comparisons of indices hide are not computed: on a CPU and on a GPU alike."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from dlc.compiler.kernels.chain_parts import chain_parts
from dlc.compiler.kernels.hidden import counted
from dlc.compiler.loops import block_chains, chains
from dlc.compiler.options import Options
from dlc.ir.dims import Dim, symbol
from dlc.ir.dims_text import parse_dim
from dlc.ir.graph import Graph, Value
from dlc.ir.kernel_text import parse_kernel
from dlc.ir.types import BOOL, F32, I32, DType
from tests.compiler.compiled import CompiledGraph
from tests.compiler.test_chains import Attention, N, S, draw
from tests.cuda.compiled import CudaGraph
from tests.cuda.on_cpu import needs_compiler

CHAIN = """\
kernel f<S, T, W>(q: f32[T, 16] in, k: f32[S, 16] in, v: f32[S, 8] in, m: f32[T] in,
    seen: bool[S] in, y: f32[T, 8] out) {
  local row: f32[S], sums: f32[8]
  outer i<T
  row[j] = sum j<S, d<16: mul(q[i, d], k[j, d])
  row[j] = over j<S: VALUE
  sums[e] = sum e<8, j<S: mul(row[j], v[j, e])
  y[i, e] = over e<8: sums[e]
}
"""
ROW, KEY = "(i): i32", "(j): i32"


def found(value: str) -> tuple[Dim, Dim]:
    """From where below where the elements of rows from a to b count."""
    kernel = parse_kernel(CHAIN.replace("VALUE", value))
    parts = chain_parts(kernel)
    assert parts is not None
    return counted(kernel, parts, kernel.outer[0], (symbol("a"), symbol("b")))


@pytest.mark.parametrize(("condition", "low", "high"), [
    (f"le({KEY}, {ROW})", "0", "min(b + 1, S)"),
    (f"lt({KEY}, {ROW})", "0", "min(b, S)"),
    (f"ge({KEY}, {ROW})", "max(a, 0)", "S"),
    (f"lt({ROW}, {KEY})", "max(a + 1, 0)", "S"),
    (f"eq({KEY}, {ROW})", "max(a, 0)", "min(b + 1, S)"),
    (f"ne({KEY}, {ROW})", "0", "S"),
    (f"not(gt({KEY}, {ROW}))", "0", "min(b + 1, S)"),
    (f"and(le({KEY}, {ROW}), gt({KEY}, sub({ROW}, (W): i32)))", "max(a - W + 1, 0)",
     "min(b + 1, S)"),
    (f"and(le({KEY}, {ROW}), seen[j])", "0", "min(b + 1, S)"),
    (f"or(le({KEY}, {ROW}), seen[j])", "0", "S"),
    (f"or(lt({KEY}, 4), and(ge({KEY}, {ROW}), lt({KEY}, 8)))", "0", "min(8, S)"),
    ("le((2*j): i32, (i): i32)", "0", "min(b // 2 + 1, S)"),
    (f"eq(floordiv({KEY}, 16), floordiv({ROW}, 16))", "max(a // 16 * 16, 0)",
     "min(b // 16 * 16 + 16, S)"),
    ("le((i): i32, 5)", "0", "S"),
])
def test_where_elements_count(condition: str, low: str, high: str) -> None:
    assert found(f"select({condition}, row[j], 0)") == (parse_dim(low), parse_dim(high))


@pytest.mark.parametrize(("value", "hides"), [
    ("exp(sub(select(COND, row[j], -inf), m[i]))", True),
    ("div(exp(select(COND, row[j], -inf)), m[i])", True),
    ("mul(row[j], exp(sub(mul(select(COND, row[j], -inf), 0.5), m[i])))", True),
    ("select(not(COND), 0: f32, row[j])", True),
    ("sub(mul(row[j], select(COND, m[i], 0)), mul(select(COND, row[j], 0), m[i]))", True),
    ("exp(sub(select(COND, row[j], -1e9), m[i]))", False),
    ("exp(select(COND, row[j], 1e9))", False),  # no number that can be told
    ("add(select(COND, row[j], 0), row[j])", False),
    ("exp(select(COND, row[j], 0))", False),
    ("sub(m[i], select(COND, row[j], 0))", False),
])
def test_what_hides(value: str, hides: bool) -> None:
    low, high = found(value.replace("COND", f"le({KEY}, {ROW})"))
    assert (low, high) == (0, parse_dim("min(b + 1, S)") if hides else S)


Keep = Callable[[Attention, Value, Value], Value]


def window(a: Attention, i: Value, j: Value) -> Value:
    """The 32 keys up to the query's own."""
    after = a.b.op("gt", j, a.b.op("sub", i, a.b.constant(32, i.type)))
    return a.b.op("and", a.b.op("le", j, i), after)


def blocks(a: Attention, i: Value, j: Value) -> Value:
    """Keys of the same 24 places."""
    size = a.b.constant(24, i.type)
    return a.b.op("eq", a.b.op("floordiv", i, size), a.b.op("floordiv", j, size))


def causal(a: Attention, i: Value, j: Value) -> Value:
    """Keys up to the query's own; some are hidden besides."""
    keep = a.input(N, S, dtype=BOOL)
    return a.b.op("and", a.b.op("le", j, i), a.b.broadcast(keep, a.scores.dims, (0, 3)))


def hiding(keep: Keep, dtype: DType = F32, gradients: bool = True) -> Graph:
    a = Attention(heads=1, dtype=dtype)
    i, j = (a.b.op("iota", dtype=I32, dims=a.scores.dims, axis=axis) for axis in (2, 3))
    a.hide(keep(a, i, j))
    return a.graph(gradients)




@pytest.mark.parametrize("keep", [causal, window, blocks])
@pytest.mark.parametrize("sizes", [(1, 150, 200), (1, 200, 70)])
def test_the_same_bits_as_with_all_parts(
    keep: Keep, sizes: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = hiding(keep)
    arrays = draw(made, sizes)
    compiled = CompiledGraph(made)
    compiled.check(arrays, 2e-4, 2e-4)
    monkeypatch.setattr(chains, "counted", lambda kernel, parts, *_: (0, parts.row.high))
    for part, whole in zip(compiled.run(arrays), CompiledGraph(made).run(arrays), strict=True):
        np.testing.assert_array_equal(part, whole)


@needs_compiler
@pytest.mark.parametrize("precision", ["f32", "bf16"])
@pytest.mark.parametrize("keep", [causal, window, blocks])
def test_the_same_bits_on_a_gpu(
    keep: Keep, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, options = hiding(keep), Options(precision=precision)
    compiled = CudaGraph(made, options)
    monkeypatch.setattr(block_chains, "counted", lambda kernel, parts, *_: (0, parts.row.high))
    whole = CudaGraph(made, options)
    for sizes in ((1, 150, 200), (1, 200, 70)):
        arrays = draw(made, sizes)
        for part, other in zip(compiled.run(arrays), whole.run(arrays), strict=True):
            np.testing.assert_array_equal(part, other)


def check_what_is_hidden_is_not_read(compile: Callable[[Graph], CompiledGraph]) -> None:
    """Keys that are not numbers are no matter where a whole part of them is hidden."""
    made = hiding(window, gradients=False)
    arrays = draw(made, (1, 64, 400))
    right = compile(made).run(arrays)
    arrays[1][:, :, 256:] = np.nan
    arrays[2][:, 256:] = np.nan
    for a, b in zip(compile(made).run(arrays), right, strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_is_hidden_is_not_read() -> None:
    check_what_is_hidden_is_not_read(CompiledGraph)


@needs_compiler
def test_what_is_hidden_is_not_read_on_a_gpu() -> None:
    check_what_is_hidden_is_not_read(CudaGraph)
