"""What is emitted compiles for GPUs of two generations, and what it takes there."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dlc.compiler.cuda import nvrtc
from dlc.compiler.cuda.nvrtc import Resources, compile_cubin
from dlc.compiler.options import Options
from dlc.compiler.pipeline import compile_cuda
from dlc.ir.diagnostics import InternalError, UserError
from dlc.ir.graph import Graph
from dlc.ir.ops import OPS
from dlc.ir.types import F32, DType
from tests.compiler import test_ops_compiled as ops

pytestmark = pytest.mark.skipif(not nvrtc.is_here(), reason="NVRTC is not installed")
ARCHITECTURES = ("sm_80", "sm_90a")
# Tables of counts lie in local memory, as do stacks of lanes that are picked one by one.
WITH_TABLES = ("radix_pass", "argsort")


def resources(graph: Graph) -> list[Resources]:
    """What the kernels of a graph take, for each architecture."""
    return taken(compile_cuda(graph, Options(target="cuda:sm_80")).text)


def taken(text: str) -> list[Resources]:
    """What the kernels of a text take, for each architecture."""
    return [r for arch in ARCHITECTURES for r in compile_cubin(text, arch)[1]]


def test_indices_of_64_bits() -> None:
    graph = ops.Together(ops.products(F32), compiled=Uncompiled).graph  # type: ignore[arg-type]
    text = compile_cuda(graph, Options(target="cuda:sm_80")).text
    wide = compile_cubin(f"#define WIDE_INDICES\n{text}", "sm_80")[1]
    assert {r.kernel for r in wide} == {r.kernel for r in compile_cubin(text, "sm_80")[1]}


@pytest.mark.parametrize("name", sorted(OPS.keys() - ops.APART.keys()))
def test_op(name: str) -> None:
    found = resources(ops.Together(some(ops.cases(name)), compiled=Uncompiled).graph)
    assert found
    assert [r for r in found if r.spilled] == []
    assert name in WITH_TABLES or [r for r in found if r.stack] == []


def some(cases: list[ops.Case]) -> list[ops.Case]:
    """Two of each kind of operands: other shapes give the same statements round other indices. Of
    sorts one of each size of keys: each of its bytes has a pass, which is an op of its own."""
    kept: dict[object, list[ops.Case]] = {}
    for case in cases:
        sorts = case.op == "argsort"
        kept.setdefault(tuple(k.dtype.size if sorts else k.dtype for k in case.kinds), []).append(
            case)
    return [case for each in kept.values()
            for case in (each[0], *each[1:][-1:] * (each[0].op != "argsort"))]


class Uncompiled:
    """In the place of a compiled graph."""

    def __init__(self, graph: Graph, options: Options) -> None:
        self.graph = graph


@pytest.mark.parametrize("made", [ops.reductions, ops.products, ops.movers])
@pytest.mark.parametrize("half", [0, 1])
def test_odd_shapes(made: Callable[[DType], list[ops.Case]], half: int) -> None:
    """Two cases beside each other for one generation, the next two for the other one: each op has
    odd shapes for both."""
    cases = [case for k, case in enumerate(made(F32)) if k // 2 % 2 == half]
    graph = ops.Together(cases, compiled=Uncompiled).graph  # type: ignore[arg-type]
    text = compile_cuda(graph, Options(target="cuda:sm_80")).text
    found = compile_cubin(text, ARCHITECTURES[half])[1]
    assert found
    assert [r for r in found if r.spilled or r.stack] == []


def test_what_a_kernel_takes() -> None:
    text = """
    extern "C" __global__ void k(float *x) {
      __shared__ float s[64];
      s[threadIdx.x] = x[threadIdx.x];
      __syncthreads();
      x[threadIdx.x] = s[63 - threadIdx.x];
    }"""
    code, (found,) = compile_cubin(text, "sm_80")
    assert code.startswith(b"\x7fELF")
    assert (found.kernel, found.shared, found.spilled, found.stack) == ("k", 256, 0, 0)
    assert 1 <= found.registers <= 32


def test_faults() -> None:
    with pytest.raises(UserError, match="no GPU architecture called sm_12"):
        compile_cubin("", "sm_12")
    with pytest.raises(InternalError, match="undefined"):
        compile_cubin('extern "C" __global__ void k() { what(); }', "sm_80")
