"""The rules of docs/language.md by their numbers: dims and types (11 to 23).

Rules about indices and single builtins are tested where those are.
"""

from __future__ import annotations

import numpy as np
import pytest

from dlc.frontend.elaborate.check import check_program
from dlc.frontend.elaborate.models import elaborate
from dlc.frontend.elaborate.modules import program_of
from dlc.ir.diagnostics import UserError
from dlc.ir.interpret import InputError, run_graph
from dlc.runtime.errors import UserError as RunError
from tests.frontend.programs_in_text import Both, Running, error, errors, evaluate, functions

X = np.arange(6, dtype=np.float32).reshape(3, 2)


def test_rule_11_what_a_symbol_is() -> None:
    for text, name in (("x: f32[N, widht]) -> f32 = 1.0", "widht"), ("x: f32[2 * N]) -> f32 = 1.0",
                       "N"), ("x: f32[N]) -> f32[N, K] = x", "K")):
        found = error(f"fn f({text}\n")
        assert found.startswith(f"1: there is no `{name}` here")
        assert "a symbol begins with a capital" in found
    model = Running("const A: f32[2, 3] = [[1, 2, 3], [4, 5, 6]]\nmodel T(t: f32[O, I]) {\n"
                    " fn f(x: f32[I]) -> f32[O] = t @ x * O\n}\nmodel M {\n t = T(A)\n"
                    " fn f(x: f32[3]) -> f32[2] = t.f(x)\n}\n")
    np.testing.assert_array_equal(model("f", x=np.ones(3, "f4"))[0], [12, 30])


def test_rule_12_sizes_are_at_least_1_but_an_int_may_be_0() -> None:
    graphs = functions("""
fn inner(x: f32[T]) -> f32 = sum(x)
fn outer(x: f32[T]) -> f32 = inner(x[:-1])
fn count(n: int, x: f32) -> (f32, f32[n]) {
    scan i in range(n) carry s = x {
        s = s + 1.0
        yield s as all
    }
    return s, all
}
""")
    with pytest.raises(InputError, match="T - 1 >= 1"):
        run_graph(graphs["outer"], [np.ones(1, "f4")])
    s, all_ = run_graph(graphs["count"], [0, np.float32(7)])
    assert s == 7
    assert all_.shape == (0,)


def test_rule_12_what_an_axis_of_nothing_gives() -> None:
    run = Both("""
fn f(n: int) -> (f32, f32, f32[n, 3], bool, f32[n, 2]) {
    x = zeros(n)
    return sum(x), mean(x), softmax(zeros(n, 3), axis=0), all(x > 0.0), uniform(n, 2)
}
fn first(n: int) -> i32 = argmax(zeros(n))
""")
    total, middle, rows, every, drawn = run("f", n=0)
    assert (total, every, rows.shape, drawn.shape) == (0, True, (0, 3), (0, 2))
    assert np.isnan(middle)
    with pytest.raises(InputError, match="`argmax` of nothing is not defined"):
        run("first", n=0)



def test_rule_13_equal_dims_are_proved() -> None:
    assert "N is not M" in error("fn f(x: f32[N], y: f32[M]) -> f32[N] = x + y\n")
    assert errors("fn f(x: f32[N], y: f32[M]) -> f32[N] where N == M, N != 7 = x\n") == []
    graph = functions("fn f(x: f32[N], y: f32[K]) -> f32 where K <= N, N != 3, N % 2 == 0 = "
                      "x[K - 1]\n")["f"]
    assert run_graph(graph, [np.arange(4, dtype="f4"), np.ones(2, "f4")])[0] == 1
    for n, k, text in ((2, 4, "K <= N"), (3, 1, "N != 3"), (5, 1, "N % 2 == 0")):
        with pytest.raises(InputError, match=text):
            run_graph(graph, [np.ones(n, "f4"), np.ones(k, "f4")])


