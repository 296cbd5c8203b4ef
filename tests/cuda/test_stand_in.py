"""Functions on a GPU: PyCUDA as it is, over a driver that stands in for NVIDIA's."""

from __future__ import annotations

import pytest

from dlc.compiler.options import Options
from tests.compiler.test_control import (  # noqa: F401
    test_a_loop_of_no_turns_gives_what_it_began_with,
    test_it_gives_what_the_graph_means,
)
from tests.cuda.on_device import DeviceGraph
from tests.cuda.stand_in import needs_stand_in, number
from tests.cuda.test_examples_cuda import draw, graph_of

pytestmark = needs_stand_in


@pytest.fixture(autouse=True)
def _on_a_device(monkeypatch: pytest.MonkeyPatch, on_stand_in: None) -> None:
    """The CPU's code of other tests is replaced by CUDA C."""
    monkeypatch.setattr("tests.compiler.test_control.CompiledGraph", DeviceGraph)


def test_a_training_step_gives_what_it_means() -> None:
    graph = graph_of("lenet5.dl", "fit")
    launched, replayed = number("launches").value, number("graph_launches").value
    DeviceGraph(graph, Options()).check(draw(graph), rtol=2e-3, atol=2e-4)
    assert number("launches").value > launched
    assert number("graph_launches").value > replayed
