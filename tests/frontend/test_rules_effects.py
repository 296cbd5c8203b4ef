"""The rules of docs/language.md by their numbers: arithmetic, effects and gradients (27 to 44)."""

from __future__ import annotations

import numpy as np
import pytest

from tests.frontend.programs_in_text import Both, Running, error, errors, evaluate, functions

X = np.random.default_rng(3).normal(size=(4, 3)).astype(np.float32)


def test_rule_27_integers() -> None:
    n, d = np.array([-7, 7, 5], np.int32), np.array([2, 2, 0], np.int32)
    signature = "n: i32[N], d: i32[N]"
    assert evaluate("n // d", signature, "i32[N]", n, d).tolist() == [-4, 3, 0]
    assert evaluate("n % d", signature, "i32[N]", n, d).tolist() == [1, 1, 0]
    top = np.array([2**31 - 1], np.int32)
    assert evaluate("n + 1", "n: i32[N]", "i32[N]", top).tolist() == [-(2**31)]
    x = np.array([-1.7, 300.0, np.nan], np.float32)
    assert evaluate("u8(x)", "x: f32[N]", "u8[N]", x).tolist() == [0, 255, 0]
    assert evaluate("i32(x)", "x: f32[N]", "i32[N]", x).tolist() == [-1, 300, 0]


def test_rule_28_powers() -> None:
    x = np.array([-2.0, 0.0, 3.0], np.float32)
    assert evaluate("-x ** 2", "x: f32[N]", "f32[N]", x).tolist() == [-4, 0, -9]
    assert evaluate("x ** 0", "x: f32[N]", "f32[N]", x).tolist() == [1, 1, 1]
    assert evaluate("x ** 2.0", "x: f32[N]", "f32[N]", x).tolist() == [4, 0, 9]
    assert evaluate("x ** -3.0", "x: f32[N]", "f32[N]", x[::2]).tolist() == [
        -0.125, float(np.float32(1) / np.float32(27))]
    assert "no constant integer" in error("fn f(n: i32) -> i32 = n ** 2.0\n")
    (slope,) = run_graph_of("fn f(x: f32[N]) -> f32[N] = grad(sum(x ** 0 + x ** 2), x)", x)
    assert slope.tolist() == [-4, 0, 6]
    assert np.isnan(evaluate("x ** 0.5", "x: f32[N]", "f32[N]", x)[0])
    assert "negative power" in error("fn f(n: i32) -> i32 = n ** -2\n")


def run_graph_of(text: str, *inputs: object) -> tuple[np.ndarray, ...]:
    """Runs the function `f` of a text with its gradients expanded, compiled too."""
    graph = functions(text + "\n")["f"]
    named = dict(zip((p.value.name for p in graph.params), inputs, strict=True))
    found = Both(text + "\n")("f", **named)
    return found if isinstance(found, tuple) else (found,)


def test_rule_29_logic_goes_element_by_element() -> None:
    a, b = np.array([True, True, False]), np.array([True, False, False])
    assert evaluate("not a or a and b", "a: bool[N], b: bool[N]", "bool[N]", a, b).tolist() == [
        True, False, True]
    x = np.array([0.0, 1.0, 2.0], np.float32)
    assert evaluate("0.5 < x < 1.5", "x: f32[N]", "bool[N]", x).tolist() == [False, True, False]
    assert evaluate("x if x > 0.5 else -1", "x: f32[N]", "f32[N]", x).tolist() == [-1, 1, 2]
    assert "takes bool" in error("fn f(x: f32) -> bool = x and x > 1.0\n")
    text = "model M {\n state n: f32 = 0.0\n step s() -> f32 {\n n += 1.0\n return n\n }\n" \
           " step f(c: bool) -> f32 {\n x = BODY\n return x\n }\n}\n"
    for body in ("s() if c else 1.0", "f32(c and s() > 1.0)", "1.0 if c else 2.0 * s()"):
        assert "no `step` is called in a part of" in error(text.replace("BODY", body))
    assert errors(text.replace("BODY", "s() if true else 1.0")) == []


