"""What warp groups do in Loops: it reads back, and its rules hold."""

from __future__ import annotations

import re

import pytest

from dlc.ir.check_loops import check_loops
from dlc.ir.check_schedule import check_schedule
from dlc.ir.kernel_rules import KernelError
from dlc.ir.kernel_text import parse_kernel
from dlc.ir.loops_parse import parse_loops
from dlc.ir.loops_text import print_loops
from dlc.ir.schedule_text import parse_schedule, print_schedule
from dlc.ir.tokens import TextError

LOOPS = """\
loops product<M, K>(x: const bf16, w: const bf16, y: f32) chunks (M + 63) // 64 threads 256 {
  alloc sums: f32[64] zeroed
  alloc left: bf16[16384] shared
  alloc right: bf16[32768] shared
  view x.box: bf16 = x[8] sizes K, M steps K box 64, 64
  view w.box: bf16 = w[0] sizes 128, K, 3 steps 128, 128*K box 64, 64, 1
  signals full: 4 of 1
  signals empty: 4 of 4
  barrier
  let group = thread // 128
  if group - 1 >= 0 {
    registers 40 fewer
    if -thread + 128 >= 0 {
      for turn = 0 to (K + 63) // 64 {
        let stage = turn % 4
        await empty[stage] phase (turn // 4) - 1
        arrive full[stage] with 24576
        box left[4096*stage] = x.box[64*turn, 64*chunk]: full[stage]
        box right[8192*stage] = w.box[0, 64*turn, 0]: full[stage]
        box right[8192*stage + 4096] = w.box[64, 64*turn, 0]: full[stage]
      }
    }
  }
  if -group >= 0 {
    registers 232 more
    for turn = 0 to (K + 63) // 64 {
      let stage = turn % 4
      await full[stage] phase turn // 4
      multiply sums[0] = left[4096*stage], right[8192*stage] turned: bf16 128 of 64
      multiplied 0
      if -(thread % 32) >= 0 {
        arrive empty[stage]
      }
    }
    v: f32 = sums[0]
    y[thread]: f32 = v
  }
}
"""


def test_it_prints_as_it_was_written() -> None:
    function = parse_loops(LOOPS)
    assert print_loops(function) == LOOPS
    check_loops(function)


def test_their_words_are_names_elsewhere() -> None:
    text = ("loops f(box: const f32, view: f32) chunks 1 {\n  arrive: f32 = box[0]\n"
            "  view[0]: f32 = arrive\n}\n")
    assert print_loops(parse_loops(text)) == text
    check_loops(parse_loops(text))


@pytest.mark.parametrize(("before", "after", "message"), [
    ("= x[8]", "= x[4]", "lines do not begin at multiples of 16 bytes"),
    ("steps 128, 128*K", "steps 124, 128*K", "lines do not begin at multiples of 16 bytes"),
    ("steps 128, 128*K", "steps 128", "3 axes, 1 steps and 3 sides"),
    ("steps K box 64, 64", "steps K box 32, 64", "no boxes of 32, 64"),
    ("steps K box 64, 64", "steps K box 64, 512", "no boxes of 64, 512"),
    ("sizes K, M", "sizes K, chunk", "more than symbols"),
    ("bf16 = x[8]", "bf16 = left[8]", "left is no parameter"),
    ("bf16 = x[8]", "bf16 = y[8]", "y holds f32"),
    ("  barrier\n", "  barrier\n  if M >= 0 {\n    signals other: 1 of 1\n  }\n",
     "does not stand at the head"),
    ("full: 4 of 1", "full: 0 of 1", "less than 1"),
    ("full: 4 of 1", "empty: 4 of 1", "empty is defined already"),
    ("arrive empty[stage]", "arrive empty[4]", "there is no signal 4"),
    ("arrive empty[stage]", "arrive other[stage]", "there are no signals other"),
    ("phase turn // 4", "phase round // 4", "round in"),
    ("left[4096*stage] = x.box", "x[4096*stage] = x.box", "x is only read"),
    ("left[4096*stage] = x.box", "y[4096*stage] = x.box", "y holds f32"),
    ("x.box[64*turn, 64*chunk]", "x.box[64*turn]", "1 indices, the view 2 axes"),
    ("x.box[64*turn", "z.box[64*turn", "no view z.box"),
    ("      multiplied 0", "      if 64 - thread >= 0 {\n        multiplied 0\n      }",
     "not all threads come here together"),
    ("-group >= 0", "-(thread // 64) >= 0", "not all threads come here together"),
    ("registers 232 more", "registers 230 more", "no thread has 230 registers"),
    ("multiplied 0", "multiplied -1", "-1"),
    ("sums: f32[64] zeroed", "sums: f32[32] zeroed", "no such sums of a thread's own"),
    ("sums: f32[64] zeroed", "sums: f32[64] shared", "no such sums of a thread's own"),
    ("left: bf16[16384] shared", "left: bf16[16384]", "left is not shared"),
    ("bf16 128 of 64", "bf16 132 of 64", "no products of 132 columns"),
    ("bf16 128 of 64", "bf16 128 of 128", "left has lines of 64 elements"),
    ("bf16 128 of 64", "bf16 96 of 64", "right has lines of 64 elements"),
    ("bf16 128 of 64", "f32 128 of 64", "f32 is not multiplied so"),
    ("threads 256", "threads 160", "no whole number of groups"),
])
def test_rules(before: str, after: str, message: str) -> None:
    text = LOOPS.replace(before, after, 1)
    assert text != LOOPS
    with pytest.raises((KernelError, TextError), match=re.escape(message)):
        check_loops(parse_loops(text))


KERNEL = parse_kernel("""\
kernel product(x: bf16[256, 64] in, w: bf16[64, 256] in, y: f32[256, 256] out) {
  local acc: f32
  outer i<256, j<256
  acc = sum k<64: mul(cast(x[i, k], to = f32), cast(w[k, j], to = f32))
  y[i, j] = acc
}
""")
SCHEDULE = """\
schedule product for "cuda:sm_90a" {
  order i, j
  parallel 2
  chunks 2
  reduce k
  threads 384
  rows i
  columns j
  grouped bf16 2, 1, 256, 4, 0, 8
}
"""


def test_schedules_read_back() -> None:
    schedule = parse_schedule(SCHEDULE)
    assert print_schedule(schedule, "product") == SCHEDULE
    check_schedule(KERNEL, schedule)


@pytest.mark.parametrize(("before", "after", "message"), [
    ("2, 1, 256", "1, 1, 256", "are not 384 threads"), ("1, 256, 4", "1, 96, 4", "no tiles of"),
    ("2, 1, 256", "2, 2, 256", "more sums than registers"), ("256, 4", "256, 1", "too few stages"),
    ("2, 1, 256", "2, 4, 64", "no tiles of 512 rows"), ("4, 0, 8", "4, 1, 8", "no such loops"),
    ("grouped bf16", "grouped f32", "f32 is not multiplied so"),
    ("columns j", "columns i", "no two groups"), (", 8\n", "\n", "has 6 sizes, not 5"),
])
def test_rules_of_schedules(before: str, after: str, message: str) -> None:
    text = SCHEDULE.replace(before, after)
    assert text != SCHEDULE
    with pytest.raises((KernelError, TextError), match=message):
        check_schedule(KERNEL, parse_schedule(text))
