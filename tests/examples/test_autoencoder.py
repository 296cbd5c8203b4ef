"""autoencoder.dl: codes, pictures, the error that the paper reports, and all gradients."""

from __future__ import annotations

import numpy as np
import pytest

from tests.examples.reference import (
    Array,
    Weights,
    adam_gradients,
    build,
    check_gradients,
    sigmoid,
    softplus,
    weights,
)

IMAGES = np.random.default_rng(1).integers(0, 256, (3, 28, 28)).astype(np.uint8)
X = IMAGES.reshape(3, 784) / 255.0


def dense(w: Weights, name: str, x: Array) -> Array:
    return x @ w[f"{name}.w"] + w[f"{name}.b"]


def encode(w: Weights, x: Array) -> Array:
    for k in range(3):
        x = sigmoid(dense(w, f"encoder.{k}", x))
    return dense(w, "code", x)


def decode(w: Weights, z: Array) -> Array:
    for k in range(3):
        z = sigmoid(dense(w, f"decoder.{k}", z))
    return dense(w, "output", z)


def loss(w: Weights) -> float:
    scores = decode(w, encode(w, X))
    return float((softplus(scores) - scores * X).sum()) / len(X)


def test_numbers() -> None:
    model = build("autoencoder.dl", "Autoencoder")
    w = weights(model)
    np.testing.assert_allclose(model.encode(IMAGES), encode(w, X), rtol=2e-4, atol=2e-5)
    code = encode(w, X)
    np.testing.assert_allclose(model.decode(code.astype(np.float32)), decode(w, code),
                               rtol=2e-4, atol=2e-5)
    error = ((sigmoid(decode(w, code)) - X) ** 2).sum(-1).mean()
    assert float(model.squared_error(IMAGES)) == pytest.approx(error, rel=1e-4)


def test_gradients() -> None:
    model = build("autoencoder.dl", "Autoencoder")
    w = weights(model)
    assert float(model.fit(IMAGES)) == pytest.approx(loss(w), rel=1e-5)
    found = adam_gradients(model, "fit.adam")
    assert found.keys() == {f"{m}.{p}" for p in "wb" for m in (
        *(f"{part}.{k}" for part in ("encoder", "decoder") for k in range(3)), "code", "output")}
    check_gradients(loss, w, found)


def test_learns() -> None:
    """Three pictures over and over: most of what is wrong at first goes."""
    model = build("autoencoder.dl", "Autoencoder")
    losses = [float(model.fit(IMAGES)) for _ in range(40)]
    assert losses[-1] < 0.9 * losses[0]
    assert losses[-1] < losses[20] < losses[0]
