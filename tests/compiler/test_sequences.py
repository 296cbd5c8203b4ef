"""Kernels of several computes: locals, ordered loops, loaded indices and loaded bounds."""

from __future__ import annotations

import numpy as np
import pytest

from dlc.compiler.options import Options
from dlc.compiler.passes.apply_schedules import apply
from dlc.compiler.passes.choose_schedules import Chooser
from dlc.ir.check_kernel import check_kernel
from dlc.ir.dims import symbol
from dlc.ir.kernel import (
    Access,
    Buffer,
    Combine,
    Compute,
    Index,
    Kernel,
    Number,
    ScalarOp,
    Seq,
    blocked,
)
from dlc.ir.kernel_text import parse_kernel, print_kernel
from dlc.ir.scalar import Array
from dlc.ir.types import F32, I32, DType
from tests.compiler.loops_machine import Machine

N, K, T = symbol("N"), 7, symbol("T")
i0, j, k, t = map(symbol, ("i0", "j0", "k0", "t0"))


def buffer(
    name: str, *dims: object, role: str = "in", dtype: DType = F32, **more: object
) -> Buffer:
    return Buffer(name, dtype, tuple(dims), role, **more)  # type: ignore[arg-type]


def run(kernel: Kernel, memory: dict[str, Array], vector: bool, **dims: int) -> None:
    """Runs a kernel with its first outer index in the lanes of vectors, or with none."""
    schedule = Chooser(kernel, dims, Options(lanes=4)).choose()
    if not vector:
        from dataclasses import replace

        schedule = replace(schedule, vector="", lanes=1)
    assert (schedule.vector == "i0") is vector
    Machine(apply(kernel, schedule), memory, dims).run()


def softmax() -> Kernel:
    """Rows of a matrix: a maximum, exponentials into a local array, their sum, a quotient."""
    lay = blocked(0, 2, 4)
    x, y = buffer("x", N, K, layout=lay), buffer("y", N, K, role="out", layout=lay)
    e = buffer("e", K, role="local")
    m, s = buffer("m", role="local"), buffer("s", role="local")
    over = (Index("k0", K),)
    read = Access("x", (i0, k))
    return Kernel("softmax", ("N",), (x, y), (m, s, e), (Index("i0", N),), (
        Compute(Access("m"), (), read, over, combine=Combine("max", F32)),
        Compute(Access("e", (k,)), (
            ScalarOp("d", "sub", (read, Access("m")), F32),
            ScalarOp("p", "exp", ("d",), F32)), "p", over),
        Compute(Access("s"), (), Access("e", (k,)), over, combine=Combine("sum", F32)),
        Compute(Access("y", (i0, k)), (
            ScalarOp("q", "div", (Access("e", (k,)), Access("s")), F32),), "q", over),
    ))


@pytest.mark.parametrize("vector", [True, False])
def test_softmax_in_one_kernel(vector: bool) -> None:
    x = np.random.default_rng(0).standard_normal((8, K)).astype("f4")
    flat = x.reshape(2, 4, K).transpose(0, 2, 1).ravel().copy()
    memory = {"x": flat, "y": np.full_like(flat, np.nan)}
    run(softmax(), memory, vector, N=8)
    e = np.exp(x - x.max(1, keepdims=True))
    got = memory["y"].reshape(2, K, 4).transpose(0, 2, 1).reshape(8, K)
    np.testing.assert_allclose(got, e / e.sum(1, keepdims=True), rtol=1e-5)


def recurrence(reverse: bool) -> Kernel:
    """h = 0.5 h + x[t], stacked: a loop that carries a register."""
    lay = blocked(1, 2, 4)
    x, y = buffer("x", T, N, layout=lay), buffer("y", T, N, role="out", layout=lay)
    h = buffer("h", role="local")
    body = (
        Compute(Access("h"), (
            ScalarOp("u", "mul", (Access("h"), Number(F32, 0.5)), F32),
            ScalarOp("v", "add", ("u", Access("x", (t, i0))), F32)), "v"),
        Compute(Access("y", (t, i0)), (), Access("h")),
    )
    return Kernel("recurrence", ("N", "T"), (x, y), (h,), (Index("i0", N),), (
        Compute(Access("h"), (), Number(F32, 0.0)),
        Seq(Index("t0", T), ("h",), body, reverse)))


@pytest.mark.parametrize("vector", [True, False])
@pytest.mark.parametrize("reverse", [True, False])
def test_ordered_loop(reverse: bool, vector: bool) -> None:
    x = np.random.default_rng(1).standard_normal((5, 4)).astype("f4")
    memory = {"x": x.ravel().copy(), "y": np.full(20, np.nan, "f4")}
    run(recurrence(reverse), memory, vector, N=4, T=5)
    h, expected = np.zeros(4, "f4"), np.zeros_like(x)
    for at in reversed(range(5)) if reverse else range(5):
        h = h * np.float32(0.5) + x[at]
        expected[at] = h
    np.testing.assert_allclose(memory["y"].reshape(5, 4), expected, rtol=1e-6)