@pytest.mark.parametrize("text", [
    "x: f32[N], y: f32[M]) -> f32[N] where N == M = x + y",
    "x: f32[N], y: f32[M], b: bool[K]) -> f32[N] where M == N, K == M = x if b else y",
    "x: f32[N], y: f32[M]) -> f32[N] where N == 2 * M = concat((y, y)) * x",
    "x: f32[N, H], y: f32[K]) -> f32[N] where K == H = x @ y",
    "x: f32[N, H], y: f32[M, K]) -> f32 where N == M, H == 4, K == 4 = einsum(\"ij,ij->\", x, y)",
    "x: f32[N, H], y: f32[K, M]) -> f32[N, 2 * H] where N == K, M == H = concat((x, y), axis=1)",
    "x: f32[N], y: f32[2, M]) -> f32[N] where 2 * M == N = x + reshape(y, 2 * M)",
    "x: f32[N]) -> f32[N] = x + concat((x[:N // 2], x[N // 2:2 * (N // 2)]))",
    "x: f32[N, C]) -> f32[N, 2, C // 2] where C % 2 == 0 = reshape(x, N, 2, C // 2)",
    "x: f32[N, C]) -> f32[N, C] = grad(sum(reshape(x, N, 2, C // 2) ** 2), x)",
])
def test_rule_13_a_where_or_a_division_without_rest_makes_dims_equal(text: str) -> None:
    assert errors(f"fn f({text}\n") == []


def test_rule_13_what_was_put_off_is_checked_and_right() -> None:
    both = Both("model M {\n fn f(x: f32[N], y: f32[M]) -> f32[N] where N == 2 * M = "
                "concat((y, y)) * x\n fn g(x: f32[N, H]) -> f32[N, H] = "
                "x * concat((x[:, :H // 2], x[:, :H // 2]), axis=1)\n"
                " fn h(x: f32[N, C]) -> f32[N, C] = "
                "grad(sum(sum(reshape(x, N, 2, C // 2), axis=1) ** 2), x)\n}\n", "M")
    x, y = np.arange(4, dtype="f4"), np.array([2, 3], "f4")
    for found in (both.compiled.f(x=x, y=y), both.reference("f", x=x, y=y)[0]):
        np.testing.assert_array_equal(found, [0, 3, 4, 9])
    for found in (both.compiled.g(x=x[None]), both.reference("g", x=x[None])[0]):
        np.testing.assert_array_equal(found, [[0, 1, 0, 3]])
    for found in (both.compiled.h(x=x[None]), both.reference("h", x=x[None])[0]):
        np.testing.assert_array_equal(found, [[4, 8, 4, 8]])
    for call in (lambda: both.compiled.f(x=x, y=x), lambda: both.compiled.g(x=x[None, :3]),
                 lambda: both.compiled.h(x=x[None, :3])):
        with pytest.raises(RunError, match="does not hold"):
            call()
    assert "N is not M" in error("fn f(x: f32[N], y: f32[M]) -> f32[N] where N >= M = x + y\n")


def test_rule_14_an_int_of_a_function_is_given_at_the_call() -> None:
    text = """
fn powers(x: f32, n: int = 3) -> f32[n] {
    scan _ in range(n) carry p = 1.0 {
        p = p * x
        yield p as all
    }
    return all
}
fn constant(x: f32[N]) -> f32[N] = shifted(x, 1)
fn shifted(x: f32[N], by: int) -> f32[N] {
    for k in range(by) { x = x + 1.0 }
    return x
}
"""
    assert error(text).startswith("11: `for` goes over lists and constant ranges")
    graphs = functions(text.replace("for k in range(by)", "scan k in range(by) carry x = x"))
    for n in (0, 1, 5):
        found = run_graph(graphs["powers"], [np.float32(2), n])[0]
        np.testing.assert_array_equal(found, 2.0 ** np.arange(1, n + 1))
    assert run_graph(graphs["constant"], [np.zeros(2, "f4")])[0].tolist() == [1, 1]
    assert "a dim is an integer, not i32" in error(
        "fn f(x: f32, n: i32) -> f32 = sum(full(n, value=x))\n")
    assert error("model M {\n fn f(x: f32, n: int = -1) -> f32 = x\n}\n").startswith(
        "2: the default of `n`")


