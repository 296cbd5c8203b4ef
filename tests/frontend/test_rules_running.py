"""The rules of docs/language.md by their numbers: draws, training, checks (40 to 48)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlc.frontend.commands.cli import main
from dlc.frontend.driver import load
from dlc.ir.ops.control import CheckError
from dlc.runtime.errors import CheckFailed
from tests.frontend.programs_in_text import Both, Running, error, errors

X = np.random.default_rng(3).normal(size=(4, 3)).astype(np.float32)

DRAWS = """
model M {
    state w: f32[64] = zeros()
    fn one(n: f32[N]) -> (f32[N], f32[N], f32[N]) {
        a, b = shared(n), shared(n)
        return a, b, uniform(N)
    }
    fn shared(n: f32[N]) -> f32[N] = uniform(N)
    fn loops(xs: f32[T], n: f32[N]) -> (f32[T, N], f32[T, T, N], f32[N]) {
        scan x in xs {
            yield uniform(N) as rows
            scan y in xs { yield uniform(N) as inner }
            yield inner as all
        }
        while k < 3 carry k = 0, last = n {
            k += 1
            last = uniform(N)
        }
        return rows, all, last
    }
    fn branch(n: f32[N], c: bool) -> f32[N] {
        x = n
        if c { x = uniform(N) }
        return x
    }
    step drop(x: f32[N]) -> (f32[N], f32[N]) {
        y = dropout(x, 0.25)
        return y, grad(sum(y), x)
    }
}
"""
N = np.zeros(64, np.float32)


def test_rule_40_equal_draws_are_not_merged() -> None:
    a, b, c = Both(DRAWS, "M")("one", n=N)
    assert not np.intersect1d(a, b).size
    assert not np.intersect1d(a, c).size


def test_rule_40_each_turn_draws_anew() -> None:
    model = Both(DRAWS, "M")
    rows, inner, last = model("loops", xs=X[0], n=N)
    numbers = np.concatenate([rows.ravel(), inner.ravel(), last])
    assert np.unique(numbers).size > 0.999 * numbers.size
    again = Both(DRAWS, "M")("loops", xs=X[0], n=N)
    for one, other in zip((rows, inner, last), again, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.intersect1d(model("loops", xs=X[0], n=N)[0], rows).size  # the next call
    assert not np.intersect1d(Both(DRAWS, "M", seed=1)("loops", xs=X[0], n=N)[0], rows).size
    assert Both(DRAWS, "M")("branch", n=N, c=True).std() > 0.1


def test_rule_40_a_draw_does_not_depend_on_the_draws_before_it() -> None:
    text = "model M {\n fn f(n: f32[N]) -> f32[N] {\n FIRST\n return uniform(N)\n }\n}\n"
    one = Running(text.replace("FIRST", "x = n"))("f", n=N)[0]
    other = Running(text.replace("FIRST", "x = uniform(N)"))("f", n=N)[0]
    np.testing.assert_array_equal(one, other)


def test_rule_40_forward_and_backward_draw_the_same() -> None:
    y, slope = Both(DRAWS, "M")("drop", x=np.ones(64, np.float32))
    np.testing.assert_array_equal(y, slope)
    assert set(np.unique(y).tolist()) == {0.0, np.float32(1 / 0.75)}


STATISTICS = """
model M {
    fn draws(rows: f32[T], n: f32[N]) -> (f32[T, N], f32[T, N], f32[T, N], i32[T, N], i32[T, N]) {
        scan row in rows {
            yield uniform(N, low=-1.0, high=3.0) as u
            yield normal(N, mean=2.0, stddev=0.5) as z
            yield bernoulli(full(N, value=0.3)) as b
            yield categorical(full(N, 4, value=0.0) + log(CHANCES)) as c
            yield permutation(N) as p
        }
        return u, z, b, c, p
    }
    step drop(x: f32[N]) -> f32[N] = dropout(x, 0.25)
}
const CHANCES: f32[4] = [0.1, 0.2, 0.3, 0.4]
"""


@pytest.fixture(scope="module")
def drawn() -> list[np.ndarray[Any, Any]]:
    """200 rows of 500 numbers of each kind, from a loop in compiled code."""
    found = Both(STATISTICS, "M")("draws", rows=np.zeros(200, "f4"), n=np.zeros(500, "f4"))
    return [np.asarray(each, np.float64) for each in found]


def within(x: np.ndarray[Any, Any], mean: float, deviation: float) -> None:
    """The mean of independent numbers, and of each row and column of them, is where it should be.
    """
    for axis, bound in ((None, 5.0), (0, 5.5), (1, 5.5)):
        count = x.size if axis is None else x.shape[axis]
        away = np.abs(x.mean(axis=axis) - mean)
        assert np.max(away) < bound * deviation / np.sqrt(count)


def test_statistics_of_draws_in_a_loop(drawn: list[np.ndarray[Any, Any]]) -> None:
    uniform, normal, bernoulli, categorical, permutation = drawn
    within(uniform, 1.0, 4 / np.sqrt(12))
    assert uniform.min() >= -1
    assert uniform.max() < 3
    within(normal, 2.0, 0.5)
    within((normal - 2.0) ** 2, 0.25, 0.25 * np.sqrt(2))
    within(bernoulli, 0.3, np.sqrt(0.21))
    assert set(np.unique(bernoulli)) == {0, 1}
    for k, chance in enumerate((0.1, 0.2, 0.3, 0.4)):
        within(categorical == k, chance, np.sqrt(chance * (1 - chance)))
    np.testing.assert_array_equal(np.sort(permutation), np.tile(np.arange(500), (200, 1)))
    within(permutation, 249.5, 500 / np.sqrt(12))
    assert (permutation[0] == permutation[1]).sum() < 10


def test_rows_of_a_loop_are_independent(drawn: list[np.ndarray[Any, Any]]) -> None:
    for kind in drawn[:2]:
        between = np.corrcoef(kind)[np.triu_indices(200, 1)]
        assert np.abs(between).max() < 6 / np.sqrt(500)
        within(between[None], 0.0, 1 / np.sqrt(500))
        beside = np.corrcoef(kind[:, :-1].ravel(), kind[:, 1:].ravel())[0, 1]
        assert abs(beside) < 5 / np.sqrt(kind.size)


def test_statistics_of_dropout() -> None:
    model = Both(STATISTICS, "M")
    x = np.stack([model("drop", x=np.ones(500, "f4")) for _ in range(50)])
    within(x, 1.0, np.sqrt(0.25 / 0.75))


def test_rule_41_training_is_true_in_steps_and_what_they_call() -> None:
    model = Running("""
