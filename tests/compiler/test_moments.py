"""Mean and variance of rows in one sweep: as exact as in two, wherever the numbers lie."""

from __future__ import annotations

import numpy as np
import pytest

from dlc.compiler.kernels.moments import moments_of
from dlc.compiler.kernels.sweeps import sweeps
from dlc.compiler.options import Options
from dlc.compiler.pipeline import dump_graph
from dlc.ir.dims import Dim, symbol
from dlc.ir.graph import Builder, Graph, Value
from dlc.ir.kernel import Compute
from dlc.ir.kernel_text import parse_kernel
from dlc.ir.scalar import Array
from dlc.ir.types import F32
from dlc.runtime import pool
from tests.compiler.compiled import CompiledGraph
from tests.compiler.test_kernels import graph, value

M, N, C = map(symbol, "MNC")


def moments(dims: tuple[Dim, ...], axes: tuple[int, ...]) -> Graph:
    """Mean, variance and largest value."""
    b = Builder("x")
    x = value("x", *dims)
    kept = tuple(a for a in range(len(dims)) if a not in axes)
    count: Dim = 1
    for axis in axes:
        count = count * dims[axis]
    total = b.sum(x, axes)
    number = b.broadcast(b.op("dim", dtype=F32, value=count), total.dims, ())
    mean = b.op("div", total, number)
    apart = b.op("sub", x, b.broadcast(mean, x.dims, kept))
    variance = b.op("div", b.sum(b.op("mul", apart, apart), axes), number)
    return graph(b, [x], [mean, variance, b.op("reduce_max", x, axes=axes)])


def is_in_one_sweep(made: Graph) -> bool:
    return "\n  moments " in dump_graph(made, "kernels", Options(target="x86-64-v4"))


def draw(made: Graph, sizes: dict[str, int], offset: float) -> list[Array]:
    rng = np.random.default_rng(len(sizes))
    out: list[Array] = []
    for v in made.inputs:
        shape = tuple(sizes.get(str(d), d) for d in v.dims)
        numbers = rng.standard_normal(shape) + offset  # type: ignore[arg-type]
        out.append(numbers.astype(np.float32))
    return out


FORMS: dict[str, tuple[Graph, list[dict[str, int]]]] = {
    "rows side by side": (moments((M, N), (0,)), [
        {"M": 1, "N": 3}, {"M": 70, "N": 33}, {"M": 64, "N": 257}, {"M": 4097, "N": 20}]),
    "channels": (moments((M, C, 70, N), (0, 2, 3)), [
        {"M": 1, "C": 2, "N": 1}, {"M": 5, "C": 9, "N": 33}, {"M": 2, "C": 17, "N": 517}]),
    "long rows": (moments((9, 300001), (1,)), [{}]),
}


@pytest.mark.parametrize("offset", [0.0, -1000.0, 30000.0])
@pytest.mark.parametrize("cpu", ["", "haswell"])
@pytest.mark.parametrize("name", FORMS)
def test_mean_and_variance(name: str, cpu: str, offset: float) -> None:
    """The variance is exact to some units in its last place, though the mean can't be told as
    finely: numbers round 30000 are some 0.002 apart."""
    made, all_sizes = FORMS[name]
    assert is_in_one_sweep(made)
    compiled = CompiledGraph(made, Options(verify=True, target=cpu))
    for sizes in all_sizes:
        (x,) = draw(made, sizes, offset)
        mean, variance, largest = compiled.run([x])
        axes = tuple(a for a in range(x.ndim) if a != (1 if name != "long rows" else 0))
        exact = x.astype(np.float64)
        np.testing.assert_allclose(mean, exact.mean(axes), 3e-6, 3e-6)
        np.testing.assert_allclose(variance, exact.var(axes), 5e-6, 1e-12)
        np.testing.assert_array_equal(largest, x.max(axes))


def test_what_is_not_finite() -> None:
    made, _ = FORMS["rows side by side"]
    (x,) = draw(made, {"M": 300, "N": 40}, 0.0)
    x[7, 3], x[290, 5], x[0, 9] = np.nan, np.inf, -np.inf
    mean, variance, _ = CompiledGraph(made).run([x])
    with np.errstate(invalid="ignore"):
        expected = x.mean(0, dtype=np.float64)
    np.testing.assert_array_equal(np.isnan(mean), np.isnan(expected))
    np.testing.assert_array_equal(np.isinf(mean), np.isinf(expected))
    np.testing.assert_array_equal(np.isnan(variance), ~np.isfinite(expected))


def test_the_same_bits_for_any_threads() -> None:
    made, _ = FORMS["rows side by side"]
    compiled, found = CompiledGraph(made), set()
    arrays = draw(made, {"M": 500, "N": 3000}, 10.0)
    pool.configure(serial_ns=0)
    for threads in (1, 2, 3, 7):
        pool.set_threads(threads)
        found.add(b"".join(np.array(a).tobytes() for a in compiled.run(arrays)))
    pool.configure()
    pool.set_threads(None)
    assert len(found) == 1


KERNEL = """
kernel variance<M, N>(p0: f32[M, N] in, p1: f32[N] out) {
  local acc: f32, r1: f32, acc2: f32
  outer i0<N
  acc = sum k0<M: p0[k0, i0]
  r1 = div(acc, (M): f32)
  acc2 = sum k0<M {
    t1 = sub(p0[k0, i0], r1)
    mul(t1, t1)
  }
  p1[i0] = acc2
}
"""


@pytest.mark.parametrize(("before", "after", "found"), [
    ("", "", True), ("(M): f32", "(M - 1): f32", False), ("mul(t1, t1)", "mul(t1, r1)", False),
    ("sub(p0[k0, i0], r1)", "sub(r1, p0[k0, i0])", False), ("div(acc", "add(acc", False),
    ("sub(p0[k0, i0], r1)", "sub(p0[k0, 0], r1)", False)])
def test_what_a_mean_and_its_squares_are(before: str, after: str, found: bool) -> None:
    kernel = parse_kernel(KERNEL.replace(before, after) if before else KERNEL)
    runs = sweeps([c for c in kernel.body if isinstance(c, Compute)])
    assert (moments_of(runs) is not None) is found


def test_a_sweep_that_is_needed_anyway() -> None:
    """Where something else waits for the mean, the squares go with that."""
    b = Builder("xg")
    x, g = value("x", M, N), value("g", M, N)
    total = b.sum(x, (0,))
    mean = b.op("div", total, b.broadcast(b.op("dim", dtype=F32, value=M), total.dims, ()))
    apart = b.op("sub", x, b.broadcast(mean, x.dims, (1,)))
    results: list[Value] = [b.sum(b.op("mul", apart, other), (0,)) for other in (apart, g)]
    assert not is_in_one_sweep(graph(b, [x, g], results))
