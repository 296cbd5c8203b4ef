"""Loaded programs as objects: parts, functions of parts, variables, consts, names."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dlc

PROGRAM = """
import nn
const SIZE: int = 4
const SCALE: f32 = 0.5
const MEAN: f32[2, 2] = [[0.1, 0.2], [0.3, 0.4]]
fn prepare(image: u8[N, SIZE]) -> f32[N, SIZE] = f32(image) / 255.0
fn rows(x: float[*S, K]) -> float[*S, K] = softmax(x * 2.0, axis=-1)
fn second(x: f32[*S], k: integer[*S]) -> integer[*S] = k + k
model Net(width: int) {
    layers = [nn.Dense(SIZE, width), nn.Dense(width, 3)]
    norm = nn.BatchNorm(2)
    state steps: i32 = 0
    fn forward(x: f32[N, SIZE]) -> f32[N, 3] = layers[1](tanh(layers[0](x)))
    step fit(x: f32[N, SIZE], y: f32[N, 3]) -> f32 {
        loss = mean((forward(x) - y) ** 2)
        steps += 1
        minimize loss with adam()
        return loss
    }
}
model Outer { net = Net(2) }
"""
X = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)


@pytest.fixture
def program(tmp_path: Path) -> Any:
    (tmp_path / "program.dl").write_text(PROGRAM)
    return dlc.load(tmp_path / "program.dl")


def test_lists_of_parts_have_places(program: Any) -> None:
    net = program.Net(width=6)
    assert [layer.w.shape for layer in net.layers] == [(4, 6), (6, 3)]
    assert len(net.layers) == 2
    np.testing.assert_array_equal(net.layers[-1].w, net.variables["layers.1.w"])
    with pytest.raises(IndexError, match="place 2 of 2 in layers of Net"):
        net.layers[2]
    with pytest.raises(TypeError, match="a model, not a list"):
        len(net.norm)


def test_a_variable_is_read_as_a_copy_and_set_at_once(program: Any) -> None:
    net = program.Net(width=6)
    before = net.layers[0].w
    new = np.ones((4, 6), np.float32)
    net.layers[0].w = new
    new[:] = 7  # what was set is a copy
    assert (net.layers[0].w == 1).all()
    assert (before != 1).any()  # what was read is a copy too
    with pytest.raises(ValueError, match="read-only"):
        before[0] = 1
    copies = net.layers[0].w, net.layers[0].w
    assert not np.shares_memory(*copies)
    with pytest.raises(dlc.RunError, match=r"f32\[4, 6\]"):
        net.layers[0].w = np.ones((6, 4), np.float32)
    with pytest.raises(dlc.RunError, match="f64"):
        net.layers[0].w = np.ones((4, 6))
    net.steps = np.int32(3)
    assert net.steps == 3


def test_parts_run(program: Any) -> None:
    net = program.Net(width=6)
    w, b = net.layers[0].w, net.layers[0].b
    np.testing.assert_allclose(net.layers[0](X), X @ w + b, rtol=1e-5)
    cube = np.stack([X, X])
    np.testing.assert_allclose(net.layers[0].forward(x=cube)[1], X @ w + b, rtol=1e-5)
    np.testing.assert_allclose(net.layers[0](X[0]), X[0] @ w + b, rtol=1e-5)
    with pytest.raises(dlc.RunError, match=r"`x` is f32\[5, 3\]"):
        net.layers[0](X[:, :3])
    images = np.random.default_rng(1).normal(size=(3, 2, 4, 4)).astype(np.float32)
    net.norm.train_forward(images)  # a step of a part changes the variables of the whole
    np.testing.assert_allclose(net.norm.seen_mean, 0.1 * images.mean((0, 2, 3)), rtol=1e-4)


def test_a_part_of_a_part_runs(program: Any) -> None:
    outer = program.Outer()
    assert outer.net(X).shape == (5, 3)
    np.testing.assert_allclose(
        outer.net.layers[1](np.tanh(outer.net.layers[0](X))), outer.net(X), rtol=1e-5)
    with pytest.raises(AttributeError, match="`net` of Outer has no `fit`"):
        outer.net.fit(X, X)  # what its optimizer keeps is no variable of Outer


def test_functions_and_constants_of_the_file(program: Any) -> None:
    np.testing.assert_allclose(program.prepare(np.full((1, 4), 51, np.uint8)), 0.2, rtol=1e-6)
    assert program.SIZE == 4
    assert type(program.SIZE) is int
    assert program.SCALE == np.float32(0.5)
    assert program.MEAN.tolist() == np.array([[0.1, 0.2], [0.3, 0.4]], np.float32).tolist()
    with pytest.raises(ValueError, match="read-only"):
        program.MEAN[0] = 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(3,), (2, 3), (4, 2, 3)])
def test_functions_for_any_rank_and_type(program: Any, dtype: Any, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).normal(size=shape).astype(dtype)
    made = program.rows(x)
    assert made.dtype == dtype
    e = np.exp(2 * x)
    np.testing.assert_allclose(made, e / e.sum(-1, keepdims=True), rtol=1e-5)
    assert program.rows.at(x) is program.rows.at(x=x)
    assert "graph rows(" in program.rows.at(x).dump()
    k = np.ones(shape, np.int16)
    assert program.second(x.astype(np.float32), k).dtype == np.int16


def test_names(program: Any) -> None:
    net = program.Net(width=6)
    assert {"layers", "norm", "steps", "fit", "forward", "save"} <= set(dir(net))
    assert {"w", "b", "forward"} <= set(dir(net.layers[0]))
    assert {"Net", "prepare", "rows", "MEAN"} <= set(dir(program))
    with pytest.raises(AttributeError, match="Net has no `layer`; did you mean `layers`"):
        net.layer  # noqa: B018
    with pytest.raises(AttributeError, match="`norm` of Net has no `scael`; did you mean `scale`"):
        net.norm.scael  # noqa: B018
    with pytest.raises(AttributeError, match="did you mean `prepare`"):
        program.prepar  # noqa: B018
    assert not inspect.isabstract(net.norm)
    assert not hasattr(net, "__array__")


def test_repr_is_a_table(program: Any) -> None:
    net = program.Net(width=600, seed=7)
    assert repr(net) == "\n".join([
        "Net(seed=7)",
        "  layers.0.w      f32[4, 600]         2,400",
        "  layers.0.b      f32[600]              600",
        "  layers.1.w      f32[600, 3]         1,800",
        "  layers.1.b      f32[3]                  3",
        "  norm.scale      f32[2]                  2",
        "  norm.shift      f32[2]                  2",
        "  norm.seen_mean  f32[2]                  2  state",
        "  norm.seen_var   f32[2]                  2  state",
        "  steps           i32                     1  state",
        "  4,807 trained numbers, 9,610 kept by optimizers"])
    assert repr(net.layers[1]).splitlines()[0] == "Net.layers.1"
    assert repr(net.norm.train_forward).startswith("<step Net.norm.train_forward(x: f32[N, 2,")
    assert repr(program.rows) == "<fn rows(x: float[*S, K]) -> float[*S, K]>"


def test_a_loaded_model_is_called_as_its_forward(tmp_path: Path) -> None:
    (tmp_path / "m.dl").write_text(
        "model A {\n    fn forward(x: f32[N]) -> f32[N] = x + 1.0\n}\n\n"
        "model B {\n    fn back(x: f32[N]) -> f32[N] = x\n}\n")
    program = dlc.load(tmp_path / "m.dl")
    np.testing.assert_array_equal(program.A()(np.zeros(3, np.float32)), [1, 1, 1])
    with pytest.raises(AttributeError, match="B has no `forward`"):
        program.B()(np.zeros(3, np.float32))
