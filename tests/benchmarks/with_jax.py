"""The workloads in JAX: whole steps jitted, weights donated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax, nn

from tests.benchmarks.mathematics import mathematics_of
from tests.benchmarks.shapes import LEARNING_RATE, Array, Workload

_MAPS = ("NCHW", "OIHW", "NCHW")


class Run:
    """Calls one workload."""

    def __init__(self, workload: Workload) -> None:
        weights, inputs = workload.draw()
        self.weights = {name: jnp.asarray(value) for name, value in weights.items()}
        self.inputs = {name: jnp.asarray(value) for name, value in inputs.items()}
        self.function = _compiled(workload)
        if workload.kind == "step":
            self.call = self._step

    def call(self) -> Any:
        """The outputs, once they are there."""
        return jax.block_until_ready(self.function(self.weights, **self.inputs))

    def _step(self) -> float:
        self.weights, loss = self.function(self.weights, **self.inputs)
        return float(loss)

    def trained(self) -> dict[str, Array]:
        """The weights as they are now."""
        return {name: np.asarray(value) for name, value in self.weights.items()}


def _compiled(workload: Workload) -> Callable[..., Any]:
    function, ops = mathematics_of(workload.mathematics), Ops()

    def step(p: dict[str, Any], **inputs: Any) -> tuple[dict[str, Any], Any]:
        loss, slopes = jax.value_and_grad(lambda p: function(ops, p, **inputs))(p)
        return {name: p[name] - LEARNING_RATE * slopes[name] for name in p}, loss

    def forward(p: dict[str, Any], **inputs: Any) -> Any:
        return function(ops, p, **inputs)

    def gradient(p: dict[str, Any], g: Any, **inputs: Any) -> Any:
        chosen = {name: inputs[name] for name in workload.wrt}
        _, pull = jax.vjp(lambda chosen: function(ops, p, **{**inputs, **chosen}), chosen)
        slopes = pull(g)[0]
        return tuple(slopes[name] for name in workload.wrt)

    if workload.kind == "step":
        return jax.jit(step, donate_argnums=0)
    return jax.jit({"forward": forward, "gradient": gradient}[workload.kind])


class Ops:
    """The ops of `mathematics.py`."""

    tanh, exp, transpose, reshape, split = map(
        staticmethod, (jnp.tanh, jnp.exp, jnp.transpose, jnp.reshape, jnp.split))
    sum, max, mean, var = map(staticmethod, (jnp.sum, jnp.max, jnp.mean, jnp.var))
    relu, sigmoid, softmax, product = map(
        staticmethod, (nn.relu, nn.sigmoid, nn.softmax, jnp.matmul))

    def dense(self, x: Any, w: Any, b: Any) -> Any:
        return x @ w + b

    def gelu(self, x: Any) -> Any:
        return nn.gelu(x, approximate=False)

    def cross_entropy(self, scores: Any, label: Any) -> Any:
        return -jnp.mean(jnp.take_along_axis(nn.log_softmax(scores), label[..., None], -1))

    def mean_square(self, x: Any, target: Any) -> Any:
        return jnp.mean(jnp.square(x - target))

    def rows(self, table: Any, places: Any) -> Any:
        return table[places]

    def picture(self, x: Any) -> Any:
        return x

    def flat(self, maps: Any) -> Any:
        return maps.reshape(maps.shape[0], -1)

    def mean_of_maps(self, maps: Any) -> Any:
        return jnp.mean(maps, (2, 3))

    def mean_pool(self, maps: Any) -> Any:
        window = (1, 1, 2, 2)
        return lax.reduce_window(maps, 0.0, lax.add, window, window, "VALID") * 0.25

    def max_pool(self, maps: Any) -> Any:
        window = (1, 1, 2, 2)
        return lax.reduce_window(maps, -jnp.inf, lax.max, window, window, "VALID")

    def conv(self, x: Any, w: Any, b: Any, stride: int = 1, padding: int = 0,
             groups: int = 1) -> Any:
        around = [(padding, padding)] * 2
        maps = lax.conv_general_dilated(x, w, (stride, stride), around, dimension_numbers=_MAPS,
                                        feature_group_count=groups)
        return maps if b is None else maps + b[:, None, None]

    def dilated(self, x: Any, w: Any, step: int) -> Any:
        return lax.conv_general_dilated(x, w, (1,), [(step, step)], rhs_dilation=(step,),
                                        dimension_numbers=("NCH", "OIH", "NCH"))

    def attention(self, q: Any, k: Any, v: Any) -> Any:
        weight = jnp.einsum("nhqd,nhkd->nhqk", q, k) * q.shape[-1] ** -0.5
        return jnp.einsum("nhqk,nhkd->nhqd", nn.softmax(weight, -1), v)

    def layer_norm(self, x: Any, scale: Any, shift: Any) -> Any:
        return nn.standardize(x, -1, epsilon=1e-5) * scale + shift

    def batch_norm(self, x: Any, scale: Any, shift: Any) -> Any:
        even = nn.standardize(x, (0, 2, 3), epsilon=1e-5)
        return even * scale[:, None, None] + shift[:, None, None]

    def lstm(self, xs: Any, wx: Any, wh: Any, b: Any) -> Any:
        def cell(carry: tuple[Any, Any], x: Any) -> tuple[tuple[Any, Any], Any]:
            h, c = carry
            i, f, g, o = jnp.split(x @ wx + h @ wh + b, 4, -1)
            c = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(g)
            h = nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        zeros = jnp.zeros((xs.shape[1], wh.shape[0]))
        return lax.scan(cell, (zeros, zeros), xs)[1]

    def gru(self, xs: Any, wx: Any, wh: Any, b: Any, reset_b: Any) -> Any:
        def cell(h: Any, x: Any) -> tuple[Any, Any]:
            xr, xz, xn = jnp.split(x @ wx + b, 3, -1)
            hr, hz, hn = jnp.split(h @ wh, 3, -1)
            z = nn.sigmoid(xz + hz)
            h = (1 - z) * jnp.tanh(xn + nn.sigmoid(xr + hr) * (hn + reset_b)) + z * h
            return h, h

        return lax.scan(cell, jnp.zeros((xs.shape[1], wh.shape[0])), xs)[1]
