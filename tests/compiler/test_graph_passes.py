"""The graph passes keep what a program means: on random graphs, and all of them together."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from dlc.compiler.passes.differentiate import differentiate
from dlc.compiler.passes.eliminate_common import eliminate_common
from dlc.compiler.passes.eliminate_dead import eliminate_dead
from dlc.compiler.passes.fold_constants import fold_constants
from dlc.compiler.passes.inline import inline
from dlc.compiler.passes.simplify import RULES, simplify
from dlc.compiler.pipeline import GRAPH_PASSES
from dlc.compiler.runner import run_passes
from dlc.ir.graph import Graph, Node, Param, Value
from dlc.ir.interpret import run_graph
from tests.compiler.graphs import RandomGraph, assert_gradients, with_gradient

PASSES = (differentiate, eliminate_common, eliminate_dead, fold_constants, inline, simplify)


@pytest.mark.parametrize("run", PASSES, ids=lambda run: run.__name__)
@pytest.mark.parametrize("seed", range(25))
def test_a_pass_keeps_the_meaning(run, seed: int) -> None:
    made = RandomGraph(seed)
    graph, inputs = made.graph(), made.arrays()
    after = run(graph)
    for found, expected in zip(run_graph(after, inputs), run_graph(graph, inputs), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("seed", range(25))
def test_passes_that_sum_nothing_keep_every_bit(seed: int) -> None:
    made = RandomGraph(seed)
    graph, inputs = made.graph(), made.arrays()
    expected = run_graph(graph, inputs)
    for run in (eliminate_common, eliminate_dead, fold_constants):
        for a, b in zip(run_graph(run(graph), inputs), expected, strict=True):
            assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("seed", range(30))
def test_gradients_of_random_graphs(seed: int) -> None:
    made = RandomGraph(seed, nodes=15, smooth=True)
    made.random.seed(seed)
    last = made.pool[-1]
    loss = made.builder.sum(made.builder.op("mul", last, last), range(len(last.dims)))
    graph = with_gradient(made.graph(), loss, made.inputs)
    inputs, all_of_them = made.arrays(), range(len(made.inputs))
    assert_gradients(differentiate(graph), inputs, all_of_them)
    assert_gradients(run_passes(GRAPH_PASSES, graph, verify="never"), inputs, all_of_them)


@pytest.mark.parametrize("seed", range(10))
def test_a_call_is_its_body(seed: int) -> None:
    made = RandomGraph(seed)
    body, inputs = made.graph(), made.arrays()
    results = tuple(Value(f"r{i}", v.type) for i, v in enumerate(body.results))
    call = Node("call", body.inputs, (), results, (body,))
    graph = Graph("caller", tuple(Param(v) for v in body.inputs), (call,), results)
    inlined = inline(graph)
    assert all(node.op != "call" for node in inlined.nodes)
    for found, expected in zip(run_graph(inlined, inputs), run_graph(body, inputs), strict=True):
        assert found.tobytes() == expected.tobytes()


def test_every_rule_is_hit() -> None:
    """A rule that nothing sets off is not tested; the random graphs and texts reach all of them."""
    from dlc.ir.parse import parse_graph
    from tests.compiler.test_pass_texts import cases, parts

    hits: Counter[str] = Counter()
    for seed in range(60):
        simplify(RandomGraph(seed).graph(), hits)
    for case in cases("simplify"):
        simplify(parse_graph(parts(case)[1]), hits)
    assert {rule.name for rule in RULES} - hits.keys() == set()
