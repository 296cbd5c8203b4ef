"""Functions on a GPU: PyCUDA as it is, over a driver that stands in for NVIDIA's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dlc.compiler.options import Options
from dlc.compiler.passes.differentiate import differentiate
from dlc.compiler.pipeline import compile_cuda
from dlc.ir.graph import Graph
from dlc.ir.scalar import Array
from dlc.runtime import Artifact
from dlc.runtime.cuda.function import CudaFunction
from dlc.runtime.cuda.variables import CudaVariables
from dlc.runtime.variables import VariableSpec
from tests.compiler.compiled import CompiledGraph
from tests.compiler.test_control import (  # noqa: F401
    test_a_loop_of_no_turns_gives_what_it_began_with,
    test_it_gives_what_the_graph_means,
)
from tests.cuda.stand_in import code_of, driver, needs_stand_in, number
from tests.cuda.test_examples_cuda import draw, graph_of

pytestmark = needs_stand_in


class DeviceGraph(CompiledGraph):
    """A graph as CUDA C that the runtime launches. Three runs, of which the second records graphs
    and the third runs these, must give the same bits."""

    def __init__(self, graph: Graph, options: Options | None = None) -> None:
        driver()
        made = compile_cuda(graph, replace(options or Options(), target="cuda:sm_80"))
        self.meaning = differentiate(graph)
        self.variables: Any = CudaVariables(seed=0)
        self.variables.require([
            VariableSpec.make(p.value.name, p.value.dtype.name, p.value.dims)
            for p in graph.params if p.role == "var"])
        self.call = CudaFunction(Artifact(made.manifest, code_of(made.text)), self.variables)

    def run(self, arrays: Sequence[Array]) -> tuple[Array, ...]:
        """Results, then the new values of variables."""
        first, *others = (super(DeviceGraph, self).run(arrays) for _ in range(3))
        for each in others:
            for a, b in zip(first, each, strict=True):
                np.testing.assert_array_equal(a, b, "calls differ")
        return first


@pytest.fixture(autouse=True)
def _on_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU's code of other tests is replaced by CUDA C."""
    monkeypatch.setattr("tests.compiler.test_control.CompiledGraph", DeviceGraph)


def test_a_training_step_gives_what_it_means() -> None:
    graph = graph_of("lenet5.dl", "fit")
    launched, replayed = number("launches").value, number("graph_launches").value
    DeviceGraph(graph, Options()).check(draw(graph), rtol=2e-3, atol=2e-4)
    assert number("launches").value > launched
    assert number("graph_launches").value > replayed
