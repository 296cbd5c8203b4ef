"""Gradients with respect to weights as products over places, with a panel for all taps: held
against the interpreter, at sizes at which each loop over parts of a panel has one turn or more."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from dlc.compiler.kernels.places import places_of
from dlc.compiler.llvm.target import host
from dlc.compiler.options import Options
from dlc.compiler.pipeline import dump_graph
from dlc.ir.dims import Dim, symbol
from dlc.ir.graph import Builder, Graph, Param, Value
from dlc.ir.kernel_text import parse_kernel, print_kernel
from dlc.ir.ops import OPS
from dlc.ir.ops.contract import conv_spec
from dlc.ir.types import F32, tensor
from tests.compiler.compiled import CompiledGraph
from tests.compiler.test_products import arrays

N, C, M, H, W = map(symbol, "NCMHW")


def gradient(
    x: tuple[Dim, ...], maps: Dim, taps: int = 3, in_batch: bool = False, **settings: int
) -> Graph:
    """The gradient of a convolution of `taps` in each direction with respect to its weights.

    `in_batch`: of a convolution's result, which lies with the batch in the lanes.
    """
    b = Builder("xwgv")
    image = Value("x", tensor(F32, x))
    shape: tuple[Dim, ...] = (maps, x[1] // settings.get("groups", 1), taps, taps)
    w = Value("w", tensor(F32, shape))
    params = [Param(image, "in"), Param(w, "in")]
    if in_batch:
        assert isinstance(x[1], int)
        v = Value("v", tensor(F32, (x[1], x[1], 3, 3)))
        params.append(Param(v, "in"))
        image = b.op("tanh", b.op("contract", image, v, **conv_spec(x, v.dims, padding=1)))
    y = b.op("contract", image, w, **conv_spec(x, w.dims, **settings))
    g = Value("g", y.type)
    params.append(Param(g, "in"))
    moved = b.op("mul", g, y) if in_batch else g
    _, dw = OPS["contract"].vjp(b, next(n for n in b.nodes if n.result is y), (moved,))  # type: ignore[operator]
    return Graph("f", tuple(params), tuple(b.nodes), (dw,))


def is_over_places(graph: Graph, options: Options) -> bool:
    """Whether its last kernel is carried out as a product over places."""
    return "\n  panel " in dump_graph(graph, "kernels", options).rpartition("\nschedule ")[2]


SHAPES: dict[str, tuple[Graph, dict[str, int]]] = {
    "padded": (gradient((N, 12, 18, 21), 32, padding=1), {"N": 3}),
    "strided": (gradient((N, 12, 18, 21), 33, stride=2, padding=1), {"N": 5}),
    "dilated": (gradient((N, 13, 18, 21), 30, dilation=2), {"N": 2}),
    "in groups": (gradient((N, 24, 11, 19), 64, padding=1, groups=2), {"N": 4}),
    "a tap": (gradient((N, 50, 9, 11), 40, taps=1), {"N": 7}),
    "five taps": (gradient((N, 7, 15, 14), 48, taps=5, padding=2), {"N": 3}),
    "symbols": (gradient((N, C, H, W), M, padding=1),
                {"N": 3, "C": 11, "M": 37, "H": 13, "W": 17}),
    "few of each": (gradient((N, C, H, W), M, padding=1),
                    {"N": 1, "C": 1, "M": 1, "H": 3, "W": 2}),
    "small pictures": (gradient((N, C, H, W), M, padding=1),
                       {"N": 71, "C": 9, "M": 16, "H": 7, "W": 7}),
    "long rows": (gradient((N, C, H, W), M, padding=1),
                  {"N": 1, "C": 8, "M": 16, "H": 3, "W": 4111}),
    "constant long rows": (gradient((N, 12, 5, 4111), 32, padding=1), {"N": 1}),
    "batch": (gradient((N, 32, 12, 14), 32, in_batch=True, padding=1), {"N": 35}),
    "a ragged batch": (gradient((N, 32, 12, 14), 32, in_batch=True, padding=1), {"N": 3}),
    "strided batch": (gradient((N, 16, 17, 14), 48, in_batch=True, stride=2), {"N": 18}),
}
# With so few constant channels all of it would be one thread's: they are carried out otherwise.
IN_ONE_PART = {"padded", "strided", "in groups", "five taps", "constant long rows"}


@pytest.mark.parametrize("name", SHAPES)
def test_gradients_of_weights(name: str) -> None:
    graph, sizes = SHAPES[name]
    options = Options(verify=True, hints={"N": 64})
    if host().lanes(F32) == 16:
        assert is_over_places(graph, options) == (name not in IN_ONE_PART)
    CompiledGraph(graph, options).check(arrays(graph, sizes), rtol=1e-3, atol=4e-3)


@pytest.mark.skipif(not host().has("avx2"), reason="no code of AVX2 runs here")
@pytest.mark.parametrize("name", SHAPES)
def test_with_short_vectors(name: str) -> None:
    graph, sizes = SHAPES[name]
    options = Options(target="haswell", hints={"N": 64})
    CompiledGraph(graph, options).check(arrays(graph, sizes), rtol=1e-3, atol=4e-3)


@pytest.mark.parametrize("name", ["padded", "symbols", "batch"])
def test_the_same_bits_for_any_threads(name: str, split: Callable[[int], None]) -> None:
    graph, sizes = SHAPES[name]
    compiled = CompiledGraph(graph, Options(hints={"N": 64}))
    given, found = arrays(graph, sizes), []
    for count in (1, 2, 3, 7):
        split(count)
        (made,) = compiled.run(given)
        found.append(np.array(made).tobytes())
    assert len(set(found)) == 1


KERNEL = """
kernel weights<N>(p0: f32[N, 64, 16, 16] @ (0/16, 2, 3, 1, 0) in,
    p1: f32[N, 32, 16, 16] @ (0/16, 2, 3, 1, 0) in, p2: f32[64, 32, 3, 3] out) {
  local acc: f32
  outer i0<64, i1<32, i2<3, i3<3
  acc = sum k0<N, max(-i2 + 1, 0) <= k1 < min(-i2 + 17, 16), k2<16:
      mul(p0[k0, i0, k1, k2], p1[k0, i1, i2 + k1 - 1, i3 + k2 - 1] else 0.0)
  p2[i0, i1, i2, i3] = acc
}
"""


def test_what_lies_outside_is_left_out_of_the_sum() -> None:
    """No read may lie outside, and the batch is cut into the blocks in which it lies."""
    places = places_of(parse_kernel(KERNEL), 16)
    assert places is not None
    text = print_kernel(places.kernel)
    assert "else" not in text
    assert "max(-i3 + 1, 0) <= k2 < min(-i3 + 17, 16)" in text
    assert "k0b<(N + 15) // 16" in text
    assert places.reduced == ("k0b", "k1", "k2", "k0l")
    assert (places.lanes.name, places.rows.name) == ("i0", "i1")
    assert [i.name for i in places.taps] == ["i2", "i3"]


@pytest.mark.parametrize("change", [
    ("else 0.0", "else 1.0"), ("i3 + k2 - 1", "i3 - k2 + 15"), ("mul(", "add("),
    ("p0[k0, i0, k1, k2]", "p0[k0, i0, k1, k2] else 0.0"), ("k0<N", "k0<min(N, i0 + 1)")])
def test_other_sums_are_not_over_places(change: tuple[str, str]) -> None:
    assert places_of(parse_kernel(KERNEL.replace(*change)), 16) is None
