"""Programs in Python: the same Graphs as the text's, errors at the user's lines, models."""

from __future__ import annotations

# ruff: noqa: F821, F722, UP037
# Texts in annotations are dims of the language.
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dlc
from dlc.ir.graph import Graph, Node, Value

N, M = dlc.symbol("N"), dlc.symbol("M")
X = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)


def bare(graph: Graph) -> Graph:
    """A graph without the names of values, paths, and the texts of conditions."""
    names: dict[Value, Value] = {}

    def new(value: Value) -> Value:
        return names.setdefault(value, Value(f"v{len(names)}", value.type))

    def node(each: Node) -> Node:
        operands = tuple(map(new, each.operands))
        attrs = tuple((k, v) for k, v in each.attrs if k != "place")
        return replace(each, operands=operands, results=tuple(map(new, each.results)), attrs=attrs,
                       regions=tuple(map(bare, each.regions)), path="")

    params = tuple(replace(p, value=new(p.value)) for p in graph.params)
    nodes = tuple(map(node, graph.nodes))
    return replace(
        graph, name="", params=params, nodes=nodes, results=tuple(map(new, graph.results)),
        updates=tuple((name, new(v)) for name, v in graph.updates),
        conditions=tuple(replace(c, text="") for c in graph.conditions))


@pytest.fixture
def text(tmp_path: Path) -> Callable[[str], Any]:
    """Loads a program that is given as text."""

    def load(source: str) -> Any:
        (tmp_path / "program.dl").write_text(source)
        return dlc.load(tmp_path / "program.dl")

    return load


@dlc.fn
def layer(x: dlc.f32["N", 784], w: dlc.f32[784, 10], b: dlc.f32[10]) -> dlc.f32["N", 10]:
    return dlc.tanh(x @ w + b)


@dlc.fn
def shapes(x: dlc.f32[N, M, 4]) -> (dlc.f32[M, N * 4], dlc.f32[N, M], dlc.i32[N]):
    rows = dlc.reshape(dlc.transpose(x, 1, 0, 2), M, N * 4)
    last = x[..., -1]
    return rows, last[:, :] / 3 + x[:, :, 0] ** 2, dlc.argmax(dlc.sum(x, axis=2), axis=1)


