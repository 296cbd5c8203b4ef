"""Random programs as text: what is compiled gives what the program means, however it is written.

    python -m tests.frontend.test_random_text FIRST COUNT
"""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dlc.compiler.options import Options
from dlc.compiler.passes.differentiate import differentiate
from dlc.frontend.elaborate.check import check_program
from dlc.frontend.elaborate.models import elaborate, elaborate_functions
from dlc.frontend.elaborate.modules import program_of
from dlc.frontend.text.format import format_source
from dlc.ir.diagnostics import SourceFile
from dlc.ir.graph import Graph, Node
from dlc.ir.interpret import run_graph
from dlc.ir.text import print_graph
from dlc.runtime import pool
from tests.compiler.compiled import CompiledGraph
from tests.frontend.random_text import RandomText

SIZES = ((1, 1), (2, 3), (7, 2), (17, 5), (65, 1))
Arrays = list[np.ndarray[Any, Any]]


def graphs(text: str, model: str) -> dict[str, Graph]:
    """The functions of a program that is checked."""
    program = program_of(text)
    check_program(program)
    if not model:
        return elaborate_functions(program)
    built = elaborate(program, model, {})
    return dict(built.functions)


def arguments(graph: Graph, made: RandomText, rng: np.random.Generator, n: int, t: int) -> Arrays:
    """What a function is run on: variables hold small numbers too."""
    given: Mapping[str, Any] = made.arrays(rng, N=n, T=t)
    found = []
    for param in graph.params:
        value = param.value
        if param.role == "random":
            found.append(np.array([5, 3], np.int64))
        elif value.name in given and param.role == "in":
            found.append(np.asarray(given[value.name], value.dtype.numpy))
        else:
            numbers = rng.integers(0, 5, [int(d) for d in value.dims])  # squares are among them
            found.append(np.asarray(numbers).astype(value.dtype.numpy))
    return found


def tolerance(made: RandomText) -> float:
    return 1e-7 if made.float == "f64" else 5e-3


def agree(found: Any, wanted: Any, near: float) -> None:
    """Equal but for the last bits; whole numbers to the last bit."""
    assert len(found) == len(wanted)
    for k, (a, b) in enumerate(zip(found, wanted, strict=True)):
        near_ = near if np.asarray(b).dtype.kind == "f" else 0.0
        np.testing.assert_allclose(a, b, rtol=near_, atol=near_, err_msg=f"output {k}")


def scored(made: RandomText) -> dict[str, Graph]:
    """The functions that are run."""
    found = graphs(made.text, made.model)
    return {name: found[name] for name in ("score", "fit") if name in found}


def held_against_meaning(seed: int, threads: int = 1) -> None:
    """The program, compiled, gives what the interpreter gives, for several sizes."""
    made = RandomText(seed)
    with sharing(threads):
        for graph in scored(made).values():
            compiled = CompiledGraph(graph, Options(hints={"N": (64, 1)[seed % 2], "T": 3},
                                                    verify=True))
            rng = np.random.default_rng(seed)
            for n, t in SIZES:
                given = arguments(graph, made, rng, n, t)
                agree(compiled.run(given), run_graph(compiled.meaning, given), tolerance(made))


@contextmanager
def sharing(threads: int) -> Iterator[None]:
    """Work on so many threads, however small it is."""
    pool.set_threads(threads)
    pool.configure(serial_ns=0)
    try:
        yield
    finally:
        pool.configure(serial_ns=pool.SERIAL_NS)
        pool.set_threads(None)


def rewritten(seed: int, change: Callable[[str], str], exact: bool = True) -> None:
    """The program, changed in a way that must not matter, gives the same.

    It draws nothing: draws depend on the lines that they stand in.
    """
    made = RandomText(seed)
    text = re.sub(r"uniform\(3, 4, .*?\)", "zeros(3, 4)", made.text)
    before, after = graphs(text, made.model), graphs(change(text), made.model)
    for name in ("score", "fit"):
        if name in before:
            given = arguments(before[name], made, np.random.default_rng(seed), 7, 3)
            two = [run_graph(differentiate(each[name]), given) for each in (before, after)]
            agree(two[1], two[0], 0.0 if exact else tolerance(made))
            agree(CompiledGraph(after[name]).run(given), two[0], tolerance(made))


def formatted(seed: int) -> None:
    """`dlc fmt` keeps the graphs."""
    made = RandomText(seed)
    text = format_source(SourceFile("program.dl", made.text))
    before, after = graphs(made.text, made.model), graphs(text, made.model)
    for name, graph in before.items():
        assert nowhere(after[name]) == nowhere(graph)


def nowhere(graph: Graph) -> str:
    """The text of a graph, without the places that it comes from: draws depend on them too."""
    return re.sub(r"program\.dl:\d+:\d+|place = \d+", "", print_graph(graph))


def watched(text: str) -> str:
    """Each value that has a mark is printed, or checked to be itself."""
    draw = random.Random(len(text))

    def line(found: re.Match[str]) -> str:
        name = found[2]
        more = draw.choice([f'print("{name} is {{{name}}}")',
                            f'assert sum(i32({name} == {name})) >= 0, "as it is"'])
        return f"{found[0]}\n{found[1]}{more}"

    return re.sub(r"^( +)[^\n]*#:(a\d+)$", line, text, flags=re.M)


