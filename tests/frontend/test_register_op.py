"""Ops of the user's own: in text, in Python, in gradients, compiled; and what may be wrong."""

from __future__ import annotations

# ruff: noqa: F821, UP037
# Texts in annotations are dims of the language.
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dlc
from dlc.frontend import keys
from dlc.frontend.python.fingerprints import fingerprint
from dlc.frontend.python.ops import forget_op
from dlc.ir.interpret import run_graph

ROOT = Path(__file__).parents[2]
X = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """What a test registers is gone after it."""
    yield
    for name in list(keys.user_ops):
        forget_op(name)
        vars(dlc).pop(name, None)


def register_soft(name: str = "soft_sign") -> Any:
    def gradient(b: Any, g: Any, x: Any, y: Any, *, scale: float) -> Any:
        away = b.op("add", b.op("abs", x), b.constant(scale, x.type))
        return b.op("mul", g, b.op("div", b.constant(scale, x.type), b.op("mul", away, away)))

    @dlc.register_op(gradient=gradient, name=name)
    def soft_sign(b: Any, x: Any, *, scale: float = 1.0) -> Any:
        """x / (|x| + scale)."""
        return b.div(x, b.add(b.primitive("abs", x), b.like(x, scale)))

    return soft_sign


def test_in_text_and_in_python(tmp_path: Path) -> None:
    op = register_soft()
    (tmp_path / "f.dl").write_text("""
fn f(x: f32[N, 5]) -> f32[N, 5] = soft_sign(x * 2.0, scale=0.5) + soft_sign(1.0)
fn slope(x: f32[N, 5]) -> f32[N, 5] = grad(sum(soft_sign(x) * x), x)
""")
    program = dlc.load(tmp_path / "f.dl")
    expected = 2 * X / (abs(2 * X) + 0.5) + 0.5
    np.testing.assert_allclose(program.f(X), expected, rtol=1e-6)
    np.testing.assert_allclose(run_graph(program.f.graph, [X])[0], expected, rtol=1e-6)
    slope = X / (abs(X) + 1) + X / (abs(X) + 1) ** 2
    np.testing.assert_allclose(program.slope(X), slope, rtol=1e-5)
    assert "soft_sign" in program.f.dump("graph")

    @dlc.fn
    def f(x: dlc.f32["N", 5]) -> dlc.f32["N", 5]:
        return op(x * 2, scale=0.5) + dlc.soft_sign(1.0)

    np.testing.assert_array_equal(f(X), program.f(X))


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_every_float_type(dtype: str, tmp_path: Path) -> None:
    register_soft()
    (tmp_path / "f.dl").write_text(f"fn f(x: {dtype}[N]) -> {dtype}[N] = soft_sign(x)")
    x = X.ravel().astype({"f32": np.float32, "f64": np.float64}[dtype])
    np.testing.assert_allclose(dlc.load(tmp_path / "f.dl").f(x), x / (abs(x) + 1), rtol=1e-6)


def test_two_operands_and_another_result_type(tmp_path: Path) -> None:
    @dlc.register_op(gradient=dlc.not_differentiable("it is a truth"), to="bool", elements="number")
    def near(b: Any, x: Any, y: Any, *, within: int = 1) -> Any:
        return b.compare("le", b.primitive("abs", b.sub(x, y)), b.like(x, within))

    (tmp_path / "f.dl").write_text("fn f(x: i32[N, 5], y: i32[5]) -> bool[N, 5] = near(x, y)\n")
    x, y = (10 * X).astype(np.int32), np.arange(5, dtype=np.int32)
    np.testing.assert_array_equal(dlc.load(tmp_path / "f.dl").f(x, y), abs(x - y) <= 1)


def test_a_decomposition(tmp_path: Path) -> None:
    def gradient(b: Any, g: Any, x: Any, y: Any, *, times: float) -> Any:
        return b.op("mul", b.op("neg", g), b.op("sub", b.constant(times, x.type), y))

    @dlc.register_op(gradient=gradient, decompose=True)
    def rest(b: Any, x: Any, *, times: float = 1.0) -> Any:
        """times - softmax, whose own decomposition follows."""
        return b.op("sub", b.constant(times, x.type), b.op("softmax", x, axis=1))

    (tmp_path / "f.dl").write_text("fn f(x: f32[N, 5]) -> f32[N, 5] = rest(x, times=3.0)")
    program = dlc.load(tmp_path / "f.dl")
    e = np.exp(X)
    np.testing.assert_allclose(program.f(X), 3 - e / e.sum(1, keepdims=True), rtol=1e-5)
    np.testing.assert_allclose(run_graph(program.f.graph, [X])[0], program.f(X), rtol=1e-5)


