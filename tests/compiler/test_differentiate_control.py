"""Gradients through scans: against differences in f64, their shape, and as machine code."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from dlc.compiler.options import Options
from dlc.compiler.passes.differentiate import differentiate
from dlc.compiler.passes.eliminate_dead import eliminate_dead
from dlc.ir.graph import Builder, Graph, Value
from dlc.ir.interpret import run_graph
from dlc.ir.parse import parse_graph
from tests.compiler.compiled import CompiledGraph
from tests.compiler.control_graphs import (
    N,
    T,
    arrays,
    body,
    function,
    scan,
    squared,
    total,
)
from tests.compiler.gradient_examples import (
    INPUTS,
    all_nodes,
    branching,
    check,
    lookups,
    mixed,
    nested,
    odd,
    penalty,
    recurrent,
    scans,
    turn,
)
from tests.compiler.graphs import RandomGraph


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
    made = check(mixed(), ["h", "xs", "w"])
    assert dict(scans(made)[1].attrs)["carried"] == 2  # of h, and the sum for w


def test_values_that_come_and_go_in_odd_ways() -> None:
    check(odd(), ["x", "xs", "w"])


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
    made = check(lookups(), ["h", "table"])
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

COMPILED = {
    "recurrent": recurrent, "reverse": lambda: recurrent(True),
    "recompute": lambda: recurrent(recompute=True), "penalty": penalty,
    "nested": lambda: nested({}, {}), "odd": odd, "mixed": mixed, "lookups": lookups,
    "branching": lambda: branching(False, {}), "branching, scanned": lambda: branching(True, {}),
}


@pytest.mark.parametrize("name", COMPILED)
def test_as_machine_code(name: str) -> None:
    compiled = CompiledGraph(COMPILED[name](), Options(hints={"t": 3, "N": 2}, verify=True))
    for turns, size in ((1, 1), (2, 33), (5, 2), (0, 2)):
        sizes = {"t": turns, "N": size, "S": 3}
        compiled.check(arrays(compiled.meaning, sizes), rtol=1e-9, atol=1e-9)
