"""The rules by their numbers, for what the compiler knows by name: indices (24 to 26), nan, ties
and kinks (31), precision (32), initial values (44, 45). Rule 52 has `test_sparse.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dlc.ir.ops.control import CheckError
from dlc.runtime.errors import CheckFailed
from tests.frontend.programs_in_text import Both, Running, error, evaluate, functions

RANDOM = np.random.default_rng(3)
X = RANDOM.normal(size=(4, 6, 5)).astype(np.float32)
NAN, INF = np.float32(np.nan), np.float32(np.inf)

# Rule 24


@pytest.fixture(scope="module")
def table() -> Both:
    return Both("""
model M {
    state table: f32[4, 6] = ones()
    state seen: f32 = 0.0
    fn at(i: i64[K]) -> f32[K, 6] = table[i]
    fn one(i: u8) -> f32[6] = table[i]
    step count(i: i32[K]) -> f32 {
        seen += 1.0
        scan k in i carry total = 0.0 {
            total += sum(table[k])
        }
        table := set_at(table, i, 0.0)
        return total
    }
}
""", "M")


@pytest.mark.parametrize(("name", "index", "value", "place"), [
    ("at", np.array([0, 3, 4]), 4, "5:43"), ("at", np.array([3, -1, 0]), -1, "5:43"),
    ("one", np.uint8(255), 255, "6:37"), ("count", np.array([1, 2**31 - 1], np.int32), 2**31 - 1,
                                          "10:32"),
    ("count", np.array([-(2**31)], np.int32), -(2**31), "10:32"),
])
def test_rule_24_an_index_out_of_range_is_named_and_changes_nothing(
    table: Both, name: str, index: Any, value: int, place: str
) -> None:
    said = f"index {value} is out of range for an axis of 4"
    before = {key: array.copy() for key, array in table.compiled.variables.items()}
    with pytest.raises(CheckFailed) as found:
        getattr(table.compiled, name)(i=index)
    assert f"{name}: {said}" in str(found.value)
    assert found.value.location.endswith(f"program.dl:{place}")
    assert found.value.value == value
    for key, array in table.compiled.variables.items():
        np.testing.assert_array_equal(array, before[key])
    with pytest.raises(CheckError, match=said):
        table.reference(name, i=index)


def test_rule_24_the_line_is_the_users_though_a_layer_of_the_library_reads() -> None:
    model = Both("""
import nn
model M {
    words = nn.Embedding(7, 2)
    fn f(i: i32[N]) -> f32[N, 2] {
        return 2.0 * words(i)
    }
}
""", "M").compiled
    with pytest.raises(CheckFailed, match=r"index 7 is out of range for an axis of 7 \(.*:6:22\)"):
        model.f(np.array([1, 7], np.int32))


def test_rule_24_what_is_in_range_is_read(table: Both) -> None:
    table("at", i=np.array([0, 3, 3]))
    table("one", i=np.uint8(3))
    assert table("count", i=np.array([1, 1, 2], np.int32)) == 18
    assert table("count", i=np.array([1, 3], np.int32)) == 6


def test_rule_24_what_can_be_proved_is_not_checked_again() -> None:
    made = functions("""
fn places(x: f32[N, 5]) -> f32[N, 5] = x[range(N)]
fn largest(x: f32[N, 5]) -> f32[5, 5] = x[argmax(x, axis=0)]
fn sorted(x: f32[N, 5]) -> f32[N, 5] = sort(x, axis=0)
fn some(x: f32[N, 5], y: f32[K]) -> f32[K, 5] = x[range(K)]
fn other(x: f32[N, 5]) -> f32[N, 5] = x[argmax(x, axis=1)]
""")
    checks = {name: [n.op for n in g.nodes].count("check") for name, g in made.items()}
    assert checks == {"places": 0, "largest": 0, "sorted": 0, "some": 0, "other": 1}
    assert "K <= N, for it bounds an index" in [c.text for c in made["some"].conditions]


@pytest.mark.parametrize(("expression", "expected"), [
    ("x[-1]", X[-1]), ("x[:, -6]", X[:, -6]), ("x[[0, -1], 2]", X[[0, -1], 2]),
    ("x[..., [[1], [-2]]]", X[..., [[1], [-2]]]),
])
def test_rule_24_constant_indices_may_be_negative(expression: str, expected: Any) -> None:
    dims = ", ".join(map(str, expected.shape))
    found = evaluate(expression, "x: f32[4, 6, 5]", f"f32[{dims}]", X)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("index", ["4", "-5", "[0, 4]", "[-5, 0]", "range(5)"])
def test_rule_24_constant_indices_are_checked_when_compiled(index: str) -> None:
    found = error(f"fn f(x: f32[4]) -> f32[N] = x[{index}]\n")
    assert "is out of range for an axis of 4" in found


# Rule 25


def test_rule_25_bounds_of_slices_are_checked_at_the_call() -> None:
    both = Both("""
