"""A variable may be stored in another order than its dims say; callers never notice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dlc.compiler.levels import Compiled
from dlc.compiler.llvm.target import compile_module, host
from dlc.compiler.options import Options
from dlc.compiler.passes.choose_layouts import choose_layouts
from dlc.compiler.passes.fuse import fuse
from dlc.compiler.passes.lower import lower
from dlc.compiler.pipeline import passes
from dlc.ir.dims import symbol
from dlc.ir.graph import Builder, Graph, Param, Value
from dlc.ir.kernel import blocked
from dlc.ir.ops.contract import matmul_spec
from dlc.ir.types import F32, tensor
from dlc.runtime import Artifact, Function, Variables


def step() -> Graph:
    """y = x @ w, and w := w - sum over the batch of x, spread over the columns."""
    n = symbol("N")
    b = Builder(["x", "w"])
    x, w = Value("x", tensor(F32, (n, 6))), Value("w", tensor(F32, (6, 20)))
    y = b.op("contract", x, w, **matmul_spec(x.dims, w.dims))
    down = b.op("sub", w, b.broadcast(b.sum(x, (0,)), w.dims, (0,)))
    return Graph("step", (Param(x), Param(w, "var")), tuple(b.nodes), (y,), (("w", down),))


def test_blocked_variable() -> None:
    options, graph = Options(), step()
    fused = choose_layouts(fuse(graph, options), options)
    w = graph.params[1].value
    fused = replace(fused, layouts=(*fused.layouts, (w, blocked(1, 2, 16))))
    program: object = lower(fused, options)
    names = [p.name for p in passes(options)]
    for each in passes(options)[names.index("lower") + 1:]:
        program = each.run(program)
    assert isinstance(program, Compiled)
    variables = Variables(seed=0)
    call = Function(Artifact(program.manifest, compile_module(program.text, host())), variables)
    rng = np.random.default_rng(0)
    x, value = (rng.standard_normal(s).astype("f4") for s in ((5, 6), (6, 20)))
    variables.set("w", value)
    assert variables.storage("w").size == 6 * 32, "two blocks of sixteen columns"
    np.testing.assert_allclose(call(x=x), x @ value, rtol=1e-5)
    np.testing.assert_allclose(variables.get("w"), value - x.sum(0)[:, None], rtol=1e-5, atol=1e-6)