def on_threads(seed: int) -> None:
    """The bits of results don't depend on the number of threads."""
    made = RandomText(seed)
    for graph in scored(made).values():
        compiled = CompiledGraph(graph)
        given = arguments(graph, made, np.random.default_rng(seed), 65, 3)
        found = []
        for threads in (1, 2, 3):
            with sharing(threads):
                found.append([np.array(x) for x in compiled.run(given)])
        for several in found[1:]:
            for a, b in zip(several, found[0], strict=True):
                assert a.tobytes() == b.tobytes()


def in_another_order(seed: int) -> None:
    """Nodes stand in any order that keeps the makers of values before their readers."""
    made = RandomText(seed)
    draw = random.Random(seed)
    for graph in scored(made).values():
        other = replace(graph, nodes=tuple(_shuffled(graph, draw)))
        given = arguments(graph, made, np.random.default_rng(seed), 7, 3)
        agree(CompiledGraph(other, Options(verify=True)).run(given),
              run_graph(differentiate(graph), given), tolerance(made))


def _shuffled(graph: Graph, draw: random.Random) -> Iterator[Node]:
    """Its nodes; effects, and what must stay behind them, keep their order."""
    left = list(graph.nodes)
    known = {p.value for p in graph.params}
    bound = {"check", "print", "gather", "scatter", "scan", "while", "if", "gradient"}
    while left:
        first = next((node for node in left if node.op in bound), None)
        ready = [node for node in left if known.issuperset(node.operands)
                 and (node.op not in bound or node is first)]
        node = draw.choice(ready)
        left.remove(node)
        known.update(node.results)
        yield node


REWRITINGS: dict[str, Callable[[int], None]] = {
    "formatted": formatted,
    "nothing recomputed": lambda seed: rewritten(
        seed, lambda text: text.replace(", recompute=true", ""), exact=False),
    "all recomputed": lambda seed: rewritten(
        seed, lambda text: re.sub(r"^( *scan .*?)(, recompute=true)? carry ",
                                  r"\1, recompute=true carry ", text, flags=re.M), exact=False),
    "printed and checked": lambda seed: rewritten(seed, watched),
    "every one": lambda seed: rewritten(
        seed, lambda text: re.sub(r"(, every=2)?  #:every", ", every=1", text)
        if ", every=2" not in text else text),
    "on threads": on_threads,
    "in another order": in_another_order,
}


@pytest.mark.parametrize("seed", range(6))
def test_compiled_programs_keep_their_meaning(seed: int) -> None:
    held_against_meaning(seed, 1 + seed % 2)


@pytest.mark.parametrize("name", REWRITINGS)
def test_how_it_is_written_does_not_matter(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    REWRITINGS[name](20)


def test_the_programs_are_worth_their_time() -> None:
    """They have all that can be written, and all can be checked."""
    texts = [RandomText(seed).text for seed in range(30)]
    for word in ("scan", "while", "if", "for", "grad(", "minimize", "every=2", "reverse=true",
                 "recompute=true", "einsum", " @ ", "argsort", "set_at", "cumsum", "uniform(3",
                 "helper0(", "part.forward(", ":= "):
        assert sum(word in text for text in texts) > 2, word


TURN = """
    y = 0.5 * h + tanh(x @ w)
    h = y * y - sum(y)
    yield y + h as ys
"""
SPLIT = f"""
fn whole(a: f32[S, 3], b: f32[T, 3], w: f32[3, 3]) -> (f32[3], f32[S + T, 3], f32[3, 3]) {{
    scan x in concat((a, b), 0) carry h = zeros(3) {{{TURN}}}
    return h, ys, grad(sum(h) + sum(ys), w)
}}
fn parts(a: f32[S, 3], b: f32[T, 3], w: f32[3, 3]) -> (f32[3], f32[S + T, 3], f32[3, 3]) {{
    scan x in a carry h = zeros(3) {{{TURN.replace("ys", "first")}}}
    scan x in b carry h = h {{{TURN.replace("ys", "second")}}}
    ys = concat((first, second), 0)
    return h, ys, grad(sum(h) + sum(ys), w)
}}
"""


@pytest.mark.parametrize(("s", "t"), [(1, 1), (1, 6), (5, 2)])
def test_a_scan_is_two_scans(s: int, t: int) -> None:
    found = graphs(SPLIT, "")
    rng = np.random.default_rng(s)
    given = [rng.uniform(-0.5, 0.5, shape).astype(np.float32) for shape in ((s, 3), (t, 3), (3, 3))]
    agree(CompiledGraph(found["whole"]).run(given), CompiledGraph(found["parts"]).run(given), 1e-5)


def main(first: int, count: int) -> None:
    """Runs seeds, and says of each what went wrong."""
    ways = {"meaning": held_against_meaning,
            "two threads": lambda seed: held_against_meaning(seed, 2), **REWRITINGS}
    for seed in range(first, first + count):
        for name, way in ways.items():
            try:
                way(seed)
            except Exception as error:
                said = " | ".join(str(error).split("\n"))[:600]
                sys.stderr.write(f"{seed}, {name}: {type(error).__name__}: {said}\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