@dlc.fn
def choices(x: dlc.f32[N], k: dlc.i32[N], flag: dlc.bool[N]) -> dlc.f32[N]:
    y = dlc.where(flag & ~(k % 2 == 0) | (x > 1), -x, 1 - 2.0 / (1 + dlc.abs(x)))
    return dlc.relu(y) + dlc.f32(k // 3) + dlc.stop_gradient(x)


@dlc.fn
def loop(x: dlc.f32[N, 4], rate: dlc.f32 = 0.5) -> dlc.f32[N, 4]:
    for turn in range(3):
        if turn != 1:
            x = rate * x + float(turn)
        x += dlc.gelu(x)
    return x


TEXTS = {
    "layer": (layer, """
fn layer(x: f32[N, 784], w: f32[784, 10], b: f32[10]) -> f32[N, 10] = tanh(x @ w + b)"""),
    "shapes": (shapes, """
fn shapes(x: f32[N, M, 4]) -> (f32[M, N * 4], f32[N, M], i32[N]) {
    rows = reshape(transpose(x, 1, 0, 2), M, N * 4)
    last = x[..., -1]
    return rows, last[:, :] / 3 + x[:, :, 0] ** 2, argmax(sum(x, axis=2), axis=1)
}"""),
    "choices": (choices, """
fn choices(x: f32[N], k: i32[N], flag: bool[N]) -> f32[N] {
    y = -x if flag and not (k % 2 == 0) or x > 1 else 1 - 2.0 / (1 + abs(x))
    return relu(y) + f32(k // 3) + stop_gradient(x)
}"""),
    "loop": (loop, """
fn loop(x: f32[N, 4], rate: f32 = 0.5) -> f32[N, 4] {
    for turn in [0, 1, 2] {
        if turn != 1 { x = rate * x + f32(turn) }
        x += gelu(x)
    }
    return x
}"""),
}


@pytest.mark.parametrize("name", TEXTS)
def test_the_graph_is_that_of_the_text(name: str, text: Callable[[str], Any]) -> None:
    function, source = TEXTS[name]
    if name == "loop":  # a number that Python knows has no type; the text's f32(turn) has one
        source = source.replace("f32(turn)", "1.0 * turn")
    assert bare(function.graph) == bare(getattr(text(source), name).graph)


def test_a_function_computes() -> None:
    w = np.random.default_rng(1).normal(size=(784, 10)).astype(np.float32)
    x = np.random.default_rng(2).normal(size=(5, 784)).astype(np.float32)
    made = layer(x, w=w, b=np.ones(10, np.float32))
    np.testing.assert_allclose(made, np.tanh(x @ w + 1), atol=2e-5)
    with pytest.raises(dlc.RunError, match=r"`x` is f32\[5, 10\]"):
        layer(w[:5], w, w[0])


def test_numpy_constants_and_reflected_operators() -> None:
    table = np.arange(4, dtype=np.float32)

    @dlc.fn
    def f(x: dlc.f32[N, 4]):
        return table * x + (2 - x) @ np.eye(4, dtype=np.float32), table - x

    first, second = f(X)
    np.testing.assert_allclose(first, table * X + 2 - X, rtol=1e-6)
    np.testing.assert_allclose(second, table - X)


def test_functions_call_functions() -> None:
    @dlc.fn
    def half(x: dlc.float["*S"]) -> dlc.float["*S"]:
        return x / 2

    @dlc.fn
    def f(x: dlc.f32[N, 4], n: int = 3) -> dlc.f32[N, 4]:
        return half(half(x)) * n

    @dlc.fn
    def g(x: dlc.f32[N, 4]) -> dlc.f32[N, 4]:
        return f(x, n=8)

    np.testing.assert_allclose(g(X), X * 2)
    assert "g.f.half" in g.dump()


def test_gradients_of_inputs() -> None:
    @dlc.fn
    def slope(x: dlc.f32[N]) -> dlc.f32[N]:
        return dlc.grad(dlc.sum(x ** 3), x)

    np.testing.assert_allclose(slope(X[0]), 3 * X[0] ** 2, rtol=1e-5)


# Models


class Block(dlc.Model):
    def __init__(self, width: int) -> None:
        self.width = width
        self.w = dlc.param(dlc.f32["width", width], dlc.normal(stddev=0.1))

    @dlc.fn
    def forward(self, x: dlc.f32["*S", "width"]) -> dlc.f32["*S", "width"]:
        return x + dlc.tanh(x @ self.w)


class Net(dlc.Model):
    """A small net."""

    def __init__(self, width: int, depth: int) -> None:
        self.first = dlc.nn.Dense(4, width)
        self.blocks = [Block(width) for _ in range(depth)]
        self.out = dlc.param(dlc.f32[width, 3], dlc.glorot_uniform())
        self.steps = dlc.state(dlc.i32, 0)

    @dlc.fn
    def scores(self, x: dlc.f32["N", 4]) -> dlc.f32["N", 3]:
        h = self.first(x)
        for block in self.blocks:
            h = block(h)
        return h @ self.out

    @dlc.step
    def fit(self, x: dlc.f32["N", 4], label: dlc.u8["N"], lr: dlc.f32 = 0.05) -> dlc.f32:
        loss = dlc.softmax_cross_entropy(self.scores(x), label)
        self.steps += 1
        dlc.minimize(loss, with_=dlc.adam(lr=lr), over=(self.blocks, self.out), clip_norm=1.0,
                     every=2)
        return loss

    @dlc.step
    def shrink(self, factor: dlc.f32):
        self.out.update(self.out * factor)
        self.first.w = self.first.w * factor
        self.blocks[0].w *= factor


NET = """
import nn
model Block(width: int) {
    param w: f32[width, width] = normal(stddev=0.1)
    fn forward(x: f32[*S, width]) -> f32[*S, width] = x + tanh(x @ w)
}
model Net(width: int, depth: int) {
    first = nn.Dense(4, width)
    blocks = [Block(width) for i in range(depth)]
    param out: f32[width, 3] = glorot_uniform()
    state steps: i32 = 0
    fn scores(x: f32[N, 4]) -> f32[N, 3] {
        h = first(x)
        for block in blocks { h = block(h) }
        return h @ out
    }
    step fit(x: f32[N, 4], label: u8[N], lr: f32 = 0.05) -> f32 {
        loss = softmax_cross_entropy(scores(x), label)
        steps += 1
        minimize loss with adam(lr=lr), over=(blocks, out), clip_norm=1.0, every=2
        return loss
    }
    step shrink(factor: f32) {
        out := out * factor
        first.w := first.w * factor
        blocks[0].w *= factor
    }
}
"""
LABEL = np.array([0, 1, 2], np.uint8)


def test_a_model_is_that_of_the_text(text: Callable[[str], Any]) -> None:
    net, other = Net(8, 2, seed=3), text(NET).Net(width=8, depth=2, seed=3)
    for name in ("scores", "fit", "shrink"):
        assert bare(getattr(net, name).graph) == bare(getattr(other, name).graph), name
    assert net.record.variables == other.record.variables
    for name, value in other.variables.items():
        np.testing.assert_array_equal(net.variables[name], value)
    assert [net.fit(X, LABEL) for _ in range(3)] == [other.fit(X, LABEL) for _ in range(3)]


def test_a_model_is_used_as_a_loaded_one(tmp_path: Path) -> None:
    net = Net(8, 2, seed=1)
    losses = [float(net.fit(X, label=LABEL)) for _ in range(20)]
    assert losses[-1] < losses[0] / 2
    assert net.steps == 20
    assert net.first.w.shape == (4, 8)
    assert net.blocks[1].w.shape == (8, 8)
    net.save(tmp_path / "net.safetensors")
    other = Net(8, 2, seed=5)
    other.load(tmp_path / "net.safetensors")
    assert other.fit(X, LABEL) == net.fit(X, LABEL)
    net.out = np.zeros((8, 3), np.float32)
    assert not net.scores(X).any()
    with pytest.raises(dlc.RunError, match=r"`out` is f32\[8, 3\]"):
        net.out = np.zeros(3, np.float32)
    assert "contract" in net.scores.dump("graph")
    assert repr(net.scores) == "<fn Net.scores(x: f32[N, 4]) -> f32[N, 3]>"


def test_a_submodel_that_is_named_twice_is_one(text: Callable[[str], Any]) -> None:
    class Tied(dlc.Model):
        def __init__(self) -> None:
            self.a = Block(4)
            self.b = self.a

        @dlc.fn
        def forward(self, x: dlc.f32["N", 4]) -> dlc.f32["N", 4]:
            return self.b(self.a(x))

    tied = Tied()
    assert list(tied.variables) == ["a.w"]
    np.testing.assert_allclose(
        tied(X), (h := X + np.tanh(X @ tied.a.w)) + np.tanh(h @ tied.a.w), rtol=1e-5)


def test_a_loaded_model_as_a_submodel(text: Callable[[str], Any]) -> None:
    program = text(NET)

    class Outer(dlc.Model):
        def __init__(self) -> None:
            self.inner = program.Net(width=8, depth=1)

        @dlc.fn
        def forward(self, x: dlc.f32["N", 4]) -> dlc.f32["N", 3]:
            return dlc.softmax(self.inner.scores(x), axis=-1)

    outer = Outer()
    assert outer.inner.blocks[0].w.shape == (8, 8)
    np.testing.assert_allclose(outer(X).sum(axis=1), 1, rtol=1e-5)


def test_the_values_of_a_part_belong_to_the_whole() -> None:
    block = Block(4)

    class Outer(dlc.Model):
        def __init__(self) -> None:
            self.block = block

    assert Outer().block.w.shape == (4, 4)
    with pytest.raises(dlc.ProgramError, match="part of a Outer"):
        block.w  # noqa: B018


def test_a_subclass_builds_on_what_it_replaces() -> None:
    class Twice(Block):
        @dlc.fn
        def forward(self, x: dlc.f32["*S", "width"]) -> dlc.f32["*S", "width"]:
            return super().forward(super().forward(x))

    class Outer(dlc.Model):
        def __init__(self) -> None:
            self.twice = Twice(4)

        @dlc.fn
        def forward(self, x: dlc.f32["N", 4]) -> dlc.f32["N", 4]:
            return self.twice(x)

    outer = Outer(seed=2)
    once = X + np.tanh(X @ outer.twice.w)
    np.testing.assert_allclose(outer(X), once + np.tanh(once @ outer.twice.w), rtol=1e-5)


def test_a_part_brings_its_values_along() -> None:
    block = Block(4, seed=9)
    block.w = np.full((4, 4), 0.5, np.float32)

    class Outer(dlc.Model):
        def __init__(self) -> None:
            self.block = block

    assert (Outer().block.w == 0.5).all()


def test_threads_share_one_model() -> None:
    net = Net(8, 1, seed=0)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: net.fit(X, LABEL), range(8)))
    assert net.steps == 8


