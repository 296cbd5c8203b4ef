"""Innermost loops keep their vectors in registers, on every target; what reads assembly works."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from dlc.compiler.llvm.target import target
from dlc.compiler.pipeline import dump_graph
from dlc.frontend.driver import Program, load
from tests.compiler.assembly import (
    EXAMPLES,
    TARGETS,
    assembly,
    example_models,
    inner_loops,
    spilling,
)

FUNCTIONS = {
    "chain": "(x: f32[M, N], y: f32[N]) -> f32[M, N] = tanh(x * y + 1.0) * sigmoid(x) - exp(-x)",
    "curves": "(x: f32[N]) -> f32[N] = softplus(x) + log(x) * erf(x)",
    "angles": "(x: f32[N]) -> f32[N] = sqrt(x) * x",
    "wide": "(x: f64[N]) -> f64[N] = exp(x) * tanh(x)",
    "rows": "(x: f32[M, N]) -> f32[M] = sum(x, axis=1)",
    "columns": "(x: f32[M, N]) -> f32[N] = max(x, axis=0)",
    "product": "(x: f32[M, K], y: f32[K, N]) -> f32[M, N] = relu(x @ y)",
    "maps": "(x: f32[N, C, H, W], w: f32[O, C, 3, 3]) -> f32[N, O, H, W] = conv2d(x, w, padding=1)",
}
NESTED = """
kernel.f:
.LBB0_1:                                # %outer
                                        # =>This Loop Header: Depth=1
                                        #     Child Loop BB0_2 Depth 2
\tmovq\t%rax, %rcx
\tvmovups\t%zmm1, 128(%rsp)   # 64-byte Spill
.LBB0_2:                                # %inner
                                        #   Parent Loop BB0_1 Depth=1
                                        # =>  This Inner Loop Header: Depth=2
\tvmovups\t%zmm0, 64(%rsp)   # 64-byte Spill
\tjl\t.LBB0_2
# %bb.3:                                #   in Loop: Header=BB0_1 Depth=1
\tjne\t.LBB0_1
\tjmp\t.LBB0_5
.LBB0_4:                                # %more
                                        #   in Loop: Header=BB0_5 Depth=1
\tstp\tx1, x2, [sp, #16]   // 16-byte Folded Spill
\tstp\tq1, q2, [sp, #32]   // 32-byte Folded Spill
.LBB0_5:                                # %last
                                        # =>This Inner Loop Header: Depth=1
\tmovq\t8(%rsp), %rax   # 8-byte Reload
\tjge\t.LBB0_4
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


@pytest.mark.parametrize("cpu", TARGETS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(program: Program, name: str, cpu: str) -> None:
    assert [*spilling(_text(program, "", name, cpu), target(cpu))] == []


def _fullest(program: Program, name: str, cpu: str) -> tuple[str, ...]:
    """The lines of the innermost loop with the most multiply-adds."""
    loops = inner_loops(assembly(_text(program, "", name, cpu), target(cpu)))
    return max((loop.lines for loop in loops), key=_products)


def _products(lines: tuple[str, ...]) -> int:
    return sum("vfmadd" in line for line in lines)


@pytest.mark.parametrize(("cpu", "sums"), [("haswell", 12), ("x86-64-v4", 24)])
def test_products_fill_the_registers_with_sums(program: Program, cpu: str, sums: int) -> None:
    assert _products(_fullest(program, "product", cpu)) == sums


def test_masks_are_made_before_a_convolution_is_summed(program: Program) -> None:
    """With AVX2 the sign of each lane counts: none is made of narrower lanes in each turn."""
    lines = _fullest(program, "maps", "haswell")
    assert _products(lines) == 30
    assert sum("vmaskmov" in line for line in lines) == 6
    assert not [line for line in lines if re.search(r"vpack|vpmovzx|vpsll|vpcmp|vpand", line)]


@pytest.mark.parametrize("cpu", ["x86-64-v4", "haswell"])
def test_a_training_step(cpu: str) -> None:
    step = load(EXAMPLES / "plain_lenet5.dl")
    assert [*spilling(_text(step, "PlainLeNet5", "fit", cpu), target(cpu))] == []


@pytest.mark.slow
@pytest.mark.parametrize("cpu", TARGETS)
def test_the_examples(cpu: str) -> None:
    """No innermost loop of any kernel puts a vector on the stack."""
    found, seen = [], 0
    for place, built in example_models():
        for function in built.record.functions:
            options = replace(built.options(function), target=cpu)
            text = dump_graph(built.graph(function), "llvm", options)
            loops = [k for k in inner_loops(assembly(text, target(cpu)))
                     if k.function.startswith("kernel.")]
            seen += len(loops)
            found += [(place, function, k.function) for k in loops if k.vector_spills]
    assert found == []
    assert seen > 1000


def test_loops_are_found() -> None:
    inner, last = inner_loops(NESTED)
    assert inner.lines[0].startswith(".LBB0_2:")
    assert [line.split()[0] for line in inner.vector_spills] == ["vmovups"]
    assert [line.split()[:2] for line in last.vector_spills] == [["stp", "q1,"]]
