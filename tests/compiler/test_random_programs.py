"""Random functions: the compiled ones give what the Graph means, for every batch and threads."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from dlc.compiler.options import Options
from dlc.compiler.passes.differentiate import differentiate
from dlc.ir.interpret import run_graph
from dlc.runtime import pool
from tests.compiler.compiled import CompiledGraph
from tests.compiler.random_programs import RandomProgram

BATCHES = (1, 5, 37, 70)


@pytest.fixture(params=[1, 2], ids=["one-thread", "two-threads"])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """The number of threads; with two, no kernel is too small to be split."""
    pool.set_threads(request.param)
    pool.configure(serial_ns=0)
    yield request.param
    pool.configure()
    pool.set_threads(None)


@pytest.mark.parametrize("seed", range(24))
def test_compiled_programs_keep_their_meaning(seed: int, threads: int) -> None:
    program = RandomProgram(seed, steps=6 + 8 * (seed % 3))
    hints = {"N": (64, 1, 1000)[seed % 3]}  # the sizes for which schedules are chosen
    compiled = CompiledGraph(program.graph(), Options(hints=hints, verify=True))
    for n in BATCHES:
        compiled.check(program.arrays(n), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("target", ["x86-64-v2", "x86-64-v3"])
def test_narrower_vectors(target: str) -> None:
    from dlc.compiler.llvm.target import host

    if not host().triple.startswith("x86_64"):
        pytest.skip("these are names of x86 processors")
    for seed in range(100, 104):
        program = RandomProgram(seed, steps=15)
        compiled = CompiledGraph(program.graph(), Options(target=target, verify=True))
        for n in BATCHES:
            compiled.check(program.arrays(n), rtol=2e-3, atol=2e-3)


def test_the_programs_are_worth_their_time() -> None:
    """They have many ops, and numbers in them: most results are not zero."""
    seen: set[str] = set()
    some, all_ = 0, 0
    for seed in range(30):
        program = RandomProgram(seed, steps=15)
        graph = program.graph()
        seen |= {node.op for node in graph.nodes}
        found = run_graph(differentiate(graph), program.arrays(37))
        some, all_ = some + sum(bool(np.any(x != 0)) for x in found), all_ + len(found)
    assert some > 0.75 * all_
    assert seen >= {"contract", "reduce_max", "argmax", "softmax", "pad", "slice", "call",
                    "gradient", "check", "select", "table", "reshape", "transpose", "iota",
                    "gather", "scatter", "cumsum", "argsort", "flip", "scan", "while", "if"}
