"""The training steps of the examples as CUDA C: they give what they mean, and nothing spills."""

from __future__ import annotations

import numpy as np
import pytest

from dlc.compiler.cuda import nvrtc
from dlc.compiler.cuda.nvrtc import compile_cubin
from dlc.compiler.levels import Compiled
from dlc.compiler.options import Options
from dlc.compiler.pipeline import compile_cuda, compile_cuda_told
from dlc.frontend.build import Build
from dlc.ir.dataclass import dataclass
from dlc.ir.dims import evaluate, symbols
from dlc.ir.graph import Graph
from dlc.ir.program import Program
from dlc.ir.scalar import Array
from tests.compiler.test_footprints import EXAMPLES, STEPS
from tests.cuda.compiled import CudaGraph
from tests.cuda.contractions import ALONE, alone
from tests.cuda.on_cpu import needs_compiler
from tests.cuda.on_device import ON_GPU
from tests.cuda.test_nvrtc import taken

EACH = [(file, name) for file, each in STEPS.items() for name in each[2].split()]
SIZES = {"N": 3, "T": 5, "H": 8, "W": 4}


def graph_of(file: str, name: str) -> Graph:
    """The graph of a step."""
    model, given, _ = STEPS[file]
    build = Build(EXAMPLES / file)
    built = build.model(model, {**build.program().trained.get(model, {}), **given})
    return built.graph(name)


def draw(graph: Graph) -> list[Array]:
    """Small numbers for every parameter: second moments are positive, whole numbers 0 or 1."""
    rng = np.random.default_rng(7)
    sizes = {s: SIZES.get(s, 3) for p in graph.params for d in p.value.dims for s in symbols(d)}
    out: list[Array] = []
    for param in graph.params:
        shape = [evaluate(d, sizes) for d in param.value.dims]
        numbers: Array | int = rng.standard_normal(shape) * 0.1
        if param.value.name.endswith((".height", ".width")):  # of a sparse matrix
            numbers = 3 if param.value.name.endswith(".height") else 1000
        elif param.role == "random" or not param.value.dtype.is_float:
            numbers = rng.integers(0, 2, shape)
        elif param.value.name.rsplit(".", 1)[-1] in ("v", "t", "lr"):
            numbers = np.abs(numbers)
        out.append(np.asarray(numbers, param.value.dtype.numpy))
    return out


@dataclass(frozen=True, slots=True)
class Step:
    """A step of an example, compiled once for all that is asked of it."""

    key: tuple[str, str]
    graph: Graph
    made: Compiled
    program: Program


@pytest.fixture(scope="module", params=EACH, ids="-".join)
def step(request: pytest.FixtureRequest) -> Step:
    graph = graph_of(*request.param)
    return Step(request.param, graph, *compile_cuda_told(graph, Options("cuda:sm_80", verify=True)))


@pytest.mark.slow
@needs_compiler
def test_a_step_gives_what_it_means(step: Step) -> None:
    compiled = CudaGraph(step.graph) if ON_GPU else CudaGraph(step.graph, made=step.made)
    compiled.check(draw(step.graph), rtol=2e-3, atol=2e-4)


@pytest.mark.slow
@pytest.mark.skipif(not nvrtc.is_here(), reason="NVRTC is not installed")
def test_a_step_compiles_without_spills(step: Step) -> None:
    found = taken(step.made.text)
    assert found
    assert [r for r in found if r.spilled] == []


def test_which_contractions_one_thread_does(step: Step) -> None:
    """Small ones alone. All others are products in tiles, chains of products, or sums along rows
    that threads share."""
    assert set(alone(step.program)) == ALONE.get(step.key, set())


@pytest.mark.slow
@pytest.mark.skipif(not nvrtc.is_here(), reason="NVRTC is not installed")
@pytest.mark.parametrize("precision", ["bf16", "tf32"])
def test_products_on_tensor_cores_do_not_spill(precision: str) -> None:
    """Those of likely batches: with few rows it is not worth while."""
    graph = graph_of("lenet5.dl", "fit")
    options = Options("cuda:sm_80", precision=precision, hints={"N": 256})
    text = compile_cuda(graph, options).text
    assert "= multiply_" in text
    assert [r for r in compile_cubin(text, "sm_80")[1] if r.spilled or r.stack] == []


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("precision", ["bf16", "tf32"])
def test_a_step_on_tensor_cores(precision: str) -> None:
    graph = graph_of("lenet5.dl", "fit")
    compiled = CudaGraph(graph, Options(precision=precision, hints={"N": 256}))
    assert "= multiply_" in compiled.made.text
    compiled.check(draw(graph), rtol=0.1, atol=0.02)
