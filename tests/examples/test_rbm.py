"""rbm.dl and dbn.dl: contrastive divergence, free energy, and the stack that is trained by layers.

Draws of units are made certain by large weights, so that NumPy can follow them.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.examples.reference import (
    Array,
    Weights,
    adam_gradients,
    build,
    check_gradients,
    cross_entropy,
    sigmoid,
    softplus,
    weights,
)

V = np.random.default_rng(2).integers(0, 2, (5, 6)).astype(np.float64)


def certain(shape: tuple[int, ...]) -> Array:
    """Weights whose sums over zeros and ones are far from 0."""
    return np.random.default_rng(3).choice([-317.0, 691.0], shape)


def up(w: Weights, v: Array, prefix: str = "") -> Array:
    return sigmoid(np.clip(v @ w[f"{prefix}w"] + w[f"{prefix}c"], -500, 500))


def down(w: Weights, h: Array, prefix: str = "") -> Array:
    return sigmoid(np.clip(h @ w[f"{prefix}w"].T + w[f"{prefix}b"], -500, 500))


def test_units_and_free_energy() -> None:
    model = build("rbm.dl", "RBM", visible=6, hidden=4)
    model.w = np.random.default_rng(4).standard_normal((6, 4)).astype(np.float32)
    model.b = np.linspace(-1, 1, 6, dtype=np.float32)
    model.c = np.linspace(1, -1, 4, dtype=np.float32)
    w, v = weights(model), V.astype(np.float32)
    np.testing.assert_allclose(model.up(v), up(w, V), rtol=1e-5)
    np.testing.assert_allclose(model.down(up(w, V).astype(np.float32)), down(w, up(w, V)),
                               rtol=1e-5)
    free = -(V @ w["b"]) - softplus(V @ w["w"] + w["c"]).sum(-1)
    np.testing.assert_allclose(model.free_energy(v), free, rtol=1e-5)
    # It is what is left when the hidden units are summed out: -log of the sum of exp(-energy).
    states = np.array(np.meshgrid(*[[0, 1]] * 4)).reshape(4, -1).T
    energy = -(V @ w["b"])[:, None] - states @ w["c"] - V @ w["w"] @ states.T
    np.testing.assert_allclose(free, -np.log(np.exp(-energy).sum(-1)), rtol=1e-9)


@pytest.mark.parametrize("k", [1, 3])
def test_contrastive_divergence(k: int) -> None:
    model = build("rbm.dl", "RBM", visible=6, hidden=4)
    model.w = certain((6, 4)).astype(np.float32)
    model.b = np.full(6, 100, np.float32)
    model.c = np.full(4, -100, np.float32)
    w = weights(model)
    speed: Array = np.zeros((6, 4))
    for _ in range(2):
        v, h0 = V, up(w, V)
        h = h0
        assert np.all((h < 1e-9) | (h > 1 - 1e-9))
        for _ in range(k):
            v = down(w, h)
            h = up(w, v)
        error = float(model.contrast(V.astype(np.float32), k=k, lr=0.1, momentum=0.25))
        assert error == pytest.approx(((V - v) ** 2).mean(), abs=1e-6)
        speed = 0.25 * speed + (V.T @ h0 - v.T @ h) / 5
        w["w"] = w["w"] + 0.1 * speed
        w["b"] = w["b"] + 0.1 * (V - v).mean(0)
        w["c"] = w["c"] + 0.1 * (h0 - h).mean(0)
        for name, value in weights(model).items():
            expected = speed if name == "speed" else w[name]
            np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-5, err_msg=name)


IMAGES = np.random.default_rng(1).integers(0, 256, (4, 28, 28)).astype(np.uint8)
LABELS = np.array([3, 0, 9, 3], np.uint8)
X = IMAGES.reshape(4, 784) / 255.0


def scores(w: Weights) -> Array:
    x = X
    for k in range(3):
        x = up(w, x, f"layers.{k}.")
    return np.asarray(x @ w["output.w"] + w["output.b"])


def test_dbn_as_a_classifier() -> None:
    model = build("dbn.dl", "DBN")
    w = weights(model)
    wrong = (scores(w).argmax(-1) != LABELS).mean()
    assert float(model.error_rate(IMAGES, LABELS)) == pytest.approx(wrong)
    loss = float(model.fine_tune(IMAGES, LABELS))
    assert loss == pytest.approx(cross_entropy(scores(w), LABELS), rel=1e-5)
    found = adam_gradients(model, "fine_tune.adam")
    assert found.keys() == {"output.w", "output.b", *(
        f"layers.{k}.{p}" for k in range(3) for p in "wc")}
    check_gradients(lambda w: cross_entropy(scores(w), LABELS), w, found)


def test_dbn_layers_are_trained_one_by_one() -> None:
    """A step of a phase moves its layer alone."""
    for number in (1, 2, 3):
        model = build("dbn.dl", "DBN")
        before = weights(model)
        model.function(f"pretrain{number}")(IMAGES)
        after = weights(model)
        moved = {name for name in before if not np.array_equal(before[name], after[name])}
        assert moved == {f"layers.{number - 1}.{p}" for p in ("w", "b", "c", "speed")}


def test_dbn_learns() -> None:
    """A layer's reconstructions get better, then four labels are known by heart."""
    model = build("dbn.dl", "DBN")
    digits = np.kron(np.eye(4, dtype=np.uint8).reshape(4, 2, 2), np.ones((14, 14), np.uint8)) * 255
    errors = [float(model.pretrain1(digits)) for _ in range(30)]
    assert np.mean(errors[-5:]) < 0.5 * errors[0]
    losses = [float(model.fine_tune(digits, LABELS)) for _ in range(40)]
    assert losses[-1] < 0.5 * losses[0]
