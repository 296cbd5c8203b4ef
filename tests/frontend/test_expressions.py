"""Expressions: each means what NumPy's does, by the rules of the language."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dlc.ir.diagnostics import UserError
from tests.frontend.programs_in_text import evaluate, functions

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(4, 6)).astype(np.float32)
Y = RANDOM.normal(size=(4, 6)).astype(np.float32)
V = RANDOM.normal(size=6).astype(np.float32)
WHOLE = RANDOM.integers(-9, 9, (4, 6)).astype(np.int32)
MATRIX = "x: f32[N, 6]"


def softmax(x: Any) -> Any:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize(("expression", "result", "expected"), [
    ("x * 2.0 + 1.0", "f32[N, 6]", X * 2 + 1),
    ("-x ** 2", "f32[N, 6]", -(X**2)),
    ("x ** 3 - x ** 0", "f32[N, 6]", X**3 - 1),
    ("abs(x) ** 0.5", "f32[N, 6]", np.abs(X) ** 0.5),
    ("x ** round(2 * x)", "f32[N, 6]", X ** np.rint(2 * X)),
    ("abs(x) ** -2", "f32[N, 6]", np.abs(X) ** -2.0),
    ("x // 0.5 + x % 0.5", "f32[N, 6]", X // 0.5 + X % 0.5),
    ("x if x > 0.0 else 0", "f32[N, 6]", np.maximum(X, 0)),
    ("x if 0.0 < x < 1.0 else -inf", "f32[N, 6]", np.where((X > 0) & (X < 1), X, -np.inf)),
    ("f32(not (x > 0.0 or x < -1.0))", "f32[N, 6]", ((X <= 0) & (X >= -1)) * 1.0),
    ("sum(x) / N", "f32", X.sum() / 4),
    ("x[:, 2]", "f32[N]", X[:, 2]),
    ("x[:, -1]", "f32[N]", X[:, -1]),
    ("x[0]", "f32[6]", X[0]),
    ("x[..., 1:5:2]", "f32[N, 2]", X[..., 1:5:2]),
    ("x[:, None, :3]", "f32[N, 1, 3]", X[:, None, :3]),
    ("x[:, -2:]", "f32[N, 2]", X[:, -2:]),
    ("x[None]", "f32[1, N, 6]", X[None]),
    ("x.T", "f32[6, N]", X.T),
    ("x.T @ x", "f32[6, 6]", X.T @ X),
    ("x @ x[0]", "f32[N]", X @ X[0]),
    ("sum(x, axis=0)", "f32[6]", X.sum(0)),
    ("x - mean(x, axis=-1)[:, None]", "f32[N, 6]", X - X.mean(-1, keepdims=True)),
    ("var(x, axis=0, keepdims=true)", "f32[1, 6]", X.var(0, keepdims=True)),
    ("max(x, axis=(0, 1)) - min(x)", "f32", X.max() - X.min()),
    ("argmax(x, axis=-1)", "i32[N]", X.argmax(-1)),
    ("softmax(x)", "f32[N, 6]", softmax(X)),
    ("log_softmax(x, axis=1)", "f32[N, 6]", np.log(softmax(X))),
    ("one_hot(argmax(x, axis=1), 6)", "f32[N, 6]", np.eye(6)[X.argmax(-1)]),
    ("reshape(x, N * 2, 3)", "f32[N * 2, 3]", X.reshape(8, 3)),
    ("reshape(x, -1, 2)", "f32[3 * N, 2]", X.reshape(-1, 2)),
    ("transpose(reshape(x, N, 2, 3), 2, 0, 1)", "f32[3, N, 2]",
     X.reshape(4, 2, 3).transpose(2, 0, 1)),
    ("pad(x, ((1, 0), (0, 2)), value=3.0)", "f32[N + 1, 8]",
     np.pad(X, ((1, 0), (0, 2)), constant_values=3)),
    ("concat((x, 2.0 * x, x[:, :1]), axis=1)", "f32[N, 13]",
     np.concatenate((X, 2 * X, X[:, :1]), 1)),
    ("split(x, 3, axis=1)[1]", "f32[N, 2]", np.split(X, 3, 1)[1]),
    ('einsum("nd,nd->n", x, x)', "f32[N]", np.einsum("nd,nd->n", X, X)),
    ("x |> relu |> sum(axis=1)", "f32[N]", np.maximum(X, 0).sum(1)),
    ("maximum(x, 0.5) + minimum(x, -0.5)", "f32[N, 6]", np.maximum(X, 0.5) + np.minimum(X, -0.5)),
    ("leaky_relu(x)", "f32[N, 6]", np.where(X > 0, X, 0.01 * X)),
    ("unit_rows(x)", "f32[N, 6]", X / np.linalg.norm(X, axis=1, keepdims=True)),
    ("unit_rows(x * 0.0)", "f32[N, 6]", X * 0),
    ("binary_cross_entropy(x, f32(x > 0.0))", "f32[N, 6]",
     -np.log(1 / (1 + np.exp(-np.abs(X))))),
    ("x * sqrt(8 / 2) + cos(pi)", "f32[N, 6]", X * 2 - 1),
    ("zeros(N, 2) + full(2, value=3.0) + ones(2)", "f32[N, 2]", np.full((4, 2), 4.0)),
    ("x @ eye(6)", "f32[N, 6]", X),
    ("any(x > 1.0) and all(x < 9.0)", "bool", (X > 1).any()),
    ("x[:, range(3)[1]]", "f32[N]", X[:, 1]),
    ("i32(x * 10.0)", "i32[N, 6]", np.trunc(X * 10)),
], ids=lambda v: v if isinstance(v, str) else "")
def test_expression_means_what_numpy_means(expression: str, result: str, expected: Any) -> None:
    found = evaluate(expression, MATRIX, result, X)
    assert found.shape == np.shape(expected)
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize(("expression", "expected"), [
    ("x // 2", WHOLE // 2), ("x % 3", WHOLE % 3), ("x // 0", WHOLE * 0), ("x ** 2", WHOLE**2),
    ("x + 1 - x * 2", WHOLE + 1 - WHOLE * 2), ("abs(x)", np.abs(WHOLE)),
    ("sign(x)", np.sign(WHOLE)),
], ids=lambda v: v if isinstance(v, str) else "")
def test_integers_floor_and_stay_integers(expression: str, expected: Any) -> None:
    found = evaluate(expression, "x: i32[N, 6]", "i32[N, 6]", WHOLE)
    np.testing.assert_array_equal(found, expected)


def test_sums_of_narrow_integers_are_wider() -> None:
    x = np.full((300,), 255, np.uint8)
    assert evaluate("sum(x)", "x: u8[N]", "i32", x) == 300 * 255


@pytest.mark.parametrize(("signature", "inputs"), [
    ("x: f32[N, 6], y: f32[6]", (X, V)),
    ("x: f32[N, 6], y: f32[1, 6]", (X, V[None])),
    ("x: f32[N, 6], y: f32[N, 1]", (X, X[:, :1])),
    ("x: f32[N, 6], y: f32", (X, V[0])),
], ids=["rank", "one row", "one column", "scalar"])
def test_ones_that_stand_in_the_type_stretch(signature: str, inputs: tuple[Any, ...]) -> None:
    found = evaluate("x * y", signature, "f32[N, 6]", *inputs)
    np.testing.assert_allclose(found, inputs[0] * inputs[1], rtol=1e-6)


def test_numbers_take_the_type_that_they_meet_and_round_once() -> None:
    x = np.array([1.0], np.float64)
    assert evaluate("x * (1 / 3)", "x: f64[N]", "f64[N]", x) == 1 / 3
    assert evaluate("1 / 3", "x: f32[N]", "f32", X[0]) == np.float32(1 / 3)
    found = evaluate("(N / 3) * x", "x: f64[N]", "f64[N]", np.ones(7))
    np.testing.assert_array_equal(found, np.full(7, 7 / 3))


def test_float_and_integer_stand_for_any_type() -> None:
    text = """