model Part {
    fn forward(x: f32) -> f32 = x
    fn train_forward(x: f32) -> f32 = -x
}
model M {
    part = Part()
    fn f(x: f32) -> f32 = part(x) + (10.0 if training else 20.0)
    step s(x: f32) -> (f32, f32) = (f(x), part.forward(x))
}
""")
    assert float(model("f", x=1.0)[0]) == 21
    assert [float(v) for v in model("s", x=1.0)] == [9, 1]


def test_rule_42_a_gradient_does_not_go_through_a_while() -> None:
    text = """
model M {
    param w: f32 = 1.5
    fn grown(x: f32) -> f32 {
        while y < 100.0 carry y = x {
            y = y * w
        }
        return y
    }
    fn inside(x: f32) -> f32 {
        while y > 0.01 carry y = x { y = y - 0.1 * grad(y * y * w, y) }
        return y
    }
    fn f(x: f32) -> f32 = BODY
}
"""
    found = error(text.replace("BODY", "grad(grown(x) ** 2, w)"))
    assert found.startswith("14: no gradient flows through a `while`")
    assert "program.dl:5:9" in found
    assert errors(text.replace("BODY", "grad(w * stop_gradient(grown(x)), w)")) == []
    counted = """{
        while n < 5 carry n = i32(w) { n = n + 2 }
        return grad(w * w * f32(n), w) + x
    }"""
    assert Both(text.replace("= BODY", counted), "M")("f", x=np.float32(2)) == np.float32(17)
    model = Both(text.replace("BODY", "grad(grown(1.0) * 0.0 + w * w * x, x)"), "M")
    assert model("f", x=np.float32(2)) == np.float32(2.25)
    model("inside", x=np.float32(2))


CHECKS = """
model M {
    param w: f32[2] = [1, 2]
    state n: i32 = 0
    step f(x: f32[T], bound: f32) -> f32 {
        n += 1
        w := 2.0 * w
        scan v in x carry s = 0.0 {
            s += v
            assert s < bound, "the sum stays small"
            if v > 1.0 {
                assert v < 3.0, "no item is large"
            }
        }
        assert all(x > -5.0), "all are above -5"
        minimize sum(w * w) with adam(lr=0.1)
        return s
    }
}
"""


@pytest.mark.parametrize(("x", "line", "text"), [
    ([1, 1, 1], None, ""),
    ([1, 9, 1], 10, "the sum stays small"),
    ([1, 4, 1], 12, "no item is large"),
    ([-9, 4, 1], 12, "no item is large"),
    ([-9, 0, 1], 15, "all are above -5"),
])
def test_rule_43_a_failed_assert_changes_nothing(
    tmp_path: Path, x: list[int], line: int | None, text: str
) -> None:
    path = tmp_path / "checks.dl"
    path.write_text(CHECKS)
    model = load(path).M(seed=3)
    before = {name: model.variables[name].copy() for name in model.variables}
    given = {"x": np.array(x, np.float32), "bound": np.float32(8)}
    if line is None:
        assert model.f(**given) == 3
        assert model.n == 1
        return
    with pytest.raises(CheckFailed) as raised:
        model.f(**given)
    assert raised.value.text == text
    assert f"checks.dl:{line}:" in raised.value.location
    for name, value in before.items():
        np.testing.assert_array_equal(model.variables[name], value)
    with pytest.raises(CheckError, match=text):
        Running(CHECKS)("f", **given)
    assert "takes a scalar bool" in error("fn f(x: f32[N]) -> f32 {\n assert x > 0.0, \"x\"\n "
                                          "return 1.0\n}\n")


def test_rule_43_print_shows_any_expression_in_order(capfd: pytest.CaptureFixture[str]) -> None:
    text = """
