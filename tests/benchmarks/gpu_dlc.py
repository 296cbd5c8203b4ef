"""The workloads of a GPU in dlc: data lie there before, and results stay there."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

import dlc
from tests.benchmarks.gpu_rows import Row
from tests.benchmarks.shapes import PROGRAMS, Array

WAITS_ASLEEP = 4  # so that CPU time is that of launches


class Run:
    """Calls one workload."""

    def __init__(self, row: Row) -> None:
        ctypes.CDLL("libcuda.so.1").cuDevicePrimaryCtxSetFlags_v2(0, WAITS_ASLEEP)
        workload = row.workload
        model, function = workload.place
        weights, inputs = workload.draw()
        owner = dlc.load(PROGRAMS / workload.file, device="cuda")
        if model is not None:
            self.model = owner = getattr(owner, model)(**workload.building, seed=0)
            for weight, value in weights.items():
                owner.variables[weight] = value
        self.function, self.names = getattr(owner, function), list(weights)
        self.inputs = {name: dlc.on_gpu(_halves(value) if row.half else value)
                       for name, value in inputs.items()}
        self.trains = workload.kind == "step"

    def call(self) -> Any:
        """The loss, or the outputs on the host."""
        found = self.function(**self.inputs)
        parts = found if isinstance(found, tuple) else (found,)
        return [_plain(part) for part in parts] if not self.trains else found

    def many(self, count: int) -> None:
        """So many calls, to the end."""
        if self.trains:
            self.function.run(count, **self.inputs)
            return
        for _ in range(count):
            self.function(**self.inputs)
        on = next(iter(self.inputs.values())).on
        with on:
            on.stream.synchronize()

    def trained(self) -> dict[str, Array]:
        """The weights as they are now."""
        return {name: np.asarray(self.model.variables[name]) for name in self.names}


def _halves(value: Array) -> Array:
    """f32 as the bits of bf16, rounded to nearest."""
    bits = value.view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def _plain(part: Any) -> Array:
    """As f32 on the host."""
    array = np.asarray(part)
    if getattr(part, "name", "") == "bf16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array
