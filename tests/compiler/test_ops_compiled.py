"""Every op of the registry as a function of its own, compiled and run, against its meaning."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from dlc.compiler.llvm.target import host
from dlc.compiler.options import Options
from dlc.compiler.pipeline import dump_graph
from dlc.ir.dims import Dim, evaluate, symbol
from dlc.ir.graph import Attr, Builder, Graph, Param, Value
from dlc.ir.ops import OPS, Sample, TypeRuleError
from dlc.ir.ops.contract import conv_spec, matmul_spec, pool_spec, sum_spec
from dlc.ir.ops.random import ROUNDS
from dlc.ir.scalar import Array
from dlc.ir.types import (
    BF16,
    BOOL,
    F16,
    F32,
    F64,
    I32,
    I64,
    U8,
    DType,
    TensorType,
    parse_type,
    tensor,
)
from dlc.runtime import CheckFailed
from tests.compiler.compiled import CompiledGraph

N = symbol("N")
DTYPES = (F32, F64, I32, I64, U8, BOOL)
SHAPES: tuple[tuple[Dim, ...], ...] = ((N,), (N, 1), (N, 17), (37,), (1, 1), (3, 37), ())
BATCHES = (1, 37)
# The host; one with AVX2; one with short vectors and no masks, as NEON has, of which no code runs
# here.
CPUS = {"": Options(), "haswell": Options(target="haswell"),
        "without masks": Options(target="haswell", features="+fma")}
BRIEF = {"once": Options(once=True), "once on haswell": Options(target="haswell", once=True)}

# Ops that are no function of one node, and where they are tested.
APART = {
    "call": "holds a graph: random programs and test_kernels have calls",
    "gradient": "is expanded before anything is compiled: test_differentiate",
    "check": "gives no value: test_a_failed_check_changes_no_variable",
    "print": "gives no value: test_control prints",
    **dict.fromkeys(("scan", "while", "if"), "hold graphs: test_control"),
}
MOVERS = ("contract", "reduce_max", "argmax", "softmax", "log_softmax", "tree_sum", "broadcast",
          "reshape", "transpose", "slice", "pad", "stop_gradient", "pack", "constant", "table",
          "dim", "iota", "flip", "gather", "scatter", "cumsum", "bits", "radix_pass", "argsort")
EXACT = {"add", "sub", "mul", "div", "neg", "abs", "sign", "floor", "round", "sqrt", "maximum",
         "minimum", "floordiv", "select", "cast", *MOVERS} - {"contract", "softmax", "log_softmax"}


@dataclass(frozen=True)
class Case:
    """One node: the types of its operands, its attributes, the range of its numbers."""

    op: str
    kinds: tuple[TensorType, ...]
    attrs: tuple[tuple[str, Attr], ...]
    low: float = -2.0
    high: float = 2.0
    ranges: tuple[tuple[int, float, float], ...] = ()

    def range(self, operand: int) -> tuple[float, float]:
        return Sample((), (), self.low, self.high, self.ranges).range(operand)


def fits(case: Case) -> bool:
    """Whether the type rule takes it."""
    try:
        OPS[case.op].infer(tuple(case.kinds), dict(case.attrs), ())
    except TypeRuleError:
        return False
    return True


def typed(text: str) -> TensorType:
    kind = parse_type(text)
    assert isinstance(kind, TensorType)
    return kind


def cases(name: str, dtypes: tuple[DType, ...] = DTYPES) -> list[Case]:
    """The op's samples in every dtype that it takes; elementwise ops in odd shapes too."""
    found: dict[object, Case] = {}
    for sample in OPS[name].samples:
        kinds = tuple(map(typed, sample.types))
        shapes = SHAPES if OPS[name].formula is not None else ()
        for dims in (None, *shapes):
            given = kinds if dims is None else tuple(tensor(k.dtype, dims) for k in kinds)
            for dtype in (None, *dtypes):
                moved = tuple(_retyped(k, given[-1].dtype, dtype) for k in given)
                case = Case(name, moved, sample.attrs, sample.low, sample.high,
                            sample.ranges)
                if fits(case):
                    found.setdefault((moved, sample.attrs), case)
    return list(found.values())


