"""Loops and branches as machine code: for any number of turns they give what the Graph means."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dlc.compiler.options import Options
from dlc.compiler.passes.name_sizes import SUFFIX
from dlc.compiler.pipeline import STAGES, dump_graph, passes
from dlc.compiler.runner import run_passes
from dlc.ir.dims import evaluate
from dlc.ir.graph import Graph
from dlc.ir.interpret import run_graph
from dlc.ir.parse import parse_graph
from dlc.ir.program_text import parse_program, print_program
from dlc.ir.scalar import Array
from dlc.ir.text import print_graph
from dlc.ir.verify import verify
from dlc.runtime import ArgumentError, CheckFailed, pool
from tests.compiler.compiled import CompiledGraph
from tests.compiler.loops_machine import run_program

TEXT = (Path(__file__).parent / "control_examples.txt").read_text()
EXAMPLES = dict(case.strip("/ \n").split("\n", 1) for case in TEXT.split("// -----\n"))
"""Functions with loops and branches: each shows something that lowering must get right."""


def numbers(kind: type[object] | object, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Small whole numbers of an element type."""
    dtype = np.dtype(kind)  # type: ignore[call-overload]
    low, high = {"b": (0, 2), "u": (0, 9)}.get(dtype.kind, (-4, 5))
    return np.asarray(rng.integers(low, high, shape)).astype(dtype)


def inputs(graph: Graph, **sizes: int) -> list[Array]:
    """Inputs and variables for a function."""
    rng = np.random.default_rng(sum(sizes.values()))
    return [np.asarray(sizes[p.value.name]) if p.role == "size" else
            numbers(p.value.dtype.numpy, tuple(evaluate(d, sizes) for d in p.value.dims), rng)
            for p in graph.params]


