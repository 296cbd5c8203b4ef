"""The reference interpreter: sizes from shapes, held graphs, checks, updates."""

from __future__ import annotations

import numpy as np
import pytest

from dlc.ir.dims import symbol
from dlc.ir.graph import Graph, Param, Value
from dlc.ir.interpret import InputError, bind_shapes, run_graph, run_values
from dlc.ir.ops import OPS, EvalCall, NotDifferentiable, TypeRuleError
from dlc.ir.ops.control import CheckError
from dlc.ir.parse import parse_graph
from dlc.ir.types import BF16, F32, parse_type, tensor

N, M = symbol("N"), symbol("M")

TRAIN = parse_graph("""\
graph decay(%x: f32[K], %by: f32) -> (f32[K]) {
  %spread = broadcast %by {dims = [K], axes = []} : f32[K]
  %y = mul %x, %spread : f32[K]
  return %y
}

graph train(%x: f32[N, 2], %w: f32[2] var, %rate: f32 = 0.5) -> (i32) {
  require N >= 2 "two rows"
  %sum = contract %x {indices = ["a", "b"], extents = [N, 2], maps = [[a, b]], out = [b], \
dims = [2]} : f32[2]
  %next = call %sum, %rate with decay : f32[2]
  %n = dim {dtype = i32, value = 2*N + 1} : i32
  return %n
  update "w" = %next
}
""")


def test_results_come_before_updates() -> None:
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    n, w = run_graph(TRAIN, [x, np.zeros(2, np.float32), 0.5])
    assert n == 7
    assert n.dtype == np.int32
    np.testing.assert_array_equal(w, [3, 4.5])


def test_all_values_by_name() -> None:
    values = run_values(TRAIN, [np.ones((2, 2), np.float32), np.zeros(2, np.float32), 1])
    assert set(values) == {"x", "w", "rate", "sum", "next", "n"}
    np.testing.assert_array_equal(values["sum"], [2, 2])


@pytest.mark.parametrize(("inputs", "message"), [
    ([np.ones((2, 2), np.float32)], "takes 3 inputs, not 1"),
    ([np.ones((1, 2), np.float32), np.zeros(2, np.float32), 1], "two rows: 1 >= 2"),
    ([np.ones((2, 3), np.float32), np.zeros(2, np.float32), 1], "%x is .*, but 2 is 2, not 3"),
    ([np.ones(2, np.float32), np.zeros(2, np.float32), 1], "not of shape"),
    ([np.ones((2, 2)), np.zeros(2, np.float32), 1], "not of dtype float64"),
])
def test_inputs_that_do_not_fit(inputs: list[object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        run_graph(TRAIN, inputs)  # type: ignore[arg-type]


def values(*texts: str) -> list[Value]:
    return [Value(f"x{i}", parse_type(text)) for i, text in enumerate(texts)]


@pytest.mark.parametrize(("texts", "shapes", "env"), [
    (("f32[N]", "f32[N, M]"), ((3,), (3, 5)), {"N": 3, "M": 5}),
    (("f32[2*N + 1]",), ((7,),), {"N": 3}),
    (("f32[N + M]", "f32[M]"), ((7,), (3,)), {"N": 4, "M": 3}),
    (("f32[N * M]", "f32[M]"), ((12,), (3,)), {"N": 4, "M": 3}),
    (("f32[N]", "f32[N // 2]"), ((7,), (3,)), {"N": 7}),
    (("f32",), ((),), {}),
])
def test_symbols_are_bound(
    texts: tuple[str, ...], shapes: tuple[tuple[int, ...], ...], env: dict[str, int]
) -> None:
    assert bind_shapes(values(*texts), [np.zeros(shape) for shape in shapes]) == env


@pytest.mark.parametrize(("texts", "shapes", "message"), [
    (("f32[N]", "f32[N]"), ((3,), (4,)), "N is 3, not 4"),
    (("f32[2*N]",), ((7,),), "no input says what N is"),
    (("f32[N + M]",), ((7,),), "no input says what M, N is"),
    (("f32[N]", "f32[N // 2]"), ((7,), (4,)), "N // 2 is 3, not 4"),
])
def test_shapes_that_disagree(
    texts: tuple[str, ...], shapes: tuple[tuple[int, ...], ...], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        bind_shapes(values(*texts), [np.zeros(shape) for shape in shapes])


def test_bf16_is_held_as_f32() -> None:
    x = Value("x", tensor(BF16, (2,)))
    (y,) = run_graph(Graph("g", (Param(x),), (), (x,)), [[1, 2]])
    assert y.dtype == np.float32


def test_what_becomes_bf16_is_rounded_once_and_to_even() -> None:
    graph = parse_graph("graph g(%x: f64[7]) -> (bf16[7], bf16[7]) {\n"
                        "  %y = cast %x {to = bf16} : bf16[7]\n"
                        "  %z = mul %y, %y : bf16[7]\n  return %y, %z\n}")
    # The third is nearer to the upper one, by less than an f32 sees.
    given = [1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-40, -1 - 2**-9, 3.4e38, np.nan, -0.0]
    y, z = run_graph(graph, [np.array(given)])
    near = [1, 1 + 2**-6, 1 + 2**-7, -1, np.inf, np.nan, -0.0]
    np.testing.assert_array_equal(y, np.array(near, np.float32))
    assert np.signbit(y[6])
    np.testing.assert_array_equal(z[:3], np.array([1, 1 + 2**-5, 1 + 2**-6], np.float32))


def test_a_check_that_fails_stops_the_run() -> None:
    graph = parse_graph(
        'graph g(%ok: bool) -> (bool) {\n  check %ok {text = "all is well"}\n  return %ok\n}\n')
    assert run_graph(graph, [True]) == (np.True_,)
    with pytest.raises(CheckError, match="all is well"):
        run_graph(graph, [False])


def test_a_call_binds_the_symbols_of_its_graph() -> None:
    held = TRAIN.nodes[1].regions
    kinds = (tensor(F32, (N * M,)), tensor(F32))
    assert OPS["call"].infer(kinds, {}, held) == (tensor(F32, (N * M,)),)
    with pytest.raises(TypeRuleError):
        OPS["call"].infer((tensor(F32, (2, 2)), tensor(F32)), {}, held)
    with pytest.raises(TypeRuleError):
        OPS["call"].infer(kinds[:1], {}, held)


def test_gradients_are_typed_but_have_no_value() -> None:
    gradient = OPS["gradient"]
    kinds = (tensor(F32), tensor(F32, (3,)))
    assert gradient.infer(kinds, {}, ()) == kinds[1:]
    assert isinstance(gradient.vjp, NotDifferentiable)
    with pytest.raises(TypeRuleError):
        gradient.infer(kinds[::-1], {}, ())
    with pytest.raises(TypeRuleError):
        gradient.eval(EvalCall((), {}, {}, kinds[1:]))
