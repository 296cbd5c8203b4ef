"""Well-formed kernels, schedules and loops pass the checks; each rule, broken, is found."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dlc.ir.check_kernel import KernelError, check_kernel, check_loops, check_schedule
from dlc.ir.kernel import Kernel, Layout
from dlc.ir.kernel_text import parse_kernel
from dlc.ir.loops_parse import parse_loops
from dlc.ir.schedule_text import parse_schedule, print_schedule
from tests.ir.kernel_examples import (
    ATTENTION,
    CONV,
    CONV_BACK,
    CONV_SCHEDULE,
    CSR,
    KERNELS,
    ODDS,
    PRODUCT,
    PRODUCT_SCHEDULE,
    UPDATE,
)
from tests.ir.random_code import KernelMaker, plain, random_schedule, strange
from tests.ir.test_loops_text import LOOPS


@pytest.mark.parametrize("text", KERNELS.values(), ids=KERNELS.keys())
def test_examples_are_well_formed(text: str) -> None:
    check_kernel(parse_kernel(text))


@pytest.mark.parametrize("names", [plain, strange])
def test_random_kernels_and_schedules_are_well_formed(names: object) -> None:
    for seed in range(100):
        kernel = KernelMaker(seed, names).kernel()  # type: ignore[arg-type]
        check_kernel(kernel)
        check_schedule(kernel, random_schedule(kernel, seed))


def broken(text: str, before: str, after: str) -> Kernel:
    assert before in text
    return parse_kernel(text.replace(before, after, 1))


@pytest.mark.parametrize(("text", "before", "after", "message"), [
    (CONV, "<N>", "<N, N>", "the symbol N has the name of something else"),
    (CONV, "x: f32", "w: f32", "the buffer w has the name of something else"),
    (CONV, "u<28", "n<28", "the index n has the name of something else"),
    (CONV, "s<5:", "v<5:", "the index v has the name of something else"),
    (CONV, "[N, 6", "[M, 6", "buffer y: M in M is no index or symbol here"),
    (CONV, "u<28", "u<r", "r in r is no index or symbol here"),
    (CONV, "o, v, u] =", "o, v, r] =", "r in r is no index or symbol here"),
    (CONV, "b[o]", "b", "b[] has 0 indices, b has 1 dims"),
    (CONV, "x[n, 0, ", "x[n, ", "x[n, r + v, s + u] has 3 indices, x has 4 dims"),
    (CONV, "add(a, b[o])", "add(a, c[o]): f32", "there is no buffer c"),
    (CONV, "a = sum", "x[n, o, v, u] = sum", "x is only read, and can't be written"),
    (CONV, "add(a, b[o])", "add(y[n, o, v, u], b[o])", "y is read before it is written"),
    (CONV, "a = sum", "y[n, o, v, u] = sum", "a is read before it is written"),
    (CONV, "0.666667", "0.666667: f64", "the operands of mul differ: f32 is not f64"),
    (CONV, "tanh(", "tangent(", "tangent is no elementwise op"),
    (CONV, "tanh(", "contract(", "contract is no elementwise op"),
    (CONV, "sum r<5", "sum f64 r<5", "the sum is f64, the target f32"),
    (CONV, "sum r<5, s<5", "over r<5, s<5", "r is neither in the target nor reduced"),
    (CONV, "sum r<5, s<5", "argmax r<5, s<5", "argmax gives an integer, over one index"),
    (CONV, "sum r<5, s<5", "tree sum r<5, s<5", "a tree is a sum of elements over one index"),
    (CONV, "0) out", "0) local", "its role is local, not one of in, out, inout, placed"),
    (CONV, "a: f32", "a: f32 in", "its role is in, not one of local"),
    (CONV, "3, 0) out", "3) out", "its layout has an axis without a last digit of divisor 1"),
    (CONV, "0/16, 1", "0/16, 0/5, 1", "digits of axis 0 that do not divide each other"),
    (CONV, "0/16, 1", "4, 0/16, 1", "its layout has an axis 4, it has 4 dims"),
    (CONV_BACK, "where -2*q", "where -2*z", "z in u - 2*z is no index or symbol here"),
    (CONV_BACK, "outer n<N", "outer n<p", "p in p is no index or symbol here"),
    (CSR, "ptr: i32", "ptr: f32", "ptr[r] is no integer"),
    (CSR, "x[col[p]]", "x[value[p]]", "value[p] is no integer"),
    (CSR, "y[r] = a", "y[col[p]] = a", "p in p is no index or symbol here"),
    (CSR, "y[r] = a", "value[r] = a", "value is only read"),
    (CSR, "  y[r] = a\n", "", "y is an output that is never written"),
    (ATTENTION, "carry m, l", "carry m, q", "q is carried, and no local"),
    (ATTENTION, "  l = 0.0\n", "", "l is carried, and has no value before the loop"),
    (ATTENTION, "carry m, l, a", "carry m, l", "a is read before it is written"),
    (ATTENTION, "div(a[e], l)", "div(a[e], top)", "top is read before it is written"),
    (ATTENTION, "keep: bool", "keep: f32", "select"),
    (ATTENTION, "log(l)", "log(t0)", "there is no op t0 before"),
    (UPDATE, "    speed\n", "    gy\n", "gy[] has 0 indices, gy has 3 dims"),
    (UPDATE, "speed = fma", "rate = fma", "the op rate has the name of something else"),
    (ODDS, "else 3", "else 0.5", "0.5 is no u8"),
    (ODDS, "z: f32[9, N] inout", "z: f32[9, N] in", "a tree adds up in place, and z is only read"),
    (ODDS, "best: i32", "best: f32", "argmax gives an integer, over one index"),
    (ODDS, "tree sum", "tree max", "a tree is a sum of elements over one index"),
    (ODDS, "sum k<30 {", "sum f32 k<30 {", "the sum is f32, the target f64"),
    (ODDS, "to = f64)\n", "towards = 1): f64\n", "cast has the attributes to, not towards"),
    (ODDS, "0), wide", "0: i32), wide", "the operands of ge differ"),
])
def test_broken_kernels(text: str, before: str, after: str, message: str) -> None:
    with pytest.raises(KernelError) as error:
        check_kernel(broken(text, before, after))
    assert message in str(error.value)


def test_the_error_says_which_kernel_and_where() -> None:
    with pytest.raises(KernelError) as error:
        check_kernel(broken(CONV, "b[o]", "b[2*z]"))
    assert str(error.value) == "conv_squash: t1 = add(…): z in 2*z is no index or symbol here"


@pytest.mark.parametrize(("before", "after", "message"), [
    ("order n, o", "order n, n", "it has n, n, v, u, the outer indices are n, o, v, u"),
    ("parallel 2", "parallel 5", "5 of 4 loops"),
    ("u 16", "u 12", "12 lanes are no power of two"),
    ("u 16", "w 16", "w is neither an outer nor a reduced index"),
    ("u 16", '"" 16', "16 lanes of no index"),
    ("o 6", "o 0", "0 values of o"),
    ("chunks min(64, N)", "chunks 0", "0 is less than 1"),
    ("cost 2100*N", "cost Q", "depends on Q"),
    ("o 6", "r 6", "r is no outer index"),
    ("o 6", "v 6", "a name stands twice in v, v"),
    ("reduce r, s", "reduce r", "it has r, reduced are r, s"),
    ("unroll s", "unroll o", "there is no inner index o"),
    ("edge u", "edge n", "n has no tile and is not the vector index"),
    ("cost 2100*N", "cost -1", "-1 is less than 0"),
    ("cost 2100*N", "cost 2100*N fetch a", "a is no parameter"),
    ("cost 2100*N", "cost 2100*N fetch y, y", "a name stands twice in y, y"),
])
def test_broken_schedules(before: str, after: str, message: str) -> None:
    kernel = parse_kernel(CONV)
    check_schedule(kernel, parse_schedule(CONV_SCHEDULE))
    assert before in CONV_SCHEDULE
    with pytest.raises(KernelError) as error:
        check_schedule(kernel, parse_schedule(CONV_SCHEDULE.replace(before, after, 1)))
    assert message in str(error.value)


@pytest.mark.parametrize(("before", "after", "message"), [
    ("panel y", "panel q", "the reduction does not read q at one place alone"),
    ("panel y", "panel x", "the reduction does not read x at one place alone"),
    ("order j, i", "order i, j", "y depends on j, a loop over tiles"),
    ("y 112", "y 100", "a depth of 100"),
    ("block 48", "block 0", "a panel, of no block"),
    ("blocks 3", "blocks Q", "depends on Q"),
    ("blocks 3", "outside 1", "all reduced loops are outside"),
    ("blocks 3", "within 2", "2 of 2 loops"),
    ("blocks 3", "within 1", "there is no panel, or one of the loops is split"),
    ("y 112", "y 112 ahead 1", "there is no loop round the last one over a panel"),
    ("blocks 3", "outside 2", "2 of 1 loops"),
    ("vector j", "vector k", "it needs a vector, of another index than the innermost reduced"),
])
def test_broken_panels(before: str, after: str, message: str) -> None:
    kernel = parse_kernel(PRODUCT)
    check_schedule(kernel, parse_schedule(PRODUCT_SCHEDULE))
    with pytest.raises(KernelError) as error:
        check_schedule(kernel, parse_schedule(PRODUCT_SCHEDULE.replace(before, after, 1)))
    assert message in str(error.value)


WEIGHTS = """
kernel weights<N>(g: f32[N, 32, 16] in, x: f32[N, 8, 16] in, w: f32[32, 8, 3] out) {
  local acc: f32
  outer o<32, c<8, r<3
  acc = sum n<N, max(-r + 1, 0) <= u < min(-r + 17, 16): mul(g[n, o, u], x[n, c, u + r - 1])
  w[o, c, r] = acc
}
"""
WEIGHTS_SCHEDULE = """
schedule weights for x86-64-v4 {
  order o, c, r
  parallel 2
  chunks 2
  vector o 16
  tiles c 4, o 2
  reduce n, u
  block 2
  within 1
  panel g 256
  ahead 1
}
"""


@pytest.mark.parametrize(("before", "after", "message"), [
    ("parallel 2", "parallel 3", "one of the loops is split"),
    ("order o, c, r", "order c, r, o", "one of the loops has a tile or the lanes"),
    ("within 1", "outside 1 within 1", "there is no loop round the last one over a panel"),
    ("panel g 256\n  ahead 1", "", "there is no panel"),
    ("ahead 1", "ahead -1", "there is no loop"),
])
def test_broken_loops_within_blocks(before: str, after: str, message: str) -> None:
    kernel = parse_kernel(WEIGHTS)
    check_schedule(kernel, parse_schedule(WEIGHTS_SCHEDULE))
    assert parse_schedule(print_schedule(parse_schedule(WEIGHTS_SCHEDULE), "weights")) == (
        parse_schedule(WEIGHTS_SCHEDULE))
    with pytest.raises(KernelError) as error:
        check_schedule(kernel, parse_schedule(WEIGHTS_SCHEDULE.replace(before, after, 1)))
    assert message in str(error.value)


def test_bounds_by_a_loop_within_a_block_are_of_a_whole_axis() -> None:
    kernel = parse_kernel(WEIGHTS.replace("g[n, o, u]", "g[n, o, 15 - u]"))
    with pytest.raises(KernelError, match="g has no axis of u"):
        check_schedule(kernel, parse_schedule(WEIGHTS_SCHEDULE))


def kernel_of(statement: str, outer: str = "i<N, j<8", extra: str = "") -> Kernel:
    made = parse_kernel(f"kernel f<N>(x: f32[N, 8] in, ids: i32[N] in, y: f32[8*N] inout, "
                        f"z: f32[N, 8] inout{extra}) {{ local a: f32 outer {outer} {statement} }}")
    check_kernel(made)
    return made


@pytest.mark.parametrize(("statement", "parallel", "fault"), [
    ("y[8*i + j] = x[i, j]", 2, ""),
    ("y[i + j] = x[i, j]", 2, "i does not own y[i + j]"),
    ("y[4*i + j] = x[i, j]", 1, "i does not own y[4*i + j]"),
    ("y[8*i + 7 - j] = x[i, j]", 2, ""),
    ("y[8*i + k] = over k<8: x[i, k]", 1, ""),
    ("y[8*i + k] = over k<9: x[i, k]", 1, "i does not own"),
    ("y[8*i + k] = over k<N: x[i, k]", 1, "i does not own"),
    ("y[8*i + j] = x[i, j] y[9*i + j] = x[i, j]", 1, "may lie where another i writes"),
    ("y[i] = x[i, j]", 1, ""),
    ("y[i] = x[i, j]", 2, "j does not own y[i]"),
    ("y[ids[i]] = x[i, j]", 1, "i does not own y[ids[i]]"),
    ("z[i // 8, i % 8] = x[i, j]", 1, ""),
    ("z[i // 8, i % 4] = x[i, j]", 1, "i does not own"),
    ("z[i, j] = add(z[i, j], 1.0)", 2, ""),
    ("z[i, j] = add(z[i, 7 - j], 1.0)", 1, ""),
    ("z[i, j] = add(z[i, -j + 7], 1.0)", 2, "may lie where another j writes"),
    ("z[i, j] = z[ids[i], j]", 1, "may lie where another i writes"),
    ("z[i, j] = z[ids[i], j]", 0, ""),
    ("z[-i + N, 2*j] = x[i, j]", 2, ""),
    ("z[N*i, j] = x[i, j]", 1, "i does not own"),
    ("z[i*j, j] = x[i, j]", 2, "i does not own"),
    ("a = x[i, j]", 2, ""),
    ("a = tree sum k<N: z[k, j]", 0, ""),
    ("a = tree sum k<N: z[k, j]", 1, "i does not own z[k, j]"),
])
def test_parallel_indices_own_what_is_written(statement: str, parallel: int, fault: str) -> None:
    kernel = kernel_of(statement)
    reduce = " reduce k" if "tree" in statement else ""
    text = f"schedule f for cpu {{ order i, j parallel {parallel}{reduce} }}"
    schedule = parse_schedule(text)
    if not fault:
        check_schedule(kernel, schedule)
        return
    with pytest.raises(KernelError) as error:
        check_schedule(kernel, schedule)
    assert fault in str(error.value)


TILED_PRODUCT = "a = sum k<N: mul(x[i, k], z[k, j]) y[8*i + j] = a"


def judged(body: str, lines: str, fault: str) -> None:
    """A schedule of a GPU survives its text, and is refused for a fault, if it has one."""
    kernel = kernel_of(body)
    schedule = parse_schedule(f'schedule f for "cuda:sm_80" {{ {lines} }}')
    assert parse_schedule(print_schedule(schedule, "f")) == schedule
    if not fault:
        check_schedule(kernel, schedule)
        return
    with pytest.raises(KernelError, match=fault):
        check_schedule(kernel, schedule)


@pytest.mark.parametrize(("rest", "fault"), [
    ("parallel 2 threads 256", ""),
    ("parallel 1 threads 256", "not all outer loops are split"),
    ("parallel 2 threads 200", "200 threads are no block"),
    ("parallel 2 threads 2048", "2048 threads are no block"),
    ("parallel 2 threads 256 group 32", "there is no sweep along a row"),
    ("parallel 2 threads 256 group 64", "64 threads are no warp and no block"),
    ("parallel 2 group 32", "32 threads of none"),
    ("parallel 2 threads 256 group 8 beside 32", ""),
    ("parallel 2 threads 256 group 8 beside 64", "64 places of 8 threads are no 256 threads"),
    ("parallel 2 threads 96 group 3 beside 32", "no power of two"),
    ("parallel 2 vector j 2 threads 256 group 8 beside 32", "lanes or tiles besides"),
    ("parallel 2 beside 32", "1 threads of none"),
    ("parallel 2 threads 256 held 2", "no group that goes along a row"),
    ("parallel 2 vector j 4 threads 256 places 2", ""),
    ("parallel 2 threads 256 places 0", "only where it has nothing to reduce"),
    ("parallel 2 places 4", "1 threads of none"),
    ("parallel 2 threads 256 multiples N 4", ""),
    ("parallel 2 threads 256 multiples i 4", "i is no symbol"),
    ("parallel 2 threads 256 multiples N 3", "3 is no power of two above 1"),
    ("parallel 2 threads 256 multiples N 4, N 8", "a name stands twice"),
])
def test_threads_of_a_gpu(rest: str, fault: str) -> None:
    judged("y[8*i + j] = x[i, j]", f"order i, j {rest}", fault)


TILED = ("parallel 2 reduce k threads 256 rows i columns j shared 16, 16, 4, 4, 16, 1, 0, 1")


@pytest.mark.parametrize(("before", "after", "fault"), [
    ("", "", ""),
    ("shared 16, 16", "shared 16, 8", "1 times 16 rows of 8 threads are not 256"),
    ("shared 16, 16, 4, 4, 16, 1", "shared 16, 8, 4, 4, 16, 2", ""),
    ("shared 16, 16, 4, 4, 16, 1", "shared 2, 2, 4, 4, 32, 64", "no such slices or loops"),
    ("16, 1, 0, 1", "16, 1, 1, 1", "no such slices or loops"),
    ("4, 16, 1", "0, 16, 1", "a size is less than 1"),
    ("columns j", "columns i", "no two groups of outer indices"),
    ("columns j", "columns k", "no two groups of outer indices"),
    ("columns j ", "", ""),
    ("parallel 2", "parallel 2 vector j 4", ""),
    ("parallel 2", "parallel 2 vector j 8", "no 8 columns side by side along j"),
    ("parallel 2", "parallel 2 vector i 4", "no 4 columns side by side along i"),
    ("parallel 2", "parallel 2 tiles i 2", "groups or tiles besides"),
])
def test_tiles_in_shared_memory(before: str, after: str, fault: str) -> None:
    judged(TILED_PRODUCT, f"order i, j {TILED.replace(before, after, 1)}", fault)


ON_TENSOR_CORES = ("parallel 2 reduce k threads 128 rows i columns j"
                   " tensor bf16 2, 2, 4, 8, 32, 3, 0, 8, 8")


@pytest.mark.parametrize(("before", "after", "fault"), [
    ("", "", ""),
    ("bf16 2, 2", "bf16 2, 4", "2 rows of 4 warps are not 128 threads"),
    ("bf16", "f64", "f64 is not multiplied so"),
    ("4, 8, 32, 3", "4, 7, 32, 3", "a warp has no pairs of columns"),
    ("32, 3", "32, 1", "a size is too small"),
    ("32, 3", "24, 3", "no such steps or loops"),
    ("3, 0, 8", "3, 1, 8", "no such steps or loops"),
    ("bf16 2, 2, 4, 8, 32", "bf16 4, 1, 1, 2, 16", "no even part of what is copied"),
    ("0, 8, 8", "0, 8, 1", "so many elements can't be copied at once"),
    ("columns j", "columns i", "no two groups of outer indices"),
    ("parallel 2", "parallel 2 vector j 2", ""),
    ("parallel 2", "parallel 2 vector j 4", "no 4 columns side by side along j"),
    ("parallel 2", "parallel 2 vector i 2", "no 2 columns side by side along i"),
])
def test_tiles_on_tensor_cores(before: str, after: str, fault: str) -> None:
    judged(TILED_PRODUCT, f"order i, j {ON_TENSOR_CORES.replace(before, after)}", fault)


def test_an_index_of_one_value_is_owned_by_all() -> None:
    kernel = kernel_of("y[0] = x[i, 0]", "i<1")
    check_schedule(kernel, parse_schedule("schedule f for cpu { order i parallel 1 }"))


def test_bounds_come_after_what_they_use() -> None:
    kernel = kernel_of("a = sum k<5, k<=l<9: x[k, l]".replace("k<=l", "k <= l"))
    check_schedule(kernel, parse_schedule("schedule f for cpu { order i, j reduce k, l }"))
    with pytest.raises(KernelError, match="the bounds of l use k, which comes after it"):
        check_schedule(kernel, parse_schedule("schedule f for cpu { order i, j reduce l, k }"))
    with pytest.raises(KernelError, match="the extent of l is not constant"):
        check_schedule(kernel, parse_schedule(
            "schedule f for cpu { order i, j reduce k, l unroll l }"))
    with pytest.raises(KernelError, match="k is the vector index"):
        check_schedule(kernel, parse_schedule(
            "schedule f for cpu { order i, j vector k 4 reduce k, l unroll k }"))


@pytest.mark.parametrize(("before", "after", "message"), [
    ("<E, Z>", "<E, E>", "a symbol stands twice, or is called chunk"),
    ("(E + 15) // 16", "chunk + 1", "chunks depends on chunk"),
    ("ids: const i32", "x: const i32", "x is defined already"),
    ("[48]", "[0]", "0 elements"),
    ("let row", "let E", "E is an index already"),
    ("ids[row]: i32", "ids[row]: i64", "ids holds i32, not i64"),
    ("ids[row]: i32", "x[row]: f32", "f32 is no integer"),
    ("ids[row]", "ids[raw]", "raw in raw is no index here"),
    ("for k.b", "for row", "row is an index already"),
    ("b: f32x16 = c", "b: f32x8 = c", "c is f32x16, not f32x8"),
    ('r, "sum" =', "r =", "2 carried, 2 next, 1 after"),
    ("next f, w", "next f, one", "one is f32, not f32x16"),
    ("next f, w", "next f, h", "there is no register h here"),
    ("16*k.b to E", "16*k.b to f", "f in f is no index here"),
    ("where m", "where s", "there is no register s here"),
    ("where m", "where c", "c is f32x16, not boolx16"),
    ("splat one", "splat v", "v is f32x16, not f32"),
    ("fma(v, s, a)", "fma(v, one, a)", "one has 1 lanes, the result 16"),
    ("fma(v, s, a)", "fma(v, s)", "fma takes 3 operands, not 2"),
    ("gt(f, b) of f32", "gt(f, b)", "its first operand is not bool"),
    ("g: boolx16 = gt", "g: i8x16 = gt", "it says i8, its operands give bool"),
    ("select(g, f, b)", "select(f, f, b)", "its first operand is not bool"),
    ("i: i32x16 = index row + 2 step 1", "i: i32 = index row step 1", "one lane has no step"),
    ("doubling", "step -2", "a step of -2"),
    ("spare[l]: f32x16 = r", "x[l]: f32x16 = r", "x is only read"),
    ("spare[l]: f32x16 = r", "spare[l]: f32x16 = v", "there is no register v here"),
    ("spare[l]: f32x16 = r", "spice[l]: f32x16 = r", "there is no buffer spice here"),
    ("at - 3 >= 0", "k.b >= 0", "k.b in k.b is no index here"),
    ("maximum x16", "maximum x12", "12 lanes are no power of two"),
    ("y[row]: f32 = h", "y[row]: f64 = h", "y holds f32, not f64"),
    ("c: f32x16 = -0.0", "c: i32x16 = 0.5", "0.5 is no i32"),
    ("h: f32 = lanes", "s: f32 = lanes", "s is defined already"),
])
def test_broken_loops(before: str, after: str, message: str) -> None:
    assert before in LOOPS
    with pytest.raises(KernelError) as error:
        check_loops(parse_loops(LOOPS.replace(before, after, 1)))
    assert message in str(error.value)


def test_layouts_of_more_digits() -> None:
    kernel = parse_kernel(CONV)
    y = kernel.params[-1]
    digits = ((0, 32), (0, 16), (1, 1), (2, 1), (3, 1), (0, 1))
    check_kernel(replace(kernel, params=(*kernel.params[:-1], replace(y, layout=Layout(digits)))))
