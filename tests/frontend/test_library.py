"""The library: what its layers do beyond the numbers that are recorded, and its schedules."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dlc.frontend.elaborate.check import check_module
from dlc.frontend.elaborate.library_text import Named, library_definitions, with_float
from dlc.frontend.elaborate.modules import LIBRARY, program_of
from dlc.frontend.text import syntax
from dlc.frontend.text.parse import parse_source, read_source
from dlc.ir.diagnostics import Diagnostics
from dlc.ir.types import F32, F64
from tests.frontend.programs_in_text import Both, Running, evaluate

RANDOM = np.random.default_rng(11)


def model(parts: str) -> Running:
    return Running(f"import nn\nmodel M {{\n{parts}\n}}\n")


def test_the_library_is_checked_like_any_program_and_each_layer_says_its_shapes() -> None:
    program = program_of("import nn\nfn f(x: f32) -> f32 = x\n")
    library = [module for module in (program.prelude, *program.modules) if module.library]
    assert len({module.name for module in library}) == 2
    for module in library:
        found = Diagnostics(program.sources)
        check_module(program, module, found)
        found.raise_if_any()
        for definition in module.definitions.values():
            if isinstance(definition, syntax.Model):
                assert definition.doc, definition.name.text


def test_what_is_parsed_alone_is_what_is_parsed_with_the_rest() -> None:
    for path in LIBRARY.glob("*.dl"):
        source = read_source(path, f"<{path.name}>")
        tree = parse_source(source)
        for default_float in (F32, F64):
            alone = library_definitions(source, default_float)
            whole = [d for d in with_float(tree, default_float).definitions if isinstance(d, Named)]
            assert list(alone.values()) == whole
            assert list(alone) == [definition.name.text for definition in whole]
            assert len(alone) == len(tree.definitions), "no imports, no tests"


def test_attention_without_a_mask_sees_everything() -> None:
    running = model("""
    a = nn.Attention(8, 2)
    fn plain(x: f32[N, T, 8]) -> f32[N, T, 8] = a(x)
    fn masked(x: f32[N, T, 8], mask: bool[N, T]) -> f32[N, T, 8] = a(x, mask)
""")
    x = RANDOM.normal(size=(2, 3, 8)).astype(np.float32)
    (plain,) = running("plain", x=x)
    (masked,) = running("masked", x=x, mask=np.ones((2, 3), bool))
    np.testing.assert_array_equal(plain, masked)
    (masked,) = running("masked", x=x, mask=np.array([[True, True, False]] * 2))
    assert not np.allclose(plain[:, 0], masked[:, 0])


def test_causal_attention_looks_at_nothing_that_comes_after() -> None:
    running = model("""
    a = nn.Attention(8, 2, causal=true)
    fn f(x: f32[N, T, 8]) -> f32[N, T, 8] = a(x)
    fn g(x: f32[1, 4, 8]) -> f32[1, 4, 8] = a(x)
""")
    x = RANDOM.normal(size=(1, 4, 8)).astype(np.float32)
    other = x.copy()
    other[:, 2:] = 5
    (a,), (b,) = running("f", x=x), running("f", x=other)
    np.testing.assert_allclose(a[:, :2], b[:, :2], rtol=1e-5, atol=1e-6)
    assert not np.allclose(a[:, 2], b[:, 2])
    np.testing.assert_array_equal(running("g", x=x)[0], a)


@pytest.mark.parametrize(("kind", "states"), [("RNN", 1), ("LSTM", 2), ("GRU", 1)])
def test_a_recurrent_layer_goes_on_from_its_state(kind: str, states: int) -> None:
    names = ["h", "c"][:states]
    given = "".join(f", {name}: f32[N, 4]" for name in names)
    kinds = ", f32[N, 4]" * states
    running = model(f"""
    r = nn.{kind}(3, 4)
    fn forward(xs: f32[T, N, 3]) -> f32[T, N, 4] = r(xs)
    fn run(xs: f32[T, N, 3]{given}) -> (f32[T, N, 4]{kinds}) = r.run(xs, {', '.join(names)})
