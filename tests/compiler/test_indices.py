"""Gathers, scatters, sorts and running sums as machine code, against their meaning."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import dlc
from dlc.compiler.passes.differentiate import differentiate
from dlc.compiler.pipeline import dump_graph
from dlc.ir.check_kernel import check_kernel
from dlc.ir.check_schedule import check_schedule
from dlc.ir.dims import symbol
from dlc.ir.parse import parse_graph
from dlc.ir.program_text import parse_program, print_program
from dlc.ir.scalar import Array
from dlc.ir.types import DTYPES
from dlc.runtime import CheckFailed
from tests.compiler.compiled import CompiledGraph
from tests.compiler.loops_machine import run_program
from tests.compiler.test_kernels import schedule
from tests.ir.test_indices import KINDS, draw, sortable

EXAMPLES = Path(__file__).parents[2] / "examples"

N = symbol("N")


def compiled(text: str) -> CompiledGraph:
    return CompiledGraph(parse_graph(text))


@pytest.mark.parametrize("dtype", KINDS)
def test_every_dtype_with_every_size(dtype: str) -> None:
    add = "set" if dtype == "bool" else "add"
    f = compiled(f"""
graph f(%x: {dtype}[R, N], %u: {dtype}[R, M], %ids: i32[M], %rows: u8[M]) -> ({dtype}[R, M], \
{dtype}[M], {dtype}[R, N], {dtype}[R, N], {dtype}[R, N], i32[R, N]) {{
  %columns = gather %x, %ids {{axis = 1}} : {dtype}[R, M]
  %points = gather %x, %rows, %ids {{axis = 0}} : {dtype}[M]
  %put = scatter %x, %u, %ids {{axis = 1, mode = "set"}} : {dtype}[R, N]
  %added = scatter %x, %u, %ids {{axis = 1, mode = "{add}"}} : {dtype}[R, N]
  %back = flip %x {{axes = [1]}} : {dtype}[R, N]
  %order = argsort %x : i32[R, N]
  return %columns, %points, %put, %added, %back, %order
}}""")
    for rows in (1, 3):
        for n in (1, 2, 17, 300):
            m = 1 + n // 2
            ids = draw("i32", m, high=n)
            f.check([draw(dtype, rows, n, high=9), draw(dtype, rows, m, high=3), ids,
                     draw("u8", m, high=rows)])


@pytest.mark.parametrize("dtype", ["f32", "f64", "i32", "i64", "u8", "bool"])
def test_running_sums(dtype: str) -> None:
    to = {"u8": "i32", "bool": "i32"}.get(dtype, dtype)
    parts = [(axis, way) for axis in (0, 1, 2) for way in ("false", "true")]
    lines = [f"%c{k} = cumsum %x {{axis = {a}, reverse = {way}}} : {to}[N, 3, M]"
             for k, (a, way) in enumerate(parts)]
    kinds = ", ".join([f"{to}[N, 3, M]"] * 6)
    f = compiled(f"graph f(%x: {dtype}[N, 3, M]) -> ({kinds}) {{\n" + "\n".join(lines)
                 + "\nreturn %c0, %c1, %c2, %c3, %c4, %c5\n}")
    for n, m in ((1, 1), (2, 17), (40, 3)):
        x = draw(dtype, n, 3, m)
        f.check([x if dtype != "f32" else np.where(x > 40, -0.0, x - 3).astype("f4")])


@pytest.mark.parametrize("rows", [0, 2])
def test_nothing_at_all(rows: int) -> None:
    f = compiled(f"""