def test_rule_30_gradients_of_choices() -> None:
    text = "fn f(x: f32[N]) -> f32[N] = grad(sum(sqrt(x) if x > 0 else 0.0), x)"
    (slope,) = run_graph_of(text, np.array([4.0, 0.0], np.float32))
    assert slope[0] == 0.25
    assert np.isnan(slope[1])
    text = """
fn g(x: f32) -> f32 {
    y = 0.0
    if x > 0.0 { y = sqrt(x) }
    return y
}
fn f(x: f32) -> f32 = grad(g(x), x)
"""
    assert [float(run_graph_of(text, np.float32(x))[0]) for x in (4, 0)] == [0.25, 0]


STEPS = """
model M {
    param w: f32[3] = [1, 2, 3]
    state n: i32 = 0
    fn total() -> f32 = sum(w)
    fn loss(x: f32[N, 3]) -> f32 = mean((x @ w) ** 2)
    step f(x: f32[N, 3]) -> (f32, f32, f32) {
        before = total()
        old = w
        w := 2.0 * w
        n += 1
        return before, total(), sum(old)
    }
    step often(x: f32[N, 3], k: i32) -> f32 {
        for i in range(2) { n += 1 }
        if k > 3 { n += 10 } else { w := w / 2 }
        scan row in x carry s = 0.0 {
            n += 100
            if sum(row) > 0.0 { w += row }
            s += sum(w)
        }
        while i < k carry i = 0 {
            i += 1
            n += 1000
        }
        return s
    }
}
"""


def test_rule_33_what_is_read_after_an_update_is_new() -> None:
    assert [float(v) for v in Both(STEPS, "M")("f", x=X)] == [6, 12, 6]


@pytest.mark.parametrize("k", [2, 5])
def test_rule_34_updates_in_blocks(k: int) -> None:
    model = Both(STEPS, "M")
    found = model("often", x=X, k=np.int32(k))
    w, n, s = np.array([1, 2, 3], np.float32), 2, 0.0
    w, n = (w, n + 10) if k > 3 else (w / 2, n)
    for row in X:
        n += 100
        w = w + row if row.sum() > 0 else w
        s += w.sum()
    assert found == pytest.approx(s, rel=1e-5)
    np.testing.assert_allclose(model.compiled.variables["w"], w, rtol=1e-5)
    assert model.compiled.variables["n"] == n + 1000 * k


def test_rule_34_updates_reach_submodels_and_params_in_lists() -> None:
    model = Running("""
import nn
model Count {
    state n: i32 = 0
    step up() { n += 1 }
}
model M {
    layers = [nn.Dense(2, 2), nn.Dense(2, 2)]
    target = nn.Dense(2, 2)
    count = Count()
    step f() -> i32 {
        layers[0].w := 2.0 * layers[1].w
        target.b += 1.0
        for t, o in zip(params(target), params(layers[0])) { t := 0.5 * t + 0.5 * o }
        scan i in range(3) {
            _ = count.up()
            _ = count.up()
        }
        return count.n
    }
}
""".replace("_ = count.up()", "up_once = 1\n            count.n += 1"))
    before = dict(model.variables)
    (count,) = model("f")
    assert count == model.variables["count.n"] == 6
    first = 2 * before["layers.1.w"]
    np.testing.assert_allclose(model.variables["layers.0.w"], first)
    np.testing.assert_allclose(model.variables["target.w"], before["target.w"] / 2 + first / 2)
    np.testing.assert_allclose(model.variables["target.b"], [0.5, 0.5])
    assert error("model M {\n param w: f32[2] = zeros()\n step f() { w[0] := 1.0 }\n}\n") == (
        "3: `w[0]` is f32, no param or state | a whole param or state is updated: "
        "`w := set_at(w, place, value)`")
    assert error("model M(k: int) {\n step f() { k := 1 }\n}\n") == (
        "2: `k` is the integer k, no param or state | ")