@pytest.mark.parametrize("reverse", ["false", "true"])
@pytest.mark.parametrize("name", EXAMPLES)
def test_it_gives_what_the_graph_means(name: str, reverse: str) -> None:
    graph = parse_graph(EXAMPLES[name].replace("REVERSE", reverse))
    verify(graph)
    assert parse_graph(print_graph(graph)) == graph
    compiled = CompiledGraph(graph, Options(hints={"T": 3}, verify=True))
    for turns, size in ((1, 1), (2, 70), (3, 2), (7, 5)):
        sizes = {"T": turns, "N": size, "count": turns, "more": size}
        compiled.check(inputs(graph, **sizes), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("reverse", ["false", "true"])
def test_a_loop_of_no_turns_gives_what_it_began_with(reverse: str) -> None:
    graph = parse_graph(EXAMPLES["as many turns as the caller says"].replace("REVERSE", reverse))
    compiled = CompiledGraph(graph)
    given = inputs(graph, count=0, more=3)
    compiled.check(given)
    np.testing.assert_array_equal(compiled.run(given)[0], given[0])
    compiled.check(inputs(graph, count=0, more=0))


@pytest.mark.parametrize("name", EXAMPLES)
def test_no_step_leaves_its_memory(name: str) -> None:
    """A slow machine runs the loops, and sees to it that parts lie inside their wholes."""
    graph = parse_graph(EXAMPLES[name].replace("REVERSE", "true"))
    program = run_passes(passes(Options())[:-1], graph)
    sizes = {"T": 3, "N": 5, "count": 3, "more": 1}
    given = inputs(graph, **sizes)
    found = run_program(
        program, {p.value.name: x for p, x in zip(graph.params, given, strict=True)
                  if p.role != "size"}, backwards=True,
        **{name: sizes[name.removesuffix(SUFFIX)] for name in program.symbols})
    expected = run_graph(graph, given)
    outs = [b.name for b in program.buffers if b.kind == "out" and not b.alias_of]
    for place, right in zip((*outs, *(n for n, _ in graph.updates)), expected, strict=True):
        np.testing.assert_allclose(found[place], right, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", EXAMPLES)
def test_threads_do_not_change_the_bits(name: str) -> None:
    graph = parse_graph(EXAMPLES[name].replace("REVERSE", "false"))
    compiled = CompiledGraph(graph)
    given = inputs(graph, T=5, N=33, count=4, more=1)
    found = []
    for count in (1, 2, 3):
        pool.set_threads(count)
        pool.configure(serial_ns=0)
        try:
            found.append(compiled.run(given))
        finally:
            pool.configure()
            pool.set_threads(None)
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", EXAMPLES)
def test_all_stages_can_be_read(name: str) -> None:
    graph = parse_graph(EXAMPLES[name].replace("REVERSE", "false"))
    texts = {stage: dump_graph(graph, stage) for stage in STAGES}
    assert parse_graph(texts["graph"]) == graph
    for stage in ("kernels", "loops"):
        assert print_program(parse_program(texts[stage])) == texts[stage]
    assert "arena of f" in texts["memory"]


def test_sizes_are_whole_numbers_given_by_name_or_in_order() -> None:
    graph = parse_graph(EXAMPLES["as many turns as the caller says"].replace("REVERSE", "false"))
    call = CompiledGraph(graph).call
    assert repr(call).startswith("<function f(h: f32[3], count: int, w: f32[3, 3], more: int)")
    h, w = np.ones(3, np.float32), np.ones((3, 3), np.float32)
    by_name = call(h=h, w=w, count=np.int32(3))
    in_order = call(h, 3, w, 2)
    for a, b in zip(by_name, in_order, strict=True):
        np.testing.assert_array_equal(a, b)
    assert by_name[3].shape == (5, 3)  # the default of `more` is 2
    for wrong in (-1, 2.0, True, "3", 2**40, None):
        with pytest.raises(ArgumentError, match=r"f: argument `count` is .*, but it is a size: "
                                                r"a whole number from 0 to"):
            call(h, wrong, w)
    with pytest.raises(ArgumentError, match=r"missing argument `count` \(int\)"):
        call(h=h, w=w)


def test_a_size_and_the_shape_of_an_argument_must_agree() -> None:
    graph = parse_graph("""graph f(%x: f32[n], %n: i64 size) -> (f32[n]) {
      %y = neg %x : f32[n]
      return %y
    }""")
    call = CompiledGraph(graph).call
    np.testing.assert_array_equal(call(np.ones(3, np.float32), 3), -np.ones(3))
    assert call(np.ones(0, np.float32), 0).shape == (0,)
    with pytest.raises(ArgumentError, match=r"n is 4, but 3 in argument `x` \(f32\[3\]"):
        call(np.ones(3, np.float32), 4)


CHECKED = """
graph turn(%h: f32, %x: f32, %limit: f32) -> (f32) {
  %s = add %h, %x : f32
  %fits = lt %s, %limit : bool
  %n = cast %s {to = i64} : i64
  check %fits, %n {text = "a sum of {value} is below the limit"} @loc(net.dl:7:5)
  print %x, %s {parts = ["x is ", ", the sum is ", "."]}
  return %s
}
graph f(%xs: f32[T], %limit: f32, %w: f32[2] var) -> (f32) {
  %zero = constant {dtype = f32, value = 0.0} : f32
  print  {parts = ["begin"]}
  %s = scan %zero, %xs, %limit with turn {carried = 1, items = 1, length = T, reverse = false} : f32
  print %w, %s {parts = ["w: ", "; s: ", ""]}
  %ss = broadcast %s {dims = [2], axes = []} : f32[2]
  %v = add %w, %ss : f32[2]
  return %s
  update "w" = %v
}
"""


def test_a_check_that_fails_in_a_turn_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    graph = parse_graph(CHECKED)
    compiled = CompiledGraph(graph)
    w = np.array([1, 2], np.float32)
    compiled.variables.set("w", w)
    xs = np.array([1, 2, 3, 4], np.float32)
    with pytest.raises(CheckFailed, match=r"a sum of 6 is below the limit \(net.dl:7:5\)"):
        compiled.call(xs=xs, limit=5.0)
    np.testing.assert_array_equal(compiled.variables.get("w"), w)
    assert capsys.readouterr().out.splitlines() == [
        "begin", "x is 1.0, the sum is 1.0.", "x is 2.0, the sum is 3.0."]
    assert compiled.call(xs=xs, limit=50.0) == 10
    np.testing.assert_array_equal(compiled.variables.get("w"), w + 10)
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "x is 4.0, the sum is 10.0.", "w: [1. 2.]; s: 10.0"]


def test_what_is_printed_is_what_the_interpreter_prints(
    capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = ["f32[2, N]", "bf16[3]", "f16", "bool[2]", "u8", "i64[0]", "f64"]
    params = ", ".join(f"%x{k}: {kind}" for k, kind in enumerate(kinds))
    operands = ", ".join(f"%x{k}" for k in range(len(kinds)))
    parts = ", ".join(f'"|{k}|"' for k in range(len(kinds) + 1))
    graph = parse_graph(f"graph f({params}) -> (f64) {{\n  print {operands} "
                        f"{{parts = [{parts}]}}\n  return %x{len(kinds) - 1}\n}}")
    given = [np.asarray(x).astype(p.value.dtype.numpy) for x, p in zip(
        inputs(graph, N=3), graph.params, strict=True)]
    given[6] = np.asarray(1e-310)  # compiled code flushes such numbers, what prints must not
    run_graph(graph, given)
    expected = capsys.readouterr().out
    stored = [(x.view(np.uint32) >> 16).astype(np.uint16) if p.value.dtype.name == "bf16" else x
              for x, p in zip(given, graph.params, strict=True)]
    CompiledGraph(graph).run(stored)
    assert capsys.readouterr().out == expected


def test_an_exception_while_printing_ends_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = CompiledGraph(parse_graph(CHECKED))

    def interrupted(text: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("builtins.print", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compiled.call(xs=np.ones(2, np.float32), limit=5.0)
    monkeypatch.undo()
    np.testing.assert_array_equal(compiled.variables.get("w"), [0, 0])
    compiled.call(xs=np.ones(2, np.float32), limit=5.0)
    np.testing.assert_array_equal(compiled.variables.get("w"), [2, 2])


@pytest.mark.parametrize("watched", [True, False])
def test_loops_turn_often_with_and_without_a_watch(
    watched: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not watched:
        monkeypatch.setattr(pool, "watch_function", lambda: None)
    compiled = CompiledGraph(parse_graph(CHECKED))
    monkeypatch.setattr("builtins.print", lambda text: None)
    assert compiled.call(xs=np.ones(5000, np.float32), limit=1e6) == 5000
