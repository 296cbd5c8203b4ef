"""Loop functions are what their text says, and errors say where the text is wrong."""

from __future__ import annotations

import re

import pytest

from dlc.ir.check_kernel import KernelError, check_loops
from dlc.ir.loops import Apply, For, Load, LoadIndex
from dlc.ir.loops_parse import parse_loops
from dlc.ir.loops_text import print_loops
from dlc.ir.parse import TextError
from dlc.ir.types import BOOL, F32
from tests.ir.random_code import LoopsMaker

LOOPS = """\
loops tour<E, Z>(x: const f32, ids: const i32, y: f32) chunks (E + 15) // 16 {
  alloc spare: f32[48] zeroed
  let row = 16*chunk
  let at = ids[row]: i32
  c: f32x16 = -0.0
  r, "sum" = for k.b = 0 to max(3, E - at) carry a: f32x16 = c, b: f32x16 = c {
    mask m: x16 = 16*k.b to E
    v: f32x16 = x[at + 16*k.b] where m
    one: f32 = x[row]
    s: f32x16 = splat one
    f: f32x16 = fma(v, s, a)
    g: boolx16 = gt(f, b) of f32
    w: f32x16 = select(g, f, b) of bool
    next f, w
  }
  for step.1 = 1 to Z doubling {
    i: i32x16 = index row + 2 step 1
    n: i32 = index row
    let from: i32 = n
    d: f64x16 = cast(i, to = f64) of i32
  }
  for l = 0 to Z step 2*at {
    if E - l - 1 >= 0, at - 3 >= 0 {
      spare[l]: f32x16 = r
    }
  }
  h: f32 = lanes maximum x16 "sum"
  y[row]: f32 = h
}
"""

THREADS = """\
loops rows<N>(x: const f32, y: f32) chunks (N + 3) // 4 threads 128 multiples N 4 {
  alloc all: f32[4] shared
  alloc own: f32[8]
  let row = 4*chunk + (thread // 32)
  z: f32 = 0.0
  if N - row - 1 >= 0 {
    for k = 0 to 8 unrolled {
      v: f32 = x[k + 8*row]
      own[k]: f32 = v
    }
    s = for l = thread % 32 to N step 32 carry a: f32 = z {
      w: f32 = x[l]
      t: f32 = add(a, w)
      next t
    }
    o: f32 = shuffle s by 16
    barrier warp
  }
  all[thread // 32]: f32 = z
  barrier
  q: f32 = all[0]
  y[thread]: f32 = q
}
"""


TENSOR = """\
loops product(x: const bf16, y: f32, z: const f32) chunks 1 threads 64 {
  alloc all: bf16[1024] shared
  alloc wide: f32[512] shared
  mask m: x1 = thread to 9
  copy all[8*thread] = x[8*thread]: bf16x8 where m
  copy wide[4*thread] = z[4*thread]: f32x4
  copies end
  copies wait 1
  barrier
  w: i32x4 = matrices all[8*thread]: bf16
  t: i32x4 = matrices all[8*thread]: bf16 turned
  c: f32x4 = 0.0
  p: f32x4 = tensor w, t second plus c: bf16
  a: f32x4 = matrices wide[4*thread]: f32
  b: f32x4 = matrices wide[thread, thread + 4, thread + 8, thread + 12]: f32 turned
  q: f32x4 = tensor a, b plus p: f32
  v: f32 = 1.0
  for k = 0 to 2 rolled {
    f: i32x4 = fragments v, v, v, v, v, v, v, v: bf16
    g: f32x4 = fragments v, v, v, v: f32
    r: f32x4 = tensor f, t plus c: bf16
    s: f32x4 = tensor g, b plus r: f32
  }
  y[4*thread]: f32x4 = q
}
"""


@pytest.mark.parametrize("text", [LOOPS, THREADS, TENSOR], ids=["vectors", "threads", "tensor"])
def test_it_prints_as_it_was_written(text: str) -> None:
    function = parse_loops(text)
    assert print_loops(function) == text
    check_loops(function)