def test_rule_35_parameters_are_constants_to_the_gradients_inside() -> None:
    text = """
model M {
    param w: f32[3] = [1, 2, 3]
    fn inner(h: f32[N]) -> f32[3] = grad(sum(h * h) + sum(w * w * w), w)
    fn outer(x: f32[N, 3]) -> f32[3] = inner(x @ w)
    fn twice(x: f32[N, 3]) -> f32[3] = grad(sum(inner(x @ w)), w)
    fn hv(x: f32[N], p: f32[N]) -> f32[N] = grad(sum(grad(sum(x ** 3), x) * p), x)
    fn called(x: f32[N]) -> f32[N] = hv(x, x)
}
"""
    model = Both(text, "M")
    w = np.array([1, 2, 3], np.float32)
    np.testing.assert_allclose(model("outer", x=X), 3 * w**2, rtol=1e-6)
    np.testing.assert_allclose(model("twice", x=X), 6 * w, rtol=1e-6)
    np.testing.assert_allclose(model("called", x=w), 6 * w * w, rtol=1e-6)


def test_rule_35_items_and_carried_names_are_constants_to_a_gradient_in_a_loop() -> None:
    text = """
model M {
    param w: f32 = 2.0
    fn f(xs: f32[T]) -> (f32[T], f32[T]) {
        h = w * w
        scan x in xs carry s = w {
            loss = s * w + x * h
            yield grad(loss, w) as slopes
            yield grad(loss, s) as sideways
            s = s * 2.0
        }
        return slopes, sideways
    }
    fn branch(x: f32) -> f32 {
        loss = w * w * x
        g = 0.0
        if x > 0.0 { g = grad(loss, w) }
        return g
    }
}
"""
    model = Both(text, "M")
    slopes, sideways = model("f", xs=X[0])
    np.testing.assert_allclose(slopes, 2 * 2.0 ** np.arange(3) + X[0] * 4, rtol=1e-5)
    np.testing.assert_allclose(sideways, [2, 2, 2])
    assert model("branch", x=np.float32(3)) == 12
    assert model("branch", x=np.float32(-3)) == 0


def test_rule_36_a_gradient_sums_over_all_reads_of_a_param() -> None:
    text = """
model M {
    param w: f32 = 3.0
    param b: f32 = 1.0
    step f(x: f32) -> (f32, f32, f32) {
        loss = w * x
        w := w + 1.0
        loss = loss + w * w
        first, second = grad(loss + b * w, (w, b))
        h = w * x
        return first, second, grad(h * h, h)
    }
}
"""
    found = Both(text, "M")("f", x=np.float32(5))
    assert [float(v) for v in found] == [5 + 2 * 4 + 1, 4, 40]


@pytest.mark.parametrize(("body", "right"), [
    ("grad(x, w)", "the loss does not depend on `w`"),
    ("grad(stop_gradient(w) * x, w)", "a `stop_gradient`, or an update, stands between, at "),
    ("grad(w * x, f32(n))", "the loss does not depend on `f32(n)`"),
    ("f32(grad(w * x, n))", "there is no gradient with respect to i32"),
    ("grad(i32(w), w)", "a loss is a scalar float, not i32"),
    ("grad(w * x, 3.0)", "the loss does not depend on the number 3.0"),
    ("grad(w * x, part)", "`grad(loss, params(m))` gives all gradients of a model"),
])
def test_rule_36_what_has_no_gradient(body: str, right: str) -> None:
    text = "model M {\n param w: f32 = 1.0\n fn f(x: f32, n: i32) -> f32 {\n return BODY\n }\n" \
           " part = P()\n}\nmodel P {\n param u: f32 = 1.0\n}\n"
    found = error(text.replace("BODY", body))
    assert found.startswith("4: ")
    assert right in found