""")
    xs = RANDOM.normal(size=(6, 2, 3)).astype(np.float32)
    (whole,) = running("forward", xs=xs)
    state: Any = [np.zeros((2, 4), np.float32)] * states
    for start, stop in ((0, 2), (2, 6)):
        part, *state = running("run", xs=xs[start:stop], **dict(zip(names, state, strict=True)))
        np.testing.assert_allclose(part, whole[start:stop], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(state[0], whole[-1], rtol=1e-5)
    if kind == "LSTM":
        assert running.variables["r.b"].tolist() == [0] * 4 + [1] * 4 + [0] * 8


def test_dropout_is_the_identity_where_no_step_trains() -> None:
    running = model("""
    d = nn.Dropout(0.25)
    i = nn.Identity()
    fn f(x: f32[N]) -> f32[N] = i(d(x))
    step s(x: f32[N]) -> f32[N] = i(d(x))
""")
    x = np.ones(20_000, np.float32)
    np.testing.assert_array_equal(running("f", x=x)[0], x)
    (dropped,) = running("s", x=x)
    assert set(np.unique(dropped)) == {0, np.float32(1 / 0.75)}
    assert np.mean(dropped == 0) == pytest.approx(0.25, abs=0.02)
    assert not np.array_equal(running("s", x=x)[0], dropped)


@pytest.mark.parametrize(("layer", "shape"), [("BatchNorm", (5, 3, 2, 2)), ("BatchNorm1d", (5, 3))])
def test_batch_norm_keeps_what_it_has_seen(layer: str, shape: tuple[int, ...]) -> None:
    dims = "N, 3, H, W" if len(shape) == 4 else "N, 3"
    running = model(f"""
    b = nn.{layer}(3, momentum=0.75)
    fn f(x: f32[{dims}]) -> f32[{dims}] = b(x)
    step s(x: f32[{dims}]) -> f32[{dims}] = b(x)
""")
    x = (3 + 2 * RANDOM.normal(size=shape)).astype(np.float32)
    axes = tuple(a for a in range(len(shape)) if a != 1)
    mean, var = 0.0, 1.0
    for _ in range(2):
        (y,) = running("s", x=x)
        np.testing.assert_allclose(y.mean(axes), 0, atol=1e-5)
        mean, var = 0.75 * mean + 0.25 * x.mean(axes), 0.75 * var + 0.25 * x.var(axes)
        np.testing.assert_allclose(running.variables["b.seen_mean"], mean, rtol=1e-5)
        np.testing.assert_allclose(running.variables["b.seen_var"], var, rtol=1e-5)
    spread = (slice(None), *(None,) * (len(shape) - 2))
    expected = (x - mean[spread]) / np.sqrt(var[spread] + 1e-5)
    np.testing.assert_allclose(running("f", x=x)[0], expected, rtol=1e-4, atol=1e-5)


def test_a_label_out_of_range_counts_as_no_class_and_masked_classes_do_not_matter() -> None:
    scores = np.array([[1, 2, 0], [0, 0, -np.inf]], np.float32)
    label = np.array([-1, 1], np.int64)
    found = evaluate("softmax_cross_entropy(x, i)", "x: f32[N, 3], i: i64[N]", "f32", scores, label)
    assert found == pytest.approx(np.log(2) / 2)
    far = np.array([2**32 + 1, 1], np.int64)
    np.testing.assert_array_equal(
        evaluate("one_hot(i, 3)", "i: i64[N]", "f32[N, 3]", far), [[0, 0, 0], [0, 1, 0]])


@pytest.mark.parametrize(("schedule", "values"), [
    ("cosine(p)", (1, 0.8535534, 0.5, 0)), ("linear(p)", (1, 0.75, 0.5, 0)),
    ("warmup(p, part=0.5)", (0, 0.5, 1, 1)),
    ("exponential(p, last=0.0001)", (1, 0.1, 0.01, 0.0001)),
    ("staircase(p, factor=0.5, count=4.0)", (1, 0.5, 0.25, 0.125)),
    ("warmup(p) * cosine(p)", (0, 0.8535534, 0.5, 0)),
])
def test_schedules(schedule: str, values: tuple[float, ...]) -> None:
    found = [evaluate(schedule, "p: f32", "f32", np.float32(p)) for p in (0, 0.25, 0.5, 1)]
    np.testing.assert_allclose(found, values, rtol=1e-5, atol=1e-7)


def test_draws_of_places_and_orders() -> None:
    both = Both("""
