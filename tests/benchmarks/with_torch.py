"""The workloads in PyTorch, eager or compiled."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from tests.benchmarks.mathematics import mathematics_of
from tests.benchmarks.shapes import LEARNING_RATE, Array, Workload

# Its recurrent layers want these matrices the other way round.
TRANSPOSED = ("wx", "wh")


class Run:
    """Calls one workload."""

    compiled = False
    device = "cpu"
    mode: str | None = None

    def __init__(self, workload: Workload) -> None:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        self.workload = workload
        weights, inputs = workload.draw()
        step = workload.kind == "step"
        self.weights = {name: _leaf(name, value, step, self.device)
                        for name, value in weights.items()}
        self.inputs = {name: _tensor(value, self.device) for name, value in inputs.items()}
        self.function = _function(workload)
        if self.compiled:
            self.function = torch.compile(self.function, mode=self.mode)
        if step:
            self.optimizer = torch.optim.SGD(self.weights.values(), LEARNING_RATE)
        for name in workload.wrt:
            self.inputs[name].requires_grad_()
        self.call = {"step": self._step, "forward": self._forward,
                     "gradient": self._gradient}[workload.kind]

    def _step(self) -> float:
        return float(self._loss().item())

    def _loss(self) -> Any:
        """A step; its loss, where it was made."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.function(self.weights, self.inputs)
        loss.backward()
        self.optimizer.step()
        return loss

    def _forward(self) -> Any:
        with torch.inference_mode():
            return self.function(self.weights, self.inputs)

    def _gradient(self) -> Any:
        result = self.function(self.weights, self.inputs)
        wrt = [self.inputs[name] for name in self.workload.wrt]
        return torch.autograd.grad(result, wrt, self.inputs["g"])

    def trained(self) -> dict[str, Array]:
        """The weights as they are now."""
        return {name: (value.T if _turned(name) else value).detach().cpu().numpy().copy()
                for name, value in self.weights.items()}


class CompiledRun(Run):
    """The same, by torch.compile."""

    compiled = True


def _turned(name: str) -> bool:
    return name.rpartition(".")[2] in TRANSPOSED


def _leaf(name: str, value: Array, trained: bool, device: str) -> Any:
    tensor = _tensor(value, device)
    return (tensor.T.contiguous() if _turned(name) else tensor).requires_grad_(trained)


def _tensor(value: Array, device: str) -> Any:
    tensor = torch.from_numpy(value).to(device)
    return tensor.long() if tensor.dtype == torch.int32 else tensor


def _function(workload: Workload) -> Callable[..., Any]:
    function, ops = mathematics_of(workload.mathematics), Ops()

    def call(weights: dict[str, Any], inputs: dict[str, Any]) -> Any:
        taken = {name: value for name, value in inputs.items() if name != "g"}
        return function(ops, weights, **taken)

    return call


class Ops:
    """The ops of `mathematics.py`."""

    tanh, exp, sigmoid, relu, softmax = map(
        staticmethod, (torch.tanh, torch.exp, torch.sigmoid, torch.relu, torch.softmax))
    transpose, reshape, product = map(
        staticmethod, (torch.permute, torch.reshape, torch.matmul))
    gelu, mean_square, attention = map(
        staticmethod,
        (functional.gelu, functional.mse_loss, functional.scaled_dot_product_attention))

    def dense(self, x: Any, w: Any, b: Any) -> Any:
        return torch.addmm(b, x, w) if x.dim() == 2 else x @ w + b

    def split(self, x: Any, parts: int, axis: int) -> Any:
        return torch.chunk(x, parts, axis)

    def sum(self, x: Any, axis: int | None) -> Any:
        return torch.sum(x, axis)

    def max(self, x: Any, axis: int) -> Any:
        return torch.amax(x, axis)

    def mean(self, x: Any, axis: int) -> Any:
        return torch.mean(x, axis)

    def var(self, x: Any, axis: int) -> Any:
        return torch.var(x, axis, correction=0)

    def cross_entropy(self, scores: Any, label: Any) -> Any:
        return functional.cross_entropy(scores.flatten(0, -2), label.flatten())

    def rows(self, table: Any, places: Any) -> Any:
        return functional.embedding(places, table)

    def picture(self, x: Any) -> Any:
        return x

    def flat(self, maps: Any) -> Any:
        return maps.flatten(1)

    def mean_of_maps(self, maps: Any) -> Any:
        return maps.mean((2, 3))

    def mean_pool(self, maps: Any) -> Any:
        return functional.avg_pool2d(maps, 2)

    def max_pool(self, maps: Any) -> Any:
        return functional.max_pool2d(maps, 2)

    def conv(self, x: Any, w: Any, b: Any, stride: int = 1, padding: int = 0,
             groups: int = 1) -> Any:
        return functional.conv2d(x, w, b, stride, padding, groups=groups)

    def dilated(self, x: Any, w: Any, step: int) -> Any:
        return functional.conv1d(x, w, padding=step, dilation=step)

    def layer_norm(self, x: Any, scale: Any, shift: Any) -> Any:
        return functional.layer_norm(x, scale.shape, scale, shift)

    def batch_norm(self, x: Any, scale: Any, shift: Any) -> Any:
        return functional.batch_norm(x, None, None, scale, shift, training=True)

    # As in torch.nn.LSTM: compiled code calls it as it is, and does not take it apart.
    @torch.compiler.disable
    def lstm(self, xs: Any, wx: Any, wh: Any, b: Any) -> Any:
        zeros = xs.new_zeros(1, xs.shape[1], wh.shape[1])
        weights = [wx, wh, b, torch.zeros_like(b)]
        return torch.lstm(xs, (zeros, zeros), weights, True, 1, 0.0, True, False, False)[0]

    @torch.compiler.disable
    def gru(self, xs: Any, wx: Any, wh: Any, b: Any, reset_b: Any) -> Any:
        zeros = xs.new_zeros(1, xs.shape[1], wh.shape[1])
        weights = [wx, wh, b, functional.pad(reset_b, (2 * len(reset_b), 0))]
        return torch.gru(xs, zeros, weights, True, 1, 0.0, True, False, False)[0]