fn tail(x: f32[T, 6], k: int) -> f32[T - k, 6] = x[k:]
fn middle(x: f32[T, 6], k: int) -> f32[k, 6] = x[1 : k + 1]
fn every(x: f32[T, 6]) -> f32[(T + 1) // 2, 2] = x[::2, 1:5:3]
""")
    x = X[:, :, 0]
    for k in range(5):
        np.testing.assert_array_equal(both("tail", x=x, k=k), x[k:])
    for k in range(4):
        np.testing.assert_array_equal(both("middle", x=x, k=k), x[1:k + 1])
    np.testing.assert_array_equal(both("every", x=x), x[::2, 1:5:3])
    with pytest.raises(ValueError, match="k <= T, for they bound a slice"):
        both.compiled.tail(x, 5)
    assert "the step of a slice is a constant >= 1" in error(
        "fn f(x: f32[N]) -> f32[N] = x[::-1]\n")
    assert "the bounds of a slice are constants or dims" in error(
        "fn f(x: f32[N], i: i32) -> f32[N] = x[i:]\n")


def test_rule_25_what_is_always_below_0_counts_from_the_end() -> None:
    run = Both("fn f(x: f32[N], y: f32[K]) -> (f32[K], f32[N - K], f32) where K < N =\n"
               "    (x[-K:], x[:-K], x[-K])\n")
    last, rest, one = run("f", x=np.arange(5, dtype="f4"), y=np.ones(2, "f4"))
    assert (last.tolist(), rest.tolist(), one) == ([3, 4], [0, 1, 2], 3)
    for index in ("-n", "-n:"):
        found = error(f"fn f(x: f32[N], n: int) -> f32 = sum(x[{index}])\n")
        assert found == "1: -n may be 0, which does not count from the end | `N - n` is the place"



# Rule 26

ROW = np.array([3, 0, 3], np.int32)
PAIR = np.array([[5], [1]], np.int32)


@pytest.mark.parametrize(("expression", "dims", "expected"), [
    ("x[i]", "K, 6, 5", X[ROW]), ("x[:, j]", "N, 2, 1, 5", X[:, PAIR]),
    ("x[i, 2]", "K, 5", X[ROW, 2]),
    ("x[i, 2:4, None]", "K, 2, 1, 5", X[ROW, 2:4, None]), ("x[0, j, 1]", "2, 1", X[0, PAIR, 1]),
    ("x[i, j]", "2, 3, 5", X[np.stack((ROW, ROW)), np.broadcast_to(PAIR, (2, 3))]),
    ("x[i[0], :, i[1]]", "6", X[3, :, 0]), ("x[..., i, i]", "N, K", X[..., ROW, ROW]),
    ("x[i, i[0]]", "K, 5", X[ROW, 3]), ("x[None, i, ..., None]", "1, K, 6, 5, 1",
                                      X[None, ROW, ..., None]),
])
def test_rule_26_index_tensors_stand_side_by_side(
    expression: str, dims: str, expected: Any
) -> None:
    if expression == "x[i, j]":
        signature, given = "x: f32[N, 6, 5], i: i32[2, 3], j: i32[2, 3]", (
            X, np.broadcast_to(ROW, (2, 3)).copy(), np.broadcast_to(PAIR, (2, 3)).copy())
    else:
        signature, given = "x: f32[N, 6, 5], i: i32[K], j: i32[2, 1]", (X, ROW, PAIR)
    found = evaluate(expression, signature, f"f32[{dims}]", *given)
    np.testing.assert_array_equal(found, expected)


def test_rule_26_or_it_is_an_error() -> None:
    for index in ("i, :, i", "i, None, i"):
        assert "several index tensors stand side by side" in error(
            f"fn f(x: f32[4, 4, 4], i: i32[K]) -> f32[K] = x[{index}]\n")
    assert "shapes do not agree in the indices" in error(
        "fn f(x: f32[4, 4], i: i32[K], j: i32[N]) -> f32[K] = x[i, j]\n")


def test_rule_26_updates_at_indices() -> None:
    both = Both("""
fn row(x: f32[N, 6], i: i32[K], v: f32[K, 6]) -> f32[N, 6] = set_at(x, i, v)
fn place(x: f32[N, 6], i: i32[K], v: f32[K]) -> f32[N, 6] = set_at(x, (i, 5 - i), v)
fn slope(x: f32[N, 6], i: i32[K], v: f32[K, 6]) -> (f32[N, 6], f32[K, 6]) =
    grad(sum(row(x, i, v) ** 2), (x, v))
""")
    x, i = X[:, :, 0].copy(), np.array([2, 0, 2], np.int32)
    v = RANDOM.normal(size=(3, 6)).astype(np.float32)
    expected = x.copy()
    expected[2], expected[0] = v[2], v[1]  # the last one of two wins
    np.testing.assert_array_equal(both("row", x=x, i=i, v=v), expected)
    expected = x.copy()
    expected[2, 3], expected[0, 5] = v[2, 0], v[1, 0]
    np.testing.assert_array_equal(both("place", x=x, i=i, v=v[:, 0].copy()), expected)
    by_x, by_v = both("slope", x=x, i=i, v=v)
    kept = np.array([0, 1, 0, 1], bool)[:, None]
    np.testing.assert_allclose(by_x, np.where(kept, 2 * x, 0), rtol=1e-6)
    np.testing.assert_allclose(by_v, 2 * v * np.array([[0], [1], [1]]), rtol=1e-6)
    np.testing.assert_array_equal(
        evaluate("set_at(x, -1, 0)", "x: f32[4]", "f32[4]", x[:, 0].copy()), [*x[:3, 0], 0])
    assert "`v` has 1 dim, not 2" in error(
        "fn f(x: f32[N, 6], i: i32[K], v: f32[K]) -> f32[N, 6] = set_at(x, i, v)\n")


def test_rule_26_reshape_finds_one_dim_and_t_needs_two() -> None:
    assert "finds one dim" in error("fn f(x: f32[N]) -> f32[N] = reshape(x, -1, -1)\n")
    assert "`.T` needs two dims" in error("fn f(x: f32[N]) -> f32[N] = x.T\n")
    np.testing.assert_array_equal(
        evaluate("x.T", "x: f32[N, 6, 5]", "f32[N, 5, 6]", X), X.transpose(0, 2, 1))


# Rule 31

ROWS = np.array([[1, 3, 3, 2], [NAN, 1, INF, 0], [-INF, -INF, -INF, -INF], [-0.0, 0.0, 0.0, -1]],
                np.float32)


@pytest.fixture(scope="module")
def rows() -> Both:
    return Both("""
fn largest(x: f32[N, 4]) -> (f32[N], i32[N]) = (max(x, axis=1), argmax(x, axis=1))
fn smallest(x: f32[N, 4]) -> (f32[N], i32[N]) = (min(x, axis=1), argmin(x, axis=1))
fn slopes(x: f32[N, 4]) -> f32[N, 4] = grad(sum(max(x, axis=1)), x)
fn low_slopes(x: f32[N, 4]) -> f32[N, 4] = grad(sum(min(x, axis=1)), x)
fn orders(x: f32[N, 4]) -> (i32[N, 4], i32[N, 4]) = (argsort(x), argsort(x, descending=true))
fn top(x: f32[N, 4], k: int) -> (f32[N, k], i32[N, k]) = top_k(x, k)
fn kinks(x: f32[N]) -> f32[N] = grad(sum(relu(x) + 10 * abs(x) + 100 * sign(x)), x)
fn shares(x: f32[N, 4]) -> (f32[N, 4], f32[N, 4]) = (softmax(x), log_softmax(x))
fn share_slopes(x: f32[N, 4]) -> f32[N, 4] = grad(sum(softmax(x) ** 2), x)
fn log_slopes(x: f32[N, 4]) -> f32[N, 4] = grad(sum(log_softmax(x)[:, 0]), x)
fn units(x: f32[N, 4]) -> (f32[N, 4], f32[N, 4]) = (unit_rows(x), grad(sum(unit_rows(x)), x))
fn pooled(x: f32[N, C, 3, 3]) -> (f32[N, C, 2, 2], f32[N, C, 3, 3]) {
    y = max_pool2d(x, 2, stride=1)
    return y, grad(sum(y), x)
}
fn whole(x: i32[N, 4]) -> (i32[N], i32[N], i32[N], i32[N]) =
    (max(x, axis=1), min(x, axis=1), argmax(x, axis=1), argmin(x, axis=1))
fn bytes(x: u8[N]) -> (u8, u8) = (max(x), min(x))
""")


def test_rule_31_largest_and_smallest(rows: Both) -> None:
    value, place = rows("largest", x=ROWS)
    np.testing.assert_array_equal(value, [3, NAN, -INF, 0])
    assert place.tolist() == [1, 0, 0, 0]
    value, place = rows("smallest", x=ROWS)
    np.testing.assert_array_equal(value, [1, NAN, -INF, -1])
    assert place.tolist() == [0, 0, 0, 3]
    ties = np.array([[1, 3, 3, 2], [2, 2, 2, 2]], np.float32)
    assert rows("slopes", x=ties).tolist() == [[0, 1, 0, 0], [1, 0, 0, 0]]
    assert rows("low_slopes", x=ties).tolist() == [[1, 0, 0, 0], [1, 0, 0, 0]]
    ends = np.array([[-(2**31), 2**31 - 1, 0, 5], [7, 7, 8, 8]], np.int32)
    assert [v.tolist() for v in rows("whole", x=ends)] == [
        [2**31 - 1, 8], [-(2**31), 7], [1, 2], [0, 0]]
    assert rows("bytes", x=np.array([255, 0, 3], np.uint8)) == (255, 0)


def test_rule_31_sorts_are_stable(rows: Both) -> None:
    up, down = rows("orders", x=ROWS)
    assert up.tolist() == [[0, 3, 1, 2], [3, 1, 2, 0], [0, 1, 2, 3], [3, 0, 1, 2]]
    assert down.tolist() == [[1, 2, 3, 0], [0, 2, 1, 3], [0, 1, 2, 3], [0, 1, 2, 3]]
    for k in range(5):
        value, place = rows("top", x=ROWS, k=k)
        np.testing.assert_array_equal(place, down[:, :k])
        np.testing.assert_array_equal(value, np.take_along_axis(ROWS, down[:, :k], 1))
    with pytest.raises(ValueError, match="k <= 4"):
        rows.compiled.top(ROWS, 5)


def test_rule_31_kinks_have_slope_0(rows: Both) -> None:
    assert rows("kinks", x=np.array([-2, 0, 3], np.float32)).tolist() == [-10, 0, 11]


def test_rule_31_softmax_of_nothing_is_0(rows: Both) -> None:
    x = np.array([[-INF] * 4, [-INF, 0, 0, -INF]], np.float32)
    share, log_share = rows("shares", x=x)
    np.testing.assert_array_equal(share, [[0, 0, 0, 0], [0, 0.5, 0.5, 0]])
    assert log_share[0].tolist() == [-INF] * 4
    assert rows("share_slopes", x=x)[0].tolist() == [0, 0, 0, 0]
    found = rows("log_slopes", x=np.array([[-INF] * 4, [0, 0, 0, 0]], np.float32))
    np.testing.assert_allclose(found, [[0, 0, 0, 0], [0.75, -0.25, -0.25, -0.25]])


def test_rule_31_a_row_of_zeros_has_no_direction(rows: Both) -> None:
    unit, slope = rows("units", x=np.zeros((1, 4), np.float32))
    assert unit.tolist() == [[0, 0, 0, 0]]
    assert np.isfinite(slope).all()


def test_rule_31_pooling_gives_nan_on_and_ties_to_the_first(rows: Both) -> None:
    x = np.zeros((1, 2, 3, 3), np.float32)
    x[0, 0, 2, 2] = NAN
    value, slope = rows("pooled", x=x)
    np.testing.assert_array_equal(value[0], [[[0, 0], [0, NAN]], [[0, 0], [0, 0]]])
    assert slope[0, 1].tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]


# Rule 32


def test_rule_32_halves_are_added_up_in_f32() -> None:
    both = Both("""
fn total(x: f16[N]) -> f16 = sum(x)
fn middle(x: f16[N]) -> (f16, f16) = (mean(x), var(x))
fn running(x: f16[N]) -> f16[N] = cumsum(x)
fn product(x: f16[N, M], y: f16[M]) -> f16[N] = x @ y
""")
    ones = np.ones(5000, np.float16)
    assert both("total", x=ones) == 5000
    assert both.compiled.middle(np.full(100_000, 2, np.float16)) == (2, 0)
    assert both("running", x=ones)[-1] == 5000
    assert both("product", x=ones[None].copy(), y=ones).tolist() == [5000]


def test_rule_32_var_divides_by_n_and_round_goes_to_even() -> None:
    assert evaluate("var(x)", "x: f32[N]", "f32", np.array([1, 3], np.float32)) == 1
    found = evaluate("round(x)", "x: f32[N]", "f32[N]", np.array([0.5, 1.5, -2.5], np.float32))
    assert found.tolist() == [0, 2, -2]
    assert evaluate("round(2.5) + round(3.5)", "x: f32", "f32", np.float32(0)) == 6


# Rules 44 and 45


def test_rule_44_makers_take_the_declared_shape_wherever_they_stand() -> None:
    model = Running("""
import nn
model M(width: int = 3) {
    size = 2 * width
    param a: f32[2, width] = unit_rows(normal())
    param b: f32[width] = 0.5 * ones() + zeros()
    param c: f64[size, width] = uniform(low=1.0, high=2.0)
    param d: f32[size] = concat((ones(width), zeros(width)))
    param e: f32[2, 2] = [[1, 2], [3, 4]]
    param f: f32[width] = width
    fn g() -> f32 = a[0, 0]
}
""")
    v = model.variables
    np.testing.assert_allclose(np.linalg.norm(v["a"], axis=1), [1, 1], rtol=1e-6)
    assert (v["b"] == 0.5).all()
    assert v["c"].dtype == np.float64
    assert (v["c"] >= 1).all()
    assert v["d"].tolist() == [1, 1, 1, 0, 0, 0]
    assert v["e"].tolist() == [[1, 2], [3, 4]]
    assert v["f"].tolist() == [3, 3, 3]


def test_rule_44_initial_values_see_no_params_which_are_floats() -> None:
    assert error("model M {\n param a: f32 = 1.0\n param b: f32 = 2.0 * a\n fn f() -> f32 = b\n}\n"
                 ).startswith("3: ")
    assert "a param is of floats" in error("model M {\n param a: i32 = 1\n fn f() -> i32 = a\n}\n")


FANS = {"(300, 200)": (300, 200), "(40, 30, 3, 3)": (270, 360), "(60, 50, 7)": (350, 420)}


@pytest.mark.parametrize("dims", FANS)
def test_rule_45_fans_of_the_shape(dims: str) -> None:
    fan_in, fan_out = FANS[dims]
    text = "\n".join(f"    param by_{rule}_{law}: f32[{dims[1:-1]}] = {rule}_{law}()"
                     for rule in ("glorot", "he", "lecun") for law in ("normal", "uniform"))
    found = Running(f"model M {{\n{text}\n    fn f() -> f32 = 0.0\n}}\n").variables
    variance = {"glorot": 2 / (fan_in + fan_out), "he": 2 / fan_in, "lecun": 1 / fan_in}
    for name, value in found.items():
        _, rule, law = name.split("_")
        assert value.var() == pytest.approx(variance[rule], rel=0.1)
        limit = np.sqrt(3 * variance[rule])
        assert (abs(value).max() <= limit) == (law == "uniform")


def test_rule_45_fans_by_name() -> None:
    found = Running("model M {\n param a: f32[4000] = he_normal(fan_in=8, fan_out=1)\n"
                    " fn f() -> f32 = 0.0\n}\n").variables["a"]
    assert found.var() == pytest.approx(0.25, rel=0.1)
    assert "needs `fan_in=` and `fan_out=`" in error(
        "model M {\n param a: f32[4] = he_normal()\n fn f() -> f32 = 0.0\n}\n")


def test_rule_45_orthogonal_rows_or_columns() -> None:
    shapes = ((4, 12), (12, 4), (30, 30), (3, 2, 2, 2), (9, 2, 2), (1, 1), (64, 64))
    params = "\n".join(f"    param w{k}: f32[{', '.join(map(str, s))}] = orthogonal()"
                       for k, s in enumerate(shapes))
    text = f"model M {{\n{params}\n    param gain: f64[5, 5] = orthogonal(gain=3.0)\n" \
           "    fn f() -> f32 = 0.0\n}\n"
    both = Both(text, "M")
    for k, shape in enumerate(shapes):
        w = both.compiled.variables[f"w{k}"].reshape(shape[0], -1)
        gram = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
        np.testing.assert_allclose(gram, np.eye(len(gram)), atol=2e-6)
    gain = both.compiled.variables["gain"]
    np.testing.assert_allclose(gain @ gain.T, 9 * np.eye(5), atol=1e-12)
    assert "`orthogonal` makes matrices" in error(
        "model M {\n param a: f32[4] = orthogonal()\n fn f() -> f32 = 0.0\n}\n")