model M {
    fn order(n: int) -> i32[n] = permutation(n)
    fn place(x: f32[N, K]) -> i32[N] = categorical(x)
    fn half_place(x: f16[N, K]) -> i32[N] = categorical(x)
    fn coin(p: f32[N]) -> f32[N] = bernoulli(p)
    fn half_coin(p: f16[N]) -> f16[N] = bernoulli(p)
}
""", "M")
    for n in (0, 1, 2, 300):
        assert sorted(both("order", n=n)) == list(range(n))
    assert both("order", n=300).tolist() != list(range(300))
    share = np.array([0.1, 0.2, 0.3, 0.4, 0.0], np.float32)
    with np.errstate(divide="ignore"):
        logits = np.log(share)[None].repeat(20_000, 0)
    for name, dtype in (("place", np.float32), ("half_place", np.float16)):
        found = both(name, x=logits.astype(dtype))
        np.testing.assert_allclose(np.bincount(found, minlength=5) / 20_000, share, atol=0.015)
    for name, dtype in (("coin", np.float32), ("half_coin", np.float16)):
        chance = np.repeat(np.array([0, 0.25, 1], dtype), 20_000)
        found = both(name, p=chance).reshape(3, -1).astype(np.float64).mean(1)
        assert found[[0, 2]].tolist() == [0, 1]
        assert found[1] == pytest.approx(0.25, abs=0.015)


def test_each_call_and_each_turn_draws_anew() -> None:
    model = Both("""
model M {
    step f(n: int) -> i32[n, 50] {
        scan i in range(n) {
            yield permutation(50) as orders
        }
        return orders
    }
}
""", "M")
    first, second = model("f", n=4), model("f", n=4)
    rows = {tuple(row) for row in (*first.tolist(), *second.tolist())}
    assert len(rows) == 8
    assert all(sorted(row) == list(range(50)) for row in rows)


@pytest.mark.parametrize(("expression", "result"), [
    *((f"{name}(x)", "[N, 6]") for name in (
        "relu", "leaky_relu", "elu", "selu", "silu", "gelu", "softsign", "unit_rows", "sort")),
    *((f"{name}(x, y)", "[N, 6]") for name in ("binary_cross_entropy", "huber", "hinge")),
    *((f"{name}(x, y)", "") for name in ("mean_squared_error", "mean_absolute_error")),
    ("softmax_cross_entropy(x, i)", ""), ("cosine_similarity(x, y)", "[N]"),
    ("kl_divergence(log_softmax(x), log_softmax(y))", "[N]"),
])
def test_the_prelude_is_for_any_float_type(expression: str, result: str) -> None:
    x, y = RANDOM.normal(size=(2, 4, 6))
    i = np.array([0, 5, 2, 2], np.uint8)
    found = {}
    for dtype, kind in (("f64", "f8"), ("f32", "f4"), ("f16", "f2"), ("bf16", "f4")):
        signature = f"x: {dtype}[N, 6], y: {dtype}[N, 6], i: u8[N]"
        found[dtype] = evaluate(
            expression, signature, dtype + result, x.astype(kind), y.astype(kind), i)
    for dtype, near in (("f32", 1e-6), ("f16", 1e-2), ("bf16", 1e-1)):
        np.testing.assert_allclose(found[dtype], found["f64"], rtol=near, atol=near)


def test_log_sum_exp_of_large_numbers_and_of_nothing() -> None:
    model = Both("model M {\n fn f(x: f32[N, 3]) -> f32[N] = log_sum_exp(x)\n"
                 " fn slope(x: f32[N, 3]) -> f32[N, 3] = grad(sum(log_sum_exp(x)), x)\n}\n", "M")
    x = np.array([[1, 2, 3], [1e4, 1e4, -np.inf], [-np.inf] * 3, [np.inf, 0, 1]], "f4")
    wanted = [3 + np.log(1 + np.exp(-1) + np.exp(-2)), 1e4 + np.log(2), -np.inf, np.inf]
    for found in (model.compiled.f(x=x), model.reference("f", x=x)[0]):
        np.testing.assert_allclose(found, wanted, rtol=1e-6)
    likely = np.exp(x[0]) / np.exp(x[0]).sum()
    for found in (model.compiled.slope(x=x[:3]), model.reference("slope", x=x[:3])[0]):
        np.testing.assert_allclose(found, [likely, [0.5, 0.5, 0], [0, 0, 0]], rtol=1e-5)
