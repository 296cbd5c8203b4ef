"""Gradients: against differences in f64, and what stands in their way."""

from __future__ import annotations

import time

import numpy as np
import pytest

from dlc.compiler.passes.differentiate import differentiate
from dlc.compiler.pipeline import GRAPH_PASSES
from dlc.compiler.runner import run_passes
from dlc.ir.diagnostics import UserError
from dlc.ir.dims import symbol
from dlc.ir.graph import Builder, Graph, Param, Value
from dlc.ir.interpret import run_graph
from dlc.ir.ops.contract import conv_spec, matmul_spec, pool_spec
from dlc.ir.parse import parse_graph
from dlc.ir.scalar import Array
from dlc.ir.types import F64, I32, tensor
from tests.compiler.graphs import assert_gradients

N = symbol("N")
RNG = np.random.default_rng(7)


def network(twice: bool) -> Graph:
    """Convolution with stride, maximum, pooling, a slice, a product and softmax cross-entropy.

    Results: the loss, its gradients by x, w, v; if `twice`, the squared size of the gradient by w
    in place of the loss.
    """
    x, w = Value("x", tensor(F64, (N, 2, 11, 9))), Value("w", tensor(F64, (3, 2, 3, 3)))
    v, label = Value("v", tensor(F64, (9, 5))), Value("label", tensor(I32, (N,)))
    b = Builder(["x", "w", "v", "label"])
    conv = b.op("contract", x, w, **conv_spec(x.dims, w.dims, stride=2, padding=1))
    hidden = b.op("maximum", conv, b.op("mul", conv, b.constant(0.1, conv.type)))
    pooled = b.op("contract", hidden, **pool_spec(hidden.dims, 2, 2))
    cut = b.op("slice", pooled, start=(0, 0, 0, 1), step=(1, 1, 1, 1), dims=(N, 3, 3, 1))
    flat = b.reshape(cut, (N, 9))
    scores = b.op("contract", flat, v, **matmul_spec(flat.dims, v.dims))
    shares = b.op("log_softmax", scores, axis=1)
    index = b.op("iota", dtype=I32, dims=(N, 5), axis=1)
    here = b.op("eq", index, b.broadcast(label, (N, 5), (0,)))
    loss = b.op("neg", b.sum(b.op("select", here, shares, b.zeros(shares.type)), (0, 1)))
    if twice:
        (slope,) = b.emit("gradient", loss, w)
        loss = b.sum(b.op("mul", slope, slope), (0, 1, 2, 3))
    gradients = b.emit("gradient", loss, x, w, v)
    params = tuple(Param(value) for value in (x, w, v, label))
    return Graph("network", params, tuple(b.nodes), (loss, *gradients))


def network_inputs() -> list[Array]:
    shapes = ((2, 2, 11, 9), (3, 2, 3, 3), (9, 5))
    return [*(np.asarray(RNG.normal(size=s)) for s in shapes), np.array([3, 1], np.int32)]


@pytest.mark.parametrize("twice", [False, True])
def test_a_network(twice: bool) -> None:
    graph, inputs = network(twice), network_inputs()
    assert_gradients(differentiate(graph), inputs, (0, 1, 2))
    assert_gradients(run_passes(GRAPH_PASSES, graph, verify="never"), inputs, (0, 1, 2))


def test_a_strided_slice() -> None:
    x = Value("x", tensor(F64, (N, 7)))
    b = Builder(["x"])
    cut = b.op("slice", x, start=(0, 1), step=(1, 3), dims=(N, 2))
    loss = b.sum(b.op("mul", cut, cut), (0, 1))
    gradients = b.emit("gradient", loss, x)
    graph = Graph("f", (Param(x),), tuple(b.nodes), (loss, *gradients))
    assert_gradients(differentiate(graph), [np.asarray(RNG.normal(size=(2, 7)))], (0,))


def test_nodes_keep_places_paths_and_the_phase() -> None:
    graph = parse_graph("""
graph f(%x: f32) -> (f32) {
  %y = abs %x : f32  @path("f.y") @loc(f.dl:2:9)
  %g = gradient %y, %x : f32  @loc(f.dl:3:9)
  return %g
}""")
    made = differentiate(graph).nodes[1:]
    assert {node.phase for node in made} == {"backward"}
    assert [str(node.locs[0]) for node in made] == ["f.dl:3:9", "f.dl:2:9", "f.dl:2:9"]
    assert made[-1].path == "f.y"


