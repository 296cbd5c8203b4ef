"""Variants of kernels for sizes that are symbols: how good they are by the model, and that each
gives what is meant at any size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dlc.compiler.options import Options
from dlc.compiler.passes.choose_gpu_schedules import choose_gpu_schedules
from dlc.compiler.pipeline import passes, plan
from dlc.compiler.runner import Step as Pass
from dlc.compiler.runner import run_passes
from dlc.compiler.schedules import variants
from dlc.compiler.schedules.gpu import ThreadSearch
from dlc.compiler.schedules.gpu_cycles import Cycles
from dlc.frontend.build import Build
from dlc.frontend.records import SHARED
from dlc.ir.dims import evaluate, symbol
from dlc.ir.graph import Builder, Graph, Param, Value
from dlc.ir.ops.contract import conv_spec, matmul_spec
from dlc.ir.program import Launch, Program, each_step
from dlc.ir.types import F32, tensor
from dlc.runtime.cuda.plan import Step
from tests.compiler import test_fuse_updates as updates
from tests.cuda import compiled
from tests.cuda.compiled import CudaGraph, runs
from tests.cuda.on_cpu import needs_compiler
from tests.cuda.test_examples_cuda import graph_of
from tests.cuda.test_tiles_cuda import numbers

PROGRAMS = Path(__file__).parents[1] / "benchmarks" / "programs"
GPU = "cuda:sm_90a"
PROCESSORS = 132
K, M, N = symbol("K"), symbol("M"), symbol("N")
Sizes = dict[str, int]


class Chosen:
    """The kernels of a graph with their variants, and what is best for each by itself."""

    def __init__(self, graph: Graph, **hints: int) -> None:
        self.options = Options(target=GPU, hints=hints)
        steps: list[Pass] = []
        order = passes(self.options)
        at = [p.name for p in order].index("choose_gpu_schedules")
        run_passes(order[:at], graph, observer=steps.append)
        before = steps[-1].after
        assert isinstance(before, Program)
        self.before = before
        self.program = choose_gpu_schedules(before, self.options)
        self.kernels = {k.name: k for k in self.program.kernels}
        self.schedules = dict(self.program.schedules)

    def runs(self, kernel: str, sizes: Sizes) -> str:
        """What runs in the place of a kernel at these sizes of its symbols."""
        return runs(self.program, kernel, sizes)

    def times(self, kernel: str, sizes: Sizes) -> float:
        """How many times the cycles of the best schedule that takes, a launch's own included."""
        name = self.runs(kernel, sizes)
        first = next(k for k in self.before.kernels if k.name == kernel)
        best = ThreadSearch(first, sizes, self.options, {}).choose()
        one, other = (Cycles(k, sizes, self.options).of(s) + variants.LAUNCH for k, s in (
            (self.kernels[name], self.schedules[name]), best))
        return one / other

    def launches(self, **sizes: int) -> list[tuple[str, Sizes]]:
        """The kernels of all launches, with the sizes of their symbols."""
        return [(s.kernel, {n: evaluate(dim, sizes) for n, dim in zip(
            self.kernels[s.kernel].symbols, s.dims, strict=True)})
            for s in each_step(self.program.steps) if isinstance(s, Launch)]


def square(side: int) -> Sizes:
    return {"M": side, "K": side, "N": side}


@pytest.fixture(scope="module")
def product() -> Chosen:
    return Chosen(Build(PROGRAMS / "products.dl").model(SHARED, {}).graph("product"))


# What the model of an H100 says of square products of f32: how large tiles are, and how many
# threads share a sum. Small ones have as many blocks as there can be; large ones read little.
@pytest.mark.parametrize(("side", "height", "width", "slices"), [
    (64, 8, 16, 32), (512, 32, 64, 2), (1024, 64, 64, 1), (4096, 128, 128, 1)])
