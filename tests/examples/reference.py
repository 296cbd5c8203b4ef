"""What the examples' papers say, in NumPy and float64; gradients by differences of the loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import erf
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import dlc
from dlc.frontend.driver import Model

Array = NDArray[np.float64]
Weights = Mapping[str, Array]
STEP = 1e-5
EXAMPLES = Path(__file__).parents[2] / "examples"


def build(file: str, name: str, **arguments: int | float) -> Model:
    """A model of an example, with seed 0."""
    return dlc.load(EXAMPLES / file).model(name, seed=0, **arguments)


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x))."""
    return np.asarray(1 / (1 + np.exp(-x)))


def softplus(x: Array) -> Array:
    """log(1 + exp(x))."""
    return np.asarray(np.logaddexp(0, x))


def softmax(x: Array) -> Array:
    """Along the last axis."""
    e = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(e / e.sum(-1, keepdims=True))


def log_softmax(x: Array) -> Array:
    """Along the last axis."""
    shifted = x - x.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))


def gelu(x: Array) -> Array:
    """x times the normal distribution's share below x."""
    return np.asarray(x * 0.5 * (1 + np.vectorize(erf)(x / np.sqrt(2))))


def layer_norm(x: Array, scale: Array, shift: Array) -> Array:
    """Along the last axis, epsilon 1e-5."""
    centred = x - x.mean(-1, keepdims=True)
    return np.asarray(centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * scale
                      + shift)


def cross_entropy(scores: Array, label: NDArray[Any]) -> float:
    """The mean over all labels."""
    likely = log_softmax(scores).reshape(-1, scores.shape[-1])
    return float(-likely[np.arange(len(likely)), label.reshape(-1)].mean())


def weights(model: Model) -> dict[str, Array]:
    """The variables of a model in float64, by name."""
    return {name: np.array(value, np.float64) for name, value in model.variables.items()}


def adam_gradients(model: Model, prefix: str) -> dict[str, Array]:
    """What the first step of adam had as gradients: its first moment is a tenth of them."""
    states = weights(model)
    return {name[len(prefix) + 1:-2]: value * 10 for name, value in states.items()
            if name.startswith(f"{prefix}.") and name.endswith(".m")}


def slope(loss: Callable[[Weights], float], at: Weights, way: Mapping[str, Array]) -> float:
    """The derivative of `loss` at `at` along `way`, by a central difference."""
    ahead = {name: w + STEP * way[name] if name in way else w for name, w in at.items()}
    behind = {name: w - STEP * way[name] if name in way else w for name, w in at.items()}
    return (loss(ahead) - loss(behind)) / (2 * STEP)


def check_gradients(
    loss: Callable[[Weights], float], at: Weights, found: Mapping[str, Array], rtol: float = 2e-3
) -> None:
    """Holds each gradient against differences of `loss`, along itself and in a random direction."""
    rng = np.random.default_rng(7)
    for name, gradient in found.items():
        size = np.linalg.norm(gradient)
        assert size > 0, f"the gradient of {name} is zero"
        for way in (gradient / size, rng.standard_normal(gradient.shape)):
            expected = slope(loss, at, {name: way})
            scale = size * np.linalg.norm(way)
            assert abs(float((gradient * way).sum()) - expected) <= rtol * scale, name
