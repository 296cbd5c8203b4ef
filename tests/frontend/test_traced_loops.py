"""Loops and branches that Python makes: the Graphs of the text's, gradients, what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dlc
from tests.frontend.test_tracing import bare
from tests.frontend.test_tracing_errors import error_of

N, T = dlc.symbol("N"), dlc.symbol("T")
X = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)


@pytest.fixture
def text(tmp_path: Path) -> Callable[[str], Any]:
    """Loads a program that is given as text."""

    def load(source: str) -> Any:
        (tmp_path / "program.dl").write_text(source)
        return dlc.load(tmp_path / "program.dl")

    return load


@dlc.fn
def sums(x: dlc.f32[T, 4], w: dlc.f32[4, 4]) -> (dlc.f32[4], dlc.f32[T, 4]):
    def turn(h, x):
        h = dlc.tanh(h @ w + x)
        return h, h * 2.0

    return dlc.scan(turn, dlc.zeros(4), x)


@dlc.fn
def pairs(x: dlc.f32[T, 4], y: dlc.f32[T]) -> (dlc.f32[4], dlc.f32, dlc.f32[T], dlc.f32[T, 4]):
    def turn(carry, items):
        (a, b), (x, y) = carry, items
        return (a + x * y, b + y), (b, a)

    (a, b), (bs, as_) = dlc.scan(turn, (dlc.zeros(4), 0.0), (x, y), reverse=True)
    return a, b, bs, as_


@dlc.fn
def either(x: dlc.f32[N], flag: dlc.bool) -> dlc.f32[N]:
    return dlc.cond(flag, lambda x: dlc.exp(x), lambda x: x - 1.0, x)


TEXTS = {
    "sums": (sums, """
fn sums(x: f32[T, 4], w: f32[4, 4]) -> (f32[4], f32[T, 4]) {
    scan row in x carry h = zeros(4) {
        h = tanh(h @ w + row)
        yield h * 2.0 as hs
    }
    return h, hs
}"""),
    "pairs": (pairs, """
fn pairs(x: f32[T, 4], y: f32[T]) -> (f32[4], f32, f32[T], f32[T, 4]) {
    scan v, s in x, y, reverse=true carry a = zeros(4), b = 0.0 {
        yield b as bs
        yield a as rows
        a, b = a + v * s, b + s
    }
    return a, b, bs, rows
}"""),
    "either": (either, """
fn either(x: f32[N], flag: bool) -> f32[N] {
    if flag { return exp(x) } else { return x - 1.0 }
}"""),
}


def test_scan() -> None:
    w = np.random.default_rng(1).normal(size=(4, 4)).astype(np.float32)
    h, rows = np.zeros(4, np.float32), []
    for x in X:
        h = np.tanh(h @ w + x)
        rows.append(2 * h)
    last, stacked = sums(X, w)
    np.testing.assert_allclose(last, h, rtol=1e-4)
    np.testing.assert_allclose(stacked, rows, rtol=1e-4)


def test_several_carried_and_stacked() -> None:
    y = np.arange(6, dtype=np.float32)
    a, b, bs, rows = pairs(X, y)
    np.testing.assert_allclose(a, (X * y[:, None]).sum(0), rtol=1e-5)
    assert b == 15
    np.testing.assert_allclose(bs, [15, 14, 12, 9, 5, 0])
    np.testing.assert_allclose(rows[0], (X[1:] * y[1:, None]).sum(0), rtol=1e-5)


def test_while_loop() -> None:
    @dlc.fn
    def halvings(x: dlc.f32) -> (dlc.f32, dlc.i32):
        return dlc.while_loop(lambda c: c[0] > 1, lambda c: (c[0] / 2, c[1] + 1), (x, 0))

    assert halvings(20.0) == (0.625, 5)
    assert halvings(0.5) == (0.5, 0)


def test_cond() -> None:
    x = X[0]
    np.testing.assert_allclose(either(x, True), np.exp(x), rtol=1e-5)
    np.testing.assert_allclose(either(x, False), x - 1, rtol=1e-6)


@pytest.mark.parametrize("name", TEXTS)
def test_the_graph_is_that_of_the_text(name: str, text: Callable[[str], Any]) -> None:
    function, source = TEXTS[name]
    assert bare(function.graph) == bare(getattr(text(source), name).graph)


def test_a_gradient_goes_through_a_scan() -> None:
    @dlc.fn
    def slope(x: dlc.f32[T], w: dlc.f32) -> dlc.f32:
        last, _ = dlc.scan(lambda h, x: (h * w + x, None), 0.0, x)
        return dlc.grad(last, w)

    x = np.array([1, 2, 3], np.float32)
    assert slope(x, 2.0) == pytest.approx(2 * 2.0 * 1 + 2)


def test_a_step_updates_in_a_loop() -> None:
    class Counter(dlc.Model):
        def __init__(self) -> None:
            self.n = dlc.state(dlc.i32)

        @dlc.step
        def run(self, x: dlc.f32[T]):
            def turn(carry, i):
                self.n += i
                return carry, None

            dlc.scan(turn, (), x.shape[0])

        @dlc.step
        def maybe(self, flag: dlc.bool):
            def more():
                self.n += 100

            dlc.cond(flag, more, lambda: None)

    counter = Counter()
    counter.run(np.zeros(5, np.float32))
    assert counter.n == 10
    counter.maybe(True)
    counter.maybe(False)
    assert counter.n == 110


def test_what_is_wrong_in_a_loop() -> None:
    @dlc.fn
    def no_pair(x: dlc.f32[T]) -> dlc.f32:
        return dlc.scan(lambda h, x: h + x, 0.0, x)[0]

    @dlc.fn
    def other_type(x: dlc.f32[T]) -> dlc.f32:
        return dlc.scan(lambda h, x: (dlc.zeros(3), None), 0.0, x)[0]

    @dlc.fn
    def lost(x: dlc.f32[T]) -> dlc.f32:
        return dlc.while_loop(lambda h: h[0] > 1, lambda h: h[0], (x[0], x[1]))

    @dlc.fn
    def leaks(x: dlc.f32[T]) -> dlc.f32:
        kept = []
        dlc.scan(lambda h, x: (kept.append(x * 2) or h, None), 0.0, x)
        return kept[0]

    assert "returns a carry and what is stacked" in error_of(lambda: no_pair.graph)
    assert "the next value of" in error_of(lambda: other_type.graph)
    assert "2 carried values" in error_of(lambda: lost.graph)
    assert "the body of a loop or branch that is over" in error_of(lambda: leaks.graph)
    with pytest.raises(dlc.ProgramError, match="stands in a traced function"):
        dlc.scan(lambda h, x: (h, x), 0.0, X)
