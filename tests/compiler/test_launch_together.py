"""Small launches of a GPU beside each other: which are, and which may not be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dlc.compiler.options import Options
from dlc.compiler.passes.launch_together import launch_together
from dlc.compiler.pipeline import compile_cuda, plan
from dlc.ir.check_program import check_program
from dlc.ir.dims import Dim, symbol
from dlc.ir.kernel import ROW_MAJOR, Access, Buffer, Compute, Index, Kernel
from dlc.ir.kernel_rules import KernelError
from dlc.ir.program import Commit, Launch, Loop, Program, ProgramBuffer, Step, each_step
from dlc.ir.program_text import parse_program, print_program
from dlc.ir.schedule import Schedule
from dlc.ir.types import F32
from tests.cuda.test_examples_cuda import graph_of

GPU = Options(target="cuda:sm_80", hints={"N": 1 << 20})
E = symbol("E")
COPY = Kernel("copy", ("E",), (Buffer("x", F32, (E,), "in"), Buffer("y", F32, (E,), "out")), (),
              (Index("i0", E),), (Compute(Access("y", (symbol("i0"),)), (),
                                          Access("x", (symbol("i0"),))),))


def copy(source: str, target: str, size: Dim = 10) -> Launch:
    return Launch("copy", (source, target), (size,))


def program(*steps: Step) -> Program:
    names = {n: s.dims[0] for s in each_step(steps) if isinstance(s, Launch) for n in s.buffers}
    kinds = {"x": "in", "y": "out", "w": "var"}
    buffers = tuple(ProgramBuffer(n, F32, (d,), kinds.get(n[0], "temp"), ROW_MAJOR)  # type: ignore[arg-type]
                    for n, d in names.items())
    schedule = Schedule(GPU.target, ("i0",), 1, (E + 255) // 256, threads=256)
    return Program("p", ("N",), buffers, steps, (COPY,), (("copy", schedule),))


def order(*steps: Step) -> str:
    """What is written, in order; what is written at the same time between commas."""
    made = launch_together(program(*steps), GPU)
    check_program(made)
    assert parse_program(print_program(made)) == made
    text = ""
    for step in made.steps:
        assert isinstance(step, Launch)
        text += f"{', ' if step.beside else ' '}{step.buffers[1]}"
    return text.strip()


def test_what_need_not_wait_is_one() -> None:
    assert order(copy("x", "a"), copy("x", "b"), copy("a", "y")) == "a b, y"
    assert order(copy("x", "a"), copy("a", "b"), copy("x", "c"), copy("c", "y")) == "a, c b, y"


def test_who_reads_waits_and_who_writes_over_what_is_read() -> None:
    assert order(copy("x", "a"), copy("a", "b"), copy("b", "y")) == "a b y"
    assert order(copy("a", "y1"), copy("x", "a"), copy("a", "y2")) == "y1 a y2"


def test_a_large_one_keeps_its_place_and_small_ones_go_over_it() -> None:
    n = symbol("N")
    assert order(copy("x1", "a"), copy("xl", "l", n), copy("l", "yl", n), copy("x2", "y2"),
                 copy("a", "y1")) == "l yl a y2, y1"


def test_a_loop_and_the_commit_are_not_gone_over() -> None:
    loop = Loop("t", 3, (copy("x", "b"), copy("x", "c")))
    made = launch_together(program(copy("x", "a"), Commit(), copy("a", "w"), loop), GPU)
    check_program(made)
    assert [type(s).__name__ for s in made.steps] == ["Launch", "Commit", "Launch", "Loop"]
    inside = made.steps[-1]
    assert isinstance(inside, Loop)
    assert [s.beside for s in inside.body if isinstance(s, Launch)] == [False, True]


def test_nothing_to_do() -> None:
    made = program(copy("x", "a"), copy("a", "y"))
    assert launch_together(made, GPU) is made


def test_what_is_checked() -> None:
    beside = replace(copy("a", "y"), beside=True)
    with pytest.raises(KernelError, match="beside copy, and one needs the other's work"):
        check_program(program(copy("x", "a"), beside))
    with pytest.raises(KernelError, match="is beside no launch"):
        check_program(program(copy("x", "a"), Commit(), beside))


# Products over the batch and rows, which have variants for sizes, are launched alone.
@pytest.mark.parametrize(("file", "most"), [("plain_lenet5.dl", 20), ("lenet5.dl", 29)])
def test_launches_of_a_step(file: str, most: int) -> None:
    graph = graph_of(file, "fit")
    launches = [s for s in each_step(plan(graph, Options(target="cuda:sm_80"))[0].steps)
                if isinstance(s, Launch)]
    cuda = compile_cuda(graph, Options(target="cuda:sm_80")).manifest["cuda"]
    assert isinstance(cuda, dict)
    steps = [s for s in cuda["steps"] if s["step"] == "launch"]
    assert len(steps) == sum(not s.beside for s in launches) <= most < len(launches) / 2 + 10
    assert sum(len(s["buffers"]) for s in steps) == sum(len(s.buffers) for s in launches)
