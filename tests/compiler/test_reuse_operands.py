"""Results over operands: only where every element is read where it is written, and last."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import dlc
from dlc.compiler.options import Options
from dlc.compiler.passes.reuse_operands import overwriting, pairs, reuse_operands
from dlc.compiler.pipeline import plan
from dlc.ir.check_kernel import check_kernel
from dlc.ir.check_program import check_program
from dlc.ir.dims import symbol
from dlc.ir.kernel import Access, Arg, Buffer, BufferRole, Compute, Index, Kernel, Layout, ScalarOp
from dlc.ir.program import Launch, Loop, Print, Program, ProgramBuffer, Step, each_step
from dlc.ir.types import F32, F64

N, M = symbol("N"), symbol("M")
I0, I1 = symbol("i0"), symbol("i1")
OUTER = (Index("i0", N), Index("i1", M))


def param(name: str, role: BufferRole, *dims: object) -> Buffer:
    return Buffer(name, F32, dims or (N, M), role)  # type: ignore[arg-type]


def compute(target: str, *args: Arg, at: tuple[object, ...] = (I0, I1)) -> Compute:
    """`target[i0, i1] = args[0] + args[1]`, or a copy of the only one."""
    goal = Access(target, at)  # type: ignore[arg-type]
    if len(args) == 1:
        return Compute(goal, (), args[0])
    return Compute(goal, (ScalarOp(f"s.{target}", "add", args, F32),), f"s.{target}")


def kernel(*parts: Buffer | Compute) -> Kernel:
    buffers = tuple(p for p in parts if isinstance(p, Buffer))
    body = tuple(p for p in parts if isinstance(p, Compute))
    return Kernel("k", ("M", "N"), buffers, (), OUTER, body)


X, Y, Z = param("x", "in"), param("y", "in"), param("z", "out")
HERE = (I0, I1)


def test_what_is_read_where_it_is_written_may_be_overwritten() -> None:
    assert pairs(kernel(X, Y, Z, compute("z", Access("x", HERE), Access("y", HERE)))) == [
        (0, 2), (1, 2)]


def test_what_is_read_elsewhere_too_may_not() -> None:
    moved = Access("x", (I0, I1 + 1), 0.0)
    for args in ((Access("x", HERE), moved), (moved,)):
        assert pairs(kernel(X, Z, compute("z", *args))) == []


def test_what_gives_an_index_is_read_elsewhere() -> None:
    picked = Access("y", (I0, Access("x", (I0, 0))))
    assert pairs(kernel(X, Y, Z, compute("z", picked, Access("y", HERE)))) == []


def test_what_a_later_compute_reads_may_not() -> None:
    other = param("w", "out")
    first, second = compute("z", Access("x", HERE)), compute("w", Access("x", HERE))
    assert pairs(kernel(X, Z, other, first, second)) == [(0, 2)]
    assert pairs(kernel(X, Z, other, second, first)) == [(0, 1)]


def test_other_types_and_dims_may_not() -> None:
    read = compute("z", Access("x", HERE))
    assert pairs(kernel(replace(X, dtype=F64), Z, read)) == []
    assert pairs(kernel(replace(X, layout=Layout(((1, 1), (0, 1)))), Z, read)) == []
    row = compute("z", Access("x", (I1,)), Access("y", HERE))
    assert pairs(kernel(param("x", "in", M), Y, Z, row)) == [(1, 2)]


def test_the_kernel_changes_its_operand() -> None:
    made = overwriting(kernel(X, Y, Z, compute("z", Access("x", HERE), Access("y", HERE))), {0: 2})
    check_kernel(made)
    assert [(p.name, p.role) for p in made.params] == [("y", "in"), ("z", "inout")]
    assert made.body == (compute("z", Access("z", HERE), Access("y", HERE)),)


ADD = kernel(X, Y, Z, compute("z", Access("x", HERE), Access("y", HERE)))


def program(*steps: Step, **kinds: str) -> Program:
    names = dict.fromkeys(n for s in each_step(steps) if isinstance(s, Launch) for n in s.buffers)
    buffers = tuple(
        ProgramBuffer(n, F32, (N, M), kinds.get(n, "temp"), Layout())  # type: ignore[arg-type]
        for n in names)
    return Program("p", ("M", "N"), buffers, steps, (ADD,))


def add(result: str, x: str, y: str) -> Launch:
    return Launch("k", (x, y, result), (M, N))


def memory(found: Program) -> dict[str, str]:
    """The result's memory, for those that have none of their own."""
    made = reuse_operands(found)
    check_program(made)
    for each in made.kernels:
        check_kernel(each)
    return {b.name: b.alias_of for b in made.buffers if b.alias_of}


def test_a_chain_lies_in_one_place() -> None:
    found = program(add("a", "p", "q"), add("b", "a", "q"), add("c", "b", "q"), add("r", "c", "q"),
                    p="in", q="in", r="out")
    assert memory(found) == {"b": "a", "c": "a"}
    assert [k.name for k in reuse_operands(found).kernels] == ["k", "k_over"]


def test_what_is_read_again_keeps_its_memory() -> None:
    found = program(add("a", "p", "q"), add("b", "a", "q"), add("r", "b", "a"), p="in", q="in",
                    r="out")
    assert memory(found) == {}
    told = program(add("a", "p", "q"), add("b", "a", "q"), Print(("a",), 1, ("", "")), p="in",
                   q="in")
    assert memory(told) == {}


def test_what_is_read_twice_by_one_launch_keeps_its_memory() -> None:
    assert memory(program(add("a", "p", "q"), add("b", "a", "a"), add("r", "b", "q"), p="in",
                          q="in", r="out")) == {}


def test_arguments_and_variables_keep_their_memory() -> None:
    assert memory(program(add("a", "p", "v"), add("r", "a", "q"), p="in", q="in", v="var",
                          r="out")) == {}


def test_in_a_loop_only_what_is_of_one_turn() -> None:
    body = (add("b", "a", "q"), add("c", "b", "q"), add("d", "c", "q"))
    found = program(add("a", "p", "q"), Loop("t", 3, body), add("r", "d", "q"), p="in", q="in",
                    r="out")
    assert memory(found) == {"c": "b"}


def test_a_loop_of_one_step_reads_its_operand_in_each_turn() -> None:
    found = program(add("a", "p", "q"), Loop("t", 3, (add("b", "a", "q"),)), p="in", q="in")
    assert memory(found) == {}


@pytest.mark.parametrize("n", [1, 5, 16, 33, 1000])
def test_the_numbers_stay(n: int, tmp_path: Path) -> None:
    """A chain that is cut by running sums, which are kernels of their own, against NumPy."""
    file = tmp_path / "f.dl"
    file.write_text("""fn f(x: f32[N, 40]) -> (f32[N, 40], f32[N, 40]) {
    a = x * 2.0 + 1.0
    s = cumsum(a, axis=0)
    b = a * a - s
    t = cumsum(b, axis=0)
    c = (b - t) * 0.5
    return c * c + b, t
}
""")
    f = dlc.load(file).f
    steps = [b for b in plan(f.graph, Options())[0].buffers if b.alias_of and b.kind == "temp"]
    assert steps
    x = np.random.default_rng(n).integers(-3, 4, (n, 40)).astype(np.float32)
    a = x * 2 + 1
    b = a * a - a.cumsum(0)
    c = (b - b.cumsum(0)) * 0.5
    found, total = f(x)
    np.testing.assert_allclose(found, c * c + b, rtol=1e-5)
    np.testing.assert_allclose(total, b.cumsum(0), rtol=1e-5)
