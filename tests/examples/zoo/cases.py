"""What the programs of examples/zoo are run with: weights and inputs, the same at every run.

`make.py` runs PyTorch on them and records its numbers; `test_zoo.py` runs the programs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Inputs = dict[str, Array]
FOLDER = Path(__file__).parent
MODELS = {"decoder": "Decoder", "dqn": "DQN", "hmm": "HMM", "maml": "MAML", "unet": "UNet",
          "wgan": "WGAN"}  # fmt: skip
SIZES = (1, 2, 17)  # of a batch
LONG = (1, 2, 9)  # of a sequence


def weights(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    """Numbers for each param, in the order of their names."""
    rng = np.random.default_rng(20)
    return {name: (0.4 * rng.standard_normal(shapes[name])).astype("f4") for name in sorted(shapes)}


def inputs(program: str) -> list[Inputs]:
    """What the steps of a program are given, one after another."""
    rng = np.random.default_rng(21)

    def normal(*shape: int) -> Array:
        return rng.standard_normal(shape).astype("f4")

    def below(n: int, *shape: int) -> Array:
        return rng.integers(0, n, shape).astype("i4")

    make: dict[str, Callable[[int, int], Inputs]] = {
        "decoder": lambda n, t: {"text": below(11, n, t), "next": below(11, n, t)},
        "dqn": lambda n, t: {
            "x": normal(n, 4), "action": below(3, n), "reward": normal(n), "next": normal(n, 4),
            "done": rng.random(n) < 0.3},
        "hmm": lambda n, t: {"seen": below(5, t, n)},
        "maml": lambda n, t: {"x": normal(n, t, 2), "y": normal(n, t), "x2": normal(n, 3, 2),
                              "y2": normal(n, 3)},
        "unet": lambda n, t: {"x": normal(n, 1, 4 * n % 12 + 4, 4), "target": below(
            2, n, 1, 4 * n % 12 + 4, 4).astype("f4")},
        "wgan": lambda n, t: {"real": normal(n, 1, 8, 8), "z": normal(n, 3),
                              "mix": np.asarray(rng.random(n), "f4")},
    }
    return [make[program](n, t) for n, t in zip(SIZES, LONG, strict=True) for _ in range(2)]
