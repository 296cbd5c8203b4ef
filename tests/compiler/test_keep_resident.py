"""Loops whose turns are one launch of a GPU: which are, and which may not be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dlc.compiler.options import Options
from dlc.compiler.passes.keep_resident import keep_resident
from dlc.ir.check_program import check_program
from dlc.ir.dims import Dim, symbol
from dlc.ir.program import Branch, Check, Comparison, Loop, Program, ProgramBuffer, Step, Variant
from dlc.ir.program_text import parse_program, print_program
from dlc.ir.types import BOOL
from tests.compiler.test_launch_together import COPY, E, copy, program

N = symbol("N")
OPTIONS = Options(target="cuda:sm_80", hints={"N": 4096})


def kept(made: Program, options: Options = OPTIONS) -> tuple[tuple[str, ...], ...]:
    """The kernels that the innermost loop of a program is, with its blocks resident."""
    after = keep_resident(made, options)
    check_program(after)
    assert parse_program(print_program(after)) == after
    step: Step = after.steps[-1]
    while isinstance(step, Loop | Branch):
        inside = step.body if isinstance(step, Loop) else step.then
        if not any(isinstance(each, Loop | Branch) for each in inside):
            assert isinstance(step, Loop)
            return step.resident
        step = inside[-1]
    raise AssertionError("there is no loop")


def looped(*body: Step, count: Dim = 3) -> Program:
    return program(Loop("t", count, body))


def test_all_launches_of_a_turn() -> None:
    assert kept(looped(copy("x", "a"), copy("a", "b"))) == (("copy", "copy"),)
    assert kept(looped(copy("x", "a", N), copy("a", "b", N), count=N)) == (("copy", "copy"),)


def test_as_many_blocks_as_processors() -> None:
    few, many = copy("x", "a", 256 * 108), copy("x", "a", 256 * 108 + 1)
    assert kept(looped(few)) == (("copy",),)
    assert kept(looped(many)) == ()
    assert kept(looped(many), replace(OPTIONS, target="cuda:sm_90a")) == (("copy",),)
    halves = copy("x", "a", 256 * 54), replace(copy("x", "b", 256 * 54), beside=True)
    assert kept(looped(*halves)) == (("copy", "copy"),)
    assert kept(looped(halves[0], replace(halves[1], dims=(256 * 54 + 1,)))) == ()


def test_those_that_run_at_likely_sizes() -> None:
    """A variant for large sizes is not among them: it has too many blocks."""
    made = looped(copy("x", "a", N))
    large, middle = replace(COPY, name="large"), replace(COPY, name="middle")
    schedule = made.schedules[0][1]
    more = replace(schedule, chunks=1000 + E)
    made = replace(
        made, kernels=(*made.kernels, large, middle),
        schedules=(*made.schedules, ("large", more), ("middle", schedule)),
        variants=(Variant("large", "copy", (Comparison(E, ">=", 16384),)),
                  Variant("middle", "copy", (Comparison(E, ">=", 4096),))))
    assert kept(made) == (("copy",), ("middle",))


def test_within_others() -> None:
    made = looped(Loop("u", 2, (copy("x", "a"),)))
    assert kept(made) == (("copy",),)
    more = ProgramBuffer("more", BOOL, (), "temp", made.buffers[0].layout)
    inside = Branch("more", (Loop("u", 2, (copy("x", "a"),)),), ())
    assert kept(replace(looped(inside), buffers=(*looped(copy("x", "a")).buffers, more))) == (
        ("copy",),)


@pytest.mark.parametrize("body", [
    (copy("x", "a", symbol("t") + 1),), (copy("x", "a"), Check("more", 1, "no")), (),
], ids=["other sizes each turn", "a check", "nothing"])
def test_what_can_not_stay(body: tuple[Step, ...]) -> None:
    made = looped(*body)
    more = ProgramBuffer("more", BOOL, (), "temp", program(copy("x", "a")).buffers[0].layout)
    assert kept(replace(made, buffers=(*made.buffers, more))) == ()


def test_what_ends_by_its_data_and_blocks_of_other_threads() -> None:
    made = looped(copy("x", "a"))
    more = ProgramBuffer("more", BOOL, (), "temp", made.buffers[0].layout)
    until = Loop("t", 0, (copy("x", "a"),), condition="more")
    assert kept(replace(made, steps=(until,), buffers=(*made.buffers, more))) == ()
    other, schedule = replace(COPY, name="other"), made.schedules[0][1]
    two = Loop("t", 3, (copy("x", "a"), replace(copy("x", "a"), kernel="other")))
    assert kept(replace(made, steps=(two,), kernels=(*made.kernels, other), schedules=(
        *made.schedules, ("other", replace(schedule, threads=128))))) == ()


def test_more_arguments_than_a_kernel_has() -> None:
    assert kept(looped(*(copy("x", f"a{k}") for k in range(100)))) != ()
    assert kept(looped(*(copy("x", f"a{k}") for k in range(200)))) == ()


def test_nothing_to_do() -> None:
    made = program(copy("x", "a"), copy("a", "y"))
    assert keep_resident(made, OPTIONS) is made