graph f(%x: f32[{rows}, 0], %t: f32[{rows}, 3], %ids: i32[0]) -> (i32[{rows}, 0], f32[{rows}, 0], \
f32[{rows}, 0], f32[{rows}, 3], f32[{rows}, 0]) {{
  %order = argsort %x : i32[{rows}, 0]
  %sum = cumsum %x {{axis = 1, reverse = false}} : f32[{rows}, 0]
  %none = gather %t, %ids {{axis = 1}} : f32[{rows}, 0]
  %same = scatter %t, %none, %ids {{axis = 1, mode = "add"}} : f32[{rows}, 3]
  %back = flip %x {{axes = [0, 1]}} : f32[{rows}, 0]
  return %order, %sum, %none, %same, %back
}}""")
    f.check([np.zeros((rows, 0), "f4"), draw("f32", rows, 3), np.zeros(0, "i4")])


@pytest.mark.parametrize("dtype", KINDS)
def test_sorts_of_special_numbers(dtype: str) -> None:
    f = compiled(f"graph f(%x: {dtype}[R, N]) -> (i32[R, N]) {{\n"
                 f"%order = argsort %x : i32[R, N]\nreturn %order\n}}")
    for n in (1, 2, 17, 300, 5000):
        f.check([np.stack(sortable(dtype, n))])


@pytest.mark.parametrize("dtype", ["f32", "i64"])
def test_large_sorts(dtype: str, split: Callable[[int], None]) -> None:
    f = compiled(f"graph f(%x: {dtype}[N]) -> (i32[N]) {{\n"
                 f"%order = argsort %x : i32[N]\nreturn %order\n}}")
    x = np.random.default_rng(0).standard_normal(100_000) * 1e6
    f.check([x.astype(DTYPES[dtype].numpy)])


FUSED = """
graph f(%t: f32[V, 8], %ids: i32[N], %w: f32[8, 5], %deep: i64[K], %pick: u8[N], %y: f32[N, 8]) \
-> (f32[N, 8], f32[N, 5], f32[N], f32[K, 8], f32[8, N], f32[N], f32[N, 10], f32[N, 8], f32[N], \
f32[8]) {
  %rows = gather %t, %ids {axis = 0} : f32[N, 8]
  %e = tanh %rows : f32[N, 8]
  %h = mul %e, %y : f32[N, 8]
  %p = contract %rows, %w {indices = ["n", "k", "o"], extents = [N, 8, 5], \
maps = [[n, k], [k, o]], out = [n, o], dims = [N, 5]} : f32[N, 5]
  %max = reduce_max %rows {axes = [1]} : f32[N]
  %between = gather %ids, %deep {axis = 0} : i32[K]
  %two = gather %t, %between {axis = 0} : f32[K, 8]
  %tt = transpose %t {order = [1, 0]} : f32[8, V]
  %columns = gather %tt, %ids {axis = 1} : f32[8, N]
  %at = iota {dtype = i32, dims = [N], axis = 0} : i32[N]
  %scores = tanh %y : f32[N, 8]
  %picked = gather %scores, %at, %pick {axis = 0} : f32[N]
  %padded = pad %rows {low = [0, 1], high = [0, 1], value = 2.0} : f32[N, 10]
  %one = constant {dtype = i32, value = 1} : i32
  %ones = broadcast %one {dims = [N], axes = []} : i32[N]
  %same = gather %t, %ones {axis = 0} : f32[N, 8]
  %first = gather %t, %ids, %ones {axis = 0} : f32[N]
  %exp = exp %first : f32[N]
  %total = contract %rows {indices = ["n", "k"], extents = [N, 8], maps = [[n, k]], out = [k], \
dims = [8]} : f32[8]
  return %h, %p, %max, %two, %columns, %picked, %padded, %same, %exp, %total
}"""


def fused_inputs(n: int, seed: int) -> list[Array]:
    rng = np.random.default_rng(seed)
    table, w, y = (rng.standard_normal(s).astype("f4") for s in ((7, 8), (8, 5), (n, 8)))
    ids, deep = draw("i32", n, high=7, seed=seed), draw("i64", 4, high=n, seed=seed)
    return [table, ids, w, deep, draw("u8", n, high=8, seed=seed), y]


def test_gathers_where_they_are_read() -> None:
    f = compiled(FUSED)
    for n in (1, 2, 17, 300):
        f.check(fused_inputs(n, n), rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("lanes", [4, 16])
def test_lanes_past_the_end_touch_no_memory(lanes: int) -> None:
    """The machine of the tests checks every access."""
    graph = parse_graph(FUSED)
    program = schedule(graph, lanes)
    for n in (1, 5, 17):
        inputs = fused_inputs(n, n)
        found = run_program(program, {
            v.name: x for v, x in zip(graph.inputs, inputs, strict=True)})
        expected = np.tanh(inputs[0][inputs[1]]) * inputs[5]
        np.testing.assert_allclose(found["h"], expected, rtol=1e-4, atol=1e-5)


def test_it_is_read_and_not_stored() -> None:
    text = dump_graph(parse_graph("""
