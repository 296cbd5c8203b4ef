"""join_copies: which copies become part of an elementwise kernel, and which may not."""

from __future__ import annotations

import pytest

from dlc.compiler.passes.join_copies import join_copies
from dlc.ir.check_program import check_program
from dlc.ir.program import Launch, Loop, Program, each_step
from dlc.ir.program_text import parse_program, print_program

KERNELS = """
kernel copy<E>(p0: f32[E] in, p1: f32[E] out) {
  outer i0<E
  p1[i0] = p0[i0]
}

kernel twice<N>(p0: f32[N, 8] in, p1: f32[N, 8] out) {
  outer i0<N, i1<8
  p1[i0, i1] = add(p0[i0, i1], p0[i0, i1])
}

kernel turned<N>(p0: f32[N, 8] in, p1: f32[8, N] out) {
  outer i0<N, i1<8
  p1[i1, i0] = p0[i0, i1]
}

kernel total<N>(p0: f32[N, 8] in, p1: f32[N] out) {
  local acc: f32
  outer i0<N
  acc = sum k0<8: p0[i0, k0]
  p1[i0] = acc
}

kernel product<N>(p0: f32[N, 8] in, p1: f32[N, 8] out) {
  local acc: f32
  outer i0<N, i1<8
  acc = sum k0<8: mul(p0[i0, k0], p0[i1, k0])
  p1[i0, i1] = {
    t0 = tanh(acc)
    t0
  }
}

kernel largest<N>(p0: f32[N, 8] in, p1: f32[N, 8] out) {
  local acc: f32
  outer i0<N, i1<8
  acc = max k0<8: mul(p0[i0, k0], p0[i1, k0])
  p1[i0, i1] = acc
}
"""
BUFFERS = """\
program f<N> {
  buffer x: f32[N, 8] in
  buffer a: f32[N, 8] temp
  buffer b: f32[N, 8] temp
  buffer c: f32[8, N] temp
  buffer s: f32[N] temp
  buffer pair: f32[2, N, 8] temp
  buffer all: f32[N, N, 8] out
  buffer pair.first: f32[N, 8] temp alias pair
  buffer pair.old: f32[N, 8] temp alias pair + 8*N*(turn % 2)
  buffer pair.new: f32[N, 8] temp alias pair + 8*N*((turn + 1) % 2)
  buffer all.part: f32[N, 8] out alias all + 8*N*turn
"""


def program(*steps: str) -> Program:
    text = BUFFERS + "".join(f"  {step}\n" for step in steps) + "}\n" + KERNELS
    made = parse_program(text)
    check_program(made)
    return made


def launches(made: Program) -> list[tuple[str, ...]]:
    return [(s.kernel, *s.buffers) for s in each_step(made.steps) if isinstance(s, Launch)]


@pytest.mark.parametrize(("steps", "expected"), [
    # what was just made
    (("launch twice<N>(x, a)", "launch copy<8*N>(a, b)"), [("twice_copy", "x", "a", "b")]),
    # what has nothing to do with it, over a launch that does not matter
    (("launch twice<N>(x, a)", "launch total<N>(x, s)", "launch copy<8*N>(x, b)"),
     [("twice_copy", "x", "a", "x", "b"), ("total", "x", "s")]),
    # copies with each other
    (("launch copy<8*N>(x, a)", "launch copy<8*N>(x, b)"), [("copy_copy", "x", "a", "x", "b")]),
    # after a sum at each place: what comes of it, and what it is of
    (("launch product<N>(x, a)", "launch copy<8*N>(a, b)", "launch copy<8*N>(x, pair.first)"),
     [("product_copy_copy", "x", "a", "b", "x", "pair.first")]),
    (("launch product<N>(a, b)", "launch copy<8*N>(x, a)"), None),
    (("launch largest<N>(x, a)", "launch copy<8*N>(a, b)"), None),
    # another number of places
    (("launch twice<N>(x, a)", "launch copy<N>(s, s)"), None),
    # another place makes what is copied
    (("launch turned<N>(x, c)", "launch copy<8*N>(c, b)"), None),
    # what is written is read before
    (("launch twice<N>(a, b)", "launch copy<8*N>(x, a)"), None),
    (("launch twice<N>(x, b)", "launch total<N>(a, s)", "launch copy<8*N>(x, a)"), None),
    # what is read is made between
    (("launch twice<N>(x, b)", "launch turned<N>(x, a)", "launch copy<8*N>(a, pair.first)"), None),
])
def test_copies(steps: tuple[str, ...], expected: list[tuple[str, ...]] | None) -> None:
    assert join_copies(program(*steps)).steps == program(*steps).steps  # outside of loops
    before = program("loop turn < N {", *steps, "}")
    after = join_copies(before)
    if expected is None:
        assert after is before
        return
    check_program(after)
    assert launches(after) == expected
    assert parse_program(print_program(after)) == after


def test_turns_of_a_loop() -> None:
    """The old value lies beside the new one, which is as far away as they are long."""
    made = program(
        "launch copy<8*N>(x, pair.first)",
        "loop turn < N {\n    launch twice<N>(pair.old, pair.new)\n"
        "    launch copy<8*N>(pair.old, b)\n    launch copy<8*N>(pair.new, all.part)\n  }")
    after = join_copies(made)
    check_program(after)
    loop = after.steps[1]
    assert isinstance(loop, Loop)
    assert launches(after)[1:] == [
        ("twice_copy_copy", "pair.old", "pair.new", "pair.old", "b", "all.part")]
