"""Models: their variables, functions, updates and optimizers, run by the interpreter."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlc.frontend.elaborate.check import check_program
from dlc.frontend.elaborate.models import elaborate
from dlc.frontend.elaborate.modules import load_program, program_of
from dlc.ir.diagnostics import UserError
from dlc.ir.parse import parse_graphs
from dlc.ir.text import print_graph
from dlc.ir.verify import verify
from tests.frontend.programs_in_text import Running

ROOT = Path(__file__).parents[2]
RANDOM = np.random.default_rng(1)
X = RANDOM.normal(size=(5, 3)).astype(np.float32)
T = RANDOM.normal(size=5).astype(np.float32)

LINEAR = """
model M {
    param w: f32[3] = normal(stddev=0.5)
    param b: f32 = 0.25
    step fit(x: f32[N, 3], t: f32[N], lr: f32 = 0.1) -> f32 {
        loss = mean((x @ w + b - t) ** 2)
        minimize loss with OPTIMIZER
        return loss
    }
}
"""


def gradients(variables: dict[str, Any]) -> dict[str, Any]:
    error = X @ variables["w"] + variables["b"] - T
    return {"w": 2 * X.T @ error / 5, "b": np.float32(2 * error.mean())}


def test_lenet5_has_its_variables_functions_and_one_optimizer_graph() -> None:
    program = load_program(ROOT / "examples" / "lenet5.dl", "lenet5.dl")
    check_program(program)
    made = elaborate(program, "LeNet5")
    assert set(made.functions) == {"scores", "digit", "error_rate", "fit"}
    assert made.steps == {"fit"}
    params = [f"{v.name}: {v.kind}" for v in made.variables if v.trained]
    assert params[:4] == ["c1.w: f32[6, 1, 5, 5]", "c1.b: f32[6]", "s2.scale: f32[6]",
                          "s2.bias: f32[6]"]
    assert len(params) == 14
    states = [v.name for v in made.variables if v.role == "optimizer"]
    assert states[:3] == ["fit.adamw.c1.w.t", "fit.adamw.c1.w.m", "fit.adamw.c1.w.v"]
    fit = made.functions["fit"]
    calls = [node for node in fit.nodes if node.op == "call"]
    assert len(calls) == 14
    assert len({id(node.regions[0]) for node in calls}) == 1
    assert {node.phase for node in calls} == {"update"}
    assert [p.default for p in fit.params if p.value.name == "lr"] == [0.003]
    maps = [node for node in fit.nodes if node.path == "LeNet5.scores.maps"]
    assert [node.op for node in maps] == ["mul"]
    assert str(maps[0].locs[0]).endswith("lenet5.dl:51:16 < lenet5.dl:61:38")


@pytest.mark.parametrize(("name", "model"), [("lenet5", "LeNet5"), ("plain_lenet5", "PlainLeNet5")])
def test_graphs_of_the_examples_are_valid_and_print(name: str, model: str) -> None:
    made = elaborate(load_program(ROOT / "examples" / f"{name}.dl"), model)
    for graph in (*made.functions.values(), made.init):
        text = print_graph(graph)
        assert parse_graphs(text)[graph.name] == graph
        verify(graph)


def test_sgd_with_and_without_momentum() -> None:
    model = Running(LINEAR.replace("OPTIMIZER", "sgd(lr=lr)"))
    assert set(model.variables) == {"w", "b"}
    before = dict(model.variables)
    model("fit", x=X, t=T)
    for name, g in gradients(before).items():
        np.testing.assert_allclose(model.variables[name], before[name] - 0.1 * g, rtol=1e-5)
    model = Running(LINEAR.replace("OPTIMIZER", "sgd(lr=lr, momentum=0.9)"))
    assert set(model.variables) == {"w", "b", "fit.sgd.w.v", "fit.sgd.b.v"}
    v = {name: 0.0 for name in "wb"}
    for _ in range(3):
        before = dict(model.variables)
        model("fit", x=X, t=T)
        for name, g in gradients(before).items():
            v[name] = 0.9 * v[name] + g
            np.testing.assert_allclose(
                model.variables[name], before[name] - 0.1 * v[name], rtol=1e-4)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_adam_and_adamw(decay: float) -> None:
    which = f"adamw(lr=lr, decay={decay})" if decay else "adam(lr=lr)"
    model = Running(LINEAR.replace("OPTIMIZER", which))
    m = {name: 0.0 for name in "wb"}
    v = {name: 0.0 for name in "wb"}
    for t in range(1, 4):
        before = dict(model.variables)
        model("fit", x=X, t=T, lr=np.float32(0.01))
        for name, g in gradients(before).items():
            m[name], v[name] = 0.9 * m[name] + 0.1 * g, 0.999 * v[name] + 0.001 * g * g
            step = m[name] / (1 - 0.9**t) / (np.sqrt(v[name] / (1 - 0.999**t)) + 1e-8)
            expected = before[name] * (1 - 0.01 * decay) - 0.01 * step
            np.testing.assert_allclose(model.variables[name], expected, rtol=1e-4, atol=1e-6)


def test_clip_norm_bounds_all_gradients_together() -> None:
    text = LINEAR.replace("OPTIMIZER", "sgd(lr=1.0), clip_norm=0.5")
    model = Running(text)
    before = dict(model.variables)
    model("fit", x=X, t=T)
    g = gradients(before)
    norm = np.sqrt((g["w"] ** 2).sum() + g["b"] ** 2)
    assert norm > 0.5
    for name in "wb":
        moved = before[name] - model.variables[name]
        np.testing.assert_allclose(moved, g[name] * 0.5 / norm, rtol=1e-4)


def test_over_trains_only_what_it_names() -> None:
    model = Running(LINEAR.replace("OPTIMIZER", "sgd(lr=1.0), over=b"))
    before = dict(model.variables)
    model("fit", x=X, t=T)
    assert (model.variables["w"] == before["w"]).all()
    assert model.variables["b"] != before["b"]


def test_optimizers_that_are_not_elementwise_run_on_whole_params() -> None:
    text = LINEAR.replace("OPTIMIZER", "normed(lr=lr)") + """