def test_tiles_of_square_products(
    side: int, height: int, width: int, slices: int, product: Chosen
) -> None:
    schedule = product.schedules[product.runs("contract_0", square(side))]
    tile = schedule.shared
    assert tile is not None
    assert (tile.height, tile.width, tile.slices) == (height, width, slices)
    blocks = evaluate(schedule.chunks, square(side))
    assert blocks >= min(PROCESSORS - 4, (side // 8) * (side // 16))


@pytest.mark.parametrize("side", [16, 40, 64, 100, 256, 512, 777, 1024, 1500, 2048, 4096, 8192])
def test_no_square_product_is_far_from_the_best(side: int, product: Chosen) -> None:
    assert product.times("contract_0", square(side)) <= variants.GOOD


def test_few_variants_for_all_sizes(product: Chosen) -> None:
    """Long and thin products among them."""
    assert 2 < len(product.kernels) <= variants.MOST
    sides = (16, 128, 1024, 8192)
    times = [product.times("contract_0", {"M": m, "K": k, "N": n})
             for m in sides for k in sides for n in sides]
    assert sum(times) / len(times) < 1.2
    assert max(times) < 3


@pytest.mark.parametrize(("file", "batch"), [
    ("lenet5.dl", 64), ("autoencoder.dl", 128)])
def test_steps_at_the_batch_that_is_said_and_at_larger_ones(file: str, batch: int) -> None:
    found = Chosen(graph_of(file, "fit"), N=batch)
    assert found.program.variants
    assert len(found.kernels) <= 2 * len(found.before.kernels)
    for size in (batch, 4 * batch, 16 * batch):
        for kernel, sizes in found.launches(N=size):
            assert found.times(kernel, sizes) <= variants.GOOD, (kernel, size)
            schedule = found.schedules[found.runs(kernel, sizes)]
            if size > 4 * batch and schedule.shared and schedule.shared.height > 64:
                blocks = evaluate(schedule.chunks, sizes)
                assert blocks >= PROCESSORS * 3 // 4, "large tiles leave processors idle"


def test_sizes_that_are_numbers_have_no_variants() -> None:
    x, w = Value("x", tensor(F32, (300, 200))), Value("w", tensor(F32, (200, 100)))
    assert not Chosen(_product(x, w)).program.variants


def _product(x: Value, w: Value) -> Graph:
    b = Builder("xw")
    positive = b.op("maximum", x, b.constant(0.0, x.type))
    made = b.op("contract", positive, w, **matmul_spec(x.dims, w.dims))
    out = b.op("tanh", made)
    return Graph("dense", (Param(x), Param(w)), tuple(b.nodes), (out,))


def _convolution() -> Graph:
    height = symbol("H")
    x, w = Value("x", tensor(F32, (N, 3, height, 6))), Value("w", tensor(F32, (5, 3, 3, 3)))
    b = Builder("xw")
    made = b.op("contract", x, w, **conv_spec(x.dims, w.dims, padding=1, stride=2))
    return Graph("conv", (Param(x), Param(w)), tuple(b.nodes), (made,))


def force(number: int, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Launches run the variant of this number, where there are so many; their kernels."""
    ran: set[str] = set()

    def chosen(step: Step, sizes: Sizes) -> Step:
        every = [*step.get("variants", ()), step]
        found = every[number % len(every)]
        ran.add(found["kernel"])
        return found

    monkeypatch.setattr(compiled, "chosen", chosen)
    return ran


GRAPHS = {
    "product": _product(Value("x", tensor(F32, (M, K))), Value("w", tensor(F32, (K, N)))),
    "products": _product(Value("x", tensor(F32, (3, M, K))), Value("w", tensor(F32, (3, K, N)))),
    "convolution": _convolution(),
}


@needs_compiler
@pytest.mark.parametrize("name", GRAPHS)
def test_each_variant_gives_what_is_meant(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = GRAPHS[name]
    made = CudaGraph(graph)
    ran: set[str] = set()
    for number in range(2 * variants.MOST):
        found = force(number, monkeypatch)
        for sizes in ({"M": 1, "K": 1, "N": 1, "H": 1}, {"M": 37, "K": 45, "N": 5, "H": 7},
                      {"M": 7, "K": 3, "N": 70, "H": 4}):
            made.check(numbers(graph, **sizes), rtol=1e-5, atol=1e-5)
        ran |= found
    assert len(ran) == made.made.text.count("__global__") > 1


@needs_compiler
def test_updates_are_part_of_each_variant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variants, "_has_one", lambda kernel, choices: False)
    graph = updates.step(tmp_path, updates.WITH["momentum"], 200, 300, 200)
    options = Options(hints={"N": 256})
    program, _ = plan(graph, replace(options, target="cuda:sm_80"))
    updated = {k.name for k in program.kernels if any(p.role == "inout" for p in k.params)}
    assert any(v.of in updated for v in program.variants)
    made = CudaGraph(graph, options)
    for number in range(variants.MOST):
        force(number, monkeypatch)
        made.check(numbers(graph, N=5), rtol=1e-4, atol=1e-5)
