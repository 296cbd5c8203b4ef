"""Loops and branches: their types, what they mean, what bodies see, and that they read back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dlc.ir.graph import Graph
from dlc.ir.interpret import run_graph
from dlc.ir.ops.control import CheckError
from dlc.ir.parse import parse_graph
from dlc.ir.text import print_graph
from dlc.ir.verify import VerifyError, verify

SCAN = """\
graph turn(%h: f32[N], %x: f32, %w: f32[N]) -> (f32[N], f32) {
  %spread = broadcast %x {dims = [N], axes = []} : f32[N]
  %s = add %h, %spread : f32[N]
  %t = mul %s, %w : f32[N]
  return %t, %x
}

graph f(%h: f32[N], %xs: f32[T], %w: f32[N]) -> (f32[N], f32[T]) {
  %last, %all = scan %h, %xs, %w with turn \
{carried = 1, items = 1, length = T, reverse = false} : f32[N], f32[T]
  return %last, %all
}
"""
WHILE = """\
graph below(%n: i32, %count: i32, %limit: i32) -> (bool) {
  %c = lt %n, %limit : bool
  return %c
}

graph double(%n: i32, %count: i32, %limit: i32) -> (i32, i32) {
  %one = constant {dtype = i32, value = 1} : i32
  %m = add %n, %n : i32
  %k = add %count, %one : i32
  return %m, %k
}

graph f(%n: i32, %limit: i32) -> (i32, i32) {
  %zero = constant {dtype = i32, value = 0} : i32
  %m, %k = while %n, %zero, %limit with below, double {carried = 2} : i32, i32
  return %m, %k
}
"""
NESTED = """\
graph up(%x: f32[N], %y: f32[N]) -> (f32[N]) {
  %s = add %x, %y : f32[N]
  return %s
}

graph same(%x: f32[N], %y: f32[N]) -> (f32[N]) {
  return %x
}

graph turn(%h: f32[N], %flag: bool, %x: f32[N]) -> (f32[N]) {
  check %flag {text = "flags are set"}
  print %flag {parts = ["flag ", ""]}
  %a = if %flag, %h, %x with up, same : f32[N]
  return %a
}

graph f(%x: f32[N], %flags: bool[T]) -> (f32[N]) {
  %a = scan %x, %flags, %x with turn \
{carried = 1, items = 1, length = T, reverse = true} : f32[N]
  return %a
}
"""
ALL = {"scan": SCAN, "while": WHILE, "nested": NESTED}


@pytest.mark.parametrize("name", ALL)
def test_it_verifies_and_reads_back(name: str) -> None:
    graph = parse_graph(ALL[name])
    verify(graph)
    assert print_graph(graph) == ALL[name]


def test_a_scan_carries_and_stacks() -> None:
    h, w = np.array([1, 2], np.float32), np.array([2, 3], np.float32)
    xs = np.array([1, 2, 3], np.float32)
    last, stack = run_graph(parse_graph(SCAN), [h, xs, w])
    for x in xs:
        h = (h + x) * w
    np.testing.assert_array_equal(last, h)
    np.testing.assert_array_equal(stack, xs)


def test_a_scan_in_reverse_begins_at_the_end() -> None:
    h, w = np.array([1, 2], np.float32), np.array([2, 3], np.float32)
    xs = np.array([1, 2, 3], np.float32)
    last, stack = run_graph(parse_graph(SCAN.replace("= false", "= true")), [h, xs, w])
    for x in xs[::-1]:
        h = (h + x) * w
    np.testing.assert_array_equal(last, h)
    np.testing.assert_array_equal(stack, xs)  # what a turn yields lies where its item lay


def test_a_while_ends_when_its_condition_says() -> None:
    graph = parse_graph(WHILE)
    numbers = (np.asarray(n, np.int32) for n in run_graph(graph, [3, 50]))
    assert [int(n) for n in numbers] == [96, 5]
    assert [int(n) for n in run_graph(graph, [60, 50])] == [60, 0]


def test_checks_and_prints_in_bodies(capsys: pytest.CaptureFixture[str]) -> None:
    graph, x = parse_graph(NESTED), np.ones(2, np.float32)
    (found,) = run_graph(graph, [x, np.array([True, True])])
    np.testing.assert_array_equal(found, [3, 3])
    assert capsys.readouterr().out == "flag True\nflag True\n"
    with pytest.raises(CheckError, match="flags are set"):
        run_graph(graph, [x, np.array([False, True])])
    assert capsys.readouterr().out == "flag True\n"


@pytest.mark.parametrize(("text", "before", "after", "message"), [
    (SCAN, "length = T", "length = 3", r"scan of 3 turns goes over f32\[T\]"),
    (SCAN, "items = 1", "items = 2", r"scan of T turns goes over f32\[N\]"),
    (SCAN, "scan %h, %xs, %w", "scan %h, %xs, %xs", "what a turn gets"),
    (WHILE, "while %n, %zero, %limit", "while %n, %zero", "what the condition gets"),
    (WHILE, "(bool) {\n  %c = lt %n, %limit : bool\n  return %c", "(i32) {\n  return %n",
     "the condition"),
    (WHILE, "carried = 2", "carried = 1", "what is carried"),
    (NESTED, "if %flag, %h, %x", "if %h, %h, %x", "`if` takes a scalar bool"),
    (NESTED, "if %flag, %h, %x", "if %flag, %h", "what the first branch gets"),
    (NESTED, "-> (f32[N]) {\n  return %x", "-> (f32[N], f32[N]) {\n  return %x, %x",
     "what the branches give"),
    (NESTED, "[N]) {\n  return %x", "[N]) {\n  return %z", "defined"),
    (NESTED, 'parts = ["flag ", ""]', 'parts = ["flag "]', "print takes texts round each value"),
    (SCAN, "dims = [N], axes", "dims = [M], axes", "M"),
])
def test_what_does_not_fit_is_found(text: str, before: str, after: str, message: str) -> None:
    assert before in text
    with pytest.raises((VerifyError, ValueError), match=message):
        verify(parse_graph(text.replace(before, after, 1)))


def test_a_body_sees_the_symbols_around_it_and_no_others() -> None:
    graph = parse_graph(SCAN)
    (scan,) = graph.nodes
    (body,) = scan.regions
    with pytest.raises(VerifyError, match="symbols of the parameters, found T"):
        verify(_with_body(graph, parse_graph(
            print_graph(body).replace("return", "%z = dim {dtype = i32, value = T} : i32\n  return")
        ), call=True))
    verify(_with_body(graph, parse_graph(
        print_graph(body).replace("return", "%z = dim {dtype = i32, value = T} : i32\n  return"))))


def _with_body(graph: Graph, body: Graph, call: bool = False) -> Graph:
    """`graph` with another body, or calling it as a graph of its own."""
    (scan,) = graph.nodes
    if not call:
        return replace(graph, nodes=(replace(scan, regions=(body,)),))
    alone = replace(body, results=body.results[:1])
    h, _, w = graph.inputs
    x = body.inputs[1]
    node = replace(scan, op="call", operands=(h, x, w), attrs=(), results=scan.results[:1],
                   regions=(alone,))
    params = (graph.params[0], replace(graph.params[1], value=x), graph.params[2])
    return replace(graph, params=params, nodes=(node,), results=node.results)