def _retyped(kind: TensorType, old: DType, new: DType | None) -> TensorType:
    return tensor(new, kind.dims) if new is not None and kind.dtype is old else kind


def draw(case: Case, n: int, seed: int) -> list[Array]:
    rng = np.random.default_rng(seed)
    out = []
    for k, kind in enumerate(case.kinds):
        shape = [evaluate(d, {"N": n}) for d in kind.dims]
        low, high = case.range(k)
        if kind.dtype is U8:
            low, high = max(low, 0), min(high, 255)
        if kind.dtype.is_float:
            out.append(np.asarray(rng.uniform(low, high, shape), kind.dtype.numpy))
        else:
            ends = (0, 2) if kind.dtype is BOOL else (int(low), int(high) + 1)
            out.append(np.asarray(rng.integers(*ends, shape)).astype(kind.dtype.numpy))
    return out


class Together:
    """Many functions of one node in one module, which costs one compilation."""

    def __init__(
        self, found: list[Case], cpu: str = "", compiled: type[CompiledGraph] = CompiledGraph
    ) -> None:
        self.cases = found
        names = [f"a{k}.{j}" for k, case in enumerate(found) for j in range(len(case.kinds))]
        b = Builder(("batch", *names))
        batch = Value("batch", tensor(F32, (N,)))
        values, results, given = iter(names), [], [batch]
        for case in found:
            operands = tuple(Value(next(values), kind) for kind in case.kinds)
            given += operands
            results += b.emit(case.op, *operands, **dict(case.attrs))
        results.append(b.op("neg", batch))
        self.graph = Graph("ops", tuple(map(Param, given)), tuple(b.nodes), tuple(results))
        self.compiled = compiled(self.graph, (CPUS | BRIEF)[cpu])

    def check(self, n: int, rtol: float, atol: float) -> None:
        arrays = [np.zeros(n, np.float32)]
        arrays += [a for k, case in enumerate(self.cases) for a in draw(case, n, k)]
        self.compiled.check(arrays, rtol, atol)


def tolerance(name: str) -> float:
    """A few units in the last place of f32; what only moves or rounds once is exact."""
    return 0.0 if name in EXACT else 2e-5 if name == "contract" else 1e-6


def last_digits(dtype: DType) -> float:
    """How far sums of numbers of a dtype may be off, in another order."""
    return 2e-5 if dtype is F32 else 1e-12


def runs(cpu: str) -> bool:
    """Whether this machine runs code for a CPU of another generation."""
    return not cpu or (not host().is_arm and host().has("avx2") and host().has("fma"))


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("name", sorted(OPS.keys() - APART.keys()))
def test_op(name: str, cpu: str) -> None:
    if not runs(cpu):
        pytest.skip("this machine has no AVX2")
    found = cases(name)
    assert found, f"{name} has no samples: give it some, or list it in APART with the reason"
    together = Together(found, cpu)
    for n in BATCHES:
        together.check(n, tolerance(name), 2 * tolerance(name))


@pytest.mark.parametrize("cpu", BRIEF)
@pytest.mark.parametrize("name", ["random_normal", "random_seed", "random_uniform"])
def test_draws_of_code_that_runs_once(name: str, cpu: str) -> None:
    if not runs(cpu):
        pytest.skip("this machine has no AVX2")
    together = Together(cases(name), cpu)
    assert len(together.cases) > 2
    for n in BATCHES:
        together.check(n, tolerance(name), 2 * tolerance(name))


def test_code_that_runs_once_is_short() -> None:
    b = Builder(())
    numbers = Value("numbers", tensor(I64, (N,)))
    drawn = b.op("random_normal", numbers, numbers, numbers, place=3)
    graph = Graph("draw", (Param(numbers),), tuple(b.nodes), (drawn,))
    short, long = (dump_graph(graph, "llvm", Options(once=once)).count(" = mul <")
                   for once in (True, False))
    assert long == ROUNDS * short > 0


