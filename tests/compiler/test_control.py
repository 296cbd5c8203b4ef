"""Loops and branches as machine code: for any number of turns they give what the Graph means."""

from __future__ import annotations

import numpy as np
import pytest

from dlc.compiler.options import Options
from dlc.ir.dims import evaluate
from dlc.ir.parse import parse_graph
from dlc.ir.scalar import Array
from dlc.ir.verify import verify
from dlc.runtime import pool
from tests.compiler.compiled import CompiledGraph
from tests.compiler.control_examples import EXAMPLES


def numbers(kind: type[object] | object, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Small whole numbers of an element type."""
    dtype = np.dtype(kind)  # type: ignore[call-overload]
    low, high = {"b": (0, 2), "u": (0, 9)}.get(dtype.kind, (-4, 5))
    return np.asarray(rng.integers(low, high, shape)).astype(dtype)


def inputs(compiled: CompiledGraph, **sizes: int) -> list[Array]:
    """Inputs and variables for a function."""
    rng = np.random.default_rng(sum(sizes.values()))
    return [numbers(p.value.dtype.numpy, tuple(evaluate(d, sizes) for d in p.value.dims), rng)
            for p in compiled.meaning.params]


@pytest.mark.parametrize("reverse", ["false", "true"])
@pytest.mark.parametrize("name", EXAMPLES)
def test_it_gives_what_the_graph_means(name: str, reverse: str) -> None:
    graph = parse_graph(EXAMPLES[name].replace("REVERSE", reverse))
    verify(graph)
    compiled = CompiledGraph(graph, Options(hints={"T": 3}, verify=True))
    for turns, size in ((1, 1), (2, 70), (3, 2), (7, 5)):
        compiled.check(inputs(compiled, T=turns, N=size), rtol=1e-5, atol=1e-5)
