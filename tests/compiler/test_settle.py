"""Concatenations: each part of an index has code of its own, without what lies beside it."""

from __future__ import annotations

import numpy as np
import pytest

from dlc.compiler.options import Options
from dlc.compiler.pipeline import dump_graph
from dlc.ir.dims import symbol
from dlc.ir.graph import Builder, Graph, Param, Value
from dlc.ir.types import F32, tensor
from tests.compiler.compiled import CompiledGraph

N = symbol("N")


def beside(sizes: tuple[int, ...]) -> Graph:
    """Rows of what is made of several inputs side by side, and the double of that."""
    b = Builder("abcdefghij")
    inputs = [Value(name, tensor(F32, (N, size)))
              for name, size in zip("abcdefghij", sizes, strict=False)]
    made, low = None, 0
    for k, x in enumerate(inputs):
        part = b.op("tanh", x) if k % 2 else b.op("mul", x, inputs[k])
        wide = b.op("pad", part, low=(0, low), high=(0, sum(sizes) - low - sizes[k]), value=0.0)
        made = wide if made is None else b.op("add", made, wide)
        low += sizes[k]
    assert made is not None
    results = (made, b.op("add", made, made))
    return Graph("f", tuple(Param(x, "in") for x in inputs), tuple(b.nodes), results)


@pytest.mark.parametrize("sizes", [
    (32, 64), (64, 32, 96, 32), (32, 17), (7, 40), (32, 5, 33), (32,) * 10])
@pytest.mark.parametrize("n", [1, 5])
def test_parts_beside_each_other(sizes: tuple[int, ...], n: int) -> None:
    graph, rng = beside(sizes), np.random.default_rng(0)
    inputs = [rng.standard_normal((n, size)).astype(np.float32) for size in sizes]
    CompiledGraph(graph).check(inputs, rtol=1e-5, atol=1e-6)


def loops_of(sizes: tuple[int, ...]) -> str:
    text = dump_graph(beside(sizes), "loops", Options(target="x86-64-v4"))
    return text[text.index("\nloops "):]


def test_each_part_reads_what_lies_in_it() -> None:
    loops = loops_of((64, 32, 96))
    assert loops.count("for i1.b = ") == 3
    assert "mask" not in loops
    assert loops.count("tanh") == 1


def test_parts_that_begin_within_a_vector_stay_together() -> None:
    assert loops_of((7, 40)).count("mask ") > 2
    assert loops_of((32, 17)).count("mask ") == 1  # of what is no whole vector at the end
