"""Reductions down columns of memory, of which a thread takes pieces as long as can be."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from dlc.compiler.options import Options
from dlc.compiler.pipeline import plan
from dlc.ir.check_schedule import KernelError, check_schedule
from dlc.ir.dims import Dim, evaluate, symbol
from dlc.ir.graph import Builder, Graph
from dlc.ir.kernel_text import parse_kernel
from dlc.ir.loops import For, Let, Statement
from dlc.ir.schedule import Schedule
from dlc.ir.schedule_text import parse_schedule, print_schedule
from dlc.runtime import pool
from tests.compiler.compiled import CompiledGraph
from tests.compiler.loops_machine import Machine
from tests.compiler.test_kernels import graph, value
from tests.compiler.test_products import product

M, N = symbol("M"), symbol("N")
# The last but one is not near, and has few columns: its rows are read one after another.
SHAPES = ((1, 1), (3, 5), (12, 16), (37, 300), (5, 4111), (1403, 99), (33, 9000))
FEW = Options(target="x86-64-v4", hints={"M": 1})


def sums(rows: Dim = M, columns: Dim = N) -> Graph:
    """Sum and largest of each column, each with what is made of it."""
    b = Builder(["x", "y"])
    x, y = value("x", rows, columns), value("y", rows, columns)
    total, most = b.sum(x, (0,)), b.op("reduce_max", y, axes=(0,))
    return graph(b, [x, y], [b.op("tanh", b.op("mul", total, total)), b.op("neg", most)])


def schedules(made: Graph, options: Options) -> list[Schedule]:
    program, _ = plan(made, options)
    return [schedule for _, schedule in program.schedules]


def arrays(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


@pytest.mark.parametrize("lanes", [4, 16])
@pytest.mark.parametrize("shape", SHAPES)
def test_columns(shape: tuple[int, int], lanes: int) -> None:
    x, y = arrays(shape, shape)
    y[y > 2] = np.nan
    CompiledGraph(sums(), Options(lanes=lanes, verify=True)).check([x, y], 1e-5, 1e-5)


@pytest.mark.parametrize("rows", [1, 2, 3])
@pytest.mark.parametrize(("depth", "columns"), [(1, 1), (17, 300), (130, 4111), (1403, 99)])
def test_few_rows_times_a_matrix(rows: int, depth: int, columns: int) -> None:
    made = product("nn", M, symbol("K"), N)
    assert schedules(made, FEW)[0].together > 1
    CompiledGraph(made, Options(hints={"M": 1}, verify=True)).check(
        arrays((rows, depth), (depth, columns)), 2e-4, 2e-4)


@pytest.mark.parametrize(("rows", "columns", "far"), [
    (M, N, True), (4096, 1024, True), (M, 1024, True), (100, 1024, False), (4096, 256, False),
    (16, N, False)])
def test_what_a_near_cache_holds_needs_no_memory_for_sums(
    rows: Dim, columns: Dim, far: bool
) -> None:
    """By the number of rows, of columns, or by all: else columns go in pieces."""
    found = [s.together > 1 for s in schedules(sums(rows, columns), Options(lanes=16))]
    assert found == [far, far]


TOGETHER = "order j, i parallel 1 vector j 4 tiles j 8 reduce k sweep 4 together 8"


@pytest.mark.parametrize(("before", "after"), [
    ("", ""), ("together 8", "together 0"), ("sweep 4", ""), ("j, i", "i, j"),
    ("parallel 1", "parallel 2"), ("tiles j", "tiles i")])
def test_chunks_that_are_done_as_one_are_of_vectors(before: str, after: str) -> None:
    kernel = parse_kernel("kernel f<N>(x: f32[N, 8] in, y: f32[N, 8] out) { local a: f32 "
                          "outer i<N, j<8 a = sum k<N: x[k, j] y[i, j] = a }")
    schedule = parse_schedule(f"schedule f for cpu {{ {TOGETHER.replace(before, after)} }}")
    assert parse_schedule(print_schedule(schedule, "f")) == schedule
    if not before:
        check_schedule(kernel, schedule)
        return
    with pytest.raises(KernelError, match="chunks are not of vectors"):
        check_schedule(kernel, schedule)


def test_rows_of_few_columns_are_read_one_after_another() -> None:
    """But where a near cache holds them all: there rows side by side need fewer loads."""
    program, _ = plan(sums(), Options(lanes=16))
    for name, sizes, several in (("wide", (4000, 512), 1), ("narrow", (4000, 511), 0),
                                 ("near", (256, 511), 1), ("short", (6, 9000), 0)):
        turns = [evaluate(s.value, {"M": sizes[0], "N": sizes[1]}) for loops in program.loops
                 for s in lets(loops.body) if s.name.startswith("k0.")]
        assert turns == [sizes[0] // 8 * several] * 2, name


def lets(body: tuple[Statement, ...]) -> Iterator[Let]:
    for statement in body:
        if isinstance(statement, For):
            yield from lets(statement.body)
        elif isinstance(statement, Let):
            yield statement


@pytest.mark.parametrize("columns", [1, 250, 1024, 5000, 70000])
def test_neighbouring_chunks_are_one_or_several(columns: int) -> None:
    """Whoever does them: each column is written once, with the same bits."""
    program, _ = plan(sums(), Options(lanes=16))
    (x,) = arrays((21, columns))
    for loops in program.loops:
        assert loops.together > 1
        found = []
        for backwards in (False, True):
            memory = {"p0": x.ravel(), "p1": np.full(columns, 7, np.float32)}
            Machine(loops, memory, {"M": 21, "N": columns}).run(backwards)
            found.append(memory["p1"])
        np.testing.assert_array_equal(*found)
        assert not np.any(found[0] == 7)


def test_as_many_calls_as_threads() -> None:
    """And no more than there are chunks, each of so many at most as a tile is large enough for."""
    made, (x, y) = CompiledGraph(sums()), arrays((40, 20000), (40, 20000))
    (schedule, _) = schedules(sums(), Options(lanes=16))
    assert evaluate(schedule.chunks, {"M": 40, "N": 20000}) > 3
    found = []
    try:
        for threads in (1, 2, 3, 7):
            pool.set_threads(threads)
            found += [made.run([x, y]) for _ in range(20)]
    finally:
        pool.set_threads(None)
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(a, b)
