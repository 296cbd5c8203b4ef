"""From a Graph to Loops: the loops of every kind of kernel compute what the Graph means."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest

from dlc.compiler.kernels.batches import batch_in_lanes
from dlc.compiler.options import Options
from dlc.compiler.passes.apply_schedules import apply_schedules
from dlc.compiler.passes.chain_products import chain_products
from dlc.compiler.passes.choose_layouts import choose_layouts
from dlc.compiler.passes.choose_schedules import choose_schedules
from dlc.compiler.passes.decompose import decompose
from dlc.compiler.passes.eliminate_dead import eliminate_dead
from dlc.compiler.passes.fuse import fuse
from dlc.compiler.passes.lower import lower
from dlc.compiler.passes.pack_inputs import pack_inputs
from dlc.compiler.passes.split_reductions import split_reductions
from dlc.ir.dims import evaluate, symbol
from dlc.ir.graph import Builder, Graph, Param, Value
from dlc.ir.interpret import run_graph
from dlc.ir.ops import OPS
from dlc.ir.ops.contract import conv_spec, matmul_spec, pool_spec
from dlc.ir.program import Launch, Program
from dlc.ir.scalar import Array
from dlc.ir.types import F32, F64, I32, I64, U8, DType, tensor
from tests.compiler.loops_machine import run_program

N = symbol("N")


def value(name: str, *dims: object, dtype: DType = F32) -> Value:
    return Value(name, tensor(dtype, tuple(dims)))  # type: ignore[arg-type]


def graph(b: Builder, inputs: list[Value], results: list[Value], variables: tuple[Value, ...] = (),
          updates: tuple[tuple[str, Value], ...] = ()) -> Graph:
    params = tuple(Param(v, "var" if v in variables else "in") for v in (*inputs, *variables))
    return Graph("f", params, tuple(b.nodes), tuple(results), updates)


def schedule(made: Graph, lanes: int = 16) -> Program:
    options = Options(lanes=lanes)
    made = decompose(eliminate_dead(made))
    made = eliminate_dead(chain_products(made, options))
    made = pack_inputs(split_reductions(made, options), options)
    fused = choose_layouts(fuse(made, options), options)
    program = choose_schedules(lower(fused, options), options)
    return apply_schedules(program)


def draw(made: Graph, n: int, seed: int = 0) -> list[Array]:
    rng = np.random.default_rng(seed)
    out: list[Array] = []
    for v in made.inputs:
        shape = [evaluate(d, {"N": n}) for d in v.dims]
        if v.dtype.is_float:
            out.append(rng.standard_normal(shape).astype(v.dtype.numpy))
        else:
            out.append(rng.integers(0, 10, shape).astype(v.dtype.numpy))
    return out


def check(made: Graph, n: int = 5, lanes: int = 16) -> Program:
    """Runs the Graph and its Loops, in both orders of chunks, on the same numbers."""
    arrays = draw(made, n)
    expected = run_graph(made, arrays)
    program = schedule(made, lanes)
    inputs = {v.name: a for v, a in zip(made.inputs, arrays, strict=True)}
    forth, back = (run_program(program, inputs, backwards=b) for b in (False, True))
    outs = [b.name for b in program.buffers if b.kind == "out" and not b.alias_of]
    for name, array in zip([*outs, *(u for u, _ in made.updates)], expected, strict=True):
        np.testing.assert_array_equal(forth[name], back[name])
        np.testing.assert_allclose(forth[name], array, rtol=2e-4, atol=2e-4)
    return program


def conv(n: object, x: tuple[int, ...], w: tuple[int, ...], **settings: int) -> Graph:
    """A convolution and its two gradients."""
    b = Builder("xwg")
    left, right = value("x", n, *x), value("w", *w)
    y = b.op("contract", left, right, **conv_spec(left.dims, right.dims, **settings))
    g = Value("g", y.type)
    dx, dw = OPS["contract"].vjp(b, b.nodes[0], (g,))  # type: ignore[operator]
    return graph(b, [left, right, g], [y, dx, dw])


CONVS = (
    ({}, 5), ({"stride": 2, "padding": 1}, 5), ({"padding": 1}, 3), ({"dilation": 2}, 2),
    ({"stride": 2, "dilation": 2}, 1), ({"stride": 3, "padding": 2}, 17), ({"padding": 2}, 33),
)


@pytest.mark.parametrize(("settings", "n"), CONVS)
def test_convolution_and_gradients(settings: dict[str, int], n: int) -> None:
    check(conv(N, (4, 9, 8), (6, 4, 3, 3), **settings), n)


def test_groups_and_one_dimension() -> None:
    check(conv(N, (4, 7, 8), (6, 2, 3, 3), groups=2), 2)
    check(conv(N, (3, 13), (5, 3, 4), stride=2), 6)


def test_convolution_without_a_symbolic_batch() -> None:
    check(conv(2, (3, 9, 20), (4, 3, 3, 3), padding=1), 1)


@pytest.mark.parametrize("lanes", [4, 8, 16])
@pytest.mark.parametrize(("m", "k", "n"), [(1, 1, 1), (7, 13, 17), (16, 32, 48), (3, 64, 5)])
def test_matrix_products(m: int, k: int, n: int, lanes: int) -> None:
    b = Builder("xy")
    x, y = value("x", m, k), value("y", k, n)
    z = b.op("contract", x, y, **matmul_spec(x.dims, y.dims))
    check(graph(b, [x, y], [b.op("tanh", z), z]), lanes=lanes)


def pooled() -> Graph:
    b = Builder("x")
    x = value("x", N, 3, 8, 6)
    y = b.op("tanh", x)
    p = b.op("contract", y, **pool_spec(y.dims, 2, 2))
    (back,) = OPS["contract"].vjp(b, b.nodes[-1], (p,))  # type: ignore[operator]
    assert back is not None
    return graph(b, [x], [p, b.op("mul", back, y)])


def test_pooling_and_its_gradient() -> None:
    check(pooled(), 18)


def test_the_gradient_of_pooling_is_only_read() -> None:
    fused = fuse(pooled(), Options())
    roots = [g.root.op for g in fused.groups if g.root]
    assert roots == ["contract"], "the backward one is no loop"


def test_needed_multiplications_only() -> None:
    """The gradient by a convolution's input does the multiplications of the forward pass."""
    from dlc.compiler.kernels.invert import invert

    made = conv(1, (2, 8, 8), (3, 2, 5, 5))
    inverse = invert(made.nodes[1], Options())
    count = 0
    for y in range(8):
        for x in range(8):
            env = {"i2": y, "i3": x}
            sides = [evaluate(o.high, env) - evaluate(o.low, env) for o in inverse.over]
            count += 2 * int(np.prod(sides))
    assert count == 3 * 2 * 4 * 4 * 5 * 5