graph f(%t: f32[V, 8], %ids: i32[N], %y: f32[N, 8]) -> (f32[N, 8]) {
  %rows = gather %t, %ids {axis = 0} : f32[N, 8]
  %h = mul %rows, %y : f32[N, 8]
  return %h
}"""), "kernels")
    assert text.count("kernel ") == 1
    assert "p1[p0[i0], i1]" in text


GRADIENTS = """
graph f(%table: f64[V, 6], %base: f64[V, 6], %ids: i32[N, 2], %u: f64[N, 2, 6], %r: f64[V, 6]) \
-> (f64, f64[V, 6], f64[V, 6], f64[N, 2, 6]) {
  %rows = gather %table, %ids {axis = 0} : f64[N, 2, 6]
  %product = mul %rows, %u : f64[N, 2, 6]
  %added = scatter %base, %product, %ids {axis = 0, mode = "add"} : f64[V, 6]
  %sums = cumsum %added {axis = 0, reverse = false} : f64[V, 6]
  %put = scatter %sums, %rows, %ids {axis = 0, mode = "set"} : f64[V, 6]
  %back = flip %put {axes = [1]} : f64[V, 6]
  %e = tanh %back : f64[V, 6]
  %order = argsort %e : i32[V, 6]
  %at = iota {dtype = i32, dims = [V, 6], axis = 0} : i32[V, 6]
  %sorted = gather %e, %at, %order {axis = 0} : f64[V, 6]
  %weighted = mul %sorted, %r : f64[V, 6]
  %loss = contract %weighted {indices = ["v", "k"], extents = [V, 6], maps = [[v, k]], out = [], \
dims = []} : f64
  %dt, %db, %du = gradient %loss, %table, %base, %u : f64[V, 6], f64[V, 6], f64[N, 2, 6]
  return %loss, %dt, %db, %du
}"""


@pytest.mark.parametrize(("n", "v"), [(1, 1), (5, 3), (40, 17)])
def test_gradients_along_a_random_direction(n: int, v: int) -> None:
    f = compiled(GRADIENTS)
    rng = np.random.default_rng(0)
    table, base, r = (rng.standard_normal((v, 6)) for _ in range(3))
    ids, u = draw("i32", n, 2, high=v), rng.standard_normal((n, 2, 6))
    f.check([table, base, ids, u, r], rtol=1e-12, atol=1e-12)
    way = [rng.standard_normal(x.shape) for x in (table, base, u)]

    def along(step: float) -> float:
        moved = [x + step * d for x, d in zip((table, base, u), way, strict=True)]
        return float(f.run([moved[0], moved[1], ids, moved[2], r])[0])

    _, *gradients = f.run([table, base, ids, u, r])
    slope = (along(1e-6) - along(-1e-6)) / 2e-6
    found = sum(float(np.sum(a * b)) for a, b in zip(gradients, way, strict=True))
    assert found == pytest.approx(slope, rel=1e-5, abs=1e-6)


def test_the_same_bits_for_any_threads(split: Callable[[int], None]) -> None:
    f = compiled("""
graph f(%t: f32[V, 40], %ids: i32[N], %u: f32[N, 40], %flat: f32[N]) \
-> (f32[V, 40], f32[V], f32[V, 40], i32[40, V]) {
  %a = scatter %t, %u, %ids {axis = 0, mode = "add"} : f32[V, 40]
  %zero = constant {dtype = f32, value = 0.0} : f32
  %zeros = broadcast %zero {dims = [V], axes = []} : f32[V]
  %b = scatter %zeros, %flat, %ids {axis = 0, mode = "add"} : f32[V]
  %c = cumsum %a {axis = 0, reverse = true} : f32[V, 40]
  %turned = transpose %a {order = [1, 0]} : f32[40, V]
  %order = argsort %turned : i32[40, V]
  return %a, %b, %c, %order
}""")
    rng = np.random.default_rng(0)
    given = [rng.standard_normal((50, 40)).astype("f4"), draw("i32", 3000, high=50),
             rng.standard_normal((3000, 40)).astype("f4"), rng.standard_normal(3000).astype("f4")]
    found = []
    for threads in (1, 2, 3):
        split(threads)
        found.append([x.tobytes() for x in f.run(given)])
    assert found[0] == found[1] == found[2]
    f.check(given)


def launches(text: str) -> int:
    """The number of launches in a program's text."""
    program = dump_graph(parse_graph(text), "lower")
    return sum(line.lstrip().startswith("launch ") for line in program.splitlines())


SCATTER = 'scatter {}, %u, %ids {{axis = 0, mode = "{}"}} : f32[V, 8]'


@pytest.mark.parametrize("mode", ["add", "set"])
def test_a_variable_is_changed_in_place(mode: str) -> None:
    text = f"""
graph f(%u: f32[N, 8], %ids: i32[N], %t: f32[V, 8] var) -> () {{
  %new = {SCATTER.format("%t", mode)}
  return
  update "t" = %new
}}"""
    assert launches(text) == 1


