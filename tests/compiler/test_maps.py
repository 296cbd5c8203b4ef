"""Convolutions whose sums lie along maps, with copies of what they read: held against the
interpreter, at sizes at which tiles of places and of maps stick out, and at which they do not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from dlc.compiler.kernels.maps import maps_of
from dlc.compiler.llvm.target import host
from dlc.compiler.options import Options
from dlc.compiler.pipeline import dump_graph
from dlc.ir.dims import Dim, evaluate, symbol
from dlc.ir.graph import Builder, Graph, Param, Value
from dlc.ir.kernel import Compute, IndexValue
from dlc.ir.kernel_text import parse_kernel, print_kernel
from dlc.ir.ops import OPS
from dlc.ir.ops.contract import conv_spec
from dlc.ir.program_text import parse_program
from dlc.ir.types import F32, tensor
from tests.compiler.compiled import CompiledGraph
from tests.compiler.test_products import arrays

N, C, M, D, H, W = map(symbol, "NCMDHW")


def convolution(
    x: tuple[Dim, ...], maps: Dim, taps: int = 3, gradient: bool = False, more: bool = False,
    **settings: int,
) -> Graph:
    """A convolution of `taps` in each direction, or its gradient with respect to the picture.

    `more`: a picture is added to its hyperbolic tangent.
    """
    b = Builder("xwgy")
    image, settings = Value("x", tensor(F32, x)), {"padding": 0, **settings}
    shape: tuple[Dim, ...] = (maps, x[1], *(taps for _ in x[2:]))
    w = Value("w", tensor(F32, shape))
    y = b.op("contract", image, w, **conv_spec(x, w.dims, **settings))
    params = [Param(image, "in"), Param(w, "in")]
    if gradient or more:
        g = Value("g", y.type)
        params.append(Param(g, "in"))
    if gradient:
        found = OPS["contract"].vjp(b, b.nodes[-1], (g,))  # type: ignore[operator]
        y = found[0]
    elif more:
        y = b.op("add", b.op("tanh", y), g)
    return Graph("f", tuple(params), tuple(b.nodes), (y,))


def is_along_maps(graph: Graph, options: Options) -> bool:
    """Whether it is carried out with the lanes along maps."""
    return "\n  along " in dump_graph(graph, "kernels", options)


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lanes lie along maps wherever they can."""
    monkeypatch.setattr("dlc.compiler.schedules.maps.MARGIN", 0.0)


