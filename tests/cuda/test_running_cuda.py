"""Running sums, shared by the threads of a block: along memory and down columns, both ways."""

from __future__ import annotations

import re

import numpy as np
import pytest

from dlc.compiler.cuda import nvrtc
from dlc.compiler.cuda.nvrtc import compile_cubin
from dlc.compiler.options import Options
from dlc.compiler.pipeline import compile_cuda
from dlc.compiler.schedules.columns import Columns
from dlc.ir.dims import symbol
from dlc.ir.graph import Builder, Graph, Param, Value
from dlc.ir.types import BF16, F16, F32, F64, I32, I64, DType, tensor
from tests.cuda.compiled import HEADERS, CudaGraph
from tests.cuda.on_cpu import Module, needs_compiler

N = symbol("N")
KINDS = (F32, F64, F16, BF16, I32, I64)
LONG = Options(hints={"N": 4096})
EPSILON = {F32: 1e-6, F64: 1e-14, F16: 0.01, BF16: 0.06}
BESIDE = pytest.mark.parametrize("beside", [1, 4, 32, 128], ids="{} beside".format)


def running(dtype: DType) -> Graph:
    """Sums up to each place along each of three axes, and from the end; of squares too."""
    kinds = tensor(dtype, (N,)), tensor(dtype, (3, N)), tensor(dtype, (N, 5))
    xs = [Value(name, kind) for name, kind in zip("xyz", kinds, strict=True)]
    b = Builder("xyz")
    out = [b.op("cumsum", x, axis=axis, reverse=reverse)
           for x, axis in zip(xs, (0, 1, 0), strict=True) for reverse in (False, True)]
    out.append(b.op("cumsum", b.op("mul", xs[2], xs[2]), axis=0, reverse=True))
    return Graph("running", tuple(map(Param, xs)), tuple(b.nodes), tuple(out))


@needs_compiler
@pytest.mark.parametrize(("dtype", "beside"), [
    *((F32, beside) for beside in (1, 4, 32, 128)), *((kind, 4) for kind in KINDS[1:])], ids=str)
def test_running_sums(dtype: DType, beside: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Columns, "beside", lambda self, target: beside)
    compiled = CudaGraph(running(dtype), LONG)
    assert compiled.made.text.count("__shared__") >= 7
    for n in (1, 31, 33, 100, *(() if dtype in (F16, BF16) else (1000, 4097))):
        rng = np.random.default_rng(n)
        given = [np.asarray(rng.integers(-9, 9, shape) / (4 if dtype.is_float else 1), dtype.numpy)
                 for shape in ((n,), (3, n), (n, 5))]
        small = EPSILON.get(dtype, 0)
        compiled.check(given, rtol=small, atol=300 * small)


@needs_compiler
@BESIDE
def test_what_is_no_number_stays_where_it_is(beside: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Columns, "beside", lambda self, target: beside)
    compiled = CudaGraph(running(F32), LONG)
    x, y, z = np.full(700, -0.0, "f4"), np.ones((3, 700), "f4"), np.zeros((700, 5), "f4")
    y[0, 500], y[1, 33], z[699, 4] = np.inf, np.nan, -np.inf
    compiled.check([x, y, z], rtol=1e-6)
    assert np.signbit(compiled.run([x, y, z])[0]).all()


@needs_compiler
def test_short_ones_have_the_order_of_a_cpu() -> None:
    x = Value("x", tensor(F32, (5, 63)))
    b = Builder("x")
    out = b.op("cumsum", x, axis=1, reverse=False)
    CudaGraph(Graph("short", (Param(x),), tuple(b.nodes), (out,))).check(
        [np.random.default_rng(3).standard_normal((5, 63)).astype("f4")])


@needs_compiler
def test_each_barrier_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Columns, "beside", lambda self, target: 1)
    x = Value("x", tensor(I32, (4097,)))
    b = Builder("x")
    out = b.op("cumsum", x, axis=0, reverse=False)
    compiled = CudaGraph(Graph("one", (Param(x),), tuple(b.nodes), (out,)))
    values = [np.arange(4097, dtype="i4")]
    compiled.check(values)
    text = compiled.made.text
    places = [m.span() for m in re.finditer(r"__syncthreads\(\);", text)]
    assert len(places) == 2
    for start, end in places:
        compiled.module = Module(text[:start] + text[end:], HEADERS)
        with pytest.raises(AssertionError):
            compiled.check(values)


@pytest.mark.skipif(not nvrtc.is_here(), reason="NVRTC is not installed")
@pytest.mark.parametrize("arch", ["sm_80", "sm_90a"])
def test_what_they_take(arch: str) -> None:
    for dtype in KINDS:
        text = compile_cuda(running(dtype), Options("cuda:sm_80", hints={"N": 4096})).text
        found = compile_cubin(text, arch)[1]
        assert [r for r in found if r.spilled or r.stack or r.registers > 96] == []