def test_a_key_follows_the_formula(tmp_path: Path) -> None:
    (tmp_path / "f.dl").write_text("fn f(x: f32[N]) -> f32[N] = twice(x)")
    found = []
    for factor in (2.0, 3.0):
        @dlc.register_op(gradient=lambda b, g, x, y: g)
        def twice(b: Any, x: Any) -> Any:
            return b.mul(x, b.like(x, factor))  # noqa: B023

        found.append(dlc.load(tmp_path / "f.dl").f(np.ones(2, np.float32)).tolist())
        forget_op("twice")
    assert found == [[2, 2], [3, 3]]


HELPER = 1.0


def helper(x: float) -> float:
    return x + HELPER


def test_a_fingerprint_follows_what_a_function_reaches(monkeypatch: pytest.MonkeyPatch) -> None:
    def formula(x: float) -> float:
        return helper(x)

    first = fingerprint(formula)
    assert first == fingerprint(formula)
    monkeypatch.setitem(globals(), "HELPER", 2.0)
    assert fingerprint(formula) != first


def test_the_same_again_changes_nothing() -> None:
    assert repr(register_soft()) == repr(register_soft())


def error_of(run: Any) -> str:
    with pytest.raises(dlc.ProgramError) as caught:
        run()
    return str(caught.value)


@pytest.mark.parametrize("name", ["tanh", "relu", "nn", "f32", "softmax", "contract"])
def test_a_taken_name_is_an_error(name: str) -> None:
    found = error_of(lambda: register_soft(name))
    assert re.search(rf"`{name}`: the language has this name already", found)
    assert "test_register_op.py" in found


def test_a_missing_gradient_is_an_error() -> None:
    found = error_of(lambda: dlc.register_op()(lambda b, x: x))
    assert "an op never lacks a gradient" in found
    assert "not_differentiable" in found


def identity(b: Any, x: Any) -> Any:
    return x


def fails(b: Any, x: Any) -> Any:
    return b.cosine(x)


def truth(b: Any, x: Any) -> Any:
    return b.compare("lt", x, b.like(x, 0))


NONE = dlc.not_differentiable("a test")


@pytest.mark.parametrize(("function", "named", "message"), [
    (fails, {"gradient": NONE}, "its formula fails: AttributeError: .*cosine"),
    (truth, {"gradient": NONE}, r"gives bool of shape \(2, 3\), not f32\[2, 3\]"),
    (identity, {"gradient": lambda b, g, x, y: b.op("sine", g)}, "its gradient fails: KeyError"),
    (identity, {"gradient": lambda b, g, x, y: (g, g)}, "not one for each of"),
    (identity, {"gradient": lambda b, g, x, y: b.op("lt", g, x)}, r"gives bool\[2, 3\]"),
    (identity, {"gradient": NONE, "elements": "complex"}, "`elements` is one of"),
    (identity, {"gradient": NONE, "name": "not a name"}, "no name of the language"),
    (lambda b: b, {"gradient": NONE}, "one operand or more"),
    (lambda b, x, *, mode="fast": x, {"gradient": NONE}, "needs a default that is a number"),
])
def test_what_is_wrong_with_an_op_shows_when_it_is_made(
    function: Any, named: dict[str, Any], message: str
) -> None:
    found = error_of(lambda: dlc.register_op(**{"name": "wrong", **named})(function))
    assert re.search(message, found), found
    assert "wrong" not in keys.user_ops


def test_wrong_uses_are_errors_at_their_line(tmp_path: Path) -> None:
    register_soft()
    for text, message in (
        ("fn f(x: i32[N]) -> i32[N] = soft_sign(x)", "soft_sign takes float elements"),
        ("fn f(x: f32[N]) -> f32[N] = soft_sign(x, scal=1.0)", "did you mean `scale`"),
        ("fn f(x: f32[N], s: f32) -> f32[N] = soft_sign(x, scale=s)", "a constant number"),
    ):
        (tmp_path / "f.dl").write_text(text)
        found = error_of(lambda: dlc.load(tmp_path / "f.dl").functions)
        assert message in found
        assert "f.dl:1:" in found


def test_the_example_runs() -> None:
    command = [sys.executable, str(ROOT / "examples/python/own_op.py")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert float(result.stdout.split()[-1]) < 0.01
