"""Elementwise work on a GPU: accesses of 16 bytes, several of each thread, at odd sizes."""

from __future__ import annotations

import re

import numpy as np
import pytest

from dlc.compiler.cuda import nvrtc
from dlc.compiler.options import Options
from dlc.compiler.pipeline import compile_cuda, plan
from dlc.compiler.schedules import several_places
from dlc.ir.dims import Dim, symbol
from dlc.ir.graph import Builder, Graph, Param, Value
from dlc.ir.schedule import Schedule
from dlc.ir.types import BF16, BOOL, F16, F32, F64, I32, U8, DType, tensor
from tests.compiler import test_ops_compiled as ops
from tests.cuda.compiled import ARCH, CudaGraph
from tests.cuda.on_cpu import needs_compiler
from tests.cuda.ptx import assembly

N = symbol("N")
LARGE = 1 << 26


def graph(b: Builder, params: list[Value], results: list[Value]) -> Graph:
    return Graph("places", tuple(map(Param, params)), tuple(b.nodes), tuple(results))


def chain(*dims: Dim, dtype: DType = F32) -> Graph:
    """A product, which is a result too, and its difference from an input."""
    b, x, y = Builder("xy"), Value("x", tensor(dtype, dims)), Value("y", tensor(dtype, dims))
    made = b.op("mul", x, y)
    return graph(b, [x, y], [made, b.op("sub", made, x)])


def beside_a_row(*dims: Dim, dtype: DType = F32) -> Graph:
    """x + row, times a number."""
    b, x = Builder("xrs"), Value("x", tensor(dtype, dims))
    row, number = Value("r", tensor(dtype, dims[-1:])), Value("s", tensor(dtype, ()))
    wide = b.broadcast(row, dims, (len(dims) - 1,))
    made = b.op("mul", b.op("add", x, wide), b.broadcast(number, dims, ()))
    return graph(b, [x, row, number], [made])


def chosen(b: Builder, *dims: Dim) -> Graph:
    """One of two by a mask: elements of several sizes."""
    x, y = Value("x", tensor(F32, dims)), Value("y", tensor(F32, dims))
    mask, small = Value("m", tensor(BOOL, dims)), Value("u", tensor(U8, dims))
    made = b.op("select", mask, x, b.op("mul", y, b.op("cast", small, to=F32)))
    return graph(b, [x, y, mask, small], [made])


def arrays(made: Graph, n: int) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    shapes = [[d if isinstance(d, int) else n for d in p.value.dims] for p in made.params]
    return [(rng.standard_normal(shape) * 9).astype(p.value.dtype.numpy)
            for p, shape in zip(made.params, shapes, strict=True)]


def schedule(made: Graph, **hints: int) -> Schedule:
    ((_, found),) = plan(made, Options(target=f"cuda:{ARCH}", hints=hints))[0].schedules
    return found


@pytest.fixture(params=[1, 2, 4])
def places(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """So many places of each thread, however few there are."""
    monkeypatch.setattr(several_places, "PLACES", (request.param,))
    monkeypatch.setattr(several_places, "BUSY", 0)
    return int(request.param)


@needs_compiler
@pytest.mark.parametrize("make", [chain, beside_a_row])
@pytest.mark.parametrize("dims", [(N,), (N, 32), (N, 33), (N, 3, 8)], ids=str)
def test_sizes_that_are_odd(make: type, dims: tuple[Dim, ...], places: int) -> None:
    made = make(*dims)
    assert schedule(made, N=4097).places == places
    compiled = CudaGraph(made, Options(hints={"N": 4097}))
    for n in (1, 31, 33, 1000, 2048, 4097):
        compiled.check(arrays(made, n), 0, 0)


@needs_compiler
@pytest.mark.parametrize("dtype", [F16, BF16, F64, I32, U8], ids=str)
def test_types(dtype: DType, places: int) -> None:
    for made in (chain(N, 16, dtype=dtype), beside_a_row(N, 16, dtype=dtype)):
        found = schedule(made, N=1000)
        assert (found.places, found.lanes) == (places, 16 // dtype.size)
        compiled = CudaGraph(made, Options(hints={"N": 1000}))
        for n in (1, 33, 1001):
            compiled.check(arrays(made, n), 0, 0)


@needs_compiler
def test_elements_of_several_sizes(places: int) -> None:
    made = chosen(Builder("xymu"), N)
    found = schedule(made, N=5000)
    assert (found.places, found.lanes) == (places, 4)
    compiled = CudaGraph(made, Options(hints={"N": 5000}))
    for n in (1, 31, 1000, 4097):
        compiled.check(arrays(made, n), 0, 0)


@pytest.mark.parametrize(("made", "lanes", "places"), [
    (chain(LARGE), 4, 1), (beside_a_row(LARGE // 1024, 1024), 4, 2),
    (beside_a_row(LARGE // 1024, 1001), 1, 8), (chain(LARGE, dtype=F16), 8, 1),
    (beside_a_row(LARGE // 1024, 1024, dtype=BF16), 8, 2), (chain(300), 1, 1)])
def test_as_much_is_asked_for_as_memory_delivers_in_time(
    made: Graph, lanes: int, places: int
) -> None:
    found = schedule(made)
    assert (found.lanes, found.places) == (lanes, places)


@pytest.mark.skipif(not nvrtc.is_here(), reason="NVRTC is not installed")
@pytest.mark.parametrize("arch", ["sm_80", "sm_90a"])
@pytest.mark.parametrize(("dtype", "width"), [(F32, "v4.f32|v4.b32|v4.u32"), (F16, "v4.[bu]32"),
                                              (F64, "v2.f64|v2.b64|v2.u64")], ids=str)
def test_accesses_of_16_bytes(dtype: DType, width: str, arch: str) -> None:
    """Of the code for whole vectors: each is read and written by one instruction."""
    made = beside_a_row(LARGE // 1024, 1024, dtype=dtype)
    text = assembly(compile_cuda(made, Options(target=f"cuda:{arch}")).text, arch)
    reads, writes = (re.findall(rf"{word}\.global\.({width})\b", text) for word in ("ld", "st"))
    assert len(reads) >= 2 * schedule(made).places
    assert len(writes) >= schedule(made).places


@needs_compiler
def test_what_moves_elements(places: int) -> None:
    """Gathers, pads, transposes: what is read beside the end, or at an index that is loaded."""
    together = ops.Together(ops.movers(F32), compiled=CudaGraph)
    for n in (1, 37):
        together.check(n, 0.0, 0.0)


@needs_compiler
def test_rows_of_what_is_read_beside_the_end() -> None:
    """Of a row that was padded, and of one that was gathered."""
    b, x, at = Builder("xi"), Value("x", tensor(F32, (N, 61))), Value("i", tensor(I32, (N,)))
    padded = b.op("pad", x, low=(0, 3), high=(0, 5), value=-1.0)
    taken = b.op("gather", padded, at, axis=0)
    made = graph(b, [x, at], [b.op("softmax", padded, axis=1), b.op("softmax", taken, axis=1)])
    rng = np.random.default_rng(4)
    for n in (1, 9):
        CudaGraph(made).check([rng.standard_normal((n, 61)).astype(np.float32),
                               rng.integers(0, n, n).astype(np.int32)], 2e-6, 2e-6)
