"""The example programs: each pass keeps their meaning, machine code has it, and LeNet-5 learns."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import dlc
from dlc.compiler import pipeline
from dlc.compiler.options import Options
from dlc.compiler.passes.differentiate import differentiate
from dlc.compiler.passes.inline import inline
from dlc.frontend.build import Build
from dlc.ir.dims import evaluate
from dlc.ir.graph import Graph, Node, Value
from dlc.ir.interpret import run_graph
from dlc.ir.parse import parse_graph
from dlc.ir.program import Commit, Launch
from dlc.ir.program_text import parse_program
from dlc.ir.scalar import Array
from dlc.ir.types import F32, F64, TensorType, tensor
from dlc.runtime import Artifact, Function, Variables, pool
from dlc.runtime.variables import VariableSpec

EXAMPLES = Path(__file__).parents[1] / "examples"
PROGRAMS = {
    "lenet5": ("LeNet5", ("fit", "scores", "digit", "error_rate")),
    "plain_lenet5": ("PlainLeNet5", ("fit", "scores")),
}
FUNCTIONS = [(p, f) for p, (_, functions) in PROGRAMS.items() for f in functions]


@cache
def graph_of(program: str, function: str) -> Graph:
    model, _ = PROGRAMS[program]
    return Build(EXAMPLES / f"{program}.dl").model(model, {}).graph(function)


def draw(graph: Graph, n: int) -> list[Array]:
    """Numbers for every parameter: small weights, non-negative second moments, digits as labels."""
    rng = np.random.default_rng(7)
    out: list[Array] = []
    for value in graph.inputs:
        shape = [evaluate(d, {"N": n}) for d in value.dims]
        if value.dtype.is_float:
            numbers = rng.standard_normal(shape) * 0.1
            if value.name.rsplit(".", 1)[-1] in ("v", "t", "lr"):
                numbers = np.abs(numbers)
            out.append(np.asarray(numbers, value.dtype.numpy))
        else:
            out.append(rng.integers(0, 10, shape).astype(value.dtype.numpy))
    return out


def close(found: tuple[Array, ...], expected: tuple[Array, ...], tolerance: float = 2e-5) -> None:
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("program", "function"), FUNCTIONS)
def test_every_pass_on_graphs_keeps_the_meaning(program: str, function: str) -> None:
    graph = graph_of(program, function)
    arrays = draw(graph, 3)
    meaning = run_graph(differentiate(graph), arrays)
    ran = []
    for each in pipeline.passes(Options()):
        if each.level_out is not pipeline.GRAPH:
            break
        graph = each.run(graph)
        each.level_out.verify(graph)
        ran.append(each.name)
        if "differentiate" in ran:
            close(run_graph(graph, arrays), meaning)
    assert ran[-1] == "pack_inputs"


def compiled(graph: Graph) -> tuple[Function, Variables]:
    code, manifest = pipeline.compile_graph(graph, Options(verify=True))
    variables = Variables(seed=0)
    variables.require([
        VariableSpec.make(p.value.name, p.value.dtype.name, p.value.dims)
        for p in graph.params if p.role == "var"])
    return Function(Artifact(manifest, code), variables), variables


@pytest.mark.parametrize(("program", "function"), FUNCTIONS)
def test_one_object_serves_all_batch_sizes(program: str, function: str) -> None:
    """One compilation serves N = 64, 1, 37 and 130, and computes what the Graph means."""
    graph = graph_of(program, function)
    call, variables = compiled(graph)
    meaning = differentiate(graph)
    for n in (64, 1, 37, 130):
        arrays = draw(graph, n)
        given = {}
        for p, array in zip(graph.params, arrays, strict=True):
            if p.role == "var":
                variables.set(p.value.name, array)
            else:
                given[p.value.name] = array
        expected = run_graph(meaning, arrays)
        result = call(**given)
        results = result if isinstance(result, tuple) else (result,)
        found = (*results, *(variables.get(name) for name, _ in graph.updates))
        close(tuple(map(np.asarray, found)), expected, 3e-4)


def test_objects_are_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DLC_CACHE", str(tmp_path))
    emitted = []
    emit = pipeline.begin_code
    monkeypatch.setattr(pipeline, "begin_code", lambda *a: (emitted.append(1), emit(*a))[1])
    net = dlc.load(EXAMPLES / "lenet5.dl").LeNet5(seed=0)
    image, label = np.zeros((64, 28, 28), "u1"), np.zeros(64, "u1")
    for n in (64, 37):
        net.fit(image=image[:n], label=label[:n])
    assert len(emitted) == 2, "one for the initial values, one for fit"
    for n in (1, 64, 3, 2):
        net.fit(image=image[:n], label=label[:n])
    assert len(emitted) == 3, "and one for few at a time"
    with pytest.raises(dlc.RunError, match="N is 0"):
        net.fit(image=image[:0], label=label[:0])


def promoted(graph: Graph) -> Graph:
    """The same graph in float64."""
    def kind(value: Value) -> Value:
        t = value.type
        assert isinstance(t, TensorType)
        return replace(value, type=tensor(F64, t.dims)) if t.dtype is F32 else value

    def node(n: Node) -> Node:
        attrs = tuple((k, F64 if a is F32 else a) for k, a in n.attrs)
        return replace(n, operands=tuple(map(kind, n.operands)), attrs=attrs,
                       results=tuple(map(kind, n.results)))

    return replace(
        graph, params=tuple(replace(p, value=kind(p.value)) for p in graph.params),
        nodes=tuple(map(node, graph.nodes)), results=tuple(map(kind, graph.results)), updates=())


def test_whole_gradient_of_lenet5() -> None:
    """All gradients at once, along a random direction, against differences in float64."""
    graph = inline(graph_of("lenet5", "fit"))
    at = next(k for k, n in enumerate(graph.nodes) if n.op == "gradient")
    gradient = graph.nodes[at]
    loss, wrt = gradient.operands[0], gradient.operands[1:]
    cut = promoted(replace(graph, nodes=graph.nodes[:at + 1], results=(loss, *gradient.results),
                           updates=()))
    forward = replace(cut, nodes=cut.nodes[:-1], results=cut.results[:1])
    arrays = [a.astype("f8") if a.dtype == np.float32 else a for a in draw(graph, 2)]
    rng = np.random.default_rng(3)
    places = {v.name: k for k, v in enumerate(graph.inputs)}
    found = run_graph(differentiate(cut), arrays)[1:]
    assert len(wrt) == 14
    directions = [rng.standard_normal(arrays[places[v.name]].shape) for v in wrt]

    def shifted(by: float) -> float:
        moved = list(arrays)
        for v, d in zip(wrt, directions, strict=True):
            moved[places[v.name]] = moved[places[v.name]] + by * d
        return float(run_graph(forward, moved)[0])

    step = 1e-5
    slope = (shifted(step) - shifted(-step)) / (2 * step)
    inner = sum(float(np.sum(g * d)) for g, d in zip(found, directions, strict=True))
    assert abs(slope - inner) < 1e-7 * max(1.0, abs(slope))


def digits(count: int) -> tuple[Array, Array]:
    from dlc.frontend.training.idx import read_idx

    folder = EXAMPLES / "data" / "mnist"
    return (read_idx(folder / "train-images-idx3-ubyte.gz", (28, 28))[:count],
            read_idx(folder / "train-labels-idx1-ubyte.gz", ())[:count])


def train(threads: int, steps: int) -> tuple[list[float], dict[str, Array]]:
    pool.set_threads(threads)
    try:
        net = dlc.load(EXAMPLES / "lenet5.dl").LeNet5(seed=1)
        images, labels = digits(steps * 64)
        losses = [float(net.fit(image=images[k:k + 64], label=labels[k:k + 64]))
                  for k in range(0, steps * 64, 64)]
        return losses, {name: np.array(net.variables[name]) for name in net.variables}
    finally:
        pool.set_threads(None)


def test_lenet5_learns() -> None:
    losses, _ = train(2, 150)
    assert losses[0] > 2.0
    assert np.mean(losses[-20:]) < 0.45


@pytest.mark.skipif(pool.address() is None, reason="there is no pool on this system")
def test_same_bits_with_any_number_of_threads() -> None:
    pool.configure(serial_ns=0)
    try:
        alone = train(1, 12)
        for threads in (2, 3):
            before = pool.worker_chunks()
            for _ in range(20):  # on a busy machine workers may come too late for all steps
                others = train(threads, 12)
                assert others[0] == alone[0]
                for name, array in alone[1].items():
                    np.testing.assert_array_equal(array, others[1][name])
                if pool.worker_chunks() > before:
                    break
            assert pool.worker_chunks() > before, "workers ran chunks"
    finally:
        pool.configure()


TALKING = """
fn total(x: f32[N, M]) -> f32 {
    a = sum(exp(x))
    print("half {a}")
    return sum(exp(x) * a)
}
"""


@pytest.mark.skipif(pool.address() is None, reason="there is no pool on this system")
def test_what_is_printed_may_use_the_pool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where Python is called back the step has let the pool go, and takes it again."""
    (tmp_path / "talking.dl").write_text(TALKING)
    x = np.random.default_rng(1).random((100, 1000), np.float32)
    answers: list[int] = []

    def write(text: str) -> None:
        if text.startswith("half"):
            pool.set_threads(3)
            child = os.fork()
            if child == 0:
                os._exit(7)
            answers.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    pool.configure(serial_ns=0)
    try:
        pool.set_threads(2)
        total = dlc.load(tmp_path / "talking.dl").total
        expected = np.exp(x.astype(np.float64)).sum() ** 2
        monkeypatch.setattr(sys, "stdout", SimpleNamespace(write=write, flush=lambda: None))
        found = [float(total(x)) for _ in range(3)]
    finally:
        pool.configure(serial_ns=pool.SERIAL_NS)
        pool.set_threads(None)
    assert answers == [7] * 3
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_variables_are_written_after_the_commit_alone() -> None:
    program = parse_program(pipeline.dump_graph(graph_of("lenet5", "fit"), "kernels"))
    kernels = {k.name: k for k in program.kernels}
    commit = next(k for k, s in enumerate(program.steps) if isinstance(s, Commit))
    written = set()
    for at, step in enumerate(program.steps):
        if isinstance(step, Launch):
            for name, param in zip(step.buffers, kernels[step.kernel].params, strict=True):
                buffer = program.buffer(name)
                if param.role != "in" and buffer.kind == "var":
                    assert at > commit
                    written.add(buffer.alias_of or name)
    assert written == {name for name, _ in graph_of("lenet5", "fit").updates}


