"""Programs are what their text says: buffers, steps, places, and the code that goes with them."""

from __future__ import annotations

import math
import random
import re
from dataclasses import replace

import pytest

from dlc.ir.dims import symbol
from dlc.ir.graph import Loc
from dlc.ir.kernel_text import parse_kernel
from dlc.ir.parse import TextError
from dlc.ir.program import Branch, Check, Launch, Loop, Parallel, Print, Program, Size
from dlc.ir.program_text import parse_program, print_program
from dlc.ir.schedule_text import parse_schedule
from tests.ir.kernel_examples import CONV, CONV_SCHEDULE, GATHER
from tests.ir.random_code import KernelMaker, LoopsMaker, random_schedule, strange

STEPS = """\
program fit<N> {
  require N >= 2 "two at least" @loc(nets/net.dl:3:9)
  require N % 4 == 0 "whole \\"fours\\""
  size count at 2
  size "a b" at 4 default 10
  buffer image: f32[N, 1, 32, 32] in
  buffer y: f32[N, 6, 28, 28] @ (0/16, 1, 2, 3, 0) temp alive 0 to 3 above h, "h 2" @path("Net.c1")
  buffer y.flat: f32[4704*N] temp alias y
  buffer y.row: f32[4704] temp alias y + 4704*t
  buffer y.back: f32[4704] temp alias y + 4704*N - 4704*t - 4704
  buffer w: f32[6, 1, 5, 5] var
  buffer state: i64[2] random
  buffer table: f32[4] const = [1.0, -0.0, nan, 7]
  buffer loss: f32 out @path("Net.loss")
  variant conv.1 of conv_squash where N >= 512, (N + 1) // 2 < 4*N
  variant "conv 2" of conv_squash where N % 4 == 0
  launch conv_squash<N>(image, w, b, y) @path("Net.c1") @loc(n.dl:9:3 < n.dl:20:1 < "a b.dl":2:2)
  check ok 1 "labels are below 10" @loc(net.dl:9:3, net.dl:10:3)
  commit
  launch other<2*N, (N + 1) // 2>(w, "sum")
  launch nothing()
  loop t < 2*N {
    launch one(y.row)
    loop "loop 2" < 3 {
      commit
    }
  }
  loop t.3 < N resident (one), ("one 2") {
    launch one(y.row)
  }
  parallel piece < (N + 7) // 8 cost 900*N {
    launch one(y.row)
    loop u < N {
      launch one(y.back)
    }
  }
  while t.2 more {
    launch test(w, more)
  } do {
    if more {
      print 1 ["w is ", ", \\"more\\" is ", ""](w, more) @loc(net.dl:12:3)
      check ok 2 "{value} is below 10" value bad @loc(net.dl:13:3)
    } else {
      print 2 ["no more"]()
    }
  }
}
"""


def program() -> Program:
    parsed = parse_program(STEPS)
    return replace(
        parsed, kernels=(parse_kernel(CONV), parse_kernel(GATHER)),
        schedules=(("conv_squash", parse_schedule(CONV_SCHEDULE)),),
        loops=(LoopsMaker(1).function(),))


def test_it_prints_as_it_was_written() -> None:
    assert print_program(parse_program(STEPS)) == STEPS


def test_the_whole_reads_back() -> None:
    whole = program()
    text = print_program(whole)
    assert parse_program(text) == whole
    assert print_program(parse_program(text)) == text
    assert text.startswith(STEPS)
    assert text.index(CONV) < text.index(CONV_SCHEDULE) < text.index("loops f") < text.index(GATHER)


def test_places_are_kept_outside_equality() -> None:
    parsed = parse_program(STEPS)
    launch = parsed.steps[0]
    assert isinstance(launch, Launch)
    assert launch.locs == (
        Loc("n.dl", 9, 3, Loc("n.dl", 20, 1, Loc("a b.dl", 2, 2))),)
    assert parse_program(STEPS.replace(" @loc(nets/net.dl:3:9)", "")) == parsed
    assert parse_program(STEPS.replace('"Net.c1") @loc', '"Net.c2") @loc')) != parsed


def test_what_is_parsed() -> None:
    parsed = parse_program(STEPS)
    y = parsed.buffer("y")
    assert (y.first, y.last, y.above, y.path) == (0, 3, ("h", "h 2"), "Net.c1")
    flat = parsed.buffer("y.flat")
    assert (flat.alias_of, flat.first, flat.dims) == ("y", -1, (symbol("N") * 4704,))
    assert [c.relation for c in parsed.conditions] == [">=", "=="]
    assert parsed.sizes == (Size("count", 2), Size("a b", 4, 10))
    values = parsed.buffer("table").values
    assert list(map(repr, values)) == ["1.0", "-0.0", "nan", "7"]
    assert values[2] is math.nan