def test_rule_14_defaults_are_constant_expressions_over_model_parameters() -> None:
    text = """
const RATE: f32 = 0.1
const SLOW: f32 = RATE / 4 + 1.0
model M(w: int = 3, h: int = w * 2, r: f32 = 0.5) {
    param p: f32[h] = ones()
    fn f(k: int = h + 1, s: f32 = 1.0 / h, c: bool = h > 4, t: f32 = -r * 2) -> f32 =
        (s if c else 0.0) * k + sum(p) + t
    fn g(x: f32) -> f32 = f(s=x)
    fn slow(x: f32 = SLOW * 2) -> f32 = x
}
"""
    assert Both(text, "M")("f") == pytest.approx(7 / 6 + 6 - 1)
    model = Both(text, "M", w=1, h=6, r=1.0)
    assert model("g", x=np.float32(2)) == 14 + 6 - 2
    assert model("slow") == np.float32(2) * (np.float32(0.1) / np.float32(4) + np.float32(1))
    assert error("model M(a: int = b, b: int = 2) { }\n").startswith("1: there is no `b` here")
    table = ("const A: f32[2, 3] = [[1, 2, 3], [4, 5, 6]]\nmodel M(t: f32[O, I] = A, k: int = O) {"
             "\n fn f() -> (i32, i32) = (I, k)\n}\n")
    assert [int(v) for v in Running(table)("f")] == [3, 2]


CONSTANTS = """
import nn
model M(k: int, r: bool, a: int) {
    param w: f32 = 1.0
    parts = [nn.Identity(), nn.Identity()]
    fn axes(x: f32[N, K]) -> (f32, f32[N, 1], f32[K, N]) =
        (sum(sum(x, axis=k)), sum(x, axis=1, keepdims=r), transpose(x, k, a))
    fn ends(x: f32[N]) -> (f32[k], f32[N - k], f32) = (x[-k:], x[:-k], x[-k] + sum(x[::k + 1]))
    fn lists(x: f32[N]) -> f32[N] {
        for part in parts[:k] { x = part(x) + 1.0 }
        for part in parts[k:] { x = part(x) * 10.0 }
        ys = [x, x + 2.0]
        return parts[k](ys[k]) + len(parts[k:]) - ys[-k]
    }
    fn from_the_end(x: f32[N]) -> f32 {
        scan v in x, reverse=r carry s = 0.0 { s = s * 2.0 + v }
        return s
    }
    step fit() -> f32 {
        minimize w * w with sgd(lr=0.25), every=k
        return w
    }
}
"""


def test_rule_14_a_model_s_parameters_are_constants_in_its_functions() -> None:
    assert error("model M(k: int) {\n fn f(x: f32[N]) -> f32[k] = x[-k - 1:]\n}\n").startswith(
        "2: the result does not fit: k + 1 is not k")
    model = Both(CONSTANTS, "M", k=1, r=True, a=0)
    total, rows, turned = model("axes", x=X)
    assert total == X.sum()
    np.testing.assert_array_equal(rows, X.sum(axis=1, keepdims=True))
    np.testing.assert_array_equal(turned, X.T)
    x = np.array([1, 2, 3], np.float32)
    last, rest, both = model("ends", x=x)
    assert (last.tolist(), rest.tolist(), both) == ([3], [1, 2], 7)
    np.testing.assert_array_equal(model("lists", x=x), np.full(3, 1))
    assert model("from_the_end", x=x) == 17
    assert model("fit") == 0.5



def test_rule_15_what_no_type_is_met_is_f32_or_i32() -> None:
    run = Both("""
fn f(x: f64[N]) -> (f64, f32, i32, f32) {
    scan v in x carry a = 0.0, k = 0, h = 1 / 2 {
        a = a + f32(v) / 3
        k += 2
        yield pi as turns
    }
    return x[0] / 3, a, k, turns[0]
}
""")
    found = run("f", x=np.array([1.0, 2.0]))
    assert [np.asarray(v).dtype for v in found] == [np.float64, np.float32, np.int32, np.float32]
    assert found[0] == 1 / 3
    assert "1.5 can't become i32" in error("fn f(x: i32) -> i32 = x + 1.5\n")
    assert "300 does not fit u8" in error("fn f(x: u8) -> u8 = x + 300\n")
    assert evaluate("width / heads", "width: f32, heads: f32", "f32", 3.0, 2.0) == 1.5