def in_16_bits(name: str, dtype: DType) -> list[Case]:
    """The op's samples in f16 or bf16."""
    return [case for case in cases(name, (dtype,)) if dtype in [k.dtype for k in case.kinds]]


# The language sums such numbers in f32 (rule 32), so the digits of these sums are not held.
SUMS = {"contract", "cumsum", "tree_sum"}
HALVES = [(name, dtype) for name in sorted(OPS.keys() - APART.keys() - SUMS)
          for dtype in (F16, BF16) if in_16_bits(name, dtype)]


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize(("name", "dtype"), HALVES, ids=str)
def test_op_in_16_bits(name: str, dtype: DType, cpu: str) -> None:
    if not runs(cpu):
        pytest.skip("this machine has no AVX2")
    together = Together(in_16_bits(name, dtype), cpu)
    last = 0.0 if name in EXACT else 2.0**-7 if dtype is BF16 else 2.0**-10
    for n in BATCHES:
        together.check(n, 2 * last, 2 * last)


def test_what_is_left_apart_is_known() -> None:
    assert APART.keys() <= OPS.keys()
    assert all(not OPS[name].samples for name in APART), "it has samples, so it can be compiled"


def spec(name: str, *kinds: tuple[DType, tuple[Dim, ...]], **attrs: Attr) -> Case:
    return Case(name, tuple(tensor(t, d) for t, d in kinds), tuple(attrs.items()))


def reductions(dtype: DType) -> list[Case]:
    """Over each axis and pair of axes of odd shapes, with the batch first, last or absent."""
    found: list[Case] = []
    shapes: tuple[tuple[Dim, ...], ...] = (
        (N,), (17, N), (N, 37), (N, 1, 5), (5, N, 17), (3, 40, N), (1,), (130,), (2, 3, 67))
    for dims in shapes:
        axes = [(k,) for k in range(len(dims))]
        axes += [(j, k) for k in range(len(dims)) for j in range(k)]
        for each in axes:
            found.append(spec("contract", (dtype, dims), **sum_spec(dims, each)))
            if dtype is not BOOL:
                found.append(spec("reduce_max", (dtype, dims), axes=each))
        if dtype is not BOOL:
            found += [spec("argmax", (dtype, dims), axis=k) for k in range(len(dims))]
            found.append(spec("tree_sum", (dtype, dims)))
        if dtype.is_float:
            found += [spec(op, (dtype, dims), axis=k) for k in range(len(dims))
                      for op in ("softmax", "log_softmax")]
    return found


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_reductions(dtype: DType, cpu: str) -> None:
    if not runs(cpu):
        pytest.skip("this machine has no AVX2")
    together = Together([case for case in reductions(dtype) if fits(case)], cpu)
    for n in (1, 37, 130):
        together.check(n, last_digits(dtype), last_digits(dtype))


def products(dtype: DType) -> list[Case]:
    """Matrix products of odd sizes, convolutions and pools, with and without the batch."""
    found: list[Case] = []
    for left, right in (((N, 17), (17, 5)), ((37, N), (N, 3)), ((N, 1), (1, 1)), ((7, 37), (37,)),
                        ((N, 3, 5), (N, 5, 2)), ((5,), (5,)), ((2, 33), (33, 19))):
        found.append(spec("contract", (dtype, left), (dtype, right), **matmul_spec(left, right)))
    for x, w, settings in (
            ((N, 2, 7, 5), (3, 2, 3, 3), {"padding": 1}), ((1, 1, 9, 17), (1, 1, 3, 2), {}),
            ((2, 4, 11), (6, 2, 3), {"groups": 2, "stride": 2}),
            ((N, 1, 6, 6), (17, 1, 5, 5), {"padding": 2})):
        found.append(spec("contract", (dtype, x), (dtype, w), **conv_spec(x, w, **settings)))
    pools: tuple[tuple[tuple[Dim, ...], int, int], ...] = (
        ((N, 3, 7, 5), 2, 2), ((2, 1, 9, 37), 3, 2), ((1, N, 4, 4), 3, 1))
    return found + [spec("contract", (dtype, x), **pool_spec(x, *how)) for x, *how in pools]


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_products(dtype: DType, cpu: str) -> None:
    if not runs(cpu):
        pytest.skip("this machine has no AVX2")
    together = Together(products(dtype), cpu)
    for n in (1, 37, 70):
        together.check(n, last_digits(dtype), 2.5 * last_digits(dtype))