def test_pad_of_a_computed_value_is_one_kernel() -> None:
    b = Builder("x")
    x = value("x", N, 5, 4, dtype=U8)
    y = b.cast(x, F32)
    y = b.op("sub", y, b.constant(0.1, y.type))
    y = b.op("pad", y, low=(0, 2, 1), high=(0, 2, 1), value=-0.5)
    y = b.reshape(y, (N, 1, 9, 6))
    program = check(graph(b, [x], [b.op("tanh", y)]), 3)
    assert len([s for s in program.steps if isinstance(s, Launch)]) == 1


@pytest.mark.parametrize("n", [1, 64, 65, 200])
def test_loss_and_argmax(n: int) -> None:
    b = Builder("xwl")
    x, w, label = value("x", N, 6), value("w", 6, 10), value("l", N, dtype=U8)
    scores = b.op("contract", x, w, **matmul_spec(x.dims, w.dims))
    log = b.op("log_softmax", scores, axis=1)
    place = b.op("iota", dtype=I32, dims=scores.dims, axis=1)
    hot = b.op("eq", b.broadcast(b.cast(label, I32), scores.dims, (0,)), place)
    total = b.sum(b.op("mul", log, b.cast(hot, F32)), (0, 1))
    loss = b.op("div", total, b.op("dim", dtype=F32, value=N))
    best = b.op("argmax", scores, axis=1)
    check(graph(b, [x, w, label], [loss, best, b.op("softmax", scores, axis=1)]), n)


