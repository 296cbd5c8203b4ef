"""Every gradient against central differences along random directions, in f64."""

from __future__ import annotations

import numpy as np
import pytest

from dlc.ir.graph import Builder, Graph, Param, Value
from dlc.ir.interpret import run_graph
from dlc.ir.ops import OPS, NotDifferentiable, Op, Sample
from dlc.ir.ops.op import Array
from dlc.ir.types import F32, tensor
from dlc.ir.verify import verify
from tests.ir.support import of_samples, random_array, random_inputs, sample_graph

STEP = 1e-6


def backward(graph: Graph, op: Op) -> tuple[Graph, list[int]]:
    """A graph from inputs and cotangents to gradients, and which inputs they belong to."""
    cotangents = tuple(Value(f"g{i}", v.type) for i, v in enumerate(graph.results))
    names = [v.name for v in (*graph.inputs, *graph.results, *cotangents)]
    b = Builder(names)
    b.nodes.extend(graph.nodes)
    grads = op.vjp(b, graph.nodes[0], cotangents)
    assert len(grads) == len(graph.inputs)
    kept = [i for i, grad in enumerate(grads) if grad is not None]
    params = graph.params + tuple(map(Param, cotangents))
    return Graph("backward", params, tuple(b.nodes), tuple(grads[i] for i in kept)), kept


def inner(left: list[Array], right: list[Array]) -> float:
    return float(sum(np.sum(a * b) for a, b in zip(left, right, strict=True)))


def differentiable(op: Op) -> bool:
    return not isinstance(op.vjp, NotDifferentiable) and op.name != "stop_gradient"


@pytest.mark.parametrize(**of_samples(differentiable))
def test_a_gradient_is_the_derivative(op: Op, sample: Sample) -> None:
    graph = sample_graph(op, sample, wide=True)
    floats = [i for i, v in enumerate(graph.inputs) if v.dtype.is_float]
    if not all(v.dtype.is_float for v in graph.results):
        return  # nothing flows back into whole numbers
    back, kept = backward(graph, op)
    verify(back)
    assert kept == floats
    if not floats:
        return
    inputs = random_inputs(graph, sample)
    rng = np.random.default_rng(1)
    cotangents = [random_array(rng, v.tensor, Sample((), ())) for v in graph.results]
    directions = [random_array(rng, graph.inputs[i].tensor, Sample((), ())) for i in floats]
    gradients = run_graph(back, [*inputs, *cotangents])
    for i, gradient in zip(kept, gradients, strict=True):
        assert gradient.shape == inputs[i].shape

    def along(step: float) -> float:
        moved = list(inputs)
        for i, direction in zip(floats, directions, strict=True):
            moved[i] = np.asarray(moved[i] + step * direction)
        return inner(list(run_graph(graph, moved)), cotangents)

    slope = (along(STEP) - along(-STEP)) / (2 * STEP)
    found = inner(list(gradients), directions)
    assert found == pytest.approx(slope, rel=1e-6, abs=1e-6)


def test_no_gradient_flows_through_stop_gradient() -> None:
    b = Builder(["x"])
    y = b.op("stop_gradient", Value("x", tensor(F32, (3,))))
    assert OPS["stop_gradient"].vjp(b, b.nodes[0], (y,)) == (None,)


@pytest.mark.parametrize(("name", "gradient"), [("abs", 0.0), ("maximum", 1.0)])
def test_gradients_on_a_tie(name: str, gradient: float) -> None:
    op = OPS[name]
    graph = sample_graph(op, Sample(("f64",) * len(op.samples[0].types)))
    back, _ = backward(graph, op)
    zeros = [np.zeros(())] * len(graph.inputs)
    assert float(run_graph(back, [*zeros, np.ones(())])[0]) == gradient


def test_the_gradient_of_a_maximum_goes_to_the_first() -> None:
    op = OPS["reduce_max"]
    graph = sample_graph(op, Sample(("f64[2, 3]",), (("axes", (0, 1)),)))
    back, _ = backward(graph, op)
    (found,) = run_graph(back, [np.array([[1.0, 2, 2], [2, 0, 2]]), np.ones(())])
    np.testing.assert_array_equal(found, [[0, 1, 0], [0, 0, 0]])
