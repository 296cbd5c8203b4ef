"""Folding gives the numbers that the program would have computed, for every elementwise op."""

from __future__ import annotations

import numpy as np
import pytest

from dlc.compiler.passes.fold_constants import fold_constants
from dlc.ir.graph import Builder, Graph
from dlc.ir.interpret import run_graph
from dlc.ir.ops import OPS
from dlc.ir.types import TensorType, parse_type, tensor

NAMES = [name for name, op in OPS.items() if op.formula is not None]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dims", [(), (3,)])
def test_every_elementwise_op_folds(name: str, dims: tuple[int, ...]) -> None:
    sample = OPS[name].samples[0]
    b = Builder()
    operands = []
    for at, text in enumerate(sample.types):
        kind = parse_type(text)
        assert isinstance(kind, TensorType)
        number = sample.low + (sample.high - sample.low) * (0.3 + 0.4 * at)
        value = number if kind.dtype.is_float else int(number)
        operands.append(b.constant(value, tensor(kind.dtype, dims)))
    result = b.op(name, *operands, **dict(sample.attrs))
    graph = Graph("f", (), tuple(b.nodes), (result,))
    folded = fold_constants(graph)
    assert folded.nodes[-1].op in ("constant", "broadcast")
    (found,), (expected,) = run_graph(folded, []), run_graph(graph, [])
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
