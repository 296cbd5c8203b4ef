"""The verifier finds what a pass may get wrong, and says what was expected."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dlc.ir.dims import symbol
from dlc.ir.graph import Graph, Loc, Value
from dlc.ir.parse import parse_graph
from dlc.ir.types import F32, I32, tensor
from dlc.ir.verify import VerifyError, verify

N = symbol("N")
TEXT = """\
graph half(%x: f32[N]) -> (f32[N]) {
  %c = constant {dtype = f32, value = 0.5} : f32
  %b = broadcast %c {dims = [N], axes = []} : f32[N]
  %y = mul %x, %b : f32[N]
  return %y
}

graph main(%x: f32[N, 4], %w: f32[4] var, %r: i64[2] random) -> (f32) {
  require N >= 1 "some rows"
  %p = contract %x, %w {indices = ["a", "z"], extents = [N, 4], maps = [[a, z], [z]], \
out = [a], dims = [N]} : f32[N]
  %h = call %p with half : f32[N]  @loc(model.dl:3:4)
  %m = reduce_max %h {axes = [0]} : f32
  return %m
  update "w" = %w
}
"""
GRAPH = parse_graph(TEXT)


def changed(at: int, **fields: object) -> Graph:
    nodes = list(GRAPH.nodes)
    nodes[at] = replace(nodes[at], **fields)  # type: ignore[arg-type]
    return replace(GRAPH, nodes=tuple(nodes))


X, W, R = GRAPH.inputs
P, H, M = (node.result for node in GRAPH.nodes)
HALF = GRAPH.nodes[1].regions[0]


def test_a_good_graph() -> None:
    verify(GRAPH)


@pytest.mark.parametrize(("graph", "op", "expected", "found"), [
    (replace(GRAPH, nodes=GRAPH.nodes[::-1]), "reduce_max", "defined before", "%h"),
    (changed(2, operands=(Value("h", tensor(F32, (N, 1))),)),
     "reduce_max", "%h: f32[N]", "f32[N, 1]"),
    (changed(2, results=(Value("m", tensor(I32)),)), "reduce_max", "type f32", "i32"),
    (changed(2, results=(P,)), "reduce_max", "f32", "f32[N]"),
    (changed(2, results=(Value("h", tensor(F32)),)), "reduce_max", "new name", "%h"),
    (changed(2, results=()), "reduce_max", "f32", "nothing"),
    (changed(2, op="nonsense"), "nonsense", "registry", "none"),
    (changed(2, attrs=()), "reduce_max", "fit", "axes"),
    (changed(2, attrs=(("axes", (7,)),)), "reduce_max", "fit", "axes (7,)"),
    (changed(2, operands=()), "reduce_max", "fit", ""),
    (changed(0, attrs=GRAPH.nodes[0].attrs[::-1]), "contract", "{indices", "{dims"),
    (changed(0, attrs=(*GRAPH.nodes[0].attrs[:1], ("extents", (symbol("Q"), 4)),
                       *GRAPH.nodes[0].attrs[2:])), "contract", "symbols", "Q"),
    (changed(1, regions=(replace(HALF, results=(Value("q", tensor(F32, (N,))),)),)),
     "return", "defined before", "%q"),
    (changed(1, regions=()), "call", "fit", ""),
    (changed(1, regions=(replace(HALF, updates=(("x", HALF.results[0]),)),)),
     "call", "update nothing", "x"),
    (replace(GRAPH, results=(Value("z", tensor(F32)),)), "return", "defined before", "%z"),
    (replace(GRAPH, updates=(("w", M),)), "update", "f32[4] for w", "f32"),
    (replace(GRAPH, updates=(("x", X),)), "update", "variable", "another"),
    (replace(GRAPH, updates=(("w", W), ("w", W))), "update", "once", "twice"),
    (replace(GRAPH, params=(*GRAPH.params, GRAPH.params[0])), "parameters", "new name", "%x"),
    (replace(GRAPH, params=(*GRAPH.params[:2], replace(GRAPH.params[0], value=Value(
        "q", tensor(F32)), role="random"))), "parameters", "i64[2]", "%q: f32"),
    (replace(GRAPH, conditions=(replace(GRAPH.conditions[0], right=symbol("K")),)),
     "require", "symbols", "K"),
])
def test_faults_are_found(graph: Graph, op: str, expected: str, found: str) -> None:
    with pytest.raises(VerifyError) as caught:
        verify(graph, "some_pass")
    error = caught.value
    assert error.op == op
    assert expected in error.expected
    assert found in error.found
    assert error.stage == "some_pass"
    assert "some_pass" in str(error)


def test_the_error_says_where() -> None:
    with pytest.raises(VerifyError, match=r"main: call at model\.dl:3:4: expected") as caught:
        verify(changed(1, operands=()))
    assert caught.value.locs == (Loc("model.dl", 3, 4),)
