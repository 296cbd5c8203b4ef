"""Updates at the end of what makes their gradients: which are, which may not be, and the numbers.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dlc.compiler.kernels.append import appended
from dlc.compiler.options import Options
from dlc.compiler.passes.choose_schedules import choose_schedules
from dlc.compiler.passes.fuse_updates import fuse_updates
from dlc.compiler.pipeline import plan
from dlc.compiler.traffic import traffic
from dlc.frontend.build import Build
from dlc.ir.check_kernel import check_kernel
from dlc.ir.check_program import check_program
from dlc.ir.check_schedule import check_schedule
from dlc.ir.dims import symbol
from dlc.ir.graph import Graph
from dlc.ir.kernel import Access, Buffer, Combine, Compute, Index, Kernel, Layout, ScalarOp
from dlc.ir.program import Check, Commit, Launch, Print, Program, ProgramBuffer, Step
from dlc.ir.types import F32
from tests.compiler.compiled import CompiledGraph

CPU = Options(target="x86-64-v4", lanes=16, registers=32)
GPU = Options(target="cuda:sm_80")
MODEL = """import nn
model Net(inputs: int, wide: int, outputs: int) {{
    a = nn.Dense(inputs, wide)
    b = nn.Dense(wide, outputs)

    step fit(x: f32[N, inputs], y: f32[N, outputs]) -> f32 {{
        loss = mean_squared_error(x |> a |> tanh |> b, y)
        {body}
        return loss
    }}
}}
"""
WITH = {"sgd": "minimize loss with sgd(lr=0.1)",
        "momentum": "minimize loss with sgd(lr=0.1, momentum=0.9, nesterov=true, decay=0.01)",
        "adam": "minimize loss with adam(lr=0.01)",
        "adamw": "minimize loss with adamw(lr=0.01)"}


def step(folder: Path, body: str, inputs: int = 40, wide: int = 64, outputs: int = 48) -> Graph:
    """The graph of a training step of two layers."""
    file = folder / "net.dl"
    file.write_text(MODEL.format(body=body))
    build = Build(file)
    built = build.model("Net", {"inputs": inputs, "wide": wide, "outputs": outputs})
    return built.graph("fit")


def launches(program: Program) -> list[Launch]:
    return [s for s in program.steps if isinstance(s, Launch)]


@pytest.mark.parametrize("options", [CPU, GPU], ids=["cpu", "gpu"])
@pytest.mark.parametrize("body", WITH.values(), ids=list(WITH))
def test_no_gradient_of_a_variable_lies_in_memory(
    body: str, options: Options, tmp_path: Path
) -> None:
    graph = step(tmp_path, body)
    program, _ = plan(graph, options)
    written = {b.name: b.alias_of or b.name for b in program.buffers if b.kind == "var"}
    kernels = {k.name: k for k in program.kernels}
    for launch in launches(program):
        kernel = kernels[launch.kernel]
        wide = [written.get(n) for p, n in zip(kernel.params, launch.buffers, strict=True)
                if p.role != "in" and p.dims]
        if any(wide):  # a variable that is no number: its gradient is summed in this kernel
            assert any(isinstance(c, Compute) and c.combine for c in kernel.body), kernel.name
    assert not [b.name for b in program.buffers if b.name.startswith("d_") and b.first >= 0
                and not b.name.endswith(".part")]


@pytest.mark.parametrize("body", WITH.values(), ids=list(WITH))
@pytest.mark.parametrize("sizes", [(5, 40, 64, 48), (67, 37, 101, 11), (130, 1, 16, 33),
                                   (1, 20, 7, 5)])
def test_the_numbers(body: str, sizes: tuple[int, ...], tmp_path: Path) -> None:
    n, inputs, wide, outputs = sizes
    graph = step(tmp_path, body, inputs, wide, outputs)
    rng = np.random.default_rng(n)
    arrays = []
    for p in graph.params:
        dims = tuple(d if isinstance(d, int) else n for d in p.value.dims)
        array = rng.standard_normal(dims).astype(np.float32)
        arrays.append(np.abs(array) if p.role == "var" else array)
    CompiledGraph(graph).check(arrays, 2e-4, 2e-5)


def test_a_step_moves_its_weights_once(tmp_path: Path) -> None:
    graph = step(tmp_path, WITH["adam"], 512, 512, 512)
    found = traffic(*plan(graph, replace(CPU, hints={"N": 16})))
    assert found.moved < 3 * found.given  # read and written, and read for the way back


def test_a_gradient_that_a_norm_reads_too_stays(tmp_path: Path) -> None:
    program, _ = plan(step(tmp_path, "minimize loss with sgd(lr=0.1), clip_norm=1.0"), CPU)
    assert any("d_a" in n for launch in launches(program) for n in launch.buffers)


RETURNED = """
model M {
    param w: f32[64, 64] = zeros(64, 64)
    step fit(x: f32[N, 64]) -> f32[64, 64] {
        g = grad(sum((x @ w + x) ** 2), w)
        w := w - 0.1 * g
        return g
    }
}
"""


@pytest.mark.parametrize("options", [CPU, GPU], ids=["cpu", "gpu"])
def test_a_gradient_that_is_returned_stays(options: Options, tmp_path: Path) -> None:
    (tmp_path / "net.dl").write_text(RETURNED)
    graph = Build(tmp_path / "net.dl").model("M", {}).graph("fit")
    made = plan(graph, options)[0]
    (given,) = (b.name for b in made.buffers if b.kind == "out")
    assert any(given in launch.buffers for launch in launches(made))
    rng = np.random.default_rng(2)
    shapes = {"x": (5, 64)}
    arrays = [rng.standard_normal(shapes.get(p.value.name, (64, 64))).astype(np.float32)
              for p in graph.params]
    CompiledGraph(graph).check(arrays, rtol=1e-4, atol=1e-3)


N, M = symbol("N"), symbol("M")
I0, I1, K0 = symbol("i0"), symbol("i1"), symbol("k0")
SUM = Kernel(
    "sum", ("N",), (Buffer("x", F32, (N, 8, 32), "in"), Buffer("g", F32, (8, 32), "out")),
    (Buffer("acc", F32, (), "local"),), (Index("i0", 8), Index("i1", 32)),
    (Compute(Access("acc"), (), Access("x", (K0, I0, I1)), (Index("k0", N),), (),
             Combine("sum", F32)),
     Compute(Access("g", (I0, I1)), (), Access("acc"))))
E = symbol("E")
UPDATE = Kernel(
    "update", ("E",), (Buffer("r", F32, (), "in"), Buffer("d", F32, (E,), "in"),
                       Buffer("w", F32, (E,), "inout")), (), (Index("i0", E),),
    (Compute(Access("w", (I0,)),
             (ScalarOp("t", "mul", (Access("r"), Access("d", (I0,))), F32),
              ScalarOp("u", "sub", (Access("w", (I0,)), "t"), F32)), "u"),))
KINDS = {"x": "in", "r": "in", "w": "var", "v": "var"}


def program(*steps: Step) -> Program:
    """Launches of the two kernels; `flat` names the same memory as `g` does."""
    dims = {"x": (N, 8, 32), "r": ()}
    buffers = [ProgramBuffer(name, F32, dims.get(name, (8, 32)), KINDS.get(name, "temp"), Layout())
               for name in ("x", "r", "g", "h", "w", "v")]
    buffers.append(ProgramBuffer("flat", F32, (256,), "temp", Layout(), "g"))
    made = Program("p", ("N",), tuple(buffers), steps, (SUM, UPDATE))
    return choose_schedules(made, CPU)


GRADIENT, APPLY = Launch("sum", ("x", "g"), (N,)), Launch("update", ("r", "flat", "w"), (256,))


def fused(*steps: Step) -> Program:
    made = fuse_updates(program(*steps))
    check_program(made)
    schedules = dict(made.schedules)
    for kernel in made.kernels:
        check_kernel(kernel)
        check_schedule(kernel, schedules[kernel.name])
    return made


def test_a_gradient_joins_its_update_behind_the_commit() -> None:
    made = fused(GRADIENT, Commit(), APPLY)
    assert made.steps == (Commit(), Launch("sum_update", ("x", "r", "w"), (N,)))
    assert {b.name for b in made.buffers} == {"x", "r", "h", "w", "v"}
    assert [k.name for k in made.kernels] == ["sum_update"]


def test_equal_pairs_are_one_kernel() -> None:
    more = (Launch("sum", ("x", "h"), (N,)), Launch("update", ("r", "h", "v"), (256,)))
    made = fused(Commit(), GRADIENT, APPLY, *more)
    assert [k.name for k in made.kernels] == ["sum_update"]
    assert len(launches(made)) == 2


@pytest.mark.parametrize("between", [
    Print(("g",), 1, ("", "")), Print(("w",), 1, ("", "")),
    Launch("update", ("r", "flat", "v"), (256,))])
def test_what_lies_between_keeps_it_apart(between: Step) -> None:
    """A reader of the gradient, a check that may come in between, a second update by it."""
    steps = (GRADIENT, between, Commit(), APPLY) if isinstance(between, Print) else (
        Commit(), GRADIENT, between, APPLY)
    assert fused(*steps).steps == steps


def test_what_reads_the_old_value_keeps_its_place() -> None:
    """The gradient itself is made of the variable: its kernel may not write over that."""
    reads = replace(SUM, params=(replace(SUM.params[0], dims=(N, 8, 32)), SUM.params[1]))
    made = program(Commit(), GRADIENT, APPLY)
    same = replace(made, kernels=(reads, UPDATE), steps=(
        Commit(), Launch("sum", ("w", "g"), (1,)), APPLY))
    assert fuse_updates(same) is same


def test_an_operand_that_changes_in_between_keeps_it_apart() -> None:
    """The sum is of an old value, which another update writes first."""
    steps = (Commit(), Launch("sum", ("v", "g"), (1,)), Launch("sum", ("x", "h"), (N,)),
             Launch("update", ("r", "h", "v"), (256,)), APPLY)
    made = fused(*steps)
    assert [s.buffers for s in launches(made)] == [
        ("v", "g"), ("x", "r", "v"), ("r", "flat", "w")]


def test_a_check_stays_before_all_updates() -> None:
    steps = (GRADIENT, Check("r", 1, "no"), Commit(), APPLY)
    assert fuse_updates(program(*steps)).steps == steps


def test_vectors_that_lie_across_the_variable_keep_it_apart() -> None:
    made = program(Commit(), GRADIENT, APPLY)
    across = tuple((n, replace(s, vector="i0", order=("i0", "i1"), tiles=())) if n == "sum"
                   else (n, s) for n, s in made.schedules)
    same = replace(made, schedules=across)
    assert fuse_updates(same) is same


def test_the_kernel_of_both() -> None:
    made = appended(SUM, SUM.body[1], UPDATE, 1)  # type: ignore[arg-type]
    check_kernel(made)
    assert [(p.name, p.dims, p.role) for p in made.params] == [
        ("x", (N, 8, 32), "in"), ("u0", (), "in"), ("u2", (8, 32), "inout")]
    last = made.body[-1]
    assert isinstance(last, Compute)
    assert last.target == Access("u2", (I0, I1))
    assert last.body[0].args == (Access("u0"), Access("acc"))