optimizer normed(lr: f32) for p: float[*S], g: float[*S] {
    p -= lr * g / sqrt(sum(g * g))
}
"""
    model = Running(text)
    before = dict(model.variables)
    model("fit", x=X, t=T)
    for name, g in gradients(before).items():
        expected = before[name] - 0.1 * g / np.sqrt(np.sum(g * g))
        np.testing.assert_allclose(model.variables[name], expected, rtol=1e-4)


def test_two_statements_have_states_of_their_own() -> None:
    model = Running("""
model M {
    param w: f32[3] = ones()
    step fit(x: f32[N, 3]) -> f32 {
        loss = mean(x @ w)
        minimize loss with sgd(lr=0.1, momentum=0.5)
        again = mean((x @ w) ** 2)
        minimize again with sgd(lr=0.1, momentum=0.5)
        return loss
    }
}
""")
    assert set(model.variables) == {"w", "fit.sgd.w.v", "fit.sgd#2.w.v"}
    (loss,) = model("fit", x=X)
    w = np.ones(3, np.float32)
    assert loss == pytest.approx((X @ w).mean(), rel=1e-5)
    w = w - 0.1 * X.mean(0)
    w = w - 0.1 * 2 * X.T @ (X @ w) / 5  # reads what the first statement wrote
    np.testing.assert_allclose(model.variables["w"], w, rtol=1e-5)


def test_updates_are_read_by_what_follows_and_cut_gradients() -> None:
    model = Running("""
model M {
    param w: f32[3] = ones()
    state seen: f32 = 0.0
    fn total(x: f32[N, 3]) -> f32 = sum(x @ w)
    step run(x: f32[N, 3]) -> (f32, f32, f32[3]) {
        a = total(x)
        seen += 1.0
        w := w * 2.0
        b = total(x)
        return a, b, grad(a + b, w)
    }
}
""")
    a, b, g = model("run", x=X)
    assert a == pytest.approx(X.sum(), rel=1e-5)
    assert b == pytest.approx(2 * X.sum(), rel=1e-5)
    np.testing.assert_allclose(g, 2 * X.sum(0), rtol=1e-5)
    model("run", x=X)
    assert model.variables["seen"] == 2


def test_members_lists_constants_and_shared_models() -> None:
    text = """
import nn
model Block(width: int, heads: int) where width % heads == 0 {
    size = width // heads
    inner = nn.Dense(width, width)
    fn forward(x: f32[N, width]) -> f32[N, width] = x + inner(x) * size
}
model M(width: int = 4, depth: int = 2) {
    blocks = [Block(width, 2) for _ in range(depth)]
    ends = [nn.Dense(3, width), nn.Identity() if width > 2 else nn.Dense(width, width)]
    shared = ends
    fn forward(x: f32[N, 3]) -> f32[N, width] {
        x = ends[0](x)
        for block in blocks[:-1] { x = block(x) }
        x = blocks[-1](x)
        return shared[1](x)
    }
}
"""
    model = Running(text)
    assert list(model.variables) == ["blocks.0.inner.w", "blocks.0.inner.b", "blocks.1.inner.w",
                                     "blocks.1.inner.b", "ends.0.w", "ends.0.b"]
    value = X @ model.variables["ends.0.w"]
    for k in range(2):
        value = value + 2 * (value @ model.variables[f"blocks.{k}.inner.w"])
    np.testing.assert_allclose(model("forward", x=X)[0], value, rtol=1e-4, atol=1e-5)
    deep = Running(text, depth=3)
    assert len(deep.variables) == 8
    with pytest.raises(UserError, match="width % heads == 0"):
        Running(text, width=5)
    with pytest.raises(UserError, match="has no parameter `breadth`"):
        Running(text, breadth=5)


def test_training_runs_train_forward_and_dropout() -> None:
    model = Running("""
