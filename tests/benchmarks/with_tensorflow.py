"""The workloads in TensorFlow: as a graph, or compiled by XLA. Maps lie with channels last."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tests.benchmarks.mathematics import Missing, mathematics_of
from tests.benchmarks.shapes import LEARNING_RATE, Array, Workload


class Run:
    """Calls one workload."""

    xla = False

    def __init__(self, workload: Workload) -> None:
        tf.config.threading.set_intra_op_parallelism_threads(int(os.environ["OMP_NUM_THREADS"]))
        tf.config.threading.set_inter_op_parallelism_threads(1)
        weights, inputs = workload.draw()
        self.weights = {name: tf.Variable(value) for name, value in weights.items()}
        self.inputs = {name: tf.constant(value) for name, value in inputs.items()}
        self.function = _graph(workload, self.weights, self.xla)
        self.step = workload.kind == "step"

    def call(self) -> Any:
        """The loss, or the outputs as NumPy sees them."""
        result = self.function(**self.inputs)
        if self.step:
            return float(result)
        return tuple(x.numpy() for x in result) if isinstance(result, tuple) else result.numpy()

    def trained(self) -> dict[str, Array]:
        """The weights as they are now."""
        return {name: value.numpy() for name, value in self.weights.items()}


class XlaRun(Run):
    """The same, by XLA."""

    xla = True


def _graph(workload: Workload, weights: dict[str, Any], xla: bool) -> Callable[..., Any]:
    function, ops = mathematics_of(workload.mathematics), Ops()

    def step(**inputs: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = function(ops, weights, **inputs)
        for name, slope in tape.gradient(loss, weights).items():
            weights[name].assign_sub(LEARNING_RATE * tf.convert_to_tensor(slope))
        return loss

    def forward(**inputs: Any) -> Any:
        return function(ops, weights, **inputs)

    def gradient(g: Any, **inputs: Any) -> Any:
        wrt = [inputs[name] for name in workload.wrt]
        with tf.GradientTape() as tape:
            tape.watch(wrt)
            result = function(ops, weights, **inputs)
        return tuple(tape.gradient(result, wrt, g))

    made = {"step": step, "forward": forward, "gradient": gradient}[workload.kind]
    return tf.function(made, jit_compile=xla, autograph=False)


class Ops:
    """The ops of `mathematics.py`; those that are missing here are not measured."""

    tanh, exp, sigmoid, relu, softmax = map(
        staticmethod, (tf.tanh, tf.exp, tf.sigmoid, tf.nn.relu, tf.nn.softmax))
    reshape, transpose, split, rows = map(
        staticmethod, (tf.reshape, tf.transpose, tf.split, tf.gather))
    sum, max, mean, var = map(staticmethod, (tf.reduce_sum, tf.reduce_max, tf.reduce_mean,
                                             tf.math.reduce_variance))

    def __getattr__(self, name: str) -> Any:
        raise Missing(f"lacks {name} here")

    def product(self, x: Any, y: Any) -> Any:
        return tf.linalg.matvec(x, y) if len(y.shape) == 1 else x @ y

    def dense(self, x: Any, w: Any, b: Any) -> Any:
        return (tf.tensordot(x, w, 1) if len(x.shape) > 2 else x @ w) + b

    def gelu(self, x: Any) -> Any:
        return tf.nn.gelu(x, approximate=False)

    def cross_entropy(self, scores: Any, label: Any) -> Any:
        return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(label, scores))

    def mean_square(self, x: Any, target: Any) -> Any:
        return tf.reduce_mean(tf.math.squared_difference(x, target))

    def picture(self, x: Any) -> Any:
        return tf.transpose(x, (0, 2, 3, 1))

    def flat(self, maps: Any) -> Any:
        return tf.reshape(maps, (maps.shape[0], -1))

    def mean_of_maps(self, maps: Any) -> Any:
        return tf.reduce_mean(maps, (1, 2))

    def mean_pool(self, maps: Any) -> Any:
        return tf.nn.avg_pool2d(maps, 2, 2, "VALID")

    def max_pool(self, maps: Any) -> Any:
        return tf.nn.max_pool2d(maps, 2, 2, "VALID")

    def conv(self, x: Any, w: Any, b: Any, stride: int = 1, padding: int = 0,
             groups: int = 1) -> Any:
        if b is None or groups > 1:
            raise Missing("lacks convolutions of this kind here")
        sides = [[0, 0], [padding, padding], [padding, padding], [0, 0]]
        return tf.nn.conv2d(x, tf.transpose(w, (2, 3, 1, 0)), stride, sides) + b

    def attention(self, q: Any, k: Any, v: Any) -> Any:
        weight = tf.matmul(q, k, transpose_b=True) * q.shape[-1] ** -0.5
        return tf.nn.softmax(weight) @ v

    def lstm(self, xs: Any, wx: Any, wh: Any, b: Any) -> Any:
        h = c = tf.zeros((xs.shape[1], wh.shape[0]))
        outputs = []
        for t in range(xs.shape[0]):
            i, f, g, o = tf.split(xs[t] @ wx + h @ wh + b, 4, -1)
            c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
            h = tf.sigmoid(o) * tf.tanh(c)
            outputs.append(h)
        return tf.stack(outputs)
