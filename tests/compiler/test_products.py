"""Products and convolutions of sizes at which operands are copied into panels and sums lie in
memory: held against the interpreter, at sizes that are primes, with sizes that are symbols."""

from __future__ import annotations

import numpy as np
import pytest

from dlc.compiler.llvm.target import host
from dlc.compiler.options import Options
from dlc.compiler.passes.choose_schedules import Chooser
from dlc.compiler.pipeline import dump_graph
from dlc.ir.dims import Dim, evaluate, symbol
from dlc.ir.dims_text import parse_dim
from dlc.ir.graph import Builder, Graph, Param, Value
from dlc.ir.kernel_text import parse_kernel
from dlc.ir.ops import OPS
from dlc.ir.ops.contract import conv_spec, spec
from dlc.ir.types import F32, F64, U8, DType, tensor
from tests.compiler.compiled import CompiledGraph

M, K, N = map(symbol, "MKN")
FORMS = {"nn": ("mk", "kn"), "nt": ("mk", "nk"), "tn": ("km", "kn"), "tt": ("km", "nk")}


def product(
    form: str, m: Dim, k: Dim, n: Dim, dtype: DType = F32, other: DType = F32
) -> Graph:
    """A product whose operands are stored as `form` says, with an epilogue."""
    extents = {"m": m, "k": k, "n": n}
    maps = tuple(tuple(map(symbol, at)) for at in FORMS[form])
    b = Builder(["x", "y"])
    x, y = (Value(name, tensor(other if name == "y" else dtype, tuple(extents[e] for e in at)))
            for name, at in zip("xy", FORMS[form], strict=True))
    left = b.op("cast", x, to=other) if dtype is not other else x
    made = b.op("contract", left, y, **spec(
        extents, maps, (symbol("m"), symbol("n")), (m, n)))  # type: ignore[arg-type]
    result = b.op("tanh", b.op("mul", made, made))
    return Graph("f", (Param(x, "in"), Param(y, "in")), tuple(b.nodes), (result,))


def arrays(made: Graph, sizes: dict[str, int], seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = [[evaluate(d, sizes) for d in p.value.dims] for p in made.params]
    return [rng.integers(0, 5, shape).astype(np.uint8) if p.value.dtype is U8
            else rng.standard_normal(shape).astype(np.float32)  # type: ignore[arg-type]
            for p, shape in zip(made.params, shapes, strict=True)]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("m", "k", "n"), [
    (53, 67, 71), (1, 37, 131), (97, 1, 64), (101, 40, 3), (48, 1200, 33), (17, 16, 16)])
