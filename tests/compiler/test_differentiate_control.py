"""Gradients through scans, branches and loops: against differences in f64, and their shape."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import pytest

from dlc.compiler.options import Options
from dlc.compiler.passes.differentiate import differentiate
from dlc.compiler.passes.eliminate_dead import eliminate_dead
from dlc.compiler.pipeline import GRAPH_PASSES
from dlc.compiler.runner import run_passes
from dlc.ir.diagnostics import UserError
from dlc.ir.graph import Builder, Graph, Node, Value
from dlc.ir.interpret import run_graph
from dlc.ir.parse import parse_graph
from dlc.ir.types import BOOL, I32, tensor
from dlc.ir.verify import verify
from tests.compiler.compiled import CompiledGraph
from tests.compiler.control_graphs import (
    N,
    T,
    arrays,
    body,
    function,
    matmul,
    scan,
    squared,
    total,
)
from tests.compiler.graphs import RandomGraph, assert_gradients


def check(graph: Graph, wrt: Sequence[str], turns: Sequence[int] = (0, 1, 4)) -> Graph:
    """Holds the results of `graph`, a loss and gradients by `wrt`, against differences.

    Those of `differentiate`, whose result is returned without what is dead, and of all passes.
    """
    made = differentiate(graph)
    verify(made)
    passed = run_passes(GRAPH_PASSES, graph, verify="each")
    names = [v.name for v in graph.inputs]
    for length in turns:
        inputs = arrays(graph, {"t": length, "T": length, "N": 2, "S": 3}, seed=length)
        for one in (made, passed):
            assert_gradients(one, inputs, [names.index(name) for name in wrt])
    return eliminate_dead(made)


def all_nodes(graph: Graph) -> Iterator[Node]:
    """The nodes of a graph and of all bodies in it."""
    for node in graph.nodes:
        yield node
        for region in node.regions:
            yield from all_nodes(region)


def scans(graph: Graph) -> list[Node]:
    return [node for node in graph.nodes if node.op == "scan"]


STATE = {"h": (N, 4), "c": (N, 4)}
WEIGHTS = {"wx": (3, 4), "wh": (4, 4), "bias": (4,)}


def turn() -> Graph:
    """A recurrent turn with two carried values, and a yield."""

    def make(b: Builder, h: Value, c: Value, x: Value, wx: Value, wh: Value,
             bias: Value) -> list[Value]:
        z = b.op("add", matmul(b, x, wx), matmul(b, h, wh))
        gate = b.op("sigmoid", b.op("add", z, b.broadcast(bias, (N, 4))))
        c = b.op("add", b.op("mul", gate, c), b.op("sin", z))
        h = b.op("mul", gate, b.op("tanh", c))
        return [h, c, b.op("mul", h, z)]

    return body("turn", {**STATE, "x": (N, 3), **WEIGHTS}, make)


INPUTS = {"h0": (N, 4), "c0": (N, 4), "xs": (T, N, 3), **WEIGHTS}


def recurrent(reverse: bool = False, **flags: bool) -> Graph:
    def make(b: Builder, h: Value, c: Value, xs: Value, *w: Value) -> list[Value]:
        last, cell, ys = scan(b, turn(), [h, c], [xs], w, reverse=reverse, **flags)
        loss = total(b, last, b.op("mul", cell, last), ys)
        return [loss, *b.emit("gradient", loss, h, c, xs, *w)]

    return function(INPUTS, make)


@pytest.mark.parametrize("flags", [{}, {"recompute": True}], ids=str)
@pytest.mark.parametrize("reverse", [False, True])
def test_a_recurrent_layer(reverse: bool, flags: dict[str, bool]) -> None:
    check(recurrent(reverse, **flags), list(INPUTS))


def test_gradients_of_weights_are_contractions_outside_of_the_loop() -> None:
    made = check(recurrent(), list(INPUTS))
    forward, back = scans(made)
    assert dict(back.attrs)["carried"] == 2  # the adjoints of h and c
    outside = [node for node in made.nodes if node.op == "contract" and node.attr("extents")[0] == T
               and node.result.dims and node.result.dims[0] != T]
    assert [node.result.dims for node in outside] == [(3, 4), (4, 4), (4,)]
    inside = [v.dims for node in back.regions[0].nodes for v in node.results]
    assert (4, 4) not in inside
    assert (3, 4) not in inside
    assert back.attr("reverse") is True
    assert forward.attr("reverse") is False


def test_what_is_kept_of_a_turn() -> None:
    """h, c and the sum of two products; with `recompute`, what is carried, and no more."""
    for flags, kept in (({}, 3), ({"recompute": True}, 2)):
        made = eliminate_dead(differentiate(recurrent(**flags)))
        assert len(scans(made)[0].results) == 3 + kept
    products = Counter(node.op for node in scans(made)[1].regions[0].nodes)["contract"]
    assert products == 2 + 2  # x @ wx and h @ wh again, and the adjoints of x and h


def test_what_nobody_asks_for_is_not_computed() -> None:
    def make(b: Builder, h: Value, c: Value, xs: Value, *w: Value) -> list[Value]:
        loss = total(b, scan(b, turn(), [h, c], [xs], w)[0])
        return [loss, *b.emit("gradient", loss, w[0])]

    made = check(function(INPUTS, make), ["wx"])
    back = scans(made)[1]
    assert len(back.results) == 3  # two carried adjoints; that of the product with wx
    assert not any(v.dims == (N, 3) for node in back.regions[0].nodes for v in node.results)


def test_gradients_through_one_scan_share_what_it_keeps() -> None:
    def make(b: Builder, h: Value, c: Value, xs: Value, *w: Value) -> list[Value]:
        last, cell, ys = scan(b, turn(), [h, c], [xs], w)
        first, second = total(b, last, ys), total(b, cell)
        (one,), (two,) = b.emit("gradient", first, w[1]), b.emit("gradient", second, w[1])
        return [b.op("add", first, second), b.op("add", one, two)]

    made = check(function(INPUTS, make), ["wh"])
    forward, *back = scans(made)
    assert len(back) == 2
    assert len(forward.results) == 3 + 3


@pytest.mark.parametrize("flags", [{}, {"recompute": True}], ids=str)
def test_a_gradient_penalty(flags: dict[str, bool]) -> None:
    def make(b: Builder, h: Value, c: Value, xs: Value, *w: Value) -> list[Value]:
        last, cell, ys = scan(b, turn(), [h, c], [xs], w, **flags)
        loss = total(b, last, cell, ys)
        by_xs, by_wh, by_h = b.emit("gradient", loss, xs, w[1], h)
        loss = b.op("add", loss, squared(b, by_xs, by_wh, by_h))
        return [loss, *b.emit("gradient", loss, h, c, xs, *w)]

    check(function(INPUTS, make), list(INPUTS))


def test_a_hessian_times_a_vector() -> None:
    """The product is symmetric: u (H v) = v (H u)."""
    kinds = {**INPUTS, "u": (4, 4), "v": (4, 4)}

    def make(b: Builder, h: Value, c: Value, xs: Value, wx: Value, wh: Value, bias: Value,
             u: Value, v: Value) -> list[Value]:
        loss = total(b, *scan(b, turn(), [h, c], [xs], [wx, wh, bias]))
        (slope,) = b.emit("gradient", loss, wh)
        products = []
        for left, right in ((u, v), (v, u)):
            along = b.sum(b.op("mul", slope, left), (0, 1))
            (product,) = b.emit("gradient", along, wh)
            products.append(b.sum(b.op("mul", product, right), (0, 1)))
        return products

    made = differentiate(function(kinds, make))
    one, two = run_graph(made, arrays(made, {"t": 3, "N": 2}))
    np.testing.assert_allclose(one, two, rtol=1e-12)
    assert abs(one) > 1e-3


def test_gradients_of_gradients_do_not_explode() -> None:
    def nodes(order: int) -> int:
        def make(b: Builder, h: Value, c: Value, xs: Value, *w: Value) -> list[Value]:
            loss = total(b, *scan(b, turn(), [h, c], [xs], w))
            for _ in range(order):
                (slope,) = b.emit("gradient", loss, w[1])
                loss = total(b, slope)
            return [loss]

        made = eliminate_dead(differentiate(function(INPUTS, make)))
        assert len(scans(made)) <= 2**order
        return sum(1 for _ in all_nodes(made))

    counts = [nodes(order) for order in range(4)]
    assert all(later < 5 * earlier for earlier, later in pairwise(counts))


def nested(inner_flags: dict[str, bool], outer_flags: dict[str, bool]) -> Graph:
    """For each item xs[t]: f64[S, N], a scan over its rows that starts where the last one ended."""
    s = parse_graph("graph f(%x: f32[S]) -> () {\n  return\n}").inputs[0].dims[0]

    def inner(b: Builder, h: Value, x: Value, w: Value, r: Value) -> list[Value]:
        h = b.op("tanh", b.op("add", matmul(b, h, w), b.op("mul", x, r)))
        return [h, b.op("mul", h, x)]

    def outer(b: Builder, h: Value, xs: Value, w: Value, r: Value) -> list[Value]:
        step = body("inner", {"h": (4,), "x": (4,), "w": (4, 4), "r": (4,)}, inner)
        h, ys = scan(b, step, [h], [xs], [w, r], length=s, reverse=True, **inner_flags)
        return [b.op("sin", h), h, ys]

    def make(b: Builder, h: Value, xs: Value, w: Value, r: Value) -> list[Value]:
        step = body("outer", {"h": (4,), "xs": (s, 4), "w": (4, 4), "r": (4,)}, outer)
        loss = total(b, *scan(b, step, [h], [xs], [w, r], **outer_flags))
        return [loss, *b.emit("gradient", loss, h, xs, w, r)]

    return function({"h": (4,), "xs": (T, s, 4), "w": (4, 4), "r": (4,)}, make)


@pytest.mark.parametrize("outer", [{}, {"recompute": True}], ids=str)
@pytest.mark.parametrize("inner", [{}, {"recompute": True}], ids=str)
def test_nested_scans(inner: dict[str, bool], outer: dict[str, bool]) -> None:
    made = check(nested(inner, outer), ["h", "xs", "w", "r"])
    sums = [node for node in made.nodes if node.op == "contract" and node.result.dims == (4, 4)]
    assert len(sums) == 1
    assert len(sums[0].attr("extents")) == 4  # the turns of both loops are summed over
    back = scans(made)[1].regions[0]
    assert not any(v.dims == (4, 4) for node in all_nodes(back) for v in node.results)


def test_what_is_no_float_has_no_adjoint() -> None:
    kinds = {"n": tensor(I32), "ok": tensor(BOOL), "h": (N,), "k": tensor(I32, (N,)),
             "m": tensor(BOOL, (N,)), "x": (N,), "w": (N,)}

    def step(b: Builder, n: Value, ok: Value, h: Value, k: Value, m: Value, x: Value,
             w: Value) -> list[Value]:
        n = b.op("add", n, b.scalar(I32, 1))
        wide = b.op("cast", b.op("add", k, b.broadcast(n, (N,))), to=h.dtype)
        h = b.op("add", b.op("select", m, b.op("mul", h, w), x), b.op("mul", b.op("sin", x), wide))
        return [n, b.op("not", ok), h, k, b.op("gt", h, x)]

    def make(b: Builder, n: Value, ok: Value, h: Value, ks: Value, ms: Value, xs: Value,
             w: Value) -> list[Value]:
        results = scan(b, body("turn", kinds, step), [n, ok, h], [ks, ms, xs], [w])
        last = b.op("select", b.broadcast(results[1], (N,)), results[2], b.op("sin", results[2]))
        loss = total(b, last)
        return [loss, *b.emit("gradient", loss, h, xs, w)]

    inputs = {"n": tensor(I32), "ok": tensor(BOOL), "h": (N,), "ks": tensor(I32, (T, N)),
              "ms": tensor(BOOL, (T, N)), "xs": (T, N), "w": (N,)}
    made = check(function(inputs, make), ["h", "xs", "w"])
    assert dict(scans(made)[1].attrs)["carried"] == 2  # of h, and the sum for w


def test_values_that_come_and_go_in_odd_ways() -> None:
    """Carried values that change places, are forgotten or kept; one value in several roles."""
    kinds = {"a": (N,), "b": (N,), "c": (N,), "d": (N,), "x": (N,), "y": (N,), "w": (N,)}

    def step(b: Builder, a: Value, c: Value, kept: Value, lost: Value, x: Value, y: Value,
             w: Value) -> list[Value]:
        product = b.op("mul", b.op("mul", x, y), b.op("add", lost, w))
        return [b.op("sin", c), b.op("add", a, product), kept, b.zeros(lost.type), x, w, a, product]

    def make(b: Builder, x: Value, xs: Value, w: Value) -> list[Value]:
        made = scan(b, body("turn", kinds, step), [x, w, x, x], [xs, xs], [w])
        loss = total(b, *made)
        return [loss, *b.emit("gradient", loss, x, xs, w)]

    check(function({"x": (N,), "xs": (T, N), "w": (N,)}, make), ["x", "xs", "w"])


def test_values_between() -> None:
    """By a value that a node in front of the scan makes, and one that the scan gives."""

    def make(b: Builder, h: Value, c: Value, xs: Value, *w: Value) -> list[Value]:
        moved = b.op("add", xs, b.zeros(xs.type))
        last, _, ys = scan(b, turn(), [h, c], [moved], w)
        ys = b.op("add", ys, b.zeros(ys.type))
        loss = total(b, last, ys)
        by_moved, by_ys, by_last = b.emit("gradient", loss, moved, ys, last)
        return [loss, by_moved, b.op("sub", by_ys, b.op("cos", ys)),
                b.op("sub", by_last, b.op("cos", last))]

    made = differentiate(function(INPUTS, make))
    for length in (0, 3):
        inputs = arrays(made, {"t": length, "N": 2})
        _, _, *differences = run_graph(made, inputs)
        for difference in differences:
            np.testing.assert_array_equal(difference, 0)


def test_gradients_in_bodies() -> None:
    """A step of gradient descent a turn, itself differentiated: by w0, xs, and the rate."""
    kinds = {"w": (3,), "x": (3,), "rate": ()}

    def step(b: Builder, w: Value, x: Value, rate: Value) -> list[Value]:
        z = b.op("sin", b.op("mul", w, x))
        loss = b.sum(b.op("mul", z, z), (0,))
        slope, by_z = b.emit("gradient", loss, w, z)
        w = b.op("sub", w, b.op("mul", b.broadcast(rate, (3,)), slope))
        return [w, b.op("add", loss, b.sum(by_z, (0,)))]

    def make(b: Builder, w: Value, xs: Value, rate: Value) -> list[Value]:
        w_end, losses = scan(b, body("descend", kinds, step), [w], [xs], [rate])
        loss = total(b, w_end, losses)
        return [loss, *b.emit("gradient", loss, w, xs, rate)]

    check(function({"w": (3,), "xs": (T, 3), "rate": ()}, make), ["w", "xs", "rate"])


def test_stop_gradient_in_a_body() -> None:
    def step(b: Builder, h: Value, x: Value) -> list[Value]:
        return [b.op("mul", b.op("stop_gradient", h), x)]

    def make(b: Builder, h: Value, xs: Value) -> list[Value]:
        (last,) = scan(b, body("turn", {"h": (), "x": ()}, step), [h], [xs])
        return [*b.emit("gradient", last, h, xs)]

    made = differentiate(function({"h": (), "xs": (T,)}, make))
    by_h, by_xs = run_graph(made, [np.float64(2.0), np.array([3.0, 5.0])])
    assert by_h == 0
    np.testing.assert_array_equal(by_xs, [0.0, 6.0])


def test_a_table_is_scattered_to_once() -> None:
    kinds = {"h": (5, N), "k": tensor(I32, (N,)), "table": (5, 3)}

    def step(b: Builder, h: Value, k: Value, table: Value) -> list[Value]:
        row = b.op("gather", table, k, axis=1)
        return [b.op("sin", b.op("add", h, row))]

    def make(b: Builder, h: Value, ks: Value, table: Value) -> list[Value]:
        (last,) = scan(b, body("turn", kinds, step), [h], [ks], [table])
        loss = total(b, last)
        return [loss, *b.emit("gradient", loss, h, table)]

    inputs = {"h": (5, N), "ks": tensor(I32, (T, N)), "table": (5, 3)}
    made = check(function(inputs, make), ["h", "table"])
    assert [node.op for node in made.nodes].count("scatter") == 1
    assert "scatter" not in [node.op for node in scans(made)[1].regions[0].nodes]


def test_calls_in_bodies_are_expanded() -> None:
    double = body("double", {"x": (N,)}, lambda b, x: [b.op("mul", x, b.op("sin", x))])

    def step(b: Builder, h: Value, x: Value) -> list[Value]:
        (y,) = b.emit("call", h, regions=(double,))
        return [b.op("mul", y, x)]

    def make(b: Builder, h: Value, xs: Value) -> list[Value]:
        (last,) = scan(b, body("turn", {"h": (N,), "x": (N,)}, step), [h], [xs])
        loss = total(b, last)
        return [loss, *b.emit("gradient", loss, h, xs)]

    made = check(function({"h": (N,), "xs": (T, N)}, make), ["h", "xs"])
    assert "call" not in {node.op for node in all_nodes(made)}


CHOICE = {"x": (N,), "y": (N,), "w": (N,)}


def choice(scanned: bool = False) -> tuple[Graph, Graph]:
    """Two branches that use different values, one of them with a scan in it if `scanned`."""

    def then(b: Builder, x: Value, y: Value, w: Value) -> list[Value]:
        if scanned:
            def step(b: Builder, h: Value, x: Value) -> list[Value]:
                return [b.op("sin", b.op("mul", h, x))]
            table = b.broadcast(w, (3, N), (1,))
            (x,) = scan(b, body("step", {"h": (N,), "x": (N,)}, step), [x], [table], length=3)
        return [b.op("mul", x, w), b.op("sin", x)]

    def otherwise(b: Builder, x: Value, y: Value, w: Value) -> list[Value]:
        return [b.op("exp", b.op("mul", y, y)), y]

    return body("then", CHOICE, then), body("otherwise", CHOICE, otherwise)


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
    kinds = {"h": (N,), "x": (N,), "ok": tensor(BOOL), "w": (N,)}

    def step(b: Builder, h: Value, x: Value, ok: Value, w: Value) -> list[Value]:
        one, two = b.emit("if", ok, h, x, w, regions=choice(scanned))
        return [b.op("tanh", b.op("add", one, h)), b.op("mul", two, two)]

    def make(b: Builder, h: Value, xs: Value, oks: Value, w: Value) -> list[Value]:
        loss = total(b, *scan(b, body("turn", kinds, step), [h], [xs, oks], [w], **flags))
        (slope,) = b.emit("gradient", loss, w)
        loss = b.op("add", loss, squared(b, slope))
        return [loss, *b.emit("gradient", loss, h, xs, w)]

    inputs = {"h": (N,), "xs": (T, N), "oks": tensor(BOOL, (T,)), "w": (N,)}
    check(function(inputs, make), ["h", "xs", "w"])


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


@pytest.mark.parametrize("length", ["T", "t"])
def test_what_a_turn_forgets(length: str) -> None:
    made = differentiate(parse_graph(f"""