def movers(dtype: DType) -> list[Case]:
    """Broadcasts, reshapes, transposes, slices and pads that carry the batch."""
    d = (N, 3, 17)
    return [
        spec("broadcast", (dtype, (N, 1)), dims=(5, N, 37), axes=(1, 2)),
        spec("broadcast", (dtype, (17,)), dims=(N, 17), axes=(1,)),
        spec("broadcast", (dtype, (N,)), dims=(N, 17), axes=(0,)),
        spec("broadcast", (dtype, ()), dims=(N, 1), axes=()),
        spec("reshape", (dtype, d), dims=(N, 51)), spec("reshape", (dtype, d), dims=(N * 51,)),
        spec("reshape", (dtype, d), dims=(1, N, 3, 1, 17)), spec("reshape", (dtype, (N, 6)),
                                                               dims=(2 * N, 3)),
        spec("transpose", (dtype, d), order=(2, 1, 0)),
        spec("transpose", (dtype, d), order=(1, 0, 2)),
        spec("slice", (dtype, d), start=(0, 1, 2), step=(1, 2, 5), dims=(N, 1, 3)),
        spec("slice", (dtype, d), start=(N - 1, 0, 16), step=(1, 1, 1), dims=(1, 3, 1)),
        spec("pad", (dtype, d), low=(0, 1, 2), high=(0, 0, 3), value=1.0),
        spec("pad", (dtype, (N,)), low=(1,), high=(N,), value=0.0),
        spec("pad", (dtype, (4, 1)), low=(1, 2), high=(0, 1), value=1.0),
        spec("pad", (dtype, (N, 9)), low=(0, -2), high=(0, -1), value=1.0),
        spec("iota", dtype=dtype, dims=(N, 17), axis=1),
        spec("iota", dtype=dtype, dims=(37, N), axis=1),
        spec("constant", dtype=dtype, value=1.0), spec("dim", dtype=dtype, value=2 * N + 1),
        spec("table", dtype=dtype, dims=(3,), values=(0.0, 1.0, 1.0)),
        spec("pack", (dtype, d)), spec("stop_gradient", (dtype, (1, N))),
    ]


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_movers(dtype: DType, cpu: str) -> None:
    if not runs(cpu):
        pytest.skip("this machine has no AVX2")
    together = Together([c for c in movers(dtype) if c.op != "iota" or dtype is not BOOL], cpu)
    for n in (1, 37, 100):
        together.check(n, 0.0, 0.0)


def test_a_failed_check_changes_no_variable() -> None:
    x, v = Value("x", tensor(F32, (N,))), Value("v", tensor(F32))
    b = Builder("xv")
    total = b.sum(x, (0,))
    b.emit("check", b.op("lt", total, b.scalar(F32, 100.0)), text="the sum is below 100")
    new = b.op("add", v, total)
    graph = Graph("f", (Param(x), Param(v, "var")), tuple(b.nodes), (total,), (("v", new),))
    compiled = CompiledGraph(graph)
    compiled.check([np.ones(37, np.float32), np.float32(2)])
    with pytest.raises(CheckFailed, match="the sum is below 100"):
        compiled.run([np.ones(137, np.float32), np.float32(2)])
    assert compiled.variables.get("v") == 2
