"""Innermost loops keep their vectors in registers, on every target; what reads assembly works."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dlc.compiler.llvm.target import target
from dlc.compiler.pipeline import dump_graph
from dlc.frontend.driver import Program, load
from tests.compiler.assembly import EXAMPLES, TARGETS, inner_loops, spilling

FUNCTIONS = {
    "chain": "(x: f32[M, N], y: f32[N]) -> f32[M, N] = tanh(x * y + 1.0) * sigmoid(x) - exp(-x)",
    "curves": "(x: f32[N]) -> f32[N] = softplus(x) + log(x) * erf(x)",
    "angles": "(x: f32[N]) -> f32[N] = sqrt(x) * x",
    "wide": "(x: f64[N]) -> f64[N] = exp(x) * tanh(x)",
    "rows": "(x: f32[M, N]) -> f32[M] = sum(x, axis=1)",
    "columns": "(x: f32[M, N]) -> f32[N] = max(x, axis=0)",
    "product": "(x: f32[M, K], y: f32[K, N]) -> f32[M, N] = relu(x @ y)",
}
NESTED = """
kernel.f:
.LBB0_1:
\tmovq\t%rax, %rcx
.LBB0_2:
\tvmovups\t%zmm0, 64(%rsp)   # 64-byte Spill
\tjl\t.LBB0_2
\tjne\t.LBB0_1
.LBB0_3:
\tmovq\t8(%rsp), %rax   # 8-byte Reload
\tjge\t.LBB0_3
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    file: Path = tmp_path_factory.mktemp("assembly") / "functions.dl"
    file.write_text("".join(f"fn {name}{text}\n" for name, text in FUNCTIONS.items()))
    return load(file)


def _text(program: Program, model: str, function: str, cpu: str) -> str:
    built = program.model(model).built if model else program._shared.built
    options = replace(built.options(function), target=cpu)
    return dump_graph(built.graph(function), "llvm", options)


# Three formulas at a time want more than 16 registers.
CROWDED = {("haswell", name) for name in ("chain", "curves", "wide")}
CASES = [pytest.param(name, cpu, marks=[pytest.mark.xfail(strict=True, reason="16 registers")]
                      if (cpu, name) in CROWDED else []) for name in FUNCTIONS for cpu in TARGETS]


@pytest.mark.parametrize(("name", "cpu"), CASES)
def test_functions(program: Program, name: str, cpu: str) -> None:
    assert [*spilling(_text(program, "", name, cpu), target(cpu))] == []


@pytest.mark.parametrize("cpu", ["x86-64-v4", "haswell"])
def test_a_training_step(cpu: str) -> None:
    step = load(EXAMPLES / "plain_lenet5.dl")
    assert [*spilling(_text(step, "PlainLeNet5", "fit", cpu), target(cpu))] == []


def test_loops_are_found() -> None:
    inner, last = inner_loops(NESTED)
    assert inner.lines[0] == ".LBB0_2:"
    assert len(inner.vector_spills) == 1
    assert last.vector_spills == ()
