"""Sorts and scatters that many threads share: to the last bit what they are one after another."""

from __future__ import annotations

import numpy as np
import pytest

from dlc.compiler.cuda import nvrtc
from dlc.compiler.cuda.nvrtc import compile_cubin
from dlc.compiler.lowering import runs
from dlc.compiler.options import Options
from dlc.compiler.pipeline import compile_cuda
from dlc.ir.dims import Dim, evaluate, symbol
from dlc.ir.graph import Builder, Graph, Param, Value
from dlc.ir.types import BF16, F16, F32, F64, I32, I64, U8, DType, tensor
from tests.compiler.compiled import bfloat
from tests.cuda.compiled import CudaGraph
from tests.cuda.on_cpu import needs_compiler

N = symbol("N")
RNG = np.random.default_rng(11)
LONG = Options(hints={"N": 4096})


def sorting(dtype: DType, dims: tuple[Dim, ...]) -> Graph:
    x = Value("x", tensor(dtype, dims))
    b = Builder("x")
    out = b.op("argsort", x)
    return Graph("sorting", (Param(x),), tuple(b.nodes), (out,))


@needs_compiler
@pytest.mark.parametrize("dtype", [F32, F64, F16, BF16, I32, I64, U8], ids=str)
def test_sorts(dtype: DType) -> None:
    compiled = CudaGraph(sorting(dtype, (N,)), LONG)
    for n in (1, 31, 33, 1000, *((4097,) if dtype is F32 else ())):
        x = RNG.integers(0 if dtype is U8 else -100, 100, n)
        compiled.check([np.asarray(x, dtype.numpy)])


@needs_compiler
def test_rows_are_sorted_apart() -> None:
    x = RNG.standard_normal((3, 2, 130)).astype("f4")
    x[0, 1, 5:9], x[2, 0, 77], x[1, 1, 3] = np.nan, np.inf, -0.0
    CudaGraph(sorting(F32, (3, 2, 130))).check([x])
    CudaGraph(sorting(F32, (N, 33)), LONG).check([RNG.standard_normal((5, 33)).astype("f4")])


SCATTERS = [
    ("rows", (1000, 5), (N, 5), ((N,),), 0),
    ("numbers", (37,), (N,), ((N,),), 0),
    ("one place", (1, 3), (N, 3), ((N,),), 0),
    ("in the middle", (3, 40, 2), (3, N, 2), ((N,),), 1),
    ("two indices", (2, 7, 9, 3), (2, N, 3), ((N,), (N,)), 1),
    ("a matrix of indices", (50, 4), (N, 3, 4), ((N, 3),), 0),
    ("any number of places", (N + 1, 2), (N, 2), ((N,),), 0),
]


def scattering(
    dtype: DType, mode: str, base: tuple[Dim, ...], updates: tuple[Dim, ...],
    ids: tuple[tuple[Dim, ...], ...], axis: int, kind: DType = I32,
) -> Graph:
    x, u = Value("x", tensor(dtype, base)), Value("u", tensor(dtype, updates))
    given = [Value(f"i{k}", tensor(kind, dims)) for k, dims in enumerate(ids)]
    b = Builder(("x", "u", "i0", "i1"))
    out = b.op("scatter", x, u, *given, axis=axis, mode=mode)
    return Graph("scattering", tuple(map(Param, (x, u, *given))), tuple(b.nodes), (out,))


def numbers(graph: Graph, n: int, axis: int) -> list[np.ndarray]:
    shapes = [[evaluate(d, {"N": n}) for d in p.value.dims] for p in graph.params]
    out = []
    for k, (param, shape) in enumerate(zip(graph.params, shapes, strict=True)):
        if k < 2:
            made = RNG.standard_normal(shape) * 10
        else:
            made = RNG.integers(0, shapes[0][axis + k - 2], shape)
            made[: len(made) // 3] = made[0]  # many for one place
        out.append(np.asarray(made).astype(param.value.dtype.numpy))
    return out


@needs_compiler
@pytest.mark.parametrize("mode", ["add", "set"])
@pytest.mark.parametrize(("base", "updates", "ids", "axis"), [c[1:] for c in SCATTERS],
                         ids=[c[0] for c in SCATTERS])
def test_scatters(
    base: tuple[Dim, ...], updates: tuple[Dim, ...], ids: tuple[tuple[Dim, ...], ...], axis: int,
    mode: str,
) -> None:
    graph = scattering(F32, mode, base, updates, ids, axis)
    compiled = CudaGraph(graph, LONG)
    assert "next_" in compiled.made.text  # it goes in runs
    for n in (1, 31, 33, 300):
        compiled.check(numbers(graph, n, axis))


@needs_compiler
@pytest.mark.parametrize("mode", ["add", "set"])
@pytest.mark.parametrize("dtype", [F64, F16, BF16, I32, I64, U8], ids=str)
def test_scatters_of_other_numbers(
    dtype: DType, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each addition is rounded, as where one thread does them one after another."""
    _, base, updates, ids, axis = SCATTERS[0]
    graph = scattering(dtype, mode, base, updates, ids, axis, U8 if dtype is U8 else I64)
    given = numbers(graph, 1000, axis)
    if dtype is U8:
        given[2] %= 200
    given = [bfloat(a) if dtype is BF16 and a.dtype == np.float32 else a for a in given]
    together = CudaGraph(graph, LONG)
    monkeypatch.setattr(runs, "FEW", 1 << 30)
    alone = CudaGraph(graph, LONG)
    assert "next_" not in alone.made.text
    np.testing.assert_array_equal(together.run(given)[0], alone.run(given)[0])


@needs_compiler
def test_updates_that_lie_nowhere() -> None:
    """Numbers of updates, of which the last one counts for each place, and constants."""
    x, u = Value("x", tensor(F32, (20, 3))), Value("u", tensor(F32, (N, 3)))
    ids = Value("i", tensor(I32, (N,)))
    b = Builder("xui")
    number = b.op("iota", dtype=I32, dims=(N,), axis=0)
    counted = b.op("scatter", b.zeros(tensor(I32, (20,))), number, ids, axis=0, mode="set")
    ones = b.op("scatter", x, b.constant(1.0, u.type), ids, axis=0, mode="add")
    put = b.op("scatter", x, u, ids, axis=0, mode="set")
    graph = Graph("nowhere", tuple(map(Param, (x, u, ids))), tuple(b.nodes), (counted, ones, put))
    CudaGraph(graph, LONG).check(
        [RNG.standard_normal((20, 3)).astype("f4"), RNG.standard_normal((150, 3)).astype("f4"),
         RNG.integers(0, 20, 150).astype("i4")])


@pytest.mark.skipif(not nvrtc.is_here(), reason="NVRTC is not installed")
@pytest.mark.parametrize("arch", ["sm_80", "sm_90a"])
def test_what_they_take(arch: str) -> None:
    graphs = [sorting(F32, (N,)), scattering(F32, "add", *SCATTERS[4][1:]),
              scattering(F64, "set", *SCATTERS[5][1:])]
    for graph in graphs:
        text = compile_cuda(graph, Options("cuda:sm_80", hints={"N": 4096})).text
        found = compile_cubin(text, arch)[1]
        assert [r for r in found if r.spilled or r.stack or r.shared > 48 << 10] == []