@pytest.mark.parametrize(("before", "after", "message"), [
    ("  barrier\n", "  if 3 - thread >= 0 {\n    barrier\n  }\n", "not all threads come here"),
    ("  barrier\n", "  for k.2 = 0 to thread {\n    barrier\n  }\n", "not all threads come here"),
    ("    barrier warp\n", "    barrier\n", "not all threads come here"),
    ("thread // 32)", "thread // 16)", "not all threads come here"),
    ("    o: f32", "    if l.s >= 0 {\n    }\n    o: f32", "is no index"),
    ("    s = for l", "    let at: i64 = i\n    s = for l", "no register i"),
    ("shuffle s by 16", "shuffle s by 32", "32 is no distance in a warp"),
    ("shuffle s by 16", "shuffle z2 by 16", "no register z2"),
    ("4] shared", "4] zeroed shared", "shared memory is never zeroed"),
    ("threads 128", "threads 48", "48 threads are no whole number of warps"),
    (" threads 128", "", "thread in"),
    ("k = 0 to 8 unrolled", "k = 0 to N unrolled", "its turns are not constant"),
    ("<N>", "<N, thread>", "called chunk or thread"),
])
def test_rules_of_threads(before: str, after: str, message: str) -> None:
    text = THREADS.replace(before, after, 1)
    assert text != THREADS
    with pytest.raises(KernelError, match=re.escape(message)):
        check_loops(parse_loops(text))


@pytest.mark.parametrize(("before", "after", "message"), [
    ("copy all[8*thread] = x[8*thread]: bf16x8", "copy x[0] = x[0]: bf16x8", "x is only read"),
    ("copy all[8*thread] = x", "copy all[8*thread] = z", "z holds f32, not bf16"),
    ("z[4*thread]: f32x4\n", "z[4*thread]: f32x3\n", "12 bytes can't be copied at once"),
    ("all: bf16[1024] shared", "all: bf16[1024]", "all is not shared"),
    ("copies wait 1", "copies wait -1", "-1"),
    ("thread + 12]: f32 turned", "thread + 12]: f32", "4 places of f32 are no matrices"),
    ("tensor w, t second plus c: bf16", "tensor w, c second plus c: bf16", "c is f32x4, not i32x4"),
    ("v, v, v, v: f32", "v, v: f32", "2 values are no matrices of f32"),
    ("fragments v", "fragments c", "c is f32x4, not f32"),
    ("tensor a, b plus p: f32", "tensor a, b plus w: f32", "w is i32x4, not f32x4"),
])
def test_rules_of_tensor_cores(before: str, after: str, message: str) -> None:
    text = TENSOR.replace(before, after, 1)
    assert text != TENSOR
    with pytest.raises((KernelError, TextError), match=re.escape(message)):
        check_loops(parse_loops(text))


def test_products_are_of_whole_warps() -> None:
    apart = "  if 3 - thread >= 0 {\n    x.t: i32x4 = matrices all[0]: bf16\n  }\n  y["
    with pytest.raises(KernelError, match="not all threads come here"):
        check_loops(parse_loops(TENSOR.replace("  y[", apart)))


def test_what_is_parsed() -> None:
    function = parse_loops(LOOPS)
    assert isinstance(function.body[2], LoadIndex)
    loop = function.body[4]
    assert isinstance(loop, For)
    assert loop.carried == (("a", "c", F32, 16), ("b", "c", F32, 16))
    assert (loop.next, loop.after) == (("f", "w"), ("r", "sum"))
    load, compare = loop.body[1], loop.body[5]
    assert isinstance(load, Load)
    assert (load.lanes, load.mask) == (16, "m")
    assert compare == Apply("g", "gt", ("f", "b"), BOOL, F32, 16)


@pytest.mark.parametrize("seed", range(8))
def test_random_loops(seed: int) -> None:
    for part in range(25):
        function = LoopsMaker(25 * seed + part).function()
        text = print_loops(function)
        again = parse_loops(text)
        assert again == function
        assert print_loops(again) == text
        check_loops(function)


def test_long_lists_are_broken_at_commas() -> None:
    texts = [print_loops(LoopsMaker(seed).function()) for seed in range(40)]
    assert any(" carry\n" in text or ",\n" in text for text in texts)


@pytest.mark.parametrize(("before", "after", "message"), [
    ("f32[48]", "f32[E]", "line 2, column 20: expected a whole number, found 'E'"),
    ("x16 = 16", "16 = 16", "line 7, column 13: expected a number of lanes as in x16, found '16'"),
    ("fma(v, s, a)", "fma(v, s, a", "line 12, column 5: expected ')', found 'g'"),
    ("maximum x16", "mul x16", "line 27, column 18: expected one of add, maximum, minimum"),
    ("splat one", "splat 1", "line 10, column 23: expected a name, found '1'"),
    ("next f, w", "next f,", "line 15, column 3: expected a name, found '}'"),
])
def test_errors_say_where(before: str, after: str, message: str) -> None:
    with pytest.raises(TextError) as error:
        parse_loops(LOOPS.replace(before, after, 1))
    assert str(error.value).startswith(message)