import nn
model M {
    norm = nn.BatchNorm(2)
    drop = nn.Dropout(0.5)
    fn scores(x: f32[N, 2, H, W]) -> f32[N, 2, H, W] = drop(norm(x))
    step fit(x: f32[N, 2, H, W]) -> f32[N, 2, H, W] = scores(x)
}
""")
    x = RANDOM.normal(3, 2, (4, 2, 3, 3)).astype(np.float32)
    (plain,) = model("scores", x=x)
    np.testing.assert_allclose(plain, x / np.sqrt(1 + 1e-5), rtol=1e-5)
    (trained,) = model("fit", x=x)
    mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3))
    np.testing.assert_allclose(model.variables["norm.seen_mean"], 0.1 * mean, rtol=1e-4)
    np.testing.assert_allclose(model.variables["norm.seen_var"], 0.9 + 0.1 * var, rtol=1e-4)
    kept = trained != 0
    assert 0.2 < kept.mean() < 0.8
    shape = (2, 1, 1)
    whole = (x - mean.reshape(shape)) / np.sqrt(var.reshape(shape) + 1e-5)
    np.testing.assert_allclose(trained[kept], 2 * whole[kept], rtol=1e-3)
    assert (model("fit", x=x)[0] != trained).any()


def test_initial_values_depend_on_seed_and_path_alone() -> None:
    text = """
import nn
model M {
    a = nn.Dense(100, 50)
    b = nn.Dense(100, 50)
    param c: f32[7] = uniform(low=-1.0, high=3.0)
    param d: f32[20, 10, 3, 3] = he_normal()
    param e: f32[4, 5] = unit_rows(normal())
    param f: f32[2, 2] = [[1, 2], [3, 4]]
    param g: f32[3] = 1.0 / 2
}
"""
    one, same, other = Running(text), Running("\n\n" + text), Running(text, seed=1)
    for name, value in one.variables.items():
        np.testing.assert_array_equal(value, same.variables[name])
    assert (one.variables["a.w"] != other.variables["a.w"]).mean() > 0.9
    assert (one.variables["a.w"] != one.variables["b.w"]).mean() > 0.9
    limit = np.sqrt(6 / 150)
    assert 0.95 * limit < np.abs(one.variables["a.w"]).max() <= limit
    assert one.variables["c"].min() >= -1
    assert one.variables["c"].max() <= 3
    assert one.variables["d"].std() == pytest.approx(np.sqrt(2 / 90), rel=0.1)
    np.testing.assert_allclose(np.linalg.norm(one.variables["e"], axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(one.variables["f"], [[1, 2], [3, 4]])
    np.testing.assert_array_equal(one.variables["g"], [0.5] * 3)


def test_a_step_s_arguments_are_constants_to_its_minimize() -> None:
    model = Running("""
import nn
model Inner {
    layer = nn.Dense(3, 1)
    step fit(x: f32[N, 3]) -> f32 {
        loss = mean(layer(x) ** 2)
        minimize loss with sgd(lr=0.1)
        return loss
    }
}
model M {
    below = nn.Dense(3, 3)
    inner = Inner()
    step fit(x: f32[N, 3]) -> f32 = inner.fit(below(x))
}
""")
    before = dict(model.variables)
    model("fit", x=X)
    changed = {n for n in before if (before[n] != model.variables[n]).any()}
    assert changed == {"inner.layer.w", "inner.layer.b"}


def test_unknown_models_and_missing_arguments_are_the_user_s_errors() -> None:
    program = load_program(ROOT / "examples" / "lenet5.dl")
    with pytest.raises(UserError, match="did you mean `LeNet5`"):
        elaborate(program, "LeNet")
    with pytest.raises(UserError, match="`Subsample` needs `maps`"):
        elaborate(program, "Subsample")


CALLS = "".join(f"fn g{k}(x: f32) -> f32 = g{k + 1}(x) + g{k + 1}(x)\n" for k in range(40))
SYMBOLS = ", ".join(f"x{c}: f32[{c}]" for c in "ABCDEFGH")


@pytest.mark.parametrize("text", [
    "fn f(x: f32) -> f32 {\n for i in range(90000) { for j in range(90000) { x = x } }\n"
    " return x\n}\n",
    "fn f(x: f32) -> f32 {\n for i in range(90000) { x = x * x + 1.0 - x * x }\n return x\n}\n",
    CALLS + "fn g40(x: f32) -> f32 = x\n",
    "const A: i32[3] = [[[0 for i in range(900)] for j in range(900)] for k in range(9)][0][0]\n",
    "const A: int = 2 ** 1000 ** 1000 ** 1000\n",
    f"fn f({SYMBOLS}) -> f32[(A + B + C + D + E + F + G + H) ** 4 ** 4] = xA\n",
    f"fn f({SYMBOLS}) -> f32[((A + B + C + D + E + F + G + H) ** 4) ** 4] = xA\n",
], ids=range(7))
def test_what_grows_without_bounds_ends_in_a_diagnostic(text: str) -> None:
    start = time.monotonic()
    with pytest.raises(UserError, match=r"too large|more than"):
        check_program(program_of(text))
    assert time.monotonic() - start < 20
