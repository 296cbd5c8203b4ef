"""What is measured: the inputs and initial weights that every framework gets alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
BATCH = 64
LEARNING_RATE = 0.01
_LENET5_WEIGHTS = {
    "c1.w": (6, 1, 5, 5),
    "c1.b": (6,),
    "c3.w": (16, 6, 5, 5),
    "c3.b": (16,),
    "c5.w": (120, 16, 5, 5),
    "c5.b": (120,),
    "f6.w": (120, 84),
    "f6.b": (84,),
    "output.w": (84, 10),
    "output.b": (10,),
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One batch, and the weights to start from, by their names in the `.dl` file."""

    inputs: dict[str, Array]
    weights: dict[str, Array]


def lenet5() -> Problem:
    """The plain LeNet-5: x f32[64, 1, 32, 32], y i32[64], weights of deviation 0.1."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((BATCH, 1, 32, 32)).astype(np.float32)
    y = rng.integers(0, 10, BATCH).astype(np.int32)
    weights = {
        name: (0.1 * rng.standard_normal(shape)).astype(np.float32)
        for name, shape in _LENET5_WEIGHTS.items()
    }
    return Problem({"x": x, "y": y}, weights)


def mnist_batch() -> dict[str, Array]:
    """One batch as `lenet5.dl` takes it; random pixels cost what real ones do."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (BATCH, 28, 28)).astype(np.uint8)
    return {"image": image, "label": rng.integers(0, 10, BATCH).astype(np.uint8)}
