"""The text form: all that a graph holds is printed and read back."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from dlc.ir.dims import symbol
from dlc.ir.graph import Attr, Builder, Condition, Graph, Loc, Node, Param, Value
from dlc.ir.parse import TextError, parse_graph, parse_graphs
from dlc.ir.text import print_graph
from dlc.ir.types import F32, F64, I32, I64, tensor
from dlc.ir.verify import verify

N = symbol("N")
HERE = Loc("model.dl", 4, 7)
INSIDE = Loc("a lib.dl", 9, 2, Loc('odd "name".dl', 1, 1, HERE))

HEAD = """\
graph head(%x: f32[N, 5], %c1.w: f32[5] var, %rate: f32 = 0.1, %r: i64[2] random) -> (f32[N, 5]) {
  doc "Scales.\\nThat is all."
  require N >= 2 "two at least" @loc(model.dl:4:7)
  %wide = broadcast %c1.w {dims = [N, 5], axes = [1]} : f32[N, 5]  @path("head.wide")
  %y = mul %x, %wide : f32[N, 5]  @backward @loc("a lib.dl":9:2 < model.dl:4:7, model.dl:4:7)
  return %y
  update "c1.w" = %c1.w
}
"""


def around(node: Node) -> Graph:
    return Graph("g", (), (node,), node.results)


def with_attr(value: Attr) -> Graph:
    result = Value("v", tensor(F32))
    return around(Node("constant", (), (("value", value),), (result,)))


def test_a_graph_reads_as_it_was_written() -> None:
    graph = parse_graph(HEAD)
    verify(graph)
    assert print_graph(graph) == HEAD
    assert graph.doc == "Scales.\nThat is all."
    assert graph.conditions == (Condition(N, ">=", 2, "two at least"),)
    assert [p.role for p in graph.params] == ["in", "var", "in", "random"]
    assert graph.params[2].default == 0.1
    assert graph.nodes[0].path == "head.wide"
    assert graph.nodes[1].phase == "backward"
    assert graph.nodes[1].locs == (Loc("a lib.dl", 9, 2, HERE), HERE)
    assert graph.updates == (("c1.w", graph.params[1].value),)


@pytest.mark.parametrize("value", [
    0, -3, 10**18, True, False, 0.5, 1.0, -2.5, 1e-30, 1.5e300, 0.1, math.nan, math.inf, -math.inf,
    "text", 'a "quoted"\n\\ line', "", "é → 網", F32, I64, N, N - 4, (N + 1) // 2, symbol("f32"),
    symbol("inf") + 1, symbol("true") * N, (), (1,), (1, 2.0, True), ((1, 2), (), ("a", F64)),
    ((N, N - 1), (symbol("nan"),)), tuple(range(64)), tuple(range(65)),
    tuple(i / 7 for i in range(200)), (math.nan,) * 70, ((0.5,) * 70, "x", (1,) * 70)])
def test_attributes_read_back(value: Attr) -> None:
    graph = with_attr(value)
    text = print_graph(graph)
    again = parse_graph(text)
    assert again == graph
    assert print_graph(again) == text
    assert type(again.nodes[0].attr("value")) is type(value)


def test_zeros_keep_their_sign_and_numbers_their_kind() -> None:
    again = parse_graph(print_graph(with_attr((-0.0, 1.0, 1)))).nodes[0].attr("value")
    assert isinstance(again, tuple)
    zero, one, whole = again
    assert isinstance(zero, float)
    assert math.copysign(1, zero) == -1
    assert type(one) is float
    assert type(whole) is int


def test_places_with_callers_read_back() -> None:
    node = Node("constant", (), (("dtype", F32), ("value", 1.0)), (Value("v", tensor(F32)),),
                phase="update", path='a "path"', locs=(INSIDE, HERE))
    again = parse_graph(print_graph(around(node))).nodes[0]
    assert again == node
    assert again.locs == node.locs


@pytest.mark.parametrize("name", ["x", "c1.w", "0", "fit.adamw#1.w", "a b", "Σ", "in", "return"])
def test_names_read_back(name: str) -> None:
    value = Value(name, tensor(F32, (N,)))
    graph = Graph(name, (Param(value, "var"),), (), (value,), ((name, value),))
    assert parse_graph(print_graph(graph)) == graph


def calls(*held: Graph) -> Graph:
    x = value = Value("x", tensor(F32, (4,)))
    b = Builder(["x"])
    for graph in held:
        (value,) = b.emit("call", value, regions=(graph,))
    return Graph("main", (Param(x),), tuple(b.nodes), (value,))


def step(name: str, op: str, loc: Loc | None = None) -> Graph:
    x = Value("x", tensor(F32, (N,)))
    b = Builder(["x"])
    b.locs = (loc,) if loc else ()
    y = b.op(op, x)
    return Graph(name, (Param(x),), tuple(b.nodes), (y,))


def test_held_graphs_stand_before_and_are_printed_once() -> None:
    graph = calls(
        step("step", "exp"), step("step", "neg"), step("step", "exp"), step("odd one", "exp"))
    verify(graph)
    text = print_graph(graph)
    again = parse_graph(text)
    assert again == graph
    assert list(parse_graphs(text)) == ["step", "step.2", "odd one", "main"]
    assert again.nodes[0].regions[0] is again.nodes[2].regions[0]


def test_held_graphs_that_differ_in_places_stay_apart() -> None:
    graph = calls(step("step", "exp", HERE), step("step", "exp", INSIDE))
    again = parse_graph(print_graph(graph))
    assert [node.regions[0].nodes[0].locs for node in again.nodes] == [(HERE,), (INSIDE,)]


def test_graphs_in_held_graphs() -> None:
    inner = step("inner", "exp")
    graph = calls(replace(calls(inner), name="middle"))
    assert parse_graph(print_graph(graph)) == graph


def test_nodes_without_results_and_with_many() -> None:
    flag = Value("ok", tensor(I32))
    two = (Value("a", tensor(F32)), Value("b", tensor(I32, (N,))))
    nodes = (Node("check", (flag,), (("text", "no"),), ()), Node("split", (flag,), (), two))
    graph = Graph("g", (Param(flag),), nodes, two)
    assert parse_graph(print_graph(graph)) == graph


LINE = "graph f(%x: f32) -> (f32) {{\n  {}\n  return %x\n}}\n"


@pytest.mark.parametrize(("text", "line", "message"), [
    ("", 1, "no graph"),
    ("graf f", 1, "expected 'graph'"),
    (LINE.format("%y = exp %z : f32"), 2, "%z is not defined"),
    (LINE.format("%x = exp %x : f32"), 2, "%x is defined twice"),
    (LINE.format("%y = exp %x"), 2, "1 results have 0 types"),
    (LINE.format("%y = exp %x : q7"), 2, "not a type"),
    (LINE.format("%y = exp %x {a = } : f32"), 2, "dim"),
    (LINE.format("%y = exp %x {a = N +} : f32"), 2, "dim"),
    (LINE.format("%y = exp %x {a = #h00} : f32"), 2, "no data h00"),
    (LINE.format("%y = call %x with nobody : f32"), 2, "no graph nobody"),
    (LINE.format("%y = exp %x : f32 ; what"), 2, "unexpected ';'"),
    (LINE.format('%y = exp %x {a = "open} : f32'), 2, "unexpected"),
    (LINE.format("%y = exp %x : f32 @loc(here)"), 2, "expected a loc"),
    ("graph f(%x: f32) -> (f64) {\n  return %x\n}\n", 2, "says f64"),
    ("graph f(%x: f32) -> (f32) {\n  return %x\n", 3, "expected '}'"),
    ("graph f(%x f32) -> (f32) {\n  return %x\n", 1, "expected ':'"),
    ("graph f(%x: f32[N) -> (f32) {\n  return %x\n", 1, "not a type"),
    ("graph f() -> () {\n  return\n}\ngraph f() -> () {\n  return\n}\n", 6, "two graphs f"),
    ("data h = [1, [2]\n", 2, ""),
])
def test_errors_name_the_line(text: str, line: int, message: str) -> None:
    with pytest.raises(TextError, match=rf"line {line}: .*{message}"):
        parse_graph(text)


def test_every_prefix_of_a_text_is_an_error_and_no_crash() -> None:
    text = print_graph(calls(step("step", "exp", INSIDE))) + HEAD
    whole = {at for at in range(len(text)) if text[:at].rstrip().endswith("\n}")}
    for at in range(len(text)):
        if at not in whole:
            with pytest.raises(TextError):
                parse_graph(text[:at])
