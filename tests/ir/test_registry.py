"""Every op of the registry is whole: documented, computed in one way, its ways agreeing."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from dlc.ir.dims import evaluate, symbol
from dlc.ir.graph import Builder, Graph
from dlc.ir.interpret import run_graph
from dlc.ir.ops import OPS, NotDifferentiable, Op, Sample, Structured
from dlc.ir.parse import parse_graph
from dlc.ir.scalar import NumpyBuilder
from dlc.ir.text import print_graph
from dlc.ir.verify import verify
from tests.ir.support import assert_close, of_samples, random_inputs, sample_graph

# These hold graphs or have no results; `test_interpret.py` runs them.
WITHOUT_SAMPLES = {"call", "gradient", "check", "print", "scan", "while", "if"}
SPECIAL = [
    0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 3.0, 1e-30, -1e-30, 1e30, -1e30, np.inf, -np.inf, np.nan]


@pytest.mark.parametrize("op", OPS.values(), ids=OPS)
def test_an_op_is_whole(op: Op) -> None:
    assert OPS[op.name] is op
    assert op.doc
    assert callable(op.infer)
    assert callable(op.eval)
    if isinstance(op.vjp, NotDifferentiable):
        assert op.vjp.reason
    else:
        assert callable(op.vjp) or isinstance(op.vjp, Structured)
    ways = [op.formula, op.access, op.decompose, op.kernel or None]
    assert sum(way is not None for way in ways) == 1
    assert op.samples or op.name in WITHOUT_SAMPLES


@pytest.mark.parametrize(**of_samples())
def test_a_sample_verifies_and_reads_back(op: Op, sample: Sample) -> None:
    graph = sample_graph(op, sample)
    verify(graph)
    text = print_graph(graph)
    assert parse_graph(text) == graph
    assert print_graph(parse_graph(text)) == text


@pytest.mark.parametrize(**of_samples())
def test_eval_gives_what_infer_says(op: Op, sample: Sample) -> None:
    graph = sample_graph(op, sample)
    for found, value in zip(
            run_graph(graph, random_inputs(graph, sample)), graph.outputs, strict=True):
        assert isinstance(found, np.ndarray)
        assert found.shape == value.dims
        assert found.dtype == value.dtype.numpy


@pytest.mark.parametrize(**of_samples(lambda op: op.formula is not None))
def test_the_formula_is_what_eval_says(op: Op, sample: Sample) -> None:
    graph = sample_graph(op, sample)
    inputs = random_inputs(graph, sample)
    (expected,) = run_graph(graph, inputs)
    found = op.formula(NumpyBuilder(), dict(sample.attrs), *inputs)
    assert_close(np.asarray(found), expected, graph.results[0].dtype)


@pytest.mark.parametrize(
    "op", [op for op in OPS.values() if op.formula and op.samples[0].types[0] == "f32[3, 5]"],
    ids=lambda op: op.name)
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_the_formula_of_special_numbers(op: Op, dtype: str) -> None:
    count = len(op.samples[0].types)
    numbers = np.array(list(itertools.product(SPECIAL, repeat=count))).T
    kind = f"{dtype}[{numbers.shape[1]}]"
    graph = sample_graph(op, Sample((kind,) * count, op.samples[0].attrs))
    inputs = [row.astype(graph.inputs[0].dtype.numpy) for row in numbers]
    if op.name in ("sin", "cos"):
        inputs = [np.where(np.abs(row) > 1e9, 2, row).astype(row.dtype) for row in inputs]
    (expected,) = run_graph(graph, inputs)
    found = np.asarray(op.formula(NumpyBuilder(), dict(op.samples[0].attrs), *inputs))
    assert_close(found, expected, graph.results[0].dtype, units=16)


@pytest.mark.parametrize(**of_samples(lambda op: op.decompose is not None))
def test_the_decomposition_is_what_eval_says(op: Op, sample: Sample) -> None:
    graph = sample_graph(op, sample)
    b = Builder(v.name for v in graph.inputs)
    results = op.decompose(b, graph.nodes[0])
    inputs = random_inputs(graph, sample)
    expected = run_graph(graph, inputs)
    apart = Graph("apart", graph.params, tuple(b.nodes), results)
    verify(apart)
    for found, right, value in zip(run_graph(apart, inputs), expected, results, strict=True):
        assert_close(found, right, value.dtype, units=16)


@pytest.mark.parametrize(**of_samples(lambda op: op.access is not None))
def test_the_access_rule_is_what_eval_says(op: Op, sample: Sample) -> None:
    graph = sample_graph(op, sample)
    (x,) = random_inputs(graph, sample)
    (expected,) = run_graph(graph, [x])
    names = [f"i{k}" for k in range(expected.ndim)]
    read = op.access(graph.nodes[0], tuple(map(symbol, names)))
    for index in np.ndindex(expected.shape):
        env = dict(zip(names, index, strict=True))
        at = tuple(evaluate(e, env) for e in read.index)
        inside = all(0 <= i < n for i, n in zip(at, x.shape, strict=True))
        assert inside or read.fill is not None
        assert expected[index] == (x[at] if inside else np.asarray(read.fill, x.dtype))