def test_zeros_are_written_once_and_a_base_that_is_not_needed_is_not_copied() -> None:
    text = f"""
graph f(%u: f32[N, 8], %ids: i32[N], %t: f32[V, 8]) -> (f32[V, 8], f32[V, 8]) {{
  %zero = constant {{dtype = f32, value = 0.0}} : f32
  %zeros = broadcast %zero {{dims = [V, 8], axes = []}} : f32[V, 8]
  %a = {SCATTER.format("%zeros", "add")}
  %n = tanh %t : f32[V, 8]
  %b = {SCATTER.format("%n", "add")}
  %c = {SCATTER.format("%b", "set")}
  %d = exp %c : f32[V, 8]
  return %a, %d
}}"""
    assert launches(text) == 6  # zeros, a; n, b, c, d


def test_a_base_that_is_read_again_is_kept() -> None:
    f = compiled(f"""
graph f(%u: f32[N, 8], %ids: i32[N], %t: f32[V, 8], %v: f32[V, 8] var) \
-> (f32[V, 8], f32[V, 8], f32[V, 8]) {{
  %n = tanh %t : f32[V, 8]
  %a = {SCATTER.format("%n", "add")}
  %b = {SCATTER.format("%n", "set")}
  %c = add %n, %b : f32[V, 8]
  %self = gather %n, %ids {{axis = 0}} : f32[N, 8]
  %d = scatter %n, %self, %ids {{axis = 0, mode = "add"}} : f32[V, 8]
  %new = {SCATTER.format("%v", "add")}
  return %a, %c, %d
  update "v" = %new
}}""".replace("V,", "5,"))
    for n in (1, 40):
        f.check([draw("f32", n, 8), draw("i32", n, high=5), draw("f32", 5, 8), draw("f32", 5, 8)],
                rtol=1e-6)


def test_no_gather_runs_before_its_check() -> None:
    """The index is so far out of range that a read there would end the process."""
    f = compiled("""
graph f(%x: f32[N], %ids: i64[M], %y: f32[M]) -> (f32[M], f32[M], f32[N]) {
  %early = exp %y : f32[M]
  %least = reduce_max %ids {axes = [0]} : i64
  %extent = dim {dtype = i64, value = N} : i64
  %fine = lt %least, %extent : bool
  check %fine, %least {text = "index {value} is out of range"}
  %rows = gather %x, %ids {axis = 0} : f32[M]
  %late = mul %early, %rows : f32[M]
  %new = scatter %x, %rows, %ids {axis = 0, mode = "add"} : f32[N]
  return %early, %late, %new
}""")
    x, y = draw("f32", 5), draw("f32", 3, high=2)
    f.check([x, np.array([0, 4, 4]), y], rtol=1e-6)
    with pytest.raises(CheckFailed, match="out of range"):
        f.run([x, np.array([0, 2**40, 4]), y])


def test_no_step_that_goes_by_data_leaves_its_check() -> None:
    """Word vectors, whose gathers and scatters would free memory if they came first: every index
    that is out of range is told, and nothing of it is read or written."""
    model = dlc.load(EXAMPLES / "word2vec.dl").SkipGram(words=60, size=20, seed=0)
    rng = np.random.default_rng(0)
    given = {name: rng.integers(0, 60, shape).astype(np.int32)
             for name, shape in (("centre", 9), ("context", 9), ("noise", (9, 5)))}
    model.fit(**given)
    before = {name: np.array(model.variables[name]) for name in model.variables}
    for name, ids in given.items():
        for wrong in (2**30, -(2**30), 60):
            for count in (9, 2):  # by the code for many, and by that for few
                broken = {n: each[:count].copy() for n, each in given.items()}
                broken[name][(1,) * ids.ndim] = wrong
                with pytest.raises(dlc.RunError, match="out of range"):
                    model.fit(**broken)
    for name, value in before.items():
        np.testing.assert_array_equal(model.variables[name], value)


def test_floats_are_sorted_by_value_and_not_by_comparisons_that_flush() -> None:
    f = compiled("graph f(%x: f32[N]) -> (i32[N]) {\n%o = argsort %x : i32[N]\nreturn %o\n}")
    tiny = np.array([3e-45, -1e-45, 1e-45, 0.0, -3e-45, -0.0], np.float32)
    np.testing.assert_array_equal(f.run([tiny])[0], [4, 1, 3, 5, 2, 0])




@pytest.mark.parametrize("text", [FUSED, GRADIENTS], ids=["fused", "gradients"])
def test_the_programs_are_read_back(text: str) -> None:
    program = schedule(differentiate(parse_graph(text)))
    assert parse_program(print_program(program)) == program
    for kernel in program.kernels:
        check_kernel(kernel)
    for name, chosen in program.schedules:
        check_schedule(next(k for k in program.kernels if k.name == name), chosen)