def test_loaded_index() -> None:
    """Rows of a table by number: y[n, d] = table[ids[n], d]."""
    table, ids = buffer("table", 9, 8), buffer("ids", N, dtype=I32)
    y = buffer("y", N, 8, role="out")
    read = Access("table", (Access("ids", (i0,)), symbol("i1")))
    kernel = Kernel("gather", ("N",), (table, ids, y), (), (Index("i0", N), Index("i1", 8)), (
        Compute(Access("y", (i0, symbol("i1"))), (), read),))
    rows = np.arange(72, dtype="f4")
    memory = {"table": rows, "ids": np.array([3, 0, 8, 3], "i4"), "y": np.zeros(32, "f4")}
    schedule = Chooser(kernel, {"N": 4}, Options(lanes=4)).choose()
    assert schedule.vector == "i1"
    Machine(apply(kernel, schedule), memory, {"N": 4}).run()
    np.testing.assert_array_equal(
        memory["y"].reshape(4, 8), rows.reshape(9, 8)[memory["ids"]])


def test_loaded_bounds() -> None:
    """A sparse matrix (CSR) times a vector: the bounds of the sum are loaded."""
    ptr, col = buffer("ptr", N + 1, dtype=I32), buffer("col", T, dtype=I32)
    val, x, y = buffer("val", T), buffer("x", 6), buffer("y", N, role="out")
    acc = buffer("acc", role="local")
    over = (Index("k0", Access("ptr", (i0 + 1,)), Access("ptr", (i0,))),)
    product = ScalarOp(
        "t", "mul", (Access("val", (k,)), Access("x", (Access("col", (k,)),))), F32)
    kernel = Kernel("csr", ("N", "T"), (ptr, col, val, x, y), (acc,), (Index("i0", N),), (
        Compute(Access("acc"), (product,), "t", over, combine=Combine("sum", F32)),
        Compute(Access("y", (i0,)), (), Access("acc"))))
    dense = np.array([[0, 2, 0, 0, 1, 0], [0, 0, 0, 0, 0, 0], [3, 0, 0, 4, 0, 5]], "f4")
    at = np.nonzero(dense)
    memory = {
        "ptr": np.array([0, 2, 2, 5], "i4"), "col": at[1].astype("i4"), "val": dense[at],
        "x": np.arange(1, 7, dtype="f4"), "y": np.full(3, np.nan, "f4"),
    }
    run(kernel, memory, False, N=3, T=5)
    np.testing.assert_allclose(memory["y"], dense @ memory["x"])


def histogram() -> Kernel:
    """How often each remainder by 5 comes up in a row: a local array at computed indices."""
    x, y = buffer("x", N, T, dtype=I32), buffer("y", N, 5, role="out", dtype=I32)
    count, rest = buffer("count", 5, role="local", dtype=I32), buffer("rest", role="local",
                                                                     dtype=I32)
    place, five = Access("count", (Access("rest"),)), (Index("k0", 5),)
    return Kernel("histogram", ("N", "T"), (x, y), (count, rest), (Index("i0", N),), (
        Compute(Access("count", (k,)), (), Number(I32, 0), five),
        Seq(Index("t0", T), ("count",), (
            Compute(Access("rest"), (
                ScalarOp("r", "mod", (Access("x", (i0, t)), Number(I32, 5)), I32),), "r"),
            Compute(place, (ScalarOp("c", "add", (place, Number(I32, 1)), I32),), "c"))),
        Compute(Access("y", (i0, k)), (), Access("count", (k,)), five)))


def test_local_arrays_at_computed_indices() -> None:
    kernel = histogram()
    check_kernel(kernel)
    assert parse_kernel(print_kernel(kernel)) == kernel
    x = np.random.default_rng(2).integers(-50, 50, (3, 40)).astype("i4")
    memory = {"x": x.ravel(), "y": np.full(15, -1, "i4")}
    run(kernel, memory, False, N=3, T=40)
    expected = [np.bincount(row % 5, minlength=5) for row in x]
    np.testing.assert_array_equal(memory["y"].reshape(3, 5), expected)


def test_no_lanes_where_an_index_is_computed() -> None:
    assert Chooser(histogram(), {"N": 64, "T": 64}, Options(lanes=4)).choose().vector == ""


def test_written_where_a_condition_holds() -> None:
    """The lower triangle of a matrix alone."""
    x, y = buffer("x", N, N), buffer("y", N, N, role="out")
    i1 = symbol("i1")
    kernel = Kernel("triangle", ("N",), (x, y), (), (Index("i0", N), Index("i1", N)), (
        Compute(Access("y", (i0, i1)), (), Access("x", (i0, i1)), where=(i0 - i1,)),))
    values = np.arange(1, 26, dtype="f4")
    memory = {"x": values, "y": np.zeros(25, "f4")}
    run(kernel, memory, False, N=5)
    np.testing.assert_array_equal(memory["y"].reshape(5, 5), np.tril(values.reshape(5, 5)))
