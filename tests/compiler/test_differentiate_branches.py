"""Gradients through branches, beside loops, and past effects; what stands in their way."""

from __future__ import annotations

import numpy as np
import pytest

from dlc.compiler.passes.differentiate import differentiate
from dlc.ir.diagnostics import UserError
from dlc.ir.graph import Builder, Graph, Value
from dlc.ir.interpret import run_graph
from dlc.ir.parse import parse_graph
from dlc.ir.types import BOOL, tensor
from dlc.ir.verify import verify
from tests.compiler.compiled import CompiledGraph
from tests.compiler.control_graphs import (
    arrays,
    function,
    squared,
    total,
)
from tests.compiler.gradient_examples import (
    CHOICE,
    branching,
    check,
    choice,
)
from tests.compiler.graphs import assert_gradients


@pytest.mark.parametrize("scanned", [False, True])
@pytest.mark.parametrize("chosen", [False, True])
def test_branches(chosen: bool, scanned: bool) -> None:
    def make(b: Builder, ok: Value, x: Value, y: Value, w: Value) -> list[Value]:
        loss = total(b, *b.emit("if", ok, x, y, w, regions=choice(scanned)))
        slopes = b.emit("gradient", loss, x, y, w)
        return [loss, *slopes]

    def twice(b: Builder, ok: Value, x: Value, y: Value, w: Value) -> list[Value]:
        loss, *slopes = make(b, ok, x, y, w)
        loss = b.op("add", loss, squared(b, *slopes))
        return [loss, *b.emit("gradient", loss, x, y, w)]

    for maker in (make, twice):
        graph = function({"ok": tensor(BOOL), **CHOICE}, maker)
        made = differentiate(graph)
        verify(made)
        inputs = arrays(graph, {"N": 3})
        inputs[0] = np.asarray(chosen)
        assert_gradients(made, inputs, [1, 2, 3])


@pytest.mark.parametrize("flags", [{}, {"recompute": True}], ids=str)
@pytest.mark.parametrize("scanned", [False, True])
def test_branches_in_a_scan(scanned: bool, flags: dict[str, bool]) -> None:
    check(branching(scanned, flags), ["h", "xs", "w"])


def effects(flag: str) -> Graph:
    attrs = f"carried = 1, items = 2, length = T, reverse = false{flag}"
    return parse_graph(f"""
graph shout(%h: f64) -> (f64) {{
  print %h {{parts = ["inside ", ""]}}
  %y = sin %h : f64
  return %y
}}
graph calm(%h: f64) -> (f64) {{
  %y = neg %h : f64
  return %y
}}
graph turn(%h: f64, %x: f64, %seed: i64, %zero: i64) -> (f64) {{
  print %h {{parts = ["h is ", ""]}}
  %ok = ge %h, %x : bool
  check %ok {{text = "h is too small"}}
  %draw = random_uniform %seed, %zero, %zero {{place = 1}} : f32
  %wide = cast %draw {{to = f64}} : f64
  %y = if %ok, %h with shout, calm : f64
  %z = mul %y, %wide : f64
  %next = add %z, %h : f64
  return %next
}}
graph f(%h: f64, %xs: f64[T], %seeds: i64[T], %zero: i64) -> (f64, f64) {{
  %y = scan %h, %xs, %seeds, %zero with turn {{{attrs}}} : f64
  %g = gradient %y, %h : f64
  return %y, %g
}}""")