SIZES = {"N": 2, "C": 5, "M": 37, "H": 6, "W": 27}
SHAPES: dict[str, tuple[Graph, dict[str, int]]] = {
    "padded": (convolution((N, C, H, W), M, padding=1), SIZES),
    "whole tiles": (convolution((N, C, H, W), M, padding=1), SIZES | {"M": 64, "W": 24}),
    "no padding": (convolution((N, C, H, W), M), SIZES),
    "more after it": (convolution((N, C, H, W), M, padding=1, more=True), SIZES),
    "strided": (convolution((N, C, H, W), M, stride=2, padding=1), SIZES),
    "dilated": (convolution((N, C, H, W), M, dilation=2, padding=2), SIZES),
    "gradient": (convolution((N, C, H, W), M, gradient=True, padding=1), SIZES | {"C": 21}),
    "gradient without padding": (convolution((N, C, H, W), M, gradient=True), SIZES | {"C": 35}),
    "signals": (convolution((N, C, W), M, taps=5, padding=2), SIZES),
    "volumes": (convolution((N, C, D, H, W), M, padding=1), SIZES | {"D": 3}),
    "few of each": (convolution((N, C, H, W), M, padding=1),
                    {"N": 1, "C": 1, "M": 1, "H": 1, "W": 1}),
    "wide padding": (convolution((N, C, H, W), M, padding=4), SIZES | {"H": 1, "W": 2}),
    "constants": (convolution((2, 32, 6, 28), 32, padding=1), {}),
    "odd constants": (convolution((2, 33, 6, 29), 43, padding=1, more=True), {}),
    "constants in parts": (convolution((2, 9, 3, 27), 64, padding=1), {}),
    "a constant gradient": (convolution((2, 32, 6, 28), 32, gradient=True, padding=1), {}),
    "strided constants": (convolution((2, 32, 9, 29), 48, stride=2), {}),
}


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("name", SHAPES)
def test_convolutions(name: str) -> None:
    graph, sizes = SHAPES[name]
    options = Options(verify=True)
    assert is_along_maps(graph, options)
    CompiledGraph(graph, options).check(arrays(graph, sizes), rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("always")
@pytest.mark.skipif(not host().has("avx2"), reason="no code of AVX2 runs here")
@pytest.mark.parametrize("name", SHAPES)
def test_with_short_vectors(name: str) -> None:
    graph, sizes = SHAPES[name]
    options = Options(target="haswell", verify=True)
    assert is_along_maps(graph, options)
    CompiledGraph(graph, options).check(arrays(graph, sizes), rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("name", ["padded", "gradient", "constants"])
def test_the_same_bits_for_any_threads(name: str, split: Callable[[int], None]) -> None:
    graph, sizes = SHAPES[name]
    compiled = CompiledGraph(graph)
    given, found = arrays(graph, sizes), []
    for count in (1, 2, 3, 7):
        split(count)
        (made,) = compiled.run(given)
        found.append(np.array(made).tobytes())
    assert len(set(found)) == 1


@pytest.mark.skipif(host().lanes(F32) != 16, reason="which way pays depends on the lanes")
def test_sizes_decide() -> None:
    """Rows of 7 fill half of the lanes that 64 maps fill; rows of 64 all that 5 maps leave empty.
    Either way the bits are the same."""
    graph, _ = SHAPES["padded"]
    text = dump_graph(graph, "kernels", Options())
    assert "if contract_0.along_maps {" in text
    asks = next(k for k in parse_program(text).kernels if k.name.startswith("along_maps"))
    (gain,) = (a.value for c in asks.body if isinstance(c, Compute) for a in c.args
               if isinstance(a, IndexValue))
    wide = {"N": 2, "C": 9, "M": 5, "H": 6, "W": 64}
    narrow = {"N": 2, "C": 64, "M": 64, "H": 6, "W": 7}
    assert evaluate(gain, narrow) >= 0 > evaluate(gain, wide)
    for sizes in (wide, narrow):
        CompiledGraph(graph).check(arrays(graph, sizes), rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(host().lanes(F32) != 16, reason="which way pays depends on the lanes")
def test_a_batch_that_need_not_lie_in_the_lanes() -> None:
    """Strided, so that no row fills vectors: maps do, without copies of all results."""
    graph = convolution((N, 16, 28, 28), 32, taps=4, stride=2, padding=1)
    assert is_along_maps(graph, Options())
    CompiledGraph(graph).check(arrays(graph, {"N": 3}), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["padded", "more after it", "gradient", "signals"])
def test_the_same_bits_along_rows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, sizes = SHAPES[name]
    given, found = arrays(graph, sizes), []
    for margin in (0.0, 1e6):
        monkeypatch.setattr("dlc.compiler.schedules.maps.MARGIN", margin)
        (made,) = CompiledGraph(graph).run(given)
        found.append(np.array(made).tobytes())
    assert found[0] == found[1]


KERNEL = """
kernel convolution<C, H, N, O, W>(p0: f32[N, C, H, W] in, p1: f32[O, C, 3, 3] in,
    p2: f32[N, O, H, W] out) {
  local acc: f32
  outer i0<N, i1<O, i2<H, i3<W
  acc = sum k0<C, max(-i2 + 1, 0) <= k1 < min(3, H - i2 + 1), k2<3:
      mul(p0[i0, k0, i2 + k1 - 1, i3 + k2 - 1] else 0.0, p1[i1, k0, k1, k2])
  p2[i0, i1, i2, i3] = acc
}
"""
DILATED = KERNEL.replace(
    "k2<3", "max(((-i3 + 1) // 2) + 1, 0) <= k2 < min(((W - i3 + 1) // 2) + 1, 3)").replace(
    "i3 + k2 - 1] else 0.0", "i3 + 2*k2 - 2]")


def test_what_is_copied() -> None:
    """Zeros round rows, and as much more as tiles stick out; weights with the maps in the lanes."""
    maps = maps_of(parse_kernel(KERNEL), 16)
    assert maps is not None
    assert (maps.maps.name, maps.along.name) == ("i1", "i3")
    packed = maps.packed((W + 3) // 4 * 4, 16)
    assert packed.kept == ("p2",)
    assert [copy.source for copy in packed.copies] == ["p0", "p1"]
    text = print_kernel(packed.kernel)
    assert "padded: f32[N, C, H, 4*((W + 3) // 4) + 2] in" in text
    assert "turned: f32[O, C, 3, 3] @ (0/16, 1, 2, 3, 0) in" in text
    assert "mul(padded[i0, k0, i2 + k1 - 1, i3 + k2], turned[i1, k0, k1, k2])" in text
    assert "= p0[i0, i1, i2, i3 - 1] else 0.0" in print_kernel(packed.copies[0].kernel)


def test_taps_that_are_outside_read_zeros() -> None:
    maps = maps_of(parse_kernel(DILATED), 16)
    assert maps is not None
    assert (maps.low, maps.high, maps.picture.fill) == (-2, 2, 0.0)
    assert [i.high for i in maps.sum.over][-1] == 3


@pytest.mark.parametrize("change", [
    ("else 0.0", "else 1.0"), ("mul(", "add("), ("p1[i1,", "p1[i3,"), ("k0<C", "k0<min(C, i1 + 1)"),
    ("k2<3", "0 <= k2 < min(3, i3 + 1)"), ("p2[i0, i1, i2, i3]", "p2[i0, i1, i3, i2]")])
def test_other_sums_are_not_along_maps(change: tuple[str, str]) -> None:
    assert maps_of(parse_kernel(KERNEL.replace(*change)), 16) is None


def test_taps_that_are_left_out_stay_left_out() -> None:
    """Bounds that say something else than what is inside."""
    other = DILATED.replace("((W - i3 + 1) // 2) + 1, 3", "((W - i3 + 1) // 2) + 2, 3")
    assert maps_of(parse_kernel(other), 16) is None