@pytest.mark.parametrize(("kind", "largest", "beyond"), [
    ("f16", "65519.0", "65520.0"), ("bf16", "3.389e38", "3.4e38"), ("f32", "3.4e38", "3.5e38"),
    ("u8", "255", "256"), ("i8", "127", "128"), ("i32", "2147483647", "2147483648"),
])
def test_rule_15_a_number_out_of_range_is_an_error(kind: str, largest: str, beyond: str) -> None:
    text = f"const C: {kind} = NUMBER\nfn f(x: {kind}) -> {kind} = maximum(x, NUMBER)\n"
    assert errors(text.replace("NUMBER", largest)) == []
    assert [d.message for d in errors(text.replace("NUMBER", beyond))] == [
        f"{float(beyond) if '.' in beyond else beyond} does not fit {kind}"] * 2
    if kind.endswith(("f16", "f32")):
        assert errors(text.replace("NUMBER", "inf")) == []



def test_rule_16_result_types() -> None:
    for expression, kind in (("x < 1", "bool"), ("argmax(x)", "i32"), ("sum(x)", "i32"),
                             ("x // 2", "u8[N]")):
        assert errors(f"fn f(x: u8[N]) -> {kind} = "
                      f"{'all(x < 1)' if kind == 'bool' else expression}\n") == []
    for expression in ("x / x", "mean(x)", "sqrt(x)", "(x < 1) + (x < 1)"):
        found = error(f"fn f(x: i32[N]) -> f32 = sum(f32({expression}))\n")
        assert found.startswith("1: ")
        assert "does not take" in found or "takes floats" in found


def test_rule_17_only_a_known_1_stretches() -> None:
    assert error("fn f(x: f32[N, 1], y: f32[N]) -> f32[N] = x - y\n").startswith(
        "1: shapes do not agree in `-`: 1 is not N")
    assert errors("fn f(x: f32[N, 1], y: f32[1, M]) -> f32[N, M] = x - y\n") == []
    assert error("fn f(x: f32[N, K], y: f32[N, 1]) -> f32 = g(x, y)\n"
                 "fn g(x: f32[N, K], y: f32[N, K]) -> f32 = sum(x * y)\n").startswith(
                     "1: `y` does not fit: 1 is not K")


def test_rule_17_a_scalar_does_not_say_how_large_a_symbol_is() -> None:
    text = "fn g(x: f32[N], y: f32[*S, 2]) -> f32 = sum(x) + sum(y)\nfn f(x: f32[2]) -> f32 = "
    assert errors(text + "g(x, x)\n") == []
    assert error(text + "g(1.0, x)\n").startswith("2: nothing says what `N` of `x` is")
    assert error(text + "g(x, 2.0)\n").startswith("2: nothing says what `*S` of `y` is")
    assert error(text + "g(x, x[0])\n").startswith("2: nothing says what `*S` of `y` is")
    assert error(text + "g(x[None], x)\n").startswith("2: `x` has 2 dims, not 1")



def test_rule_18_one_function_for_several_types() -> None:
    graphs = functions("fn twice(x: float[*S], k: integer) -> float[*S] = x + x\n"
                       "fn a(x: f64[N]) -> f64[N] = twice(x, i64(1))\n"
                       "fn b(x: f16[N, M]) -> f16[N, M] = twice(x, u8(1))\n")
    assert run_graph(graphs["a"], [np.ones(2)])[0].dtype == np.float64
    assert error("fn twice(x: float) -> float = x\nfn a(x: i32) -> f32 = twice(x)\n").startswith(
        "2: `x` takes any float type, not i32")


def test_rule_19_any_number_of_dims() -> None:
    graph = functions("fn g(x: f32[*S, K], y: f32[*S]) -> f32[*S] = sum(x, axis=-1) + y\n"
                      "fn f(x: f32[A, B, 2], y: f32[A, B]) -> f32[A, B] = g(x, y)\n"
                      "fn h(x: f32[2]) -> f32 = g(x, x[0])\n")
    assert run_graph(graph["f"], [np.ones((2, 3, 2), "f4"), np.ones((2, 3), "f4")])[0].shape == (
        2, 3)
    assert run_graph(graph["h"], [X[1]])[0] == 7


def test_rule_19_at_most_one_in_a_type() -> None:
    for dims in ("*S, *R", "*S, K, *S"):
        assert error(f"fn f(x: f32[{dims}]) -> f32 = sum(x)\n").startswith(
            f"1: `*{dims[-1]}` is the second of its kind in this type")
    assert error("fn g(x: f32[A, *S, K]) -> f32 = sum(x)\nfn f(x: f32[2]) -> f32 = g(x)\n"
                 ).startswith("2: `x` has 1 dim, not 2 or more")



