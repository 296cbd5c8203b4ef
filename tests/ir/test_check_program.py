"""The checks of programs: each rule finds what breaks it."""

from __future__ import annotations

import pytest

from dlc.ir.check_program import check_program
from dlc.ir.kernel_rules import KernelError
from dlc.ir.program_text import parse_program

GOOD = """\
program f<N> {
  buffer x: f32[N, 4] in
  buffer w: f32[4] var
  buffer y: f32[N, 4] out
  buffer h: f32[2, 4] temp
  buffer h.old: f32[4] temp alias h + 4*(t % 2)
  buffer h.last: f32[4] temp alias h + 4*(u % 2)
  buffer x.row: f32[4] in alias x + 4*t
  buffer x.row.2: f32[4] in alias x + 8*piece
  buffer y.row: f32[4] out alias y + 8*piece
  buffer more: bool temp
  buffer bad: i64 temp
  variant copy.large of copy where E >= 1000, E % 4 == 0
  loop t < N {
    launch copy<4>(x.row, h.old)
    check more 1 "well {value}" value bad
    print 1 ["h is ", ""](h.old)
  }
  parallel piece < 2 cost 100*N {
    launch copy<4>(x.row.2, y.row)
    loop v < N {
      launch copy<2>(x.row.2, y.row)
    }
  }
  while u more {
    launch test(h, more)
  } do {
    if more {
      launch copy<4*N>(x, y)
    } else {
      check more 2 "fine"
    }
  }
  loop again < 2 resident (copy, test), (copy.large, test) {
    launch copy<4*N>(x, y)
    launch test(h, more)
  }
  commit
  launch copy<4>(h.last, w)
}

kernel copy<E>(p0: f32[E] in, p1: f32[E] out) {
  outer i0<E
  p1[i0] = p0[i0]
}

kernel copy.large<E>(p0: f32[E] in, p1: f32[E] out) {
  outer i0<E
  p1[i0] = p0[i0]
}

kernel test(p0: f32[2, 4] in, p1: bool out) {
  p1 = lt(p0[0, 0], p0[1, 1])
}

schedule copy.large for "cuda:sm_80" {
  order i0
  multiples E 4
}
"""


def test_a_good_program() -> None:
    check_program(parse_program(GOOD))


@pytest.mark.parametrize(("before", "after", "message"), [
    ("buffer more: bool", "buffer bad: bool", "bad: there are two buffers of that name"),
    ("alias x + 4*t", "alias z + 4*t", "x.row: z is no buffer with memory of its own"),
    ("alias x + 4*t", "alias h.old + 4*t", "x.row: h.old is no buffer with memory of its own"),
    ("x.row: f32[4] in", "x.row: i32[4] in", "x.row: is not stored as x is"),
    ("x.row: f32[4] in", "x.row: f32[4] temp", "x.row: is not stored as x is"),
    ("launch copy<4>(x.row", "launch move<4>(x.row", "move: there is no such kernel"),
    ("copy<4>(x.row, h.old)", "copy<4>(x.row, h.new)", "h.new: there is no such buffer"),
    ("copy<4>(x.row, h.old)", "copy<4>(x.row, y, h.old)", "copy: takes 2 buffers, not 3"),
    ("copy<4>(x.row, h.old)", "copy(x.row, h.old)", "copy: takes 1 dims, not 0"),
    ("copy<4>(x.row, h.old)", "copy<4>(bad, h.old)", "copy: bad is of i64, p0 of f32"),
    ("copy<4>(x.row, h.old)", "copy<4>(x.row, w)", "copy: writes w before the commit"),
    ("copy<4>(x.row, h.old)", "copy<4>(h, x.row)", "copy: writes x.row, which is of kind in"),
    ("copy<4>(x.row, h.old)", "copy<M>(x.row, h.old)", "copy: M is not known here"),
    ("copy<4>(x.row, h.old)", "copy<u>(x.row, h.old)", "copy: u is not known here"),
    ("(h.last, w)", "(x.row, w)", None),
    ("copy<4*N>(x, y)", "copy<4>(h.last, y)", None),
    ("loop t < N", "loop t < M", "t: M is not known here"),
    ("loop t < N", "loop u < N", "x.row: t is not known here"),
    ("while u more", "while t more", "t: is the variable of another loop, or a symbol"),
    ("while u more", "while u bad", "bad: is no bool"),
    ("parallel piece < 2", "parallel t < 2",
     "t: is the variable of another loop, or a symbol"),
    ("parallel piece < 2", "parallel piece < M", "piece: M is not known here"),
    ("cost 100*N", "cost 100*piece", "piece: piece is not known here"),
    ("    loop v < N {", "    print 2 [\"\"]()\n    loop v < N {",
     "piece: stands round what threads may not do at once"),
    ("copy<4*N>(x, y)", "copy<4>(x.row.2, y)", "x.row.2: piece is not known here"),
    ("check more 1", "check bad 1", "bad: is no bool"),
    ("value bad", "value more", "more: is no i64"),
    ("check more 1", "check more 3", "check: codes are [2, 3]"),
    ("print 1", "print 2", "print: codes are [2]"),
    ("  commit\n", '  commit\n  print 2 ["x"]()\n', "print: stands behind the commit"),
    ("  commit\n", "  commit\n  commit\n", "commit: stands where no commit may"),
    ("      check more 2 \"fine\"\n", "      commit\n", "commit: stands where no commit may"),
    ("large of copy", "large of move", "copy.large: is a variant of move, and one is no kernel"),
    ("large of copy", "large of test", "copy.large: does not take what test takes"),
    ("  loop t < N {", "  variant test of copy where E >= 2\n  loop t < N {",
     "test: does not take what copy takes"),
    ("  loop t < N {", "  variant copy of copy.large where E >= 2\n  loop t < N {",
     "copy: is a variant, and has some"),
    ("resident (copy, test)", "resident (copy)", "again: has no launches of copy"),
    ("resident (copy, test)", "resident (test, copy)", "again: has no launches of test, copy"),
    ("    launch copy<4*N>(x, y)\n    launch", "    launch copy<4*again>(x, y)\n    launch",
     "again: has blocks that are resident, and sizes of its turns"),
    ("    launch test(h, more)\n  }\n  commit", '    check more 3 "no"\n  }\n  commit',
     "again: has blocks that are resident, and more than launches"),
    ("E >= 1000, E % 4 == 0", "E >= 1000",
     "copy.large: runs at sizes that are not the multiples that its schedule is for"),
    ("multiples E 4", "multiples E 8",
     "copy.large: runs at sizes that are not the multiples that its schedule is for"),
    ("schedule copy.large", "schedule copy",
     "copy: runs at sizes that are not the multiples that its schedule is for"),
    ("E >= 1000", "N >= 1000", "copy.large: runs at sizes of what are none of its symbols"),
])
def test_what_breaks_a_rule(before: str, after: str, message: str | None) -> None:
    assert before in GOOD
    program = parse_program(GOOD.replace(before, after, 1))
    if message is None:  # the variable of a loop keeps its value after it
        check_program(program)
        return
    with pytest.raises(KernelError) as error:
        check_program(program)
    assert str(error.value) == f"f: {message}"