graph turn(%h: f64, %x: f64) -> (f64) {{
  return %x
}}
graph f(%h: f64, %xs: f64[{length}]) -> (f64, f64[{length}]) {{
  %y = scan %h, %xs with turn {{carried = 1, items = 1, length = {length}, reverse = false}} : f64
  %g, %gs = gradient %y, %h, %xs : f64, f64[{length}]
  return %g, %gs
}}"""))
    by_h, by_xs = run_graph(made, [np.float64(1.0), np.ones(3)])
    assert by_h == 0
    np.testing.assert_array_equal(by_xs, [0, 0, 1])
    if length == "t":  # which may be 0: then it counts
        assert run_graph(made, [np.float64(1.0), np.ones(0)])[0] == 1


@pytest.mark.parametrize("seed", range(25))
def test_random_scans(seed: int) -> None:
    """Bodies made at random; x is carried, y an item, v, w and s are captured."""
    made = RandomGraph(seed, nodes=12, smooth=True)
    chooser, b = random.Random(seed), made.builder
    x, y, v, w, s = made.inputs
    wide = [value for value in made.pool if value.type is x.type]
    ends = [b.op("tanh", chooser.choice(wide)), b.op("sin", made.pool[-1]), b.op("sin", wide[-1])]
    step = Graph("turn", made.graph().params, tuple(b.nodes), tuple(ends))

    def make(b: Builder, x: Value, ys: Value, v: Value, w: Value, s: Value) -> list[Value]:
        flags = {"recompute": True} if chooser.random() < 0.3 else {}
        loss = total(b, *scan(b, step, [x], [ys], [v, w, s], reverse=chooser.random() < 0.5,
                              **flags))
        if chooser.random() < 0.4:
            loss = b.op("add", loss, squared(b, *b.emit("gradient", loss, ys, w)))
        return [loss, *b.emit("gradient", loss, x, ys, v, w, s)]

    kinds = {"x": x.tensor, "ys": (T, *y.dims), "v": v.tensor, "w": w.tensor, "s": s.tensor}
    check(function(kinds, make), list(kinds), turns=(0, 3))


def penalty() -> Graph:
    def make(b: Builder, h: Value, c: Value, xs: Value, *w: Value) -> list[Value]:
        last, cell, ys = scan(b, turn(), [h, c], [xs], w)
        loss = total(b, last, cell, ys)
        loss = b.op("add", loss, squared(b, *b.emit("gradient", loss, xs, w[1])))
        return [loss, *b.emit("gradient", loss, h, c, xs, *w)]

    return function(INPUTS, make)


COMPILED = {
    "recurrent": recurrent, "reverse": lambda: recurrent(True),
    "recompute": lambda: recurrent(recompute=True), "penalty": penalty,
    "nested": lambda: nested({}, {}),
}


@pytest.mark.parametrize("name", COMPILED)
def test_as_machine_code(name: str) -> None:
    compiled = CompiledGraph(COMPILED[name](), Options(hints={"t": 3, "N": 2}, verify=True))
    for turns, size in ((1, 1), (2, 33), (5, 2), (0, 2)):
        sizes = {"t": turns, "N": size, "S": 3}
        compiled.check(arrays(compiled.meaning, sizes), rtol=1e-9, atol=1e-9)