def test_rule_37_38_minimize_in_loops_and_branches_keeps_one_set_of_states() -> None:
    text = """
model M {
    param w: f32[3] = [1, 2, 3]
    step once(x: f32[3]) -> f32 {
        loss = sum((w - x) ** 2)
        minimize loss with adam(lr=0.1)
        return loss
    }
    step unrolled(xs: f32[4, 3]) -> f32 {
        last = 0.0
        for k in range(4) { last = once(xs[k]) }
        return last
    }
    step scanned(xs: f32[T, 3]) -> f32 {
        scan x in xs carry last = 0.0 {
            loss = sum((w - x) ** 2)
            if sum(x) < 1000.0 {
                minimize loss with adam(lr=0.1)
            }
            last = loss
        }
        return last
    }
}
"""
    one, other, third = (Both(text, "M") for _ in range(3))
    for row in X:
        last = one("once", x=row)
    assert other("unrolled", xs=X) == pytest.approx(last, rel=1e-6)
    assert third("scanned", xs=X) == pytest.approx(last, rel=1e-6)
    for model, name in ((other, "once.adam.w.m"), (third, "scanned.adam.w.m")):
        np.testing.assert_allclose(model.compiled.variables["w"], one.compiled.variables["w"],
                                   rtol=1e-5)
        np.testing.assert_allclose(model.compiled.variables[name],
                                   one.compiled.variables["once.adam.w.m"], rtol=1e-5)


def test_rule_37_every() -> None:
    text = """
model M {
    param w: f32[3] = [1, 2, 3]
    step fit(x: f32[N, 3]) -> f32 {
        loss = mean((x @ w) ** 2)
        minimize loss with sgd(lr=0.1, momentum=0.5), EVERY
        return loss
    }
}
"""
    model, whole = Both(text.replace("EVERY", "every=4, clip_norm=0.5"), "M"), Both(
        text.replace("EVERY", "clip_norm=0.5"), "M")
    for turn in range(8):
        model("fit", x=X[turn % 4][None])
        if turn % 4 == 3:
            whole("fit", x=X)
            np.testing.assert_allclose(model.compiled.variables["w"],
                                       whole.compiled.variables["w"], rtol=1e-5)
        elif turn < 3:
            assert model.compiled.variables["w"].tolist() == [1, 2, 3]
    assert "at least 1" in error(text.replace("EVERY", "every=0"))


def test_rule_36_what_a_block_reads_and_updates_has_no_gradient_outside_of_it() -> None:
    text = """
model M {
    param w: f32 = 2.0
    param v: f32 = 3.0
    step f(x: f32, c: bool) -> f32 {
        s, u = 0.0, 0.0
        scan i in range(3) carry s = s, u = u {
            s += v * x
            w := w + 1.0
            if c { LINE }
        }
        return grad(s + v, LAST)
    }
}
"""
    plain = text.replace("LINE", "u += w")
    assert Both(plain.replace("LAST", "v"), "M")("f", x=np.float32(5), c=True) == 16
    assert "does not depend on `w`" in error(plain.replace("LAST", "w"))
    found = error(text.replace("LINE", "s += w").replace("LAST", "w"))
    assert found.startswith("12: the loss reads `w` where it is updated too")
    assert "program.dl:7:9" in found


def test_rule_37_over_takes_params_submodels_and_lists() -> None:
    text = """
import nn
model M {
    param w: f32[2] = [1, 2]
    layers = [nn.Dense(2, 2), nn.Dense(2, 2)]
    last = nn.Dense(2, 1)
    step fit(x: f32[N, 2]) -> f32 {
        h = x * w
        for layer in layers { h = layer(h) }
        loss = mean(last(h) ** 2)
        minimize loss with sgd(lr=0.5), over=OVER
        return loss
    }
    fn slopes(x: f32[N, 2]) -> (f32[2, 1], f32[1]) {
        loss = mean(last(x) ** 2)
        a, b = grad(loss, params(last))
        return a, b
    }
}
"""
    changes = {"w": {"w"}, "(w, last)": {"w", "last.w", "last.b"},
               "layers": {"layers.0.w", "layers.0.b", "layers.1.w", "layers.1.b"},
               "layers[1:]": {"layers.1.w", "layers.1.b"}}
    for over, changed in changes.items():
        model = Running(text.replace("OVER", over))
        before = dict(model.variables)
        model("fit", x=X[:, :2])
        assert {n for n in before if (before[n] != model.variables[n]).any()} == changed
    a, b = Both(text.replace("OVER", "w"), "M")("slopes", x=X[:, :2])
    assert a.shape == (2, 1)
    assert np.abs(b) > 0
    assert "the loss does not depend on `unused.w`" in error(
        text.replace("OVER", "unused").replace("last =", "unused = nn.Dense(1, 1)\n    last ="))