def test_words_of_the_language_are_names_of_the_module() -> None:
    assert {"tanh", "conv2d", "relu", "adam", "nn", "f32", "Model"} <= set(dir(dlc))
    assert "Dense" in dir(dlc.nn)
    with pytest.raises(AttributeError, match="did you mean `softmax`"):
        dlc.sofmax  # noqa: B018
    with pytest.raises(AttributeError, match="has no `Desne`; did you mean `Dense`"):
        dlc.nn.Desne  # noqa: B018


def test_draws_follow_the_seed() -> None:
    class Noise(dlc.Model):
        @dlc.step
        def draw(self, x: dlc.f32[N]) -> dlc.f32[N]:
            return dlc.dropout(x, 0.5) + dlc.normal(x.shape[0])

    x = np.ones(100, np.float32)
    first, second = Noise(seed=1), Noise(seed=1)
    np.testing.assert_array_equal(first.draw(x), second.draw(x))
    assert (first.draw(x) != Noise(seed=2).draw(x)).any()


def test_two_optimizers_of_one_step_keep_apart() -> None:
    class Two(dlc.Model):
        def __init__(self) -> None:
            self.a = dlc.param(dlc.f32[3], 1.0)

        @dlc.step
        def fit(self):
            dlc.minimize(dlc.sum(self.a ** 2), with_=dlc.adam())
            dlc.minimize(dlc.sum(dlc.abs(self.a)), with_=dlc.adam())

    names = [v.name for v in Two().record.variables]
    assert {"fit.adam.a.m", "fit.adam#2.a.m"} <= set(names)


def test_a_check_names_its_line() -> None:
    @dlc.fn
    def f(x: dlc.f32[N]) -> dlc.f32[N]:
        dlc.check(dlc.all(x > 0), "all above zero")
        return x

    f(np.ones(3, np.float32))
    with pytest.raises(dlc.RunError, match=r"all above zero(.|\n)*test_tracing\.py:\d+"):
        f(np.zeros(3, np.float32))
