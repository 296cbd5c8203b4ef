"""What formulas want of registers, and which constants stay there while a loop goes on."""

from __future__ import annotations

import numpy as np
import pytest

from dlc.compiler.kernels.formulas import Need, need, places_at_a_time
from dlc.compiler.loops.pressure import constants_in_registers, integers_in_registers
from dlc.compiler.options import Options
from dlc.compiler.pipeline import plan
from dlc.ir.dims import symbol
from dlc.ir.graph import Builder
from dlc.ir.loops import Apply, Const, For, IndexOf, Load, Splat, Statement, Store
from dlc.ir.types import F32, F64, I64, DType
from tests.compiler.compiled import CompiledGraph
from tests.compiler.test_kernels import graph, value

N = symbol("N")


def loop(*ops: str, lanes: int = 8, before: tuple[Statement, ...] = ()) -> tuple[Statement, ...]:
    """A loop in which ops follow each other, each of the result of the one before."""
    chain = [Apply(f"t{k + 1}", op, (f"t{k}",) * (2 if op == "mul" else 1), F32, F32, lanes)
             for k, op in enumerate(ops)]
    body = (Load("t0", "x", symbol("i"), F32, lanes), *chain,
            Store("y", symbol("i"), f"t{len(ops)}", F32, lanes))
    return (*before, For("i", 0, N, body, lanes))


def test_a_primitive_has_its_operands_and_its_result() -> None:
    assert need("mul", (F32, F32)) == Need((), frozenset(), 8, 4)
    assert need("mul", (F64, F64)).values == 16


@pytest.mark.parametrize("op", ["exp", "tanh", "log", "erf", "sin"])
def test_a_formula_of_wider_elements_wants_more(op: str) -> None:
    narrow, wide = need(op, (F32,)), need(op, (F64,))
    assert len(narrow.uses) >= 10
    assert narrow.kept <= narrow.values < wide.values
    assert {dtype for (dtype, _), _ in wide.uses} == {"f64"}


def test_places_at_a_time() -> None:
    exp = need("exp", (F32,))
    assert places_at_a_time([exp], 16, 4, 1) == (16 - len(exp.fixed)) // (exp.values // 4 + 1)
    assert places_at_a_time([need("random_seed", (I64,) * 3, (("place", 1),))], 16, 4) == 0
    assert places_at_a_time([Need()], 16, 4) == 16


def test_constants_of_one_formula_stay() -> None:
    assert constants_in_registers(loop("exp"), 16, 32) is None


def test_constants_of_many_formulas_do_not() -> None:
    kept = constants_in_registers(loop("tanh", "log", "erf"), 16, 32)
    assert kept is not None
    assert len(kept) < 8
    assert constants_in_registers(loop("tanh", "log", "erf"), 32, 64) is None


def test_integers_stay_but_beside_words_of_64_bits() -> None:
    assert integers_in_registers(loop("tanh", "log", "erf"), 16, 32)
    draw = Apply("d", "random_normal", ("s", "s", "e"), F32, F32, 8, (("place", 1),))
    body = (For("i", 0, N, (
        IndexOf("e", symbol("i"), I64, 8), IndexOf("s", symbol("i"), I64, 8), draw,
        Store("y", symbol("i"), "d", F32, 8)), 8),)
    assert not integers_in_registers(body, 16, 32)
    assert integers_in_registers(body, 32, 64)


def test_those_that_are_used_most_stay() -> None:
    kept = constants_in_registers(loop("exp", "log", "exp"), 19, 32)
    once = {constant for constant, _ in need("log", (F32,)).uses} - {
        constant for constant, _ in need("exp", (F32,)).uses}
    assert kept
    assert not kept & once


def test_what_comes_from_outside_takes_a_register() -> None:
    outside = tuple(Splat(f"s{k}", "a", F32, 8) for k in range(9))
    used = tuple(Apply(f"u{k}", "mul", ("t1", f"s{k}"), F32, F32, 8) for k in range(9))
    plain = loop("exp")
    assert isinstance(plain[-1], For)
    body = (*plain[-1].body[:-1], *used, plain[-1].body[-1])
    inside = For("i", 0, N, body, 8)
    assert constants_in_registers((Const("a", 2, F32), *outside, inside), 16, 32) is None
    given = constants_in_registers((Load("a", "x", 0, F32), *outside, inside), 16, 32)
    assert given == frozenset()


@pytest.mark.parametrize("cpu", ["x86-64", "haswell", ""])
@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
def test_formulas_whose_constants_are_in_memory(cpu: str, dtype: DType) -> None:
    """And of f64, that go in half as many lanes where there are 16 registers."""
    b = Builder(("x",))
    x = value("x", N, dtype=dtype)
    y = b.op("add", b.op("mul", b.op("log", x), b.op("erf", x)), b.op("softplus", x))
    options = Options(target=cpu)
    made = CompiledGraph(graph(b, [x], [b.op("mul", y, b.op("tanh", x))]), options)
    for size in (1, 7, 40):
        made.check([np.linspace(0.01, 5, size, dtype=dtype.numpy)], 4e-6, 4e-6)


@pytest.mark.parametrize(("cpu", "lanes"), [("haswell", 4), ("x86-64-v4", 16)])
def test_wider_elements_go_in_fewer_lanes(cpu: str, lanes: int) -> None:
    b = Builder(("x",))
    x = value("x", N, dtype=F64)
    made, _ = plan(graph(b, [x], [b.op("erf", x)]), Options(target=cpu))
    ((_, schedule),) = made.schedules
    assert schedule.lanes == lanes