@pytest.mark.parametrize("flag", ["", ", recompute = true"])
def test_effects_happen_once_and_draws_stay(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    made = differentiate(effects(flag))
    verify(made)
    seeds, zero = np.arange(3), np.asarray(0)
    inputs = [np.float64(0.5), np.full(3, -9.0), seeds, zero]
    run_graph(made, inputs)
    assert capsys.readouterr().out.count("h is") == 3
    run_graph(made, inputs)
    assert capsys.readouterr().out.count("inside") == 3
    assert_gradients(made, inputs, [0])

LOOP = """
graph more(%x: f64, %k: f64) -> (bool) {{
  %go = lt %x, %k : bool
  return %go
}}
graph double(%x: f64, %k: f64) -> (f64) {{
  %y = add %x, %x : f64
  return %y
}}
graph turn(%h: f64, %k: f64) -> (f64) {{
  %y = while %h, %k with more, double {{carried = 1}} : f64  @loc(f.dl:4:7)
  return %y
}}
graph f(%x: f64, %k: f64) -> (f64, f64) {{
{nodes}
  return %z, %g
}}"""


@pytest.mark.parametrize("nodes", [
    "  %y = while %x, %k with more, double {carried = 1} : f64  @loc(f.dl:4:7)",
    "  %y = scan %x, %k with turn {carried = 1, items = 0, length = 2, reverse = false} : f64",
], ids=["alone", "in a scan"])
def test_a_while_has_no_gradient(nodes: str) -> None:
    rest = "\n  %z = mul %y, %x : f64\n  %g = gradient %z, %x : f64  @loc(f.dl:9:3)"
    with pytest.raises(UserError) as error:
        differentiate(parse_graph(LOOP.format(nodes=nodes + rest)))
    (diagnostic,) = error.value.diagnostics
    assert diagnostic.code == "no-gradient"
    assert "through `while`: how often it turns" in diagnostic.message
    assert str(diagnostic.span) == "f.dl:4:7"
    assert diagnostic.notes == ("the gradient is asked for at f.dl:9:3",)


@pytest.mark.parametrize("nodes", [
    "  %y = while %x, %k with more, double {carried = 1} : f64\n  %s = stop_gradient %y : f64",
    "  %s = while %k, %k with more, double {carried = 1} : f64",
], ids=["stopped", "beside the way"])
def test_a_while_that_no_gradient_is_asked_through(nodes: str) -> None:
    rest = "\n  %z = mul %s, %x : f64\n  %g = gradient %z, %x : f64"
    made = differentiate(parse_graph(LOOP.format(nodes=nodes + rest)))
    z, g = run_graph(made, [np.float64(0.5), np.float64(3.0)])
    assert z == g * 0.5
    assert g in (4.0, 3.0)


def test_a_gradient_in_a_while() -> None:
    made = differentiate(parse_graph("""
graph far(%x: f64) -> (bool) {
  %one = constant {dtype = f64, value = 0.01} : f64
  %go = gt %x, %one : bool
  return %go
}
graph step(%x: f64) -> (f64) {
  %square = mul %x, %x : f64
  %g = gradient %square, %x : f64
  %c = constant {dtype = f64, value = 0.25} : f64
  %d = mul %c, %g : f64
  %y = sub %x, %d : f64
  return %y
}
graph f(%x: f64) -> (f64) {
  %y = while %x with far, step {carried = 1} : f64
  return %y
}"""))
    assert run_graph(made, [np.float64(1.0)])[0] == 2.0**-7


@pytest.mark.parametrize(("op", "back", "message"), [
    ("%y = floor %h : f64  @loc(f.dl:5:9)", "%z = mul %y, %x : f64", "through `floor`"),
    ("%y = cast %h {to = i32} : i32  @loc(f.dl:5:9)", "%z = cast %y {to = f64} : f64",
     "through `cast`: it gives i32"),
])
def test_what_stands_in_the_way_in_a_body_is_named(op: str, back: str, message: str) -> None:
    graph = parse_graph(f"""
graph turn(%h: f64, %x: f64) -> (f64) {{
  {op}
  {back}
  return %z
}}
graph f(%h: f64, %xs: f64[3]) -> (f64) {{
  %y = scan %h, %xs with turn {{carried = 1, items = 1, length = 3, reverse = false}} : f64
  %g = gradient %y, %h : f64  @loc(f.dl:9:3)
  return %g
}}""")
    with pytest.raises(UserError) as error:
        differentiate(graph)
    (diagnostic,) = error.value.diagnostics
    assert message in diagnostic.message
    assert str(diagnostic.span) == "f.dl:5:9"


@pytest.mark.parametrize("inside", [True, False], ids=["in the body", "before the loop"])
@pytest.mark.parametrize("use", ["%unused = floor %flat : f64", "check %fine {text = \"small\"}"])
def test_what_the_loss_does_not_need_may_be_flat(inside: bool, use: str) -> None:
    flat = """%flat = floor %k : f64
  %fine = lt %flat, %k : bool"""
    params, given = ("%k: f64", "%k") if inside else ("%flat: f64, %fine: bool", "%flat, %fine")
    graph = parse_graph(f"""
graph turn(%h: f64, {params}) -> (f64) {{
  {flat if inside else ""}
  {use}
  %y = mul %h, %h : f64
  return %y
}}
graph f(%h: f64, %k: f64) -> (f64, f64) {{
  {"" if inside else flat}
  %y = scan %h, {given} with turn {{carried = 1, items = 0, length = 2, reverse = false}} : f64
  %g, %d = gradient %y, %h, %k : f64, f64
  return %g, %d
}}""")
    inputs = [np.float64(0.5), np.float64(2.5)]
    assert run_graph(differentiate(graph), inputs) == (0.5, 0.0)
    for made, expected in zip(CompiledGraph(graph).run(inputs), (0.5, 0.0), strict=True):
        assert made == expected