def test_views_transposes_and_slices() -> None:
    b = Builder("xw")
    x, w = value("x", N, 4, 3, 3), value("w", 36, 7)
    t = b.op("tanh", x)
    y = b.reshape(t, (N, 36))
    s = b.op("contract", y, w, **matmul_spec(y.dims, w.dims))
    z = b.op("transpose", s, order=(1, 0))
    q = b.op("slice", z, start=(2, 0), step=(2, 1), dims=(2, N))
    check(graph(b, [x, w], [s, q, b.reshape(t, (N, 36)), x]), 19)


def optimizer() -> Graph:
    size = symbol("P")
    b = Builder("pgmt")
    p, g, m, t = value("p", size), value("g", size), value("m", size), value("t")
    turn = b.op("add", t, b.scalar(F32, 1.0))
    speed = b.op("add", m, g)
    step = b.op("mul", speed, b.broadcast(b.op("sqrt", turn), (size,)))
    results = (b.op("sub", p, step), speed, turn)
    return Graph("optimizer", tuple(map(Param, (p, g, m, t))), tuple(b.nodes), results)


def trained() -> Graph:
    callee = optimizer()
    names = ["w", "m", "t", "c", "mc", "tc"]
    b = Builder(["x", *names])
    x = value("x", N, 4)
    w, m, t, c, mc, tc = (value(n, *d) for n, d in zip(
        names, [(4, 3), (4, 3), (), (3,), (3,), ()], strict=True))
    y = b.op("contract", x, w, **matmul_spec(x.dims, w.dims))
    y = b.op("tanh", b.op("add", y, b.broadcast(c, y.dims)))
    gradients = OPS["contract"].vjp(b, b.nodes[0], (y,))[1], b.sum(y, (0,))  # type: ignore
    updates: list[tuple[str, Value]] = []
    for (p, s, n), g, count in zip(((w, m, t), (c, mc, tc)), gradients, (12, 3), strict=True):
        flat = [b.reshape(v, (count,)) for v in (p, g, s)]  # type: ignore[arg-type]
        out = b.emit("call", *flat, n, regions=(callee,))
        updates += [(p.name, b.reshape(out[0], p.dims)), (s.name, b.reshape(out[1], s.dims)),
                    (n.name, out[2])]
    return graph(b, [x], [b.sum(y, (0, 1))], (w, m, t, c, mc, tc), tuple(updates))


@pytest.mark.parametrize("n", [1, 37])
def test_training_step(n: int) -> None:
    program = check(trained(), n)
    launches = [s for s in program.steps if isinstance(s, Launch)]
    kernels = [s.kernel for s in launches]
    assert len([k for k in set(kernels) if kernels.count(k) == 2]) == 3, "both share kernels"
    assert not any(s.kernel.startswith("copy") for s in launches), "variables change in place"


def test_swapped_variables_are_not_overwritten_too_early() -> None:
    b = Builder(["a", "b"])
    left, right = value("a", 5), value("b", 5)
    one = b.op("add", left, b.constant(1.0, left.type))
    two = b.op("add", right, b.constant(2.0, right.type))
    check(graph(b, [], [b.op("mul", left, right)], (left, right), (("a", two), ("b", one))))


def test_values_are_stored_in_blocks_of_the_batch() -> None:
    program = schedule(conv(N, (8, 9, 8), (16, 8, 3, 3)))
    packed = program.buffer("x.packed")
    assert packed.layout.digits[0] == (0, 16)
    assert packed.layout.digits[-1] == (0, 1)


@pytest.mark.parametrize("dilation", [1, 4])
def test_rows_of_a_padded_convolution_lie_in_the_lanes(dilation: int) -> None:
    """Also where taps are apart: what lies outside is read as 0, and bounds no loop over them."""
    made = conv(2, (4, 5, 40), (6, 4, 3, 3), dilation=dilation, padding=dilation)
    schedules = dict(check(made).schedules)
    assert [schedules[f"contract_{at}"].vector for at in range(2)] == ["i3", "i3"]