fn twice(x: float[*S]) -> float[*S] = 2.0 * x
fn a(x: f64[N]) -> f64[N] = twice(x)
fn b(x: f32[N, M]) -> f32[N, M] = twice(x)
"""
    made = functions(text)
    assert [str(made[n].results[0].type) for n in "ab"] == ["f64[N]", "f32[N, M]"]


def test_gradients_are_values() -> None:
    found = evaluate("grad(sum(x ** 3), x)", "x: f32[N]", "f32[N]", V)
    np.testing.assert_allclose(found, 3 * V**2, rtol=1e-5)
    text = "grad(sum(grad(sum(x ** 3), x) * 2.0), x)"
    np.testing.assert_allclose(
        evaluate(text, "x: f32[N]", "f32[N]", V), 12 * V, rtol=1e-5)
    cut = "grad(sum(stop_gradient(x) * x), x)"
    np.testing.assert_allclose(evaluate(cut, "x: f32[N]", "f32[N]", V), V, rtol=1e-6)


def test_what_is_put_off_to_the_call_is_a_condition() -> None:
    text = """
fn tail(x: f32[T, N], y: f32[K]) -> f32[T - 2, N] where K <= N = x[2:]
fn pairs(x: f32[N]) -> f32[2 * (N // 2)] = reshape(reshape(x, N // 2, 2), 2 * (N // 2))
"""
    made = functions(text)
    assert [c.text for c in made["tail"].conditions] == [
        "T >= 1", "N >= 1", "K >= 1", "K <= N", "2 <= T, for they bound a slice"]
    assert [c.text for c in made["pairs"].conditions] == ["N >= 1", "N is a multiple of 2"]
    with pytest.raises(UserError, match="elements"):
        functions("fn f(x: f32[N]) -> f32[N + 1] = reshape(x, N + 1)")


def test_exact_division_is_put_off() -> None:
    text = """
fn halves(x: f32[H]) -> f32[2 * (H // 2)] = x
"""
    made = functions(text)["halves"]
    assert [(str(c.left), c.relation, c.right) for c in made.conditions][1:] == [("H % 2", "==", 0)]


def test_constant_conditions_drop_the_other_branch_unchecked() -> None:
    text = """
const DEEP: int = 3
fn f(x: f32[N]) -> f32[N] {
    if DEEP > 2 { y = x } else { y = x + undefined }
    for i in range(DEEP) { y = y + i }
    for a, b in zip([1, 2], [3, 4]) { y = y * (a + b) }
    return y if DEEP == 3 else undefined
}
"""
    from dlc.ir.interpret import run_graph

    found = run_graph(functions(text)["f"], [V])[0]
    np.testing.assert_allclose(found, (V + 3) * 4 * 6, rtol=1e-6)


def test_a_check_carries_its_text_and_place() -> None:
    text = """
fn f(x: f32[N]) -> f32 {
    assert all(x > 0.0), "x is positive"
    return sum(x)
}
"""
    node = next(n for n in functions(text)["f"].nodes if n.op == "check")
    assert node.attr("text") == "x is positive"
    assert str(node.locs[0]) == "program.dl:3:5"
