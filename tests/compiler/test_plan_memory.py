"""Memory plans: no two temps that live at the same time ever meet, at any sizes."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest

from dlc.compiler.footprint import footprint, report
from dlc.compiler.options import Options
from dlc.compiler.passes.plan_memory import (
    at_sizes,
    byte_size,
    offsets,
    plan_memory,
    planned,
)
from dlc.ir.dims import Dim, symbol
from dlc.ir.kernel import Layout
from dlc.ir.loops import Alloc, For, LoopFunction
from dlc.ir.program import (
    Branch,
    BufferKind,
    Check,
    Commit,
    Launch,
    Loop,
    Parallel,
    Print,
    Program,
    ProgramBuffer,
    Step,
)
from dlc.ir.types import BOOL, F32

N, M = symbol("N"), symbol("M")


def _buffer(name: str, *dims: Dim, kind: BufferKind = "temp", alias: str = "") -> ProgramBuffer:
    return ProgramBuffer(name, F32, dims, kind, Layout(), alias)


def _program(buffers: list[ProgramBuffer], *steps: Step) -> Program:
    program = Program("p", ("N", "M"), tuple(buffers), steps, ())
    return plan_memory(program, Options(hints={"N": 100}))


def _launch(*buffers: str) -> Launch:
    return Launch("k", buffers, ())


def test_lifetimes_and_reuse() -> None:
    names = ["a", "b", "c", "d"]
    program = _program([_buffer(n, N) for n in names], _launch("a"), _launch("a", "b"),
                       _launch("b", "c"), Commit(), _launch("c", "d"))
    assert [(b.first, b.last) for b in program.buffers] == [(0, 1), (1, 2), (2, 4), (4, 4)]
    assert offsets(program, {"N": 16})[""] == 128


def test_aliases_share_memory_and_lengthen_a_life() -> None:
    buffers = [_buffer("a", N, 2), _buffer("flat", 2 * N, alias="a"), _buffer("b", N)]
    program = _program(buffers, _launch("a"), _launch("b"), _launch("flat", "b"))
    assert [b.first for b in program.buffers] == [0, 0, 1]
    assert [b.last for b in program.buffers] == [2, 2, 2]
    assert [b.name for b in planned(program)] == ["a", "b"]
    assert program.buffer("b").above == ("a",)


def _lives(names: str, *steps: Step) -> dict[str, tuple[int, int]]:
    program = _program([_buffer(n, N) for n in names], *steps)
    return {b.name: (b.first, b.last) for b in program.buffers}


def test_what_lies_in_memory_around_a_loop_lives_over_all_of_it() -> None:
    body = (_launch("a", "b"), _launch("b", "c"), _launch("d"))
    lives = _lives("abcde", _launch("a"), Loop("t", 3, body), _launch("c", "e"))
    assert lives == {"a": (0, 4), "b": (2, 3), "c": (1, 5), "d": (4, 4), "e": (5, 5)}


def test_lives_in_loops_in_loops() -> None:
    inner = Loop("u", 3, (_launch("a", "b", "c"), _launch("b")))
    lives = _lives("abcd", Loop("t", 3, (_launch("a"), inner, _launch("d"))), _launch("c"))
    assert lives == {"a": (1, 4), "b": (3, 4), "c": (0, 6), "d": (5, 5)}


def test_a_condition_lives_until_it_is_asked() -> None:
    loop = Loop("t", 0, (_launch("a"),), (_launch("b"), _launch("b", "c")), "c")
    assert _lives("abc", loop) == {"a": (3, 3), "b": (1, 2), "c": (2, 2)}
    branch = Branch("c", (_launch("a"),), (_launch("a", "b"), Print(("b",), 1, ("", ""))))
    assert _lives("abc", _launch("c"), branch, _launch("a")) == {
        "a": (2, 5), "b": (3, 4), "c": (0, 1)}


def test_what_the_caller_gives_and_what_is_not_used_takes_no_room() -> None:
    buffers = [_buffer("x", N, kind="in"), _buffer("y", N, kind="out"), _buffer("t", N)]
    program = _program(buffers, _launch("x", "y"))
    assert planned(program) == []
    assert offsets(program, {"N": 9}) == {"": 0}


def test_a_check_reads() -> None:
    flag = ProgramBuffer("ok", BOOL, (), "temp", Layout())
    program = _program([flag, _buffer("t", 3)], _launch("ok"), _launch("t"),
                       Check("ok", 1, "wrong"))
    assert program.buffer("ok").last == 2
    found = offsets(program, {})
    assert {found["ok"], found["t"]} == {0, 64}


def test_blocked_layouts_count_their_padding() -> None:
    blocked = ProgramBuffer("t", F32, (N, 3), "temp", Layout(((0, 16), (1, 1), (0, 1))))
    program = _program([blocked], _launch("t"))
    assert offsets(program, {"N": 17})[""] == 32 * 3 * 4


def test_likely_sizes_give_a_tight_arena() -> None:
    # x and z live apart: either may lie over the other; w meets both.
    program = _program([_buffer("x", N), _buffer("w", N), _buffer("z", N // 2)],
                       _launch("x", "w"), _launch("w", "z"))
    assert offsets(program, {"N": 32})[""] == 256


def test_the_report_names_sizes_and_the_peak() -> None:
    program = _program([_buffer("x", N), _buffer("w", M)], _launch("x", "w"))
    text = report(program, {"N": 16, "M": 32})
    assert text.startswith("arena of p: 192 bytes at N=16, M=32\n")
    assert "peak: 192 bytes, with 0 of results and 0 of a thread's stack" in text
    assert "alive: at most 192 bytes at one step; the peak is 1.000 times that" in text
    assert "x: 4*N bytes, steps 0..0" in text
    assert text.endswith(("highest: 4*N + 4*M", "highest: 4*M + 4*N"))


def test_results_and_the_stack_are_part_of_the_footprint() -> None:
    loops = LoopFunction("k", (), (), 1, (
        Alloc("a", F32, 16), For("i", 0, 4, (Alloc("b", F32, 20),))))
    program = replace(_program(
        [_buffer("x", N), _buffer("y", N, kind="out"), _buffer("z", N), _buffer("w", N)],
        _launch("x", "w"), _launch("w"), _launch("w", "y"), _launch("z")), loops=(loops,))
    found = footprint(program, {"N": 32})
    assert (found.arena, found.results, found.stack) == (256, 128, 64 + 128)
    assert found.alive == 256 + 192  # x and w, then w and y, then y and z
    assert found.peak == 256 + 128 + 192
    assert found.ratio == found.peak / found.alive


def test_what_threads_do_in_parallel_is_one_step() -> None:
    """One thread may be at the last of the steps while another one is at the first."""
    pieces = Parallel("piece", 3, 1, (_launch("a", "b"), Loop("t", 2, (_launch("b", "c"),))))
    lives = _lives("abcd", _launch("a"), pieces, _launch("c", "d"))
    assert lives == {"a": (0, 1), "b": (1, 1), "c": (1, 2), "d": (2, 2)}


def test_a_better_order_of_temps_is_found() -> None:
    """With the largest first, e lies on a and c on e: 320 bytes, where never more than 256 live."""
    sizes = {"a": 3, "b": 2, "c": 1, "d": 3, "e": 1}
    buffers = [_buffer(name, 16 * size) for name, size in sizes.items()]
    program = _program(buffers, *(_launch(*each) for each in ("e", "ae", "bce", "cd")))
    assert footprint(program, {}).arena == footprint(program, {}).alive == 256


@pytest.mark.parametrize("seed", range(20))
def test_no_sizes_make_temps_meet(seed: int) -> None:
    chance = random.Random(seed)
    dims: list[Dim] = [N, M, 2 * N, N * M, 17, N // 3, 100 * M]
    buffers = [_buffer(f"t{k}", chance.choice(dims)) for k in range(12)]
    steps = [_launch(*(f"t{k}" for k in chance.sample(range(12), 3))) for _ in range(10)]
    program = _program(buffers, *steps)
    for n, m in itertools.product((1, 5, 100, 1000), (0, 7, 300)):
        sizes = {"N": n, "M": m}
        found = offsets(program, sizes)
        for a, b in itertools.combinations(planned(program), 2):
            if a.first <= b.last and b.first <= a.last:
                low, high = sorted((a, b), key=lambda t: (found[t.name], at_sizes(
                    byte_size(t), sizes)))
                assert found[low.name] + at_sizes(byte_size(low), sizes) <= found[high.name]
        assert all(found[t.name] % 64 == 0 for t in planned(program))
        assert found[""] >= max(
            found[t.name] + at_sizes(byte_size(t), sizes) for t in planned(program))
