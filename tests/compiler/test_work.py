"""What kernels are said to do: operations and bytes, counted by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import dlc
from dlc.compiler.kernels.work import Work, count_points, work
from dlc.compiler.options import Options
from dlc.compiler.pipeline import compile_timed
from dlc.ir.dims import evaluate, symbol
from dlc.ir.kernel import Index
from dlc.ir.program import Launch, each_step

Works = Callable[..., list[Work]]


@pytest.fixture
def works(tmp_path: Path) -> Works:
    """Gives the work of each launch of a function written in the language."""

    def works(text: str, **sizes: int) -> list[Work]:
        file = tmp_path / "f.dl"
        file.write_text(text)
        program = compile_timed(dlc.load(file).f.graph, Options())[2]
        kernels = {kernel.name: kernel for kernel in program.kernels}
        found = []
        for launch in each_step(program.steps):
            if isinstance(launch, Launch):
                kernel = kernels[launch.kernel]
                own = {name: evaluate(dim, sizes)
                       for name, dim in zip(kernel.symbols, launch.dims, strict=True)}
                found.append(work(kernel, own))
        return found

    return works


def test_a_product(works: Works) -> None:
    (*_, found) = works("fn f(x: f32[M, 11], y: f32[11, N]) -> f32[M, N] = x @ y", M=7, N=13)
    assert found == Work(2 * 7 * 11 * 13, 4 * (7 * 11 + 11 * 13), 4 * 7 * 13)


def test_elementwise_ops_count_their_formulas(works: Works) -> None:
    (found,) = works("fn f(x: f32[N], y: f32[N]) -> f32[N] = sqrt(x * y)", N=100)
    assert found == Work(200, 800, 400)


def test_integers_are_no_floating_point(works: Works) -> None:
    (found,) = works("fn f(x: i32[N], y: i32[N]) -> i32[N] = x * y", N=100)
    assert found == Work(0, 800, 400)


def test_the_types_of_what_is_read_count(works: Works) -> None:
    """Sorting reads floats as bits: formulas ask of what type they are."""
    found = works("fn f(x: f32[N]) -> i32[N] = argsort(x)", N=100)
    assert sum(each.written for each in found) >= 400


def test_a_sum(works: Works) -> None:
    found = works("fn f(x: f32[N, 10]) -> f32[N] = sum(x, axis=1)", N=100)[-1]
    assert found == Work(1000, 4000, 400)


def test_what_is_gathered_is_read_row_by_row(works: Works) -> None:
    found = works("fn f(table: f32[R, 8], at: i32[N]) -> f32[N, 8] = table[at]", R=1000, N=10)[-1]
    assert found == Work(0, 4 * 10 * 8 + 4 * 10, 4 * 10 * 8)


@pytest.mark.parametrize("n", [1, 2, 9, 63])
def test_a_triangle_is_counted_as_one(n: int) -> None:
    i, j = Index("i", symbol("N")), Index("j", symbol("i") + 1)
    assert count_points((i, j), (), {"N": n}) == n * (n + 1) / 2
    k = Index("k", symbol("N"))
    assert count_points((i, k), (symbol("i") - symbol("k"),), {"N": n}) == n * (n + 1) / 2


def test_a_large_triangle_is_counted_at_some_points() -> None:
    i, j = Index("i", symbol("N")), Index("j", symbol("i") + 1)
    k = Index("k", symbol("N"))
    n = 100_000
    for nest, where in (((i, j), ()), ((i, k), (symbol("i") - symbol("k"),))):
        assert count_points(nest, where, {"N": n}) == pytest.approx(n * n / 2, rel=0.05)


def test_indices_that_are_not_coupled_multiply() -> None:
    i, j, k = Index("i", symbol("N")), Index("j", symbol("i") + 1), Index("k", 1_000_000, 10)
    assert count_points((i, k, j), (), {"N": 4}) == 10 * 999_990