@pytest.mark.parametrize(("width", "batch"), [(40, "N"), (63, None)])
def test_a_batch_lies_in_the_lanes_where_that_pays(width: int, batch: str | None) -> None:
    """Of 63 columns vectors are full as well: then rows are as good for batches of any size."""
    b = Builder("xw")
    x, w = value("x", N, 7, 64), value("w", 64, width)
    y = b.op("contract", b.op("tanh", x), w, **matmul_spec(x.dims, w.dims))
    made = graph(b, [x, w], [b.sum(b.op("tanh", y), (0, 1, 2))])
    assert batch_in_lanes(made.nodes, Options()) == batch


@pytest.mark.parametrize(("dtype", "each"), [(F32, 1), (F64, 2)])
def test_the_sums_of_a_tile_fit_into_registers(dtype: DType, each: int) -> None:
    """A vector of f64 fills two."""
    b = Builder("xw")
    x, w = value("x", 96, 96, dtype=dtype), value("w", 96, 96, dtype=dtype)
    y = b.op("contract", x, w, **matmul_spec(x.dims, w.dims))
    (tiled,) = (made.tiles for _, made in schedule(graph(b, [x, w], [y])).schedules)
    assert Options().registers // 2 <= prod(t.size for t in tiled) * each < Options().registers


def test_long_rows_and_their_gradients_stay_in_rows() -> None:
    """Of a stride, the gradient for what is read goes over windows: lanes serve it better."""
    long, strided = (conv(N, (64, 512), (64, 64, 4), **settings)
                     for settings in ({"dilation": 4, "padding": 6}, {"stride": 2, "padding": 1}))
    assert batch_in_lanes(long.nodes, Options()) is None
    assert batch_in_lanes(strided.nodes, Options()) == "N"


def test_a_tile_of_a_batch_is_one_block() -> None:
    """Of 16 pictures a tile's second vector would be computed for nothing."""
    program = schedule(conv(N, (16, 28, 28), (32, 16, 4, 4), stride=2, padding=1))
    schedules = dict(program.schedules)
    tiled = [schedules[k.name].tiles for k in program.kernels
             if any(i.name == schedules[k.name].vector and i.high is N for i in k.outer)]
    assert sum(map(bool, tiled)) == 2, "the convolution, and its gradient for pictures"
    assert not any(tile.index == "i0" for tiles in tiled for tile in tiles)


def test_sums_over_the_batch_are_in_chunks_of_a_tree() -> None:
    b = Builder("x")
    x = value("x", N, 3)
    made = graph(b, [x], [b.sum(x, (0,))])
    program = check(made, 300)
    assert any(s.kernel.startswith("tree_sum") for s in program.steps if isinstance(s, Launch))
    array = draw(made, 300)[0]
    whole = run_program(program, {"x": array})
    half = [run_program(program, {"x": array[k:k + 128]}) for k in (0, 128)]
    name = next(b.name for b in program.buffers if b.kind == "out")
    # 256 samples in two shards of whole chunks give the bits of all 256 at once.
    both = run_program(program, {"x": array[:256]})[name]
    np.testing.assert_array_equal(half[0][name] + half[1][name], both)
    assert whole[name].shape == (3,)


@pytest.mark.parametrize("turned", [False, True])
def test_numbers_of_elements_need_no_memory(turned: bool) -> None:
    """Also where neighbours in the lanes are a symbol apart."""
    b = Builder("x")
    x = value("x", N, 33)
    line = b.op("iota", dtype=I64, dims=(33 * N,), axis=0)
    numbers = b.op("reshape", line, dims=(33, N) if turned else (N, 33))
    if turned:
        numbers = b.op("transpose", numbers, order=(1, 0))
    made = graph(b, [x], [b.op("add", x, b.op("cast", numbers, to=F32))])
    program = check(made, 7)
    assert [b.kind for b in program.buffers] == ["in", "out"]