@pytest.mark.parametrize(("program", "function"), FUNCTIONS)
def test_every_level_is_text_that_reads_back(program: str, function: str) -> None:
    """What each pass gives passes the checks of its level, and is what its text says."""
    made: object = graph_of(program, function)
    for each in pipeline.passes(Options()):
        made = each.run(made)
        each.level_out.verify(made)
        text = each.level_out.text(made)
        if each.level_out is pipeline.GRAPH:
            assert parse_graph(text) == made
        elif each.level_out in (pipeline.PROGRAM, pipeline.LOOPS):
            assert parse_program(text) == made
        assert each.level_out.text(made) == text


SIZES = """
model Sizes {
    param w: f32[4, 4] = normal()

    fn go(x: f32[N, 4], a: int, i0: int, k0: int = 2, chunk: int = 1) -> f32[a, i0, k0, chunk] {
        scan _ in range(i0) carry total = zeros(a) {
            total = total + 1.0
            yield total as totals
        }
        return zeros(a, i0, k0, chunk) + sum(x @ w) + sum(totals) + sum(x[a:])
    }
}
"""


@pytest.mark.parametrize(("a", "turns"), [(3, 2), (0, 4), (2, 0), (5, 1)])
def test_sizes_may_be_called_like_indices(tmp_path: Path, a: int, turns: int) -> None:
    """Passes make indices of these names; those of the user are others."""
    file = tmp_path / "sizes.dl"
    file.write_text(SIZES)
    model = dlc.load(file).Sizes(seed=0)
    x = np.arange(20, dtype=np.float32).reshape(5, 4)
    found = model.go(x=x, a=a, i0=turns, k0=3, chunk=2)
    expected = (x @ model.w).sum() + a * turns * (turns + 1) / 2 + x[a:].sum()
    assert found.shape == (a, turns, 3, 2)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