BLOCKED = """
graph f(%x: f32[4]) -> (f32[4]) {{
  %y = {op} : {type}[{dims}]  @loc(f.dl:2:9)
  %z = cast %y {{to = f32}} : f32[{dims}]
  %s = contract %z {{indices = ["a"], extents = [{dims}], maps = [[a]], out = [], dims = []}} : f32
  %g = gradient %s, %x : f32[4]  @loc(f.dl:5:9)
  return %g
}}"""


@pytest.mark.parametrize(
    ("op", "kind", "message"),
    [
        ("floor %x", "f32", "through `floor`: its derivative is 0 wherever it exists"),
        ("gt %x, %x", "bool", "through `gt`: its derivative is 0 wherever it exists"),
        ("cast %x {to = i32}", "i32", "through `cast`: it gives i32[4]"),
    ],
)
def test_what_no_gradient_passes_is_named(op: str, kind: str, message: str) -> None:
    text = BLOCKED.format(op=op, type=kind, dims=4)
    with pytest.raises(UserError) as error:
        differentiate(parse_graph(text))
    (diagnostic,) = error.value.diagnostics
    assert message in diagnostic.message
    assert str(diagnostic.span) == "f.dl:2:9"
    assert diagnostic.notes == ("the gradient is asked for at f.dl:5:9",)


def test_argmax_is_named() -> None:
    graph = parse_graph("""
graph f(%x: f32[4]) -> (f32[4]) {
  %y = argmax %x {axis = 0} : i32
  %z = cast %y {to = f32} : f32
  %g = gradient %z, %x : f32[4]
  return %g
}""")
    with pytest.raises(UserError, match="no gradient flows through `argmax`: it gives an index"):
        differentiate(graph)


def test_another_way_to_the_value_is_enough() -> None:
    graph = parse_graph("""
graph f(%x: f32) -> (f32) {
  %y = floor %x : f32
  %z = mul %x, %y : f32
  %g = gradient %z, %x : f32
  return %g
}""")
    assert run_graph(differentiate(graph), [np.float32(2.5)])[0] == 2


def test_the_second_gradient_of_what_is_flat_is_zero() -> None:
    graph = parse_graph("""
graph f(%x: f32) -> (f32) {
  %y = abs %x : f32
  %g = gradient %y, %x : f32
  %h = gradient %g, %x : f32
  return %h
}""")
    assert run_graph(differentiate(graph), [np.float32(2.5)])[0] == 0


def test_gradients_in_bodies_are_taken_and_bodies_stay_shared() -> None:
    graph = parse_graph("""
graph slope(%x: f32) -> (f32) {
  %y = mul %x, %x : f32
  %g = gradient %y, %x : f32
  return %g
}
graph f(%x: f32) -> (f32, f32) {
  %a = call %x with slope : f32
  %b = call %a with slope : f32
  return %a, %b
}""")
    after = differentiate(graph)
    bodies = [node.regions[0] for node in after.nodes]
    assert bodies[0] is bodies[1]
    assert run_graph(after, [np.float32(3)]) == (6, 12)


def test_a_step_of_600_nodes_takes_milliseconds() -> None:
    """All graph passes; the limit is ten times what a slow core takes."""
    x = Value("x", tensor(F64, (N, 16)))
    weights = [Value(f"w{i}", tensor(F64, (16, 16))) for i in range(40)]
    b = Builder(["x", *(w.name for w in weights)])
    h = x
    for w in weights:
        h = b.op("contract", h, w, **matmul_spec(h.dims, w.dims))
        h = b.op("maximum", b.op("add", h, x), b.zeros(h.type))
    loss = b.sum(h, (0, 1))
    gradients = b.emit("gradient", loss, *weights)
    params = tuple(Param(v) for v in (x, *weights))
    graph = Graph("f", params, tuple(b.nodes), (loss, *gradients))
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        after = run_passes(GRAPH_PASSES, graph, verify="never")
        seconds.append(time.perf_counter() - start)
    assert len(differentiate(graph).nodes) > 600
    assert len(after.nodes) < 600
    assert min(seconds) < 0.6