const C: f32[2] = [1, 2]
model M {
    state n: i32 = 7
    step f(x: f32[T]) -> f32 {
        print("{{a}} {sum(x) + 1} {n}, {x.shape} {C} {training} {1 / 4} {[x[0], 2]}")
        n += 1
        scan v in x, reverse=true carry s = 0.0 {
            s += v
            if v > 1.5 { print("v = {v}, s = {s}; n is {n}") }
        }
        print("done")
        return s
    }
}
"""
    model = Running(text)
    model("f", x=np.array([1.0, 2.0, 3.0], np.float32))
    shown = capfd.readouterr().out.splitlines()
    assert shown == ["{a} 7.0 7, (3) [1. 2.] true 0.25 [1.0, 2]", "v = 3.0, s = 3.0; n is 8",
                     "v = 2.0, s = 5.0; n is 8", "done"]


@pytest.mark.parametrize(("text", "place", "right"), [
    ('"a {x +} b"', 14, ""), ('"a {y} b"', 11, "there is no `y` here"),
    ('"a {x"', 10, "this `{` has no other brace"), ('"a } b"', 10, "this `}` has no other brace"),
    ('"a {} b"', 10, "nothing between these braces"), ("x", 7, "`print` takes a text"),
    ('"{sin}"', 9, "the function `sin` can't be printed"),
])
def test_rule_43_errors_in_a_text_point_into_it(text: str, place: int, right: str) -> None:
    (found,) = errors(f"fn f(x: f32) -> f32 {{\nprint({text})\n return x\n}}\n")
    assert found.span is not None
    assert (found.span.line, found.span.column) == (2, place)
    assert right in found.message


def test_devices_that_are_not_there_are_told() -> None:
    text = 'fn f(x: f32) -> f32 {\n on "cpu" {\n y = x + 1.0\n }\n return y\n}\n'
    assert errors(text) == []
    found = error(text.replace("cpu", "cuda:0"))
    assert found.startswith('2: the device "cuda:0" is not there | there is cpu')
    assert "--device cuda" in found
    assert '"gpu" is no device' in error(text.replace("cpu", "gpu"))


def test_rule_44_initial_values() -> None:
    model = Running("model M(k: int = 2) {\n size = 3 * k\n param a: f32[4] = 1.0 / size\n"
                    " param u: f32[2, 3] = unit_rows(normal())\n}\n")
    np.testing.assert_allclose(model.variables["a"], np.full(4, 1 / 6), rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(model.variables["u"], axis=1), 1, rtol=1e-5)
    found = error("model M {\n param a: f32 = 1.0\n param b: f32 = g()\n fn g() -> f32 = a\n}\n")
    assert found.startswith("3: the initial value of `b` depends on `a`")
    assert "floats" in error("model M {\n param a: i32 = 1\n}\n")


def test_rule_48_tests_build_models_and_call_steps() -> None:
    text = CHECKS + """
test "grows" {
    m = M()
    x = ones(3)
    before = sum(m.w)
    a = m.f(x, 10.0)
    scan k in range(4) carry last = a { last = m.f(x, 10.0) }
    assert m.n == 5, "five steps"
    assert sum(m.w) > before, "w is larger"
    assert x.shape[0] == 3, "three"
}
"""
    assert errors(text) == []
    found = error(text.replace("a = m.f(x", "m.w := ones()\n a = m.f(x"))
    assert "`m.w` can't be updated in a `test`" in found
    found = error("model A { }\nfn f() -> f32 {\n a = A()\n return 1.0\n}\n")
    assert "built as a member of a model" in found


def test_rule_40_threads_change_nothing_and_seeds_repeat(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "draws.dl"
    path.write_text(STATISTICS)
    np.save(tmp_path / "rows.npy", np.zeros(50, "f4"))
    np.save(tmp_path / "n.npy", np.zeros(40_000, "f4"))
    found = []
    for threads, seed in ((1, 5), (2, 5), (2, 6)):
        arguments = ["run", str(path), "M.draws", "--threads", str(threads), "--seed", str(seed)]
        arguments += [f"--input={name}={tmp_path / name}.npy" for name in ("rows", "n")]
        arguments += [f"--output={tmp_path / str(k)}.npy" for k in range(5)]
        assert main(arguments) == 0
        found.append([np.load(tmp_path / f"{k}.npy") for k in range(5)])
    for one, other, third in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
        assert (one != third).any()