def test_steps_of_control_flow() -> None:
    *_, loop, staying, pieces, turns = parse_program(STEPS).steps
    assert isinstance(loop, Loop)
    assert isinstance(staying, Loop)
    assert (loop.resident, staying.resident) == ((), (("one",), ("one 2",)))
    assert (loop.var, loop.count, loop.condition, len(loop.body)) == ("t", symbol("N") * 2, "", 2)
    assert isinstance(pieces, Parallel)
    assert (pieces.var, pieces.count, pieces.cost, len(pieces.body)) == (
        "piece", (symbol("N") + 7) // 8, symbol("N") * 900, 2)
    assert isinstance(turns, Loop)
    assert (turns.condition, len(turns.test)) == ("more", 1)
    (branch,) = turns.body
    assert isinstance(branch, Branch)
    assert branch.then == (
        Print(("w", "more"), 1, ("w is ", ', "more" is ', "")),
        Check("ok", 2, "{value} is below 10", value="bad"))
    assert branch.otherwise == (Print((), 2, ("no more",)),)
    t, n = symbol("t"), symbol("N")
    assert parse_program(STEPS).buffer("y.back").offset == (n - 1 - t) * 4704


def test_large_constants_stand_at_the_end() -> None:
    whole = program()
    table = replace(whole.buffer("table"), values=tuple(k / 7 for k in range(300)))
    other = replace(table, name="twin")
    whole = replace(whole, buffers=(*whole.buffers, table, other))
    text = print_program(whole)
    assert parse_program(text) == whole
    assert text.count("data h") == 1, "equal numbers are printed once"
    assert max(map(len, text.splitlines())) <= 110
    with pytest.raises(TextError, match="there is no data h"):
        parse_program(text[:text.index("\ndata h")])


@pytest.mark.parametrize("seed", range(6))
def test_random_programs(seed: int) -> None:
    kernels = tuple(KernelMaker(10 * seed + k, strange).kernel() for k in range(4))
    schedules = tuple((k.name, random_schedule(k, seed)) for k in kernels)
    loops = tuple(LoopsMaker(10 * seed + k).function() for k in range(seed % 4))
    whole = replace(program(), kernels=kernels, schedules=schedules, loops=loops)
    assert parse_program(print_program(whole)) == whole


@pytest.mark.parametrize(("before", "after", "message"), [
    ("N >= 2", "N 2", "line 2, column 13: expected one of ==, >=, >, <=, <, found '2'"),
    (" in\n", "\n", "line 7, column 3: expected one of in, out, var, temp, random, const"),
    ("alive 0 to 3", "alive 0", "line 7, column 65: expected 'to', found 'above'"),
    ("check ok 1", "check ok", "line 18, column 12: expected a whole number"),
    ("commit", "finish", "line 19, column 3: expected 'launch', found 'finish'"),
    ("(n.dl:9:3 <", "(n.dl 9:3 <", "line 17, column 62: expected a loc, found 'n.dl'"),
    ("nothing()", "nothing", "line 22, column 3: expected '(', found 'loop'"),
    ("t < 2*N", "t 2*N", "line 22, column 10: expected '<', found '2'"),
    ("where N >= 512", "N >= 512", "line 15, column 33: expected 'where', found 'N'"),
    (">= 512,", "512,", "line 15, column 41: expected one of ==, >=, >, <=, <, found '512'"),
    ("(N + 7) // 8 cost", "(N + 7) // 8", "line 31, column 33: expected 'cost', found '900'"),
    ("} do {", "} {", "line 39, column 5: expected 'do', found '{'"),
    ("else {", "other {", "line 43, column 7: expected 'else', found 'other'"),
])
def test_errors_say_where(before: str, after: str, message: str) -> None:
    with pytest.raises(TextError) as error:
        parse_program(STEPS.replace(before, after, 1))
    assert str(error.value).startswith(message)


def test_damaged_text_is_an_error_or_another_program() -> None:
    """No other exception comes out, whatever is left out, doubled or swapped."""
    rng = random.Random(0)
    pieces = re.findall(r"\s+|[\w.]+|.", print_program(program()))
    errors: list[str] = []
    for _ in range(400):
        damaged = list(pieces)
        for _ in range(rng.randint(1, 3)):
            at, other = rng.randrange(len(damaged)), rng.randrange(len(damaged))
            damaged[at] = rng.choice(["", damaged[at] * 2, damaged[other], '"\\q"', "max("])
        try:
            parse_program("".join(damaged))
        except TextError as error:
            errors.append(str(error))
    assert len(errors) > 200
    assert all(re.match(r"line \d+, column \d+: ", error) for error in errors)
