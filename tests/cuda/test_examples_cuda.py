"""The training steps of the examples as CUDA C: they give what they mean, and nothing spills."""

from __future__ import annotations

import numpy as np
import pytest

from dlc.compiler.cuda import nvrtc
from dlc.compiler.cuda.nvrtc import compile_cubin
from dlc.compiler.options import Options
from dlc.compiler.pipeline import compile_cuda
from dlc.frontend.build import Build
from dlc.ir.dims import evaluate, symbols
from dlc.ir.graph import Graph
from dlc.ir.scalar import Array
from tests.compiler.test_footprints import EXAMPLES, STEPS
from tests.cuda.compiled import CudaGraph
from tests.cuda.on_cpu import needs_compiler
from tests.cuda.test_nvrtc import resources

EACH = pytest.mark.parametrize(
    ("file", "name"), [(file, name) for file, each in STEPS.items() for name in each[2].split()])
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


@pytest.mark.slow
@needs_compiler
@EACH
def test_a_step_gives_what_it_means(file: str, name: str) -> None:
    graph = graph_of(file, name)
    CudaGraph(graph, Options()).check(draw(graph), rtol=2e-3, atol=2e-4)


@pytest.mark.slow
@pytest.mark.skipif(not nvrtc.is_here(), reason="NVRTC is not installed")
@EACH
def test_a_step_compiles_without_spills(file: str, name: str) -> None:
    found = resources(graph_of(file, name))
    assert found
    assert [r for r in found if r.spilled] == []


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
