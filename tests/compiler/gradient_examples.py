"""Functions with gradients through loops and branches, and how they are checked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dlc.compiler.passes.differentiate import differentiate
from dlc.compiler.passes.eliminate_dead import eliminate_dead
from dlc.compiler.pipeline import GRAPH_PASSES
from dlc.compiler.runner import run_passes
from dlc.ir.graph import Builder, Graph, Node, Value
from dlc.ir.parse import parse_graph
from dlc.ir.types import BOOL, I32, tensor
from dlc.ir.verify import verify
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
from tests.compiler.graphs import assert_gradients


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


def penalty() -> Graph:
    def make(b: Builder, h: Value, c: Value, xs: Value, *w: Value) -> list[Value]:
        last, cell, ys = scan(b, turn(), [h, c], [xs], w)
        loss = total(b, last, cell, ys)
        loss = b.op("add", loss, squared(b, *b.emit("gradient", loss, xs, w[1])))
        return [loss, *b.emit("gradient", loss, h, c, xs, *w)]

    return function(INPUTS, make)


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


def mixed() -> Graph:
    """Numbers, truths and floats, carried and as items."""
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
    return function(inputs, make)


def odd() -> Graph:
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

    return function({"x": (N,), "xs": (T, N), "w": (N,)}, make)


def lookups() -> Graph:
    kinds = {"h": (5, N), "k": tensor(I32, (N,)), "table": (5, 3)}

    def step(b: Builder, h: Value, k: Value, table: Value) -> list[Value]:
        row = b.op("gather", table, k, axis=1)
        return [b.op("sin", b.op("add", h, row))]

    def make(b: Builder, h: Value, ks: Value, table: Value) -> list[Value]:
        (last,) = scan(b, body("turn", kinds, step), [h], [ks], [table])
        loss = total(b, last)
        return [loss, *b.emit("gradient", loss, h, table)]

    inputs = {"h": (5, N), "ks": tensor(I32, (T, N)), "table": (5, 3)}
    return function(inputs, make)

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


def branching(scanned: bool, flags: dict[str, bool]) -> Graph:
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
    return function(inputs, make)
