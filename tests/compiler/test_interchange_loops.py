"""Rows that go through all turns of a loop by themselves: which do, and that no number changes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import dlc
from dlc.compiler import pipeline
from dlc.compiler.kernels.own_rows import row_index
from dlc.compiler.options import Options
from dlc.compiler.pipeline import plan
from dlc.frontend.build import Build
from dlc.ir.check_program import check_program
from dlc.ir.graph import Graph
from dlc.ir.kernel_text import parse_kernel
from dlc.ir.program import Launch, Loop, Parallel, Program, each_step
from dlc.ir.scalar import Array
from dlc.runtime import pool
from tests.compiler.compiled import CompiledGraph
from tests.compiler.loops_machine import run_program

CPU = Options(target="x86-64-v4", lanes=16, registers=32)
GATES = """model Net {{
    param wx: f32[{inputs}, {gates}] = glorot_uniform()
    param wh: f32[{units}, {gates}] = glorot_uniform()

    step fit(x: f32[T, N, {inputs}], lr: f32 = 0.1) -> (f32, f32[N, {units}]) {{
        scan xt in x carry h = zeros(N, {units}), s = zeros(N, {units}) {{
            i, f, u, o = split(xt @ wx + h @ wh, 4, axis=-1)
            s = sigmoid(f) * s + sigmoid(i) * tanh(u)
            h = sigmoid(o) * tanh(s)
        }}
        loss = mean(h * h)
        minimize loss with sgd(lr=lr)
        return loss, h
    }}
}}
"""


def lstm(folder: Path, inputs: int = 5, units: int = 20) -> Graph:
    """A training step of an LSTM."""
    (folder / "net.dl").write_text(GATES.format(inputs=inputs, units=units, gates=4 * units))
    return Build(folder / "net.dl").model("Net", {}).graph("fit")


def function(folder: Path, text: str) -> Graph:
    """The graph of the function `f` of a program."""
    (folder / "f.dl").write_text(text)
    graph: Graph = dlc.load(folder / "f.dl").f.graph
    return graph


def pieces(program: Program) -> list[Parallel]:
    return [s for s in each_step(program.steps) if isinstance(s, Parallel)]


def data(graph: Graph, **sizes: int) -> dict[str, Array]:
    rng = np.random.default_rng(7)
    return {p.value.name: np.asarray(rng.standard_normal([
        d if isinstance(d, int) else sizes[str(d)] for d in p.value.dims]) * 0.4, np.float32)
        for p in graph.params}


@pytest.fixture
def eager() -> Iterator[None]:
    """Even the least work is shared out, and late workers change nothing."""
    pool.configure(serial_ns=0, wake_ns=0, solo_after_ns=0)
    yield
    pool.configure(serial_ns=pool.SERIAL_NS, wake_ns=pool.WAKE_NS, solo_after_ns=pool.SOLO_AFTER_NS)
    pool.set_threads(None)


def test_a_recurrent_layer_has_no_launch_that_threads_meet_after(tmp_path: Path) -> None:
    """Both ways through time: all launches of a turn are on the rows of a piece."""
    program, _ = plan(lstm(tmp_path), CPU)
    check_program(program)
    found = pieces(program)
    assert len(found) == 2
    assert not any(isinstance(s, Loop) for s in program.steps)
    for step in found:
        (loop,) = step.body
        assert isinstance(loop, Loop)
        assert str(loop.count) == "T"
        assert all(f"{step.var}" in str(launch.dims) for launch in loop.body
                   if isinstance(launch, Launch))


@pytest.mark.parametrize(("n", "t"), [(1, 3), (3, 1), (8, 4), (9, 5), (29, 2), (64, 3)])
def test_numbers_are_those_of_the_meaning(tmp_path: Path, n: int, t: int) -> None:
    graph = lstm(tmp_path)
    CompiledGraph(graph).check(list(data(graph, N=n, T=t).values()), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("n", [7, 16, 33])
def test_bits_are_those_of_all_rows_at_once(
    tmp_path: Path, n: int, monkeypatch: pytest.MonkeyPatch, eager: None
) -> None:
    """With any number of threads, and where the loop is left as it is."""
    graph = lstm(tmp_path)
    given = list(data(graph, N=n, T=6).values())
    made = CompiledGraph(graph)
    monkeypatch.setattr(pipeline, "interchange_loops", lambda program, options: program)
    assert not pieces(plan(graph, CPU)[0])
    expected = CompiledGraph(graph).run(given)
    before = pool.worker_chunks()
    deadline = time.monotonic() + 20  # of a busy machine, whose workers may be late
    while pool.worker_chunks() == before and time.monotonic() < deadline:
        for threads in (1, 2, 3, 7):
            pool.set_threads(threads)
            for a, b in zip(made.run(given), expected, strict=True):
                np.testing.assert_array_equal(a, b)
    assert pool.worker_chunks() > before


def test_pieces_may_run_in_any_order(tmp_path: Path) -> None:
    """Each reads only what it has written, or what nobody writes: no memory of others is needed."""
    graph = lstm(tmp_path, inputs=3, units=4)
    program, _ = plan(graph, CPU)
    given = data(graph, N=19, T=3)
    there, back = (run_program(program, given, backwards) for backwards in (False, True))
    for name, array in there.items():
        assert np.isfinite(array).all()
        np.testing.assert_array_equal(array, back[name])


@pytest.mark.parametrize("turn", [
    "h = tanh(xt + h - mean(h, axis=0))",  # a row needs all others
    "h = tanh(xt + flip(h, axis=0))",  # and one at another place
    "h = h + xt * f32(range(N))[:, None]",  # which row it is makes a difference
    "h = h + xt\n            print(\"a turn\")",
])
def test_loops_that_are_left_alone(tmp_path: Path, turn: str) -> None:
    text = f"""fn f(x: f32[T, N, 4]) -> f32[N, 4] {{
        scan xt in x carry h = zeros(N, 4) {{
            {turn}
        }}
        return h
    }}"""
    assert not pieces(plan(function(tmp_path, text), CPU)[0])


def test_much_that_all_pieces_read_is_read_for_all_rows_at_once(tmp_path: Path) -> None:
    assert not pieces(plan(lstm(tmp_path, inputs=8, units=320), CPU)[0])


def kernel(body: str, outer: str = "i0<N, i1<8", params: str = "") -> str:
    params = params or "p0: f32[N, 8] in, p1: f32[8] in, p2: f32[N, 8] out"
    return f"kernel k<N, M>({params}) {{\n  local acc: f32\n  outer {outer}\n  {body}\n}}\n"


@pytest.mark.parametrize(("text", "index"), [
    (kernel("p2[i0, i1] = mul(p0[i0, i1], p1[i1])"), "i0"),
    (kernel("acc = sum k0<8: mul(p0[i0, k0], p1[k0])\n  p2[i0, i1] = acc"), "i0"),
    (kernel("p2[i0, i1] = p0[i0, i1 - 2] else 0.0"), "i0"),
    (kernel("p2[i0, i1] = p0[0, i1]"), ""),  # the first row, of all
    (kernel("p2[i0, i1] = p0[N - 1 - i0, i1]"), ""),
    (kernel("acc = sum k0<N: p0[k0, i1]\n  p2[i0, i1] = acc"), ""),
    (kernel("acc = sum k0<i0: p1[k0]\n  p2[i0, i1] = acc"), ""),
    (kernel("p2[i0, i1] = mul(p0[i0, i1], (i0): f32)"), ""),
    (kernel("p2[i0, i1] = p1[i0]", outer="i0<N, i1<N"), ""),
    (kernel("p2[i0, i1] = p0[i0, i1]", outer="i0<N, i1<i0"), ""),
    (kernel("p1[i0, i1] = p0[i0, i1]",
            params="p0: f32[N, 8] @ (0/16, 1, 0) in, p1: f32[N, 8] out"), ""),
    (kernel("p1[i1, i0] = p0[i0, i1]", params="p0: f32[N, 8] in, p1: f32[8, N] out"), ""),
])
def test_rows_that_are_computed_by_themselves(text: str, index: str) -> None:
    assert row_index(parse_kernel(text), "N") == index
