"""What a workload is: program, inputs, weights and products, alike for every framework."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
LEARNING_RATE = 0.01
PROGRAMS = Path(__file__).with_name("programs")


@dataclass(frozen=True, slots=True)
class Drawn:
    """An array to draw: f32 of the normal distribution, or integers from 0 up to `below`."""

    shape: tuple[int, ...]
    deviation: float = 1.0
    mean: float = 0.0
    below: int = 0
    dtype: str = "float32"

    @property
    def nbytes(self) -> int:
        """How many bytes the array has."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def draw(self, rng: np.random.Generator) -> Array:
        """The array."""
        if self.below:
            return rng.integers(0, self.below, self.shape).astype(self.dtype)
        values = self.mean + self.deviation * rng.standard_normal(self.shape, np.float32)
        return np.asarray(values, np.float32)


@dataclass(frozen=True, slots=True)
class Product:
    """Multiply-adds of the forward pass, and how many gradients of the same size it has."""

    macs: int
    gradients: int = 0


@dataclass(frozen=True, slots=True)
class Workload:
    """One thing to measure.

    `program` is a file beside this one and a name in it: of a function, or of a model and its
    function (`dense.dl Autoencoder.fit`), the model built with `building`. `kind` is
    "step" (trains and gives the loss), "forward", or "gradient" (of sum(f * g) for `wrt`).
    `asked` is the part of the best peer's time that ours may take at most.
    """

    name: str
    program: str
    kind: str
    inputs: Mapping[str, Drawn]
    mathematics: str
    weights: Mapping[str, Drawn] = field(default_factory=dict)
    products: tuple[Product, ...] = ()
    building: Mapping[str, int] = field(default_factory=dict)
    wrt: tuple[str, ...] = ()
    asked: float | None = None

    @property
    def file(self) -> str:
        """The program, as a path from `PROGRAMS`."""
        return self.program.partition(" ")[0]

    @property
    def place(self) -> tuple[str | None, str]:
        """The model, if there is one, and the function."""
        model, _, function = self.program.partition(" ")[2].rpartition(".")
        return model or None, function

    @property
    def flops(self) -> int:
        """Those that the products need: not those that anything executes."""
        return sum(2 * x.macs * (1 + x.gradients) for x in self.products)

    def draw(self) -> tuple[dict[str, Array], dict[str, Array]]:
        """Weights and inputs: always the same."""
        rng = np.random.default_rng(0)
        weights = {name: drawn.draw(rng) for name, drawn in self.weights.items()}
        return weights, {name: drawn.draw(rng) for name, drawn in self.inputs.items()}


def normal(*shape: int, deviation: float = 1.0, mean: float = 0.0) -> Drawn:
    """An f32 array of the normal distribution."""
    return Drawn(shape, deviation, mean)


def whole(below: int, *shape: int, dtype: str = "int32") -> Drawn:
    """An array of integers from 0 up to `below`."""
    return Drawn(shape, below=below, dtype=dtype)


def dense(name: str, inputs: int, outputs: int) -> dict[str, Drawn]:
    """The weights of a dense layer: w f32[inputs, outputs], b f32[outputs]."""
    return {f"{name}.w": normal(inputs, outputs, deviation=inputs**-0.5),
            f"{name}.b": normal(outputs, deviation=0.1)}


def conv(name: str, outputs: int, inputs: int, kernel: int) -> dict[str, Drawn]:
    """The weights of a convolution: w f32[outputs, inputs, kernel, kernel], b f32[outputs]."""
    deviation = (inputs * kernel * kernel) ** -0.5
    return {f"{name}.w": normal(outputs, inputs, kernel, kernel, deviation=deviation),
            f"{name}.b": normal(outputs, deviation=0.1)}


def norm(name: str, width: int) -> dict[str, Drawn]:
    """The weights of a norm: scale and shift, f32[width]."""
    return {f"{name}.scale": normal(width, deviation=0.1, mean=1.0),
            f"{name}.shift": normal(width, deviation=0.1)}


def taps(size: int, kernel: int, stride: int = 1, padding: int = 0) -> int:
    """Pairs of an output and a place of the kernel that lie in the input, along one axis."""
    outputs = (size + 2 * padding - kernel) // stride + 1
    return sum(0 <= o * stride + k - padding < size for o in range(outputs) for k in range(kernel))


def trained(*macs: int, of_data: bool = True) -> tuple[Product, ...]:
    """Products of a training step, by their multiply-adds: both gradients of each are needed, but
    where the first one's input is data (`of_data`) only that of its weights."""
    return tuple(Product(x, 2 - (of_data and not i)) for i, x in enumerate(macs))
