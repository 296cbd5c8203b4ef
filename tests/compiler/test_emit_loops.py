"""Hand-written loop functions, run and held against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from dlc.compiler.llvm.target import Target, emit_assembly, host
from dlc.ir.dims import Dim, floordiv, maximum, minimum, mod, symbol
from dlc.ir.dims_text import parse_dim
from dlc.ir.loops import (
    Alloc,
    Apply,
    AsIndex,
    Const,
    Exchange,
    Fetch,
    For,
    If,
    IndexOf,
    LaneReduce,
    Let,
    Load,
    LoadIndex,
    LoopFunction,
    Mask,
    Splat,
    Statement,
    Store,
)
from dlc.ir.types import BF16, BOOL, F16, F32, I32, I64, U8, DType
from tests.compiler.loop_runner import function, module_text, run

N, K, M = symbol("N"), symbol("K"), symbol("M")
i, j, k = symbol("i"), symbol("j"), symbol("k")


def _random(*dims: int) -> np.ndarray:
    return np.random.default_rng(7).standard_normal(dims).astype(np.float32)


@pytest.mark.parametrize("n", [1, 15, 16, 17, 100])
@pytest.mark.parametrize("lanes", [4, 16])
def test_vector_add_with_masked_tail(n: int, lanes: int) -> None:
    body = For("i", 0, N, (
        Mask("m", i, N, lanes),
        Load("a", "x", i, F32, lanes, "m"), Load("b", "y", i, F32, lanes, "m"),
        Apply("c", "add", ("a", "b"), F32, F32, lanes),
        Store("z", i, "c", F32, lanes, "m")), step=lanes)
    x, y, z = _random(n), _random(n) + 1, np.full(n + 16, 7, np.float32)
    run(function((body,), "xyz", ("N",)), x, y, z, N=n)
    np.testing.assert_array_equal(z[:n], x + y)
    assert (z[n:] == 7).all()


def test_no_turn_of_an_empty_loop() -> None:
    body = For("i", 0, N, (Const("c", 1, F32), Store("x", i, "c", F32)))
    x = np.zeros(4, np.float32)
    run(function((body,), "x", ("N",)), x, N=0)
    assert not x.any()


def _gemm(rows: int, lanes: int) -> LoopFunction:
    """z[M, N] = x[M, K] @ y[K, N], a tile of `rows` x `lanes`; M and N are multiples of it."""
    carried = tuple((f"acc{r}", "zero", F32, lanes) for r in range(rows))
    inner: list[Statement] = [Load("b", "y", k * N + j, F32, lanes)]
    for r in range(rows):
        inner += [Load(f"a{r}", "x", (i + r) * K + k, F32), Splat(f"s{r}", f"a{r}", F32, lanes),
                  Apply(f"next{r}", "fma", (f"s{r}", "b", f"acc{r}"), F32, F32, lanes)]
    tile = (
        Const("zero", 0, F32, lanes),
        For("k", 0, K, tuple(inner), 1, carried, tuple(f"next{r}" for r in range(rows)),
            tuple(f"sum{r}" for r in range(rows))),
        *(Store("z", (i + r) * N + j, f"sum{r}", F32, lanes) for r in range(rows)))
    body = For("i", 0, M, (For("j", 0, N, tile, lanes),), rows)
    return function((body,), "xyz", ("M", "N", "K"))


def test_gemm_with_carried_accumulators() -> None:
    x, y = _random(8, 19), _random(19, 32)
    z = np.zeros((8, 32), np.float32)
    run(_gemm(4, 16), x, y, z, M=8, N=32, K=19)
    np.testing.assert_allclose(z, x @ y, rtol=1e-4, atol=1e-5)


def test_gemm_without_turns_gives_zeros() -> None:
    z = np.ones((4, 16), np.float32)
    run(_gemm(4, 16), _random(4, 1), _random(1, 16), z, M=4, N=16, K=0)
    assert not z.any()


def test_inner_loop_of_gemm_has_no_multiplication_of_indices() -> None:
    text = emit_assembly(module_text(_gemm(6, 16), host()), host())
    if not host().has("avx512f"):
        pytest.skip("the tile is written for AVX-512")
    loop = max(text.split(".LBB"), key=lambda block: block.count("vfmadd"))
    assert loop.count("vfmadd") == 6
    assert "imul" not in loop
    assert "rsp" not in loop


@pytest.mark.parametrize(("op", "reduce"), [("add", np.sum), ("maximum", np.max)])
def test_lanes_are_reduced(op: str, reduce: object) -> None:
    body = (Load("v", "x", 0, F32, 16), LaneReduce("r", op, "v", F32, 16),  # type: ignore[arg-type]
            Store("y", 0, "r", F32))
    x, y = np.arange(16, dtype=np.float32), np.zeros(1, np.float32)
    run(function(body, "xy"), x, y)
    assert y[0] == reduce(x)  # type: ignore[operator]


@pytest.mark.parametrize("distance", [1, 2, 4, 8])
@pytest.mark.parametrize("upper", [False, True])
def test_lanes_are_exchanged(distance: int, upper: bool) -> None:
    body = (Load("a", "x", 0, F32, 16), Load("b", "x", 16, F32, 16),
            Exchange("e", "a", "b", distance, upper, F32, 16), Store("y", 0, "e", F32, 16))
    x, y = np.arange(32, dtype=np.float32), np.zeros(16, np.float32)
    run(function(body, "xy"), x, y)
    expected = [[16 + lane if lane & distance else lane + distance,
                 16 + lane - distance if lane & distance else lane][not upper]
                for lane in range(16)]
    assert y.tolist() == expected


def test_what_is_asked_for_may_lie_outside() -> None:
    body = (Fetch("x", -1 << 40, F32), Load("v", "x", 0, F32, 16), Store("y", 0, "v", F32, 16))
    x, y = np.arange(16, dtype=np.float32), np.zeros(16, np.float32)
    run(function(body, "xy"), x, y)
    assert y.tolist() == x.tolist()


def test_a_crowded_function_reads_its_constants_from_memory() -> None:
    """Those that a formula computes rarely are not known where it does not."""
    names = [f"a{k}" for k in range(24)]
    loop = For("k", 0, N, tuple(
        Apply(f"n{k}", "add", (name, "x0"), F32, F32, 16) for k, name in enumerate(names)), 1,
        tuple((name, "x0", F32, 16) for name in names),
        tuple(f"n{k}" for k in range(24)), tuple(f"r{k}" for k in range(24)))
    body = (Load("x0", "x", 0, F32, 16), loop, Apply("s", "sin", ("r0",), F32, F32, 16),
            Apply("c", "cos", ("s",), F32, F32, 16), Store("y", 0, "c", F32, 16))
    made = function(body, "xy", ("N",))
    text = module_text(made, Target("x86_64-unknown-linux-gnu", "", "+avx512f"))
    assert text.count("ptr @constants.test, i64") > 20
    x, y = np.linspace(-1e5, 1e5, 16, dtype=np.float32), np.zeros(16, np.float32)
    run(made, x, y, N=3)
    np.testing.assert_allclose(y, np.cos(np.sin(4 * x.astype(np.float64))), rtol=1e-5)


def test_doubling_loop() -> None:
    body = (Const("zero", 0, F32), For("i", 1, N, (
        Load("a", "x", i, F32), Apply("n", "add", ("acc", "a"), F32, F32)), 0,
        (("acc", "zero", F32, 1),), ("n",), ("total",)), Store("y", 0, "total", F32))
    x, y = np.arange(40, dtype=np.float32), np.zeros(1, np.float32)
    run(function(body, "xy", ("N",)), x, y, N=33)
    assert y[0] == 1 + 2 + 4 + 8 + 16 + 32


def test_loops_of_one_turn_are_straight_code() -> None:
    once = For("i", 3, 4, (
        Load("a", "x", i * 2 + 1, F32), Apply("n", "add", ("acc", "a"), F32, F32)), 1,
        (("acc", "one", F32, 1),), ("n",), ("sum",))
    never = For("i", 4, 4, (), 1, (("acc", "sum", F32, 1),), ("acc",), ("last",))
    body = (Const("one", 1, F32), once, never, Store("y", 0, "last", F32))
    made = function(body, "xy")
    assert "phi" not in module_text(made, host())
    x, y = np.arange(10, dtype=np.float32), np.zeros(1, np.float32)
    run(made, x, y)
    assert y[0] == 8


@pytest.mark.parametrize("n", [1, 2, 5])
def test_bounds_of_an_inner_loop_are_max_and_min(n: int) -> None:
    low, high = maximum(0, i - 2), minimum(N, i + 3)
    body = For("i", 0, N, (
        Const("zero", 0, F32),
        For("j", low, high, (Load("a", "x", j, F32), Apply("n", "add", ("acc", "a"), F32, F32)),
            1, (("acc", "zero", F32, 1),), ("n",), ("sum",)),
        Store("y", i, "sum", F32)))
    x, y = np.arange(1, n + 1, dtype=np.float32), np.zeros(n, np.float32)
    run(function((body,), "xy", ("N",)), x, y, N=n)
    assert y.tolist() == [x[max(0, a - 2): min(n, a + 3)].sum() for a in range(n)]


_EXPRESSIONS = ("(i - 7) // 3", "(i - 7) % 3", "(i - 7) // 4", "(i - 7) % 4", "i // 5", "i % 5",
                "(i - 7) // N", "(i - 7) % N", "i // N", "i*N % (N + 2)", "3*i*N - 2*i*i + 4",
                "max(i - 3, 2)*min(i, N) - i", "(2*i + 1) // 3 % 2", "5 - i",
                "(i*i - 20) // (N + 1)")


@pytest.mark.parametrize("text", _EXPRESSIONS)
def test_index_arithmetic(text: str) -> None:
    dim = parse_dim(text)
    body = For("i", 0, 16, (IndexOf("v", dim, I64), Store("y", i, "v", I64)))
    y = np.zeros(16, np.int64)
    run(function((body,), {"y": I64}, ("N",)), y, N=3)
    expected = [eval(text, {"i": at, "N": 3, "max": max, "min": min}) for at in range(16)]
    assert y.tolist() == expected


def test_division_by_a_symbol_that_is_0() -> None:
    body = (IndexOf("a", floordiv(i, N), I64), IndexOf("b", mod(i, N), I64),
            Store("y", 0, "a", I64), Store("y", 1, "b", I64))
    y = np.ones(2, np.int64)
    run(function((For("i", 5, 6, body),), {"y": I64}, ("N",)), y, N=0)
    assert y.tolist() == [0, 0]


def test_names_of_indices_do_not_leak_from_sibling_loops() -> None:
    def loop(limit: Dim, first: int) -> For:
        return For("k", first, limit, (Let("t", k * k + M), IndexOf("v", symbol("t"), F32),
                                       Store("y", k, "v", F32)))

    y = np.zeros(9, np.float32)
    run(function((loop(N, 0), loop(3, 2), loop(N + 4, N)), "y", ("N", "M")), y, N=5, M=100)
    assert y.tolist() == [100 + a * a for a in range(9)]


def test_conditions_and_loaded_indices() -> None:
    at = symbol("at")
    body = For("i", 0, N, (
        LoadIndex("at", "ids", i, I32),
        If((at, M - 1 - at), (Load("a", "x", at * 2, F32), Store("y", i, "a", F32)))))
    ids = np.array([3, -1, 0, 5, 2 ** 31 - 1, 4], np.int32)
    x, y = np.arange(10, dtype=np.float32), np.full(6, -1, np.float32)
    run(function((body,), {"ids": I32, "x": F32, "y": F32}, ("N", "M")), ids, x, y, N=6, M=5)
    assert y.tolist() == [6, -1, 0, -1, -1, 8]


@pytest.mark.parametrize("dtype", [I32, I64, U8])
def test_a_register_as_an_index(dtype: DType) -> None:
    """Counts how often each number occurs, by what was computed and not by what was loaded."""
    at = symbol("at")
    body = For("i", 0, N, (
        Load("v", "x", i, dtype), Const("one", 1, dtype), Apply("p", "sub", ("v", "one"), dtype,
                                                                dtype), AsIndex("at", "p", dtype),
        Load("c", "counts", at, I32), Const("1", 1, I32), Apply("d", "add", ("c", "1"), I32, I32),
        Store("counts", at, "d", I32)))
    x, counts = np.array([3, 1, 200, 3], dtype.numpy), np.zeros(200, np.int32)
    run(function((body,), {"x": dtype, "counts": I32}, ("N",)), x, counts, N=4)
    assert [counts[0], counts[2], counts[199], counts.sum()] == [1, 2, 1, 4]


def test_conditions_that_are_known() -> None:
    one, two = Store("y", 0, "c", F32), Store("y", 1, "c", F32)
    body = (Const("c", 1, F32), If((N,), (one,)), If((-N - 1,), (two,)))
    made = function(body, "y", ("N",))
    assert "icmp" not in module_text(made, host())
    y = np.zeros(2, np.float32)
    run(made, y, N=3)
    assert y.tolist() == [1, 0]


@pytest.mark.parametrize("size", [40, 5000])
def test_zeroed_stack_memory(size: int) -> None:
    body = For("i", 0, 3, (
        Alloc("s", F32, size, True), Load("a", "s", size - 1, F32), IndexOf("v", i + 1, F32),
        Apply("n", "add", ("a", "v"), F32, F32), Store("s", size - 1, "n", F32),
        Store("y", i, "n", F32)))
    y = np.zeros(3, np.float32)
    run(function((body,), "y"), y)
    assert y.tolist() == [1, 2, 3]


def test_bools_are_bytes_in_memory() -> None:
    body = (Load("a", "x", 0, BOOL, 16), Apply("n", "not", ("a",), BOOL, BOOL, 16),
            Mask("m", 0, 13, 16), Store("y", 0, "n", BOOL, 16, "m"),
            Load("b", "x", 1, BOOL), Store("y", 15, "b", BOOL))
    x = np.arange(16) % 3 == 0
    y = np.zeros(16, np.uint8)
    run(function(body, {"x": BOOL, "y": BOOL}), x, y)
    assert y.tolist() == [*(~x[:13]).astype(int), 0, 0, x[1]]


def test_masked_scalars() -> None:
    body = For("i", 0, 4, (Mask("m", i, 2, 1), Load("a", "x", i, F32, 1, "m"),
                           Store("y", i, "a", F32), Store("z", i, "a", F32, 1, "m")))
    x, y, z = np.ones(4, np.float32), np.full(4, 9, np.float32), np.full(4, 9, np.float32)
    run(function((body,), "xyz"), x, y, z)
    assert y.tolist() == [1, 1, 0, 0]
    assert z.tolist() == [1, 1, 9, 9]


def test_indices_in_lanes() -> None:
    body = (IndexOf("a", symbol("chunk") * 10, F32, 16, 2), Store("x", 0, "a", F32, 16),
            IndexOf("b", N, U8, 16, 3), Store("y", 0, "b", U8, 16),
            IndexOf("c", 3, I64, 16), Store("z", 0, "c", I64, 16))
    x, y, z = np.zeros(16, np.float32), np.zeros(16, np.uint8), np.zeros(16, np.int64)
    run(function(body, {"x": F32, "y": U8, "z": I64}, ("N",)), x, y, z, chunk=4, N=250)
    assert x.tolist() == [40 + 2 * lane for lane in range(16)]
    assert y.tolist() == [(250 + 3 * lane) % 256 for lane in range(16)]
    assert z.tolist() == [3] * 16


@pytest.mark.parametrize("dtype", [F16, BF16])
def test_half_precision(dtype: object) -> None:
    body = (Load("a", "x", 0, dtype, 16), Const("c", 1.5, dtype, 16),  # type: ignore[arg-type]
            Apply("n", "mul", ("a", "c"), dtype, dtype, 16),  # type: ignore[arg-type]
            Apply("w", "cast", ("n",), F32, dtype, 16, (("to", F32),)),  # type: ignore[arg-type]
            Store("y", 0, "w", F32, 16))
    x, y = np.arange(16, dtype=np.float32), np.zeros(16, np.float32)
    bits = x.astype(np.float16) if dtype is F16 else (x.view(np.uint32) >> 16).astype(np.uint16)
    run(function(body, {"x": dtype, "y": F32}), bits, y)  # type: ignore[dict-item]
    assert y.tolist() == (x * 1.5).tolist()


def test_names_are_mangled() -> None:
    strange = 'a b"%é\n'
    body = For(strange, 0, 3, (IndexOf(strange, symbol(strange), F32),
                               Store(strange, symbol(strange), strange, F32)))
    made = function((body,), {strange: F32})
    assert module_text(made, host()).isascii()
    y = np.zeros(3, np.float32)
    run(made, y)
    assert y.tolist() == [0, 1, 2]