@pytest.mark.parametrize("symbols", [False, True])
def test_products(form: str, m: int, k: int, n: int, symbols: bool) -> None:
    made = product(form, M, K, N) if symbols else product(form, m, k, n)
    CompiledGraph(made).check(arrays(made, {"M": m, "K": k, "N": n}), rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize(("m", "k"), [(1601, 33), (400, 1100), (577, 64), (1, 1030)])
@pytest.mark.parametrize("n", [15, 16, 33, 49, 64, 65, 111, 130])
def test_edges_of_blocks(m: int, k: int, n: int) -> None:
    """Symbols for sizes: rows in several blocks, tiles with one vector inside, or two, or three."""
    CompiledGraph(EDGES).check(arrays(EDGES, {"M": m, "K": k, "N": n}), rtol=5e-4, atol=5e-4)


EDGES = product("nn", M, K, N)


@pytest.mark.skipif(not host().has("avx2"), reason="no code of AVX2 runs here")
@pytest.mark.parametrize("features", ["", "+fma"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("m", "k", "n"), [(53, 67, 71), (7, 1200, 3), (1, 37, 131)])
@pytest.mark.parametrize("symbols", [False, True])
def test_products_with_short_vectors(
    form: str, m: int, k: int, n: int, symbols: bool, features: str
) -> None:
    """With AVX2, and with vectors of 16 bytes and no masks."""
    made = product(form, M, K, N) if symbols else product(form, m, k, n)
    compiled = CompiledGraph(made, Options(target="haswell", features=features))
    compiled.check(arrays(made, {"M": m, "K": k, "N": n}), rtol=2e-4, atol=2e-4)


def test_rows_of_symbols_make_even_blocks() -> None:
    """Few, each of which copies a panel; an even number of turns where there are few columns."""
    text = dump_graph(EDGES, "kernels", Options(target="x86-64-v4"))
    line = next(x for x in text.splitlines() if x.startswith("  blocks "))
    blocks = parse_dim(line.removeprefix("  blocks "))
    found = [evaluate(blocks, {"M": m, "N": n}) for m, n in [
        (64, 64), (512, 512), (1024, 1024), (4096, 4096), (512, 320), (4096, 64), (1024, 64)]]
    assert found == [1, 1, 1, 3, 2, 8, 4]


@pytest.mark.parametrize(("columns", "turns"), [(512, 8), (384, 8), (192, 4)])
def test_columns_come_out_even_for_threads(columns: int, turns: int) -> None:
    """Where they alone are shared out: tiles of three vectors would make eleven turns of 512."""
    text = dump_graph(product("nn", M, 784, columns), "kernels", Options(
        target="x86-64-v4", hints={"M": 64}))
    line = next(x for x in text.splitlines() if x.startswith("  chunks "))
    chunks = parse_dim(line.removeprefix("  chunks "))
    assert evaluate(chunks, {"M": 64}) == turns


@pytest.mark.parametrize(("k", "n"), [(7, 256), (300, 257), (33, 511), (65, 1024), (1, 15)])
def test_a_row_times_a_matrix_has_no_masks_in_whole_vectors(k: int, n: int) -> None:
    made = product("nn", 1, K, N)
    CompiledGraph(made).check(arrays(made, {"K": k, "N": n}), rtol=2e-4, atol=2e-4)
    loops = dump_graph(made, "loops", Options(target="x86-64-v4"))
    several, one = loops.split("for k0.b = 0 to ")[1].split("for k0.t = ")
    for turn, rows in ((several, 8), (one, 1)):
        whole, ragged = (part.split("}", 1)[0] for part in turn.split("for i1.s = ")[1:3])
        assert whole.count("fma") == ragged.count("fma") == rows
        assert "where" not in whole
        assert "where" in ragged


@pytest.mark.parametrize("n", [1, 15, 64, 65, 128, 129, 255, 256, 257, 600])
def test_what_is_left_of_rows_is_a_tile_that_fits(n: int) -> None:
    """Rows of a batch, each times a matrix whose width is a symbol: if it is small, no vectors are
    computed for nothing."""
    size = symbol("B")
    b = Builder(["x", "y"])
    x, y = Value("x", tensor(F32, (size, 37))), Value("y", tensor(F32, (size, 37, N)))
    dims = dict(zip("bkn", (size, 37, N), strict=True))
    maps = tuple(tuple(map(symbol, at)) for at in ("bk", "bkn"))
    z = b.op("contract", x, y, **spec(dims, maps, (symbol("b"), symbol("n")), (size, N)))  # type: ignore[arg-type]
    made = Graph("f", (Param(x, "in"), Param(y, "in")), tuple(b.nodes), (z,))
    CompiledGraph(made).check(arrays(made, {"B": 3, "N": n}), rtol=2e-4, atol=2e-4)
    loops = dump_graph(made, "loops", Options(target="x86-64-v4"))
    parts = [part.count("fma") for part in loops.split("  if ")[1:]]
    assert [count for count in parts if count] == [16, 4, 8, 16]


@pytest.mark.parametrize("k", [511, 512, 513, 1025])
def test_sums_go_over_panels(k: int) -> None:
    """With a symbol for the depth: in one panel, or in several, the last of them ragged."""
    made = product("nn", 50, K, 70)
    CompiledGraph(made).check(arrays(made, {"K": k}), rtol=2e-4, atol=2e-4)


def test_what_is_cast_is_copied_as_it_is() -> None:
    made = product("nn", M, 90, 70, U8)
    CompiledGraph(made).check(arrays(made, {"M": 61}), rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("form", ["nn", "nt"])
def test_panels_are_chosen(form: str) -> None:
    """The cases above are what they are meant for."""
    text = dump_graph(product(form, 128, 256, 256), "kernels", Options(target="x86-64-v4"))
    assert "panel p1" in text


@pytest.mark.parametrize("rows", [17, 64, 100])
def test_an_operand_that_lies_across_is_turned_for_any_number_of_rows(rows: int) -> None:
    """Fewer tiles of rows than of columns, as many, or more: lanes are not gathered."""
    made = product("nt", M, 256, 64)
    text = dump_graph(made, "kernels", Options(target="x86-64-v4", hints={"M": rows}))
    assert "panel p1" in text
    CompiledGraph(made, Options(hints={"M": rows})).check(
        arrays(made, {"M": rows}), rtol=2e-4, atol=2e-4)


def test_one_buffer_may_be_both_operands() -> None:
    b = Builder(["x"])
    x = Value("x", tensor(F32, (M, 40)))
    made = b.op("contract", x, x, **spec(
        {"m": M, "n": M, "k": 40}, ((symbol("m"), symbol("k")), (symbol("n"), symbol("k"))),
        (symbol("m"), symbol("n")), (M, M)))
    graph = Graph("f", (Param(x, "in"),), tuple(b.nodes), (made,))
    CompiledGraph(graph).check(arrays(graph, {"M": 77}), rtol=2e-4, atol=2e-4)


def convolution(n: Dim, channels: int, maps: int, size: int, **settings: int) -> Graph:
    """A convolution of 3x3 and its gradients with respect to both operands."""
    b = Builder("xwg")
    x = Value("x", tensor(F32, (n, channels, size, size + 3)))
    w = Value("w", tensor(F32, (maps, channels // settings.get("groups", 1), 3, 3)))
    y = b.op("contract", x, w, **conv_spec(x.dims, w.dims, **settings))
    g = Value("g", y.type)
    dx, dw = OPS["contract"].vjp(b, b.nodes[0], (g,))  # type: ignore[operator]
    params = tuple(Param(v, "in") for v in (x, w, g))
    return Graph("f", params, tuple(b.nodes), (y, dx, dw))


@pytest.mark.parametrize("settings", [
    {"padding": 1}, {"padding": 1, "groups": 12}, {"stride": 2, "padding": 1}, {"padding": 2},
    {"stride": 2, "padding": 1, "groups": 12}])
@pytest.mark.parametrize("n", [1, 5, 18])
@pytest.mark.parametrize("hint", [1, 64])
def test_convolutions(settings: dict[str, int], n: int, hint: int) -> None:
    """With the batch in the lanes, and in rows."""
    made = convolution(N, 12, 24, 18, **settings)
    compiled = CompiledGraph(made, Options(verify=True, hints={"N": hint}))
    compiled.check(arrays(made, {"N": n}), rtol=1e-3, atol=2e-3)


@pytest.mark.skipif(not host().has("avx2"), reason="no code of AVX2 runs here")
@pytest.mark.parametrize("features", ["", "+fma"])
@pytest.mark.parametrize("settings", [{"padding": 1}, {"stride": 2, "padding": 1}])
@pytest.mark.parametrize("n", [1, 5])
@pytest.mark.parametrize("hint", [1, 64])
def test_convolutions_with_short_vectors(
    settings: dict[str, int], n: int, hint: int, features: str
) -> None:
    made = convolution(N, 12, 24, 18, **settings)
    compiled = CompiledGraph(made, Options(
        target="haswell", features=features, hints={"N": hint}))
    compiled.check(arrays(made, {"N": n}), rtol=1e-3, atol=2e-3)


def test_pictures_of_unknown_width_may_be_small() -> None:
    """In groups: a vector or two along a picture, for several pictures."""
    dims = symbol("N"), 64, symbol("H"), symbol("W")
    x, w = Value("x", tensor(F32, dims)), Value("w", tensor(F32, (64, 16, 3, 3)))
    b = Builder("xw")
    y = b.op("contract", x, w, **conv_spec(x.dims, w.dims, padding=1, groups=4))
    made = Graph("f", (Param(x, "in"), Param(w, "in")), tuple(b.nodes), (y,))
    text = dump_graph(made, "kernels", Options(target="x86-64-v4"))
    assert "  tiles i0 8, i3 2\n" in text


@pytest.mark.parametrize("width", [32, 64])
def test_a_window_is_shared_by_as_many_maps_as_registers_hold(width: int) -> None:
    """Vectors along a picture begin anywhere: few of them, each for many maps, are best."""
    x, w = Value("x", tensor(F32, (32, 32, 28, width))), Value("w", tensor(F32, (32, 32, 3, 3)))
    b = Builder("xw")
    y = b.op("contract", x, w, **conv_spec(x.dims, w.dims, padding=1))
    made = Graph("f", (Param(x, "in"), Param(w, "in")), tuple(b.nodes), (y,))
    text = dump_graph(made, "kernels", Options(target="x86-64-v4"))
    assert "  vector i3 16\n  tiles i1 16\n" in text


DEPTHWISE = """
kernel back<N>(p0: f32[N, 64, 16, 16] @ (0/16, 2, 3, 1, 0) in, p1: f32[64, 1, 3, 3] in,
    p2: f32[N, 64, 32, 32] @ (0/16, 2, 3, 1, 0) out) {
  local acc: f32
  outer i0<N, i1<64, i2<32, i3<32
  acc = sum i2 // 2 <= k0 < min(((i2 + 1) // 2) + 1, 16),
      i3 // 2 <= k1 < min(((i3 + 1) // 2) + 1, 16):
      mul(p0[i0, i1, k0, k1], p1[i1, 0, i2 - 2*k0 + 1, i3 - 2*k1 + 1])
  p2[i0, i1, i2, i3] = acc
}
""", """
kernel weights<N>(p0: f32[N, 64, 16, 16] @ (0/16, 2, 3, 1, 0) in,
    p1: f32[N, 64, 32, 32] @ (0/16, 2, 3, 1, 0) in, p2: f32[64, 1, 3, 3] out) {
  local acc: f32
  outer i1<64, i3<3, i4<3
  acc = sum k0<N, ((-i3) // 2) + 1 <= k1 < 16, ((-i4) // 2) + 1 <= k2 < 16:
      mul(p0[k0, i1, k1, k2], p1[k0, i1, i3 + 2*k1 - 1, i4 + 2*k2 - 1])
  p2[i1, 0, i3, i4] = acc
}
"""


@pytest.mark.parametrize("text", DEPTHWISE)
def test_channels_that_lie_side_by_side_are_taken_together(text: str) -> None:
    """With the batch in the lanes neighbours in memory are channels: they come innermost, or in one
    tile, though no operand is shared by them, and the places of one are bounds of another."""
    schedule = Chooser(parse_kernel(text), {"N": 64}, Options()).choose()
    assert schedule.order[-1] == "i1"
    assert schedule.vector in ("i0", "k0")
    assert schedule.vector == "i0" or schedule.tile("i1") > 4


@pytest.mark.parametrize(("row", "rows"), [("K", 8), ("2048", 8), ("512", 16), ("2064", 16)])
def test_no_more_rows_together_than_a_cache_keeps_lines_of(row: str, rows: int) -> None:
    """Of rows that are whole pages apart it keeps eight; of those half a page apart, twice as many.
    """
    symbols = "K, M" if row == "K" else "M"
    kernel = parse_kernel(f"""
kernel f<{symbols}>(x: f32[M, {row}] in, y: f32[{row}] in, z: f32[M] out) {{
  local acc: f32
  outer i<M
  acc = sum k<{row}: mul(x[i, k], y[k])
  z[i] = acc
}}""")
    schedule = Chooser(kernel, {"M": 64, "K": 64}, Options()).choose()
    assert (schedule.vector, schedule.tile("i")) == ("k", rows)


def test_sums_of_weights_lie_in_memory_between_rows() -> None:
    text = dump_graph(convolution(N, 32, 20, 30, padding=1), "kernels",
                      Options(target="x86-64-v4"))
    assert "outside" in text
    assert "else 0.0" in text  # what is seldom outside is read as 0 there


@pytest.mark.parametrize("n", [1, 17, 40])
def test_what_tiles_of_a_block_share_is_copied(n: int) -> None:
    """With the batch in the lanes: a row of what is multiplied with all channels."""
    made = convolution(N, 13, 20, 17, padding=1)
    options = Options(verify=True, hints={"N": 64})
    made_for = Options(target="x86-64-v4", hints={"N": 64})
    schedule = dump_graph(made, "kernels", made_for).rpartition("\nschedule ")[2]
    assert "reduce k0, k1, k2\n" in schedule
    assert "outside 2\n  panel p0 32" in schedule  # 20 places in a row: two vectors
    CompiledGraph(made, options).check(arrays(made, {"N": n}), rtol=1e-3, atol=2e-3)


def test_rows_of_texts_are_rows() -> None:
    """Indices that always stand side by side become one."""
    b = Builder("xw")
    x, w = Value("x", tensor(F32, (N, K, 40))), Value("w", tensor(F32, (40, 24)))
    n, t, c, k = map(symbol, "ntck")
    made = b.op("contract", x, w, **spec(
        {"n": N, "t": K, "c": 24, "k": 40}, ((n, t, k), (k, c)), (n, t, c), (N, K, 24)))
    graph = Graph("f", (Param(x, "in"), Param(w, "in")), tuple(b.nodes), (made,))
    assert "p0: f32[K*N, 40] in" in dump_graph(graph, "kernels", Options(hints={"N": 1}))
    CompiledGraph(graph).check(arrays(graph, {"N": 3, "K": 7}), rtol=1e-4, atol=1e-4)


def test_products_of_gathered_rows() -> None:
    """A product of a small table, and its gradients, which are sums of what its rows were for."""
    b = Builder(["table", "ids", "w"])
    table, w = Value("table", tensor(F32, (7, 24))), Value("w", tensor(F32, (24, 40)))
    ids = Value("ids", tensor(U8, (N, K)))
    t, n, j, k = map(symbol, "tnjk")
    rows = b.op("gather", table, ids, axis=0)
    made = b.op("contract", rows, w, **spec(
        {"t": N, "n": K, "j": 40, "k": 24}, ((t, n, k), (k, j)), (t, n, j), (N, K, 40)))
    loss = b.sum(b.op("tanh", made), (0, 1, 2))
    gradients = b.emit("gradient", loss, table, w)
    graph = Graph("f", tuple(Param(v, "in") for v in (table, ids, w)), tuple(b.nodes),
                  (made, *gradients))
    assert "contract %table, %w " in dump_graph(graph, "gather_products")
    CompiledGraph(graph).check(arrays(graph, {"N": 9, "K": 6}), rtol=1e-4, atol=1e-4)


def test_what_is_read_along_another_axis_keeps_its_bounds() -> None:
    """One operand may be read outside along its last axis; the other, at the same places along
    its first, may not."""
    n, u, s, c = map(symbol, "nusc")
    b = Builder("zxw")
    z, x = Value("z", tensor(F32, (40, 7))), Value("x", tensor(F32, (N, 40)))
    made = b.op("contract", z, x, **spec(
        {"n": N, "u": 40, "s": 3, "c": 7}, ((u + s - 1, c), (n, u + s - 1)), (n, u, c),
        (N, 40, 7)))
    graph = Graph("f", (Param(z, "in"), Param(x, "in")), tuple(b.nodes), (made,))
    for hint in (1, 64):
        compiled = CompiledGraph(graph, Options(verify=True, hints={"N": hint}))
        compiled.check(arrays(graph, {"N": 5}), rtol=1e-4, atol=1e-4)
    assert "<= k0 <" in dump_graph(graph, "kernels")  # bounds, which keep all reads inside


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("form", ["nn", "nt"])
def test_panels_fit_on_a_thread_s_stack(dtype: DType, form: str) -> None:
    """Whatever the tile: what a launch has on its stack stays far below what a thread has."""
    made = product(form, 64, 4096, 192, dtype, dtype)
    for line in dump_graph(made, "loops", Options(target="x86-64-v4")).splitlines():
        if line.strip().startswith("alloc panel"):
            count = int(line.split("[")[1].split("]")[0])
            assert count * dtype.size <= 256 * 1024


@pytest.mark.parametrize("n", [1, 19])
def test_depthwise_layers_with_the_batch_in_the_lanes(n: int) -> None:
    """Between other layers: forwards, and gradients by what comes in and by weights."""
    b = Builder("xwvu")
    x, w = Value("x", tensor(F32, (N, 3, 13, 13))), Value("w", tensor(F32, (16, 3, 3, 3)))
    v, u = Value("v", tensor(F32, (16, 1, 3, 3))), Value("u", tensor(F32, (24, 16, 1, 1)))
    y = b.op("tanh", b.op("contract", x, w, **conv_spec(x.dims, w.dims, padding=1)))
    z = b.op("contract", y, v, **conv_spec(y.dims, v.dims, stride=2, padding=1, groups=16))
    z = b.op("tanh", z)
    made = b.op("tanh", b.op("contract", z, u, **conv_spec(z.dims, u.dims)))
    loss = b.sum(made, (0, 1, 2, 3))
    gradients = b.emit("gradient", loss, w, v, u)
    graph = Graph("f", tuple(Param(a, "in") for a in (x, w, v, u)), tuple(b.nodes),
                  (loss, *gradients))
    options = Options(verify=True, hints={"N": 64})
    wide = Options(target="x86-64-v4", hints={"N": 64})
    assert "@ (0/16, 2, 3, 1, 0)" in dump_graph(graph, "kernels", wide)
    CompiledGraph(graph, options).check(arrays(graph, {"N": n}), rtol=1e-3, atol=2e-3)
