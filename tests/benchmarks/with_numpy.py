"""The workloads in NumPy: a peer where one would write it so, and in f64 the reference."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.benchmarks.mathematics import Missing, mathematics_of
from tests.benchmarks.shapes import LEARNING_RATE, Array, Workload


class Run:
    """Calls one workload. Only one training step is written out by hand."""

    def __init__(self, workload: Workload) -> None:
        self.weights, self.inputs = workload.draw()
        if workload.kind == "step" and workload.mathematics != "mlp":
            raise Missing("has no gradients")
        self.function = (mlp_step if workload.kind == "step"
                         else GRADIENTS[workload.mathematics, workload.wrt]
                         if workload.kind == "gradient" else mathematics_of(workload.mathematics))
        self.leading = {"step": (self.weights,), "gradient": (Ops(),),
                        "forward": (Ops(), self.weights)}[workload.kind]

    def call(self) -> Any:
        """The loss, or the outputs."""
        return self.function(*self.leading, **self.inputs)

    def trained(self) -> dict[str, Array]:
        """The weights as they are now."""
        return self.weights


def mlp_step(p: dict[str, Array], x: Array, y: Array) -> float:
    """One step of gradient descent; `p` is changed in place."""
    first = np.maximum(x @ p["a.w"] + p["a.b"], 0)
    second = np.maximum(first @ p["b.w"] + p["b.b"], 0)
    part = Ops().softmax(second @ p["c.w"] + p["c.b"], -1)
    places = (np.arange(len(y)), y)
    loss = -np.log(part[places]).mean()
    part[places] -= 1
    part /= np.float32(len(y))
    d_second = (part @ p["c.w"].T) * (second > 0)
    d_first = (d_second @ p["b.w"].T) * (first > 0)
    for name, into, slope in (("a", x, d_first), ("b", first, d_second), ("c", second, part)):
        p[f"{name}.w"] -= np.float32(LEARNING_RATE) * (into.T @ slope)
        p[f"{name}.b"] -= np.float32(LEARNING_RATE) * slope.sum(0)
    return float(loss)


def reference(workload: Workload) -> list[Array]:
    """The loss of the first step, or the outputs, from the same numbers in f64."""
    ops, weights, inputs = Ops(), *_precise(workload)
    if workload.kind == "gradient":
        found = GRADIENTS[workload.mathematics, workload.wrt](ops, **inputs)
    else:
        found = mathematics_of(workload.mathematics)(ops, weights, **inputs)
    return [np.asarray(x) for x in (found if isinstance(found, tuple) else (found,))]


def forward_macs(workload: Workload) -> int:
    """Multiply-adds of all products of the forward pass, counted as it runs."""
    ops, weights, inputs = Ops(), *_precise(workload)
    inputs.pop("g", None)
    mathematics_of(workload.mathematics)(ops, weights, **inputs)
    return ops.macs


def _precise(workload: Workload) -> list[dict[str, Array]]:
    """Weights and inputs, in f64 where they are floats."""
    return [{k: v if v.dtype == np.int32 else v.astype(np.float64) for k, v in part.items()}
            for part in workload.draw()]


class Ops:
    """The ops of `mathematics.py`; `macs` counts the multiply-adds of all products so far."""

    tanh, exp, transpose, reshape = map(
        staticmethod, (np.tanh, np.exp, np.transpose, np.reshape))
    sum, max, mean, var = map(staticmethod, (np.sum, np.max, np.mean, np.var))

    def __init__(self) -> None:
        self.macs = 0

    def product(self, x: Array, y: Array) -> Array:
        result = x @ y
        self.macs += result.size * x.shape[-1]
        return result

    def dense(self, x: Array, w: Array, b: Array) -> Array:
        return self.product(x, w) + b

    def relu(self, x: Array) -> Array:
        return np.maximum(x, 0)

    def sigmoid(self, x: Array) -> Array:
        return 1 / (1 + np.exp(-x))

    def gelu(self, x: Array) -> Array:
        return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))

    def softmax(self, x: Array, axis: int) -> Array:
        e = np.exp(x - x.max(axis, keepdims=True))
        return e / e.sum(axis, keepdims=True)

    def cross_entropy(self, scores: Array, label: Array) -> Array:
        shifted = scores - scores.max(-1, keepdims=True)
        log = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
        return -np.take_along_axis(log, label[..., None], -1).mean()

    def mean_square(self, x: Array, target: Array) -> Array:
        return np.square(x - target).mean()

    def rows(self, table: Array, places: Array) -> Array:
        return table[places]

    def split(self, x: Array, parts: int, axis: int) -> list[Array]:
        return np.split(x, parts, axis)

    def picture(self, x: Array) -> Array:
        return x

    def flat(self, maps: Array) -> Array:
        return maps.reshape(len(maps), -1)

    def mean_of_maps(self, maps: Array) -> Array:
        return maps.mean((2, 3))

    def mean_pool(self, maps: Array) -> Array:
        n, c, h, w = maps.shape
        return maps.reshape(n, c, h // 2, 2, w // 2, 2).mean((3, 5))

    def max_pool(self, maps: Array) -> Array:
        n, c, h, w = maps.shape
        return maps.reshape(n, c, h // 2, 2, w // 2, 2).max((3, 5))

    def conv(self, x: Array, w: Array, b: Array | None, stride: int = 1, padding: int = 0,
             groups: int = 1) -> Array:
        """A place of the kernel after another; groups are 1, or as many as channels."""
        around = ((0, 0), (0, 0), (padding, padding), (padding, padding))
        wide, kernel = np.pad(x, around), w.shape[-1]
        rows, columns = ((n + 2 * padding - kernel) // stride + 1 for n in x.shape[2:])
        result = np.zeros((len(x), len(w), rows, columns), x.dtype)
        for i in range(kernel):
            for j in range(kernel):
                part = wide[:, :, i : i + rows * stride : stride, j : j + columns * stride : stride]
                rule = "nchw,oc->nohw" if groups == 1 else "nohw,oc->nohw"
                result += np.einsum(rule, part, w[:, :, i, j], optimize=True)
        self.macs += len(x) * w[:, :, 0, 0].size * _taps(x, w, stride, padding)
        return result if b is None else result + b[:, None, None]

    def dilated(self, x: Array, w: Array, step: int) -> Array:
        """Three taps of each row, `step` apart."""
        length = x.shape[-1]
        wide = np.pad(x, ((0, 0), (0, 0), (step, step)))
        parts = (wide[:, :, step * k : step * k + length] for k in range(3))
        self.macs += len(x) * w[:, :, 0].size * (3 * length - 2 * step)
        return sum(np.einsum("ncl,oc->nol", part, w[:, :, k], optimize=True)
                   for k, part in enumerate(parts))

    def attention(self, q: Array, k: Array, v: Array) -> Array:
        weight = self.product(q, k.swapaxes(-1, -2)) / math.sqrt(q.shape[-1])
        return self.product(self.softmax(weight, -1), v)

    def layer_norm(self, x: Array, scale: Array, shift: Array) -> Array:
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt(np.square(centred).mean(-1, keepdims=True) + 1e-5) * scale + shift

    def batch_norm(self, x: Array, scale: Array, shift: Array) -> Array:
        return self.layer_norm(_by_channel(x), scale[:, None], shift[:, None]).reshape(
            x.swapaxes(0, 1).shape).swapaxes(0, 1)

    def lstm(self, xs: Array, wx: Array, wh: Array, b: Array) -> Array:
        """Columns of the weights: input gate, forget gate, candidate, output gate."""
        h = c = np.zeros((xs.shape[1], len(wh)), xs.dtype)
        outputs = []
        for x in xs:
            i, f, g, o = np.split(self.product(x, wx) + self.product(h, wh) + b, 4, -1)
            c = self.sigmoid(f) * c + self.sigmoid(i) * np.tanh(g)
            h = self.sigmoid(o) * np.tanh(c)
            outputs.append(h)
        return np.stack(outputs)

    def gru(self, xs: Array, wx: Array, wh: Array, b: Array, reset_b: Array) -> Array:
        """Columns of the weights: reset gate, update gate, candidate."""
        h, outputs = np.zeros((xs.shape[1], len(wh)), xs.dtype), []
        for x in xs:
            xr, xz, xn = np.split(self.product(x, wx) + b, 3, -1)
            hr, hz, hn = np.split(self.product(h, wh), 3, -1)
            z = self.sigmoid(xz + hz)
            h = (1 - z) * np.tanh(xn + self.sigmoid(xr + hr) * (hn + reset_b)) + z * h
            outputs.append(h)
        return np.stack(outputs)


def _taps(x: Array, w: Array, stride: int, padding: int) -> int:
    """Pairs of an output and a place of the kernel that lie in the picture."""
    ones = np.pad(np.ones(x.shape[2:], np.int64), padding)
    kernel = w.shape[2:]
    windows = np.lib.stride_tricks.sliding_window_view(ones, kernel)[::stride, ::stride]
    return int(windows.sum())


def _by_channel(x: Array) -> Array:
    """f32[N, C, H, W] -> f32[C, N * H * W]."""
    return x.swapaxes(0, 1).reshape(x.shape[1], -1)


def _norm_gradients(x: Array, scale: Array, g: Array) -> tuple[Array, Array]:
    """By x, of rows that are normalised, and the normalised rows themselves."""
    centred = x - x.mean(-1, keepdims=True)
    over = 1 / np.sqrt(np.square(centred).mean(-1, keepdims=True) + 1e-5)
    even, slope = centred * over, g * scale
    along = even * (slope * even).mean(-1, keepdims=True)
    return over * (slope - slope.mean(-1, keepdims=True) - along), even


def _layer_norm(o: Ops, x: Array, scale: Array, shift: Array, g: Array) -> tuple[Array, ...]:
    dx, even = _norm_gradients(x, scale, g)
    return dx, (g * even).sum(0), g.sum(0)


def _batch_norm(o: Ops, x: Array, scale: Array, shift: Array, g: Array) -> tuple[Array, ...]:
    rows, slopes = _by_channel(x), _by_channel(g)
    dx, even = _norm_gradients(rows, scale[:, None], slopes)
    shape = x.swapaxes(0, 1).shape
    return dx.reshape(shape).swapaxes(0, 1), (slopes * even).sum(1), slopes.sum(1)


def _conv_dx(o: Ops, x: Array, w: Array, g: Array) -> Array:
    """3x3 with padding 1: the same, with the kernel turned round."""
    return o.conv(g, w.swapaxes(0, 1)[:, :, ::-1, ::-1], None, padding=1)


def _conv_dw(o: Ops, x: Array, w: Array, g: Array) -> Array:
    wide = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    rows, columns = x.shape[2:]
    places = [[np.einsum("nchw,nohw->oc", wide[:, :, i : i + rows, j : j + columns], g,
                         optimize=True) for j in range(3)] for i in range(3)]
    return np.asarray(places).transpose(2, 3, 0, 1)


GRADIENTS: dict[tuple[str, tuple[str, ...]], Callable[..., Any]] = {
    ("conv", ("x",)): _conv_dx,
    ("conv", ("w",)): _conv_dw,
    ("layer_norm", ("x", "scale", "shift")): _layer_norm,
    ("batch_norm", ("x", "scale", "shift")): _batch_norm,
}
