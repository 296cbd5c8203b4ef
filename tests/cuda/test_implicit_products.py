"""Convolutions of every kind and their gradients in tiles: padding, strides, dilation, groups."""

from __future__ import annotations

import pytest

from dlc.compiler.kernels.implicit_products import as_product
from dlc.compiler.schedules import product_tiles
from dlc.ir.check_kernel import check_kernel
from dlc.ir.dims import Dim, symbol
from dlc.ir.graph import Builder, Graph, Param, Value
from dlc.ir.kernel_text import parse_kernel, print_kernel
from dlc.ir.ops.contract import (
    Spec,
    conv_spec,
    conv_transpose_spec,
    extents_of,
    map_of,
    maps_of,
    spec,
)
from dlc.ir.types import F32, tensor
from tests.cuda.compiled import CudaGraph
from tests.cuda.on_cpu import needs_compiler
from tests.cuda.test_tiles_cuda import numbers

N, H = symbol("N"), symbol("H")
Dims = tuple[Dim, ...]
CASES: dict[str, tuple[Dims, Dims, dict[str, int]]] = {
    "padded": ((N, 3, 7, 9), (5, 3, 3, 3), {"padding": 1}),
    "wide padding": ((2, 2, 5, 6), (3, 2, 5, 5), {"padding": 3}),
    "stride 2": ((N, 3, 9, 8), (4, 3, 3, 3), {"padding": 1, "stride": 2}),
    "stride 3": ((2, 3, 11, 10), (4, 3, 5, 2), {"padding": 2, "stride": 3}),
    "stride beyond taps": ((N, 2, 11, 9), (3, 2, 2, 1), {"stride": 3}),
    "dilation": ((N, 2, 11, 9), (3, 2, 3, 3), {"dilation": 2, "padding": 2}),
    "dilation and stride": ((2, 2, 13, 11), (3, 2, 3, 3),
                            {"dilation": 3, "stride": 2, "padding": 2}),
    "groups": ((N, 6, 7, 6), (9, 2, 3, 3), {"groups": 3, "padding": 1}),
    "groups with stride": ((2, 4, 8, 9), (6, 2, 3, 3), {"groups": 2, "stride": 2, "padding": 1}),
    "depthwise": ((N, 5, 7, 6), (5, 1, 3, 3), {"groups": 5, "padding": 1}),
    "depthwise, two of each": ((N, 3, 7, 6), (6, 1, 3, 3), {"groups": 3, "padding": 1}),
    "one axis": ((N, 3, 19), (4, 3, 5), {"padding": 2, "stride": 2}),
    "three axes": ((2, 2, 5, 6, 7), (3, 2, 3, 2, 3), {"padding": 1, "stride": 2}),
    "any height": ((N, 2, H, 6), (3, 2, 3, 3), {"padding": 1}),
    "any height, stride 2": ((N, 2, H, 6), (3, 2, 3, 3), {"padding": 1, "stride": 2}),
}


@pytest.fixture(autouse=True)
def _always_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(product_tiles, "WAIT", 1 << 30)


def with_gradients(x_dims: Dims, w_dims: Dims, made: Spec) -> Graph:
    """What a contraction gives, and what the gradients of both operands are for a given `g`."""
    x, w = Value("x", tensor(F32, x_dims)), Value("w", tensor(F32, w_dims))
    b = Builder("xwg")
    y = b.op("contract", x, w, **made)
    g = Value("g", y.type)
    node = b.nodes[-1]
    extents, maps, out = extents_of(node), maps_of(node), map_of(node.attr("out"))
    dx = b.op("contract", g, w, **spec(extents, (out, maps[1]), maps[0], x_dims))
    dw = b.op("contract", g, x, **spec(extents, (out, maps[0]), maps[1], w_dims))
    return Graph("conv", (Param(x), Param(w), Param(g)), tuple(b.nodes), (y, dx, dw))


@needs_compiler
@pytest.mark.parametrize("name", CASES)
def test_a_convolution_and_its_gradients(name: str) -> None:
    x, w, settings = CASES[name]
    graph = with_gradients(x, w, conv_spec(x, w, **settings))
    compiled = CudaGraph(graph)
    assert compiled.made.text.count("__shared__") >= (0 if name == "depthwise" else 6)
    for sizes in ({"N": 1, "H": 1}, {"N": 3, "H": 8}, {"N": 70, "H": 3}):
        compiled.check(numbers(graph, **sizes), rtol=2e-5, atol=2e-5)


@needs_compiler
@pytest.mark.parametrize("name", ["padded", "groups with stride"])
def test_in_two_stages(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(product_tiles, "SIDES", ((8, 8),))
    monkeypatch.setattr(product_tiles, "GRID", (16,))
    x, w, settings = CASES[name]
    graph = with_gradients(x, w, conv_spec(x, w, **settings))
    compiled = CudaGraph(graph)
    assert "const Index stage = (turn % 2);" in compiled.made.text
    compiled.check(numbers(graph, N=5), rtol=2e-5, atol=2e-5)


HEAD = "kernel k<N>(p0: f32[N, 4, 9] in, p1: f32[4, 32, 3] in, p2: f32[N, 32, 18] out) {"


def test_forms() -> None:
    strided = parse_kernel(HEAD + """
      local acc: f32
      outer i0<N, i1<32, i2<18
      acc = sum k0<4, i2 // 2 <= k1 < min(((i2 + 1) // 2) + 1, 9):
          mul(p0[i0, k0, k1], p1[k0, i1, i2 - 2*k1 + 1])
      p2[i0, i1, i2] = acc
    }""")
    found = as_product(strided, {"N": 64})
    assert found is not None
    check_kernel(found)
    assert print_kernel(found) == HEAD + """
  local acc: f32
  outer i0<N, i1<32, i2<9, i3<2
  acc = sum k0<4, k1<((i3 + 1) // 2) + 1:
      mul(p0[i0, k0, i2 + k1] else 0.0, p1[k0, i1, i3 - 2*k1 + 1] else 0.0)
  p2[i0, i1, 2*i2 + i3] = acc
}
"""


@needs_compiler
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_a_transposed_convolution_and_its_gradients(stride: int) -> None:
    x, w = (N, 3, 5, 4), (3, 4, 3, 3)
    graph = with_gradients(x, w, conv_transpose_spec(x, w, stride, 1, stride - 1))
    compiled = CudaGraph(graph)
    assert compiled.made.text.count("__shared__") >= 6
    for n in (1, 37):
        compiled.check(numbers(graph, N=n), rtol=2e-5, atol=2e-5)
