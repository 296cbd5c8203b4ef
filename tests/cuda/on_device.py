"""A Graph as CUDA C that the runtime launches: over the stand-in driver, or on a GPU.

`pytest --gpu` runs on the GPU of this machine all that runs CUDA C.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dlc.compiler.cuda import cubin
from dlc.compiler.levels import Compiled
from dlc.compiler.options import Options
from dlc.compiler.passes.differentiate import differentiate
from dlc.compiler.pipeline import compile_cuda
from dlc.ir.graph import Graph
from dlc.ir.scalar import Array
from dlc.runtime import Artifact
from dlc.runtime.cuda.device import device
from dlc.runtime.cuda.function import CudaFunction
from dlc.runtime.cuda.variables import CudaVariables
from dlc.runtime.variables import VariableSpec
from tests.compiler.compiled import CompiledGraph

GPU = "DLC_TEST_GPU"
ON_GPU = GPU in os.environ
needs_gpu = pytest.mark.skipif(not ON_GPU, reason="it takes a GPU: pytest --gpu")


class DeviceGraph(CompiledGraph):
    """Three runs, of which the second records graphs and the third runs these, must give the same
    bits."""

    head = ""

    def __init__(self, graph: Graph, options: Options | None = None) -> None:
        arch = device().arch
        self.made: Compiled = compile_cuda(
            graph, replace(options or Options(), target=f"cuda:{arch}"))
        self.meaning = differentiate(graph)
        self.variables: Any = CudaVariables(seed=0)
        self.variables.require([
            VariableSpec.make(p.value.name, p.value.dtype.name, p.value.dims)
            for p in graph.params if p.role == "var"])
        code = cubin.compile_cubin(self.head + self.made.text, arch)
        self.call = CudaFunction(Artifact(self.made.manifest, code), self.variables)

    def run(self, arrays: Sequence[Array]) -> tuple[Array, ...]:
        """Results, then the new values of variables."""
        first, *others = (super(DeviceGraph, self).run(arrays) for _ in range(3))
        for each in others:
            for a, b in zip(first, each, strict=True):
                np.testing.assert_array_equal(a, b, "calls differ")
        return first

    @property
    def module(self) -> object:
        """What tests change in which they plant a bug."""
        raise AttributeError("module")

    @module.setter
    def module(self, changed: object) -> None:
        pytest.skip("planted bugs are found where CUDA C runs on a CPU")


class WideDeviceGraph(DeviceGraph):
    """With indices of 64 bits."""

    head = "#define WIDE_INDICES\n"


def found() -> str:
    """The GPU of this machine; RunError says why there is none."""
    return str(device())