def test_rule_20_several_values_are_taken_apart() -> None:
    text = "fn g(x: f32) -> (f32, f32) = (x, x + 1.0)\nfn f(x: f32) -> f32 {\n BODY\n}\n"
    assert errors(text.replace("BODY", "a, b = g(x)\n return a + g(x)[1]")) == []
    assert error(text.replace("BODY", "a = g(x)\n return 1.0")).startswith(
        "3: several values can't be kept")
    assert error(text.replace("BODY", "a, b, c = g(x)\n return 1.0")).startswith(
        "3: 3 names for 2 values")


def test_rule_21_lists_of_models_and_values() -> None:
    model = Running("""
import nn
model M {
    layers = [nn.Dense(2, 2) for _ in range(3)]
    fn f(x: f32[N, 2]) -> (f32[N, 2], f32[N, 2]) {
        skips = []
        for layer, k in zip(layers[:-1], range(2)) {
            x = x + k
            skips = skips + [x]
        }
        if sum(x) > 0.0 { skips = [x, -x] }
        return skips[-1] * len(skips), layers[-1](skips[0])
    }
}
""")
    first, _ = model("f", x=X)
    np.testing.assert_array_equal(first, -2 * (X + 1))
    first, _ = model("f", x=-X)
    np.testing.assert_array_equal(first, 2 * (1 - X))
    assert error("fn f(x: f32) -> f32 {\n scan i in range(2) carry l = [x] { l = l + [x] }\n"
                 " return x\n}\n").startswith("2: a list of 1 can't be carried")


def test_rule_22_no_shape_depends_on_data() -> None:
    assert len(errors("fn f(x: f32[N], m: bool[N]) -> f32[N] = x[m]\n")) == 1
    found = error("fn f(n: i32) -> i32 {\n scan i in range(n) carry s = 0 { s += i }\n return s\n}")
    assert found.startswith("2: the length of a range is a dim, not i32")
    assert "an `int` parameter" in found
    for expression in ("x[:n]", "zeros(n)", "reshape(x, n, -1)"):
        found = error(f"fn f(x: f32[N], n: i32) -> f32 = sum({expression})\n")
        assert "not i32 | no shape depends on data: an `int` parameter may be a dim" in found


GENERIC = """
import nn
model Dense(inputs: int, growth: int, depth: int) {
    layers = [nn.Dense(inputs + i * growth, growth) for i in range(depth)]
    last = [nn.Dense(inputs, growth) for _ in range(1 if inputs != growth else 0)]
    fn forward(x: f32[N, inputs]) -> f32[N, inputs + depth * growth] {
        seen = [x]
        for layer in layers { seen = seen + [layer(concat(seen, axis=-1))] }
        return concat(seen, axis=-1)
    }
    fn backwards(x: f32[N, inputs]) -> f32[N, inputs] {
        for i in range(depth) { x = layers[depth - 1 - i](x) }
        return x / len(layers)
    }
    fn halved(x: f32[N, K]) -> f32[N, K] {
        a, b = split(x, 2, axis=1)
        return concat((b, a), axis=1)
    }
}
model Pooled(width: int, depth: int) {
    layers = [nn.Conv2d(width, width, kernel=3, padding=1) for _ in range(depth)]
    fn forward(x: f32[N, width, H, W]) -> f32[N, width] {
        for layer in layers[1:] { x = max_pool2d(layer(x), 2) }
        return mean(x, axis=(2, 3))
    }
}
"""


def test_rule_23_a_model_without_defaults_is_checked_once() -> None:
    text = "import nn\nmodel M(n: int, w: int) {\n ls = [nn.Dense(w, OUT) for _ in range(n)]\n" \
           " fn f(x: f32[N, w]) -> f32[N, w] {\n for l in ls { x = l(x) }\n return x\n }\n}\n"
    assert errors(text.replace("OUT", "w")) == []
    assert errors(text.replace("OUT", "2 * w"))
    assert errors(GENERIC) == []
    where = program_of("model M(w: int, h: int) where w % h == 0, w != h {\n param a: f32[w // h] "
                       "= zeros()\n}\n")
    check_program(where)
    elaborate(where, "M", {"w": 6, "h": 3})
    for wrong in ({"w": 6, "h": 4}, {"w": 3, "h": 3}):
        with pytest.raises(UserError, match="does not hold"):
            elaborate(where, "M", wrong)
