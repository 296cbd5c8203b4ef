"""The workloads in dlc: `programs/`, and examples."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

import dlc
from dlc.frontend.build import Built
from tests.benchmarks.shapes import PROGRAMS, Array, Workload

if TYPE_CHECKING:
    from dlc.compiler.options import Options


def compile_for(target: str) -> None:
    """From now on code is made for a CPU whose instructions this one has, too."""
    of_this_machine = Built.options

    def options(self: Built, function: str) -> Options:
        return replace(of_this_machine(self, function), target=target)

    Built.options = options  # type: ignore[method-assign]


class Run:
    """Calls one workload."""

    def __init__(self, workload: Workload) -> None:
        model, function = workload.place
        weights, self.inputs = workload.draw()
        owner = dlc.load(PROGRAMS / workload.file)
        if model is not None:
            self.model = owner = getattr(owner, model)(**workload.building, seed=0)
            for weight, value in weights.items():
                owner.variables[weight] = value
        self.function, self.names = getattr(owner, function), list(weights)

    def call(self) -> Any:
        """The loss, or the outputs: recycled memory, as nobody keeps them."""
        return self.function(**self.inputs)

    def trained(self) -> dict[str, Array]:
        """The weights as they are now."""
        return {name: np.asarray(self.model.variables[name]) for name in self.names}
