"""The workloads in dlc: `programs/`, and examples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import dlc
from tests.benchmarks.shapes import Array, Workload

PROGRAMS = Path(__file__).with_name("programs")


class Run:
    """Calls one workload."""

    def __init__(self, workload: Workload) -> None:
        file, _, path = workload.program.partition(" ")
        name, _, function = path.partition(".")
        weights, self.inputs = workload.draw()
        owner = getattr(dlc.load(PROGRAMS / file), name)
        if function:
            self.model = owner(*workload.building, seed=0)
            for weight, value in weights.items():
                self.model.variables[weight] = value
            owner = getattr(self.model, function)
        self.function, self.names = owner, list(weights)

    def call(self) -> Any:
        """The loss, or the outputs: recycled memory, as nobody keeps them."""
        return self.function(**self.inputs)

    def trained(self) -> dict[str, Array]:
        """The weights as they are now."""
        return {name: np.asarray(self.model.variables[name]) for name in self.names}
