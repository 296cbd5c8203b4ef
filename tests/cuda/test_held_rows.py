"""Rows in registers: their numbers at odd lengths, how often memory is touched, what NVRTC says."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest

from dlc.compiler.cuda import nvrtc
from dlc.compiler.cuda.nvrtc import compile_cubin
from dlc.compiler.options import Options
from dlc.compiler.pipeline import compile_cuda, plan
from dlc.compiler.schedules import held_rows
from dlc.compiler.schedules.gpu_cycles import Cycles
from dlc.compiler.schedules.variants import GOOD, LAUNCH
from dlc.ir.dims import Dim, symbol
from dlc.ir.graph import Builder, Graph, Param, Value
from dlc.ir.program import Launch
from dlc.ir.schedule import Schedule
from dlc.ir.types import BF16, F16, F32, F64, DType, tensor
from tests.compiler.test_rows import gradient
from tests.cuda import compiled as on_cpu
from tests.cuda.compiled import ARCH, CudaGraph, runs
from tests.cuda.on_cpu import needs_compiler
from tests.cuda.ptx import assembly

M, N = symbol("M"), symbol("N")
LENGTHS = (1, 31, 33, 128, 1000, 1028, 4097)
HELD = (33, 128, 1000, 1028, 4096, 4097, 8192)
GLOBAL = re.compile(r"\*\((?:const )?Pack<[\w ]+, \d+> \*\)\(p\d+ \+|\bp\d+\[")


def value(name: str, *dims: Dim, dtype: DType = F32) -> Value:
    return Value(name, tensor(dtype, dims))


def graph(b: Builder, params: list[Value], results: list[Value]) -> Graph:
    return Graph("rows", tuple(map(Param, params)), tuple(b.nodes), tuple(results))


def normed(b: Builder, x: Value) -> Value:
    """A layer norm without its parameters."""
    width, rest = x.dims[-1], tuple(range(len(x.dims) - 1))
    assert isinstance(width, int)

    def mean(of: Value) -> Value:
        total = b.sum(of, (len(x.dims) - 1,))
        return b.op("mul", total, b.constant(1 / width, total.type))

    apart = b.op("sub", x, b.broadcast(mean(x), x.dims, rest))
    square = mean(b.op("mul", apart, apart))
    scale = b.op("rsqrt", b.op("add", square, b.constant(1e-5, square.type)))
    return b.op("mul", apart, b.broadcast(scale, x.dims, rest))


def softmax(*dims: Dim, dtype: DType = F32) -> Graph:
    b, x = Builder("x"), value("x", *dims, dtype=dtype)
    return graph(b, [x], [b.op("softmax", x, axis=len(dims) - 1)])


def norm(*dims: Dim, dtype: DType = F32) -> Graph:
    b, x, scale, shift = Builder("xsh"), value("x", *dims, dtype=dtype), value(
        "s", dims[-1], dtype=dtype), value("h", dims[-1], dtype=dtype)
    scaled = b.op("mul", normed(b, x), b.broadcast(scale, dims, (len(dims) - 1,)))
    made = b.op("add", scaled, b.broadcast(shift, dims, (len(dims) - 1,)))
    return graph(b, [x, scale, shift], [made])


def softmax_gradient(*dims: Dim, dtype: DType = F32) -> Graph:
    """From the weights, as a backward pass has them."""
    b, y, g = Builder("yg"), value("y", *dims, dtype=dtype), value("g", *dims, dtype=dtype)
    rest = tuple(range(len(dims) - 1))
    total = b.sum(b.op("mul", y, g), (len(dims) - 1,))
    return graph(b, [y, g], [b.op("mul", y, b.op("sub", g, b.broadcast(total, dims, rest)))])


def norm_gradient(*dims: Dim, dtype: DType = F32) -> Graph:
    b, x, g = Builder("xg"), value("x", *dims, dtype=dtype), value("g", *dims, dtype=dtype)
    y = normed(b, x)
    return graph(b, [x, g], [gradient(b, y, g, x)])


def loss(*dims: Dim, dtype: DType = F32) -> Graph:
    """The logarithm of a softmax, and its gradient: what a cross-entropy is made of."""
    b, x, g = Builder("xg"), value("x", *dims, dtype=dtype), value("g", *dims, dtype=dtype)
    y = b.op("log_softmax", x, axis=len(dims) - 1)
    return graph(b, [x, g], [b.op("mul", y, g), gradient(b, y, g, x)])


KINDS = {"softmax": softmax, "norm": norm, "softmax gradient": softmax_gradient,
         "norm gradient": norm_gradient, "log softmax": loss}
OF_KINDS = pytest.mark.parametrize("kind", KINDS)


def arrays(made: Graph, **sizes: int) -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    shapes = [[d if isinstance(d, int) else sizes[str(d)] for d in p.value.dims]
              for p in made.params]
    return [rng.standard_normal(shape).astype(p.value.dtype.numpy)
            for p, shape in zip(made.params, shapes, strict=True)]


def schedules(made: Graph, **hints: int) -> list[Schedule]:
    return [s for _, s in plan(made, Options(target=f"cuda:{ARCH}", hints=hints))[0].schedules]


@needs_compiler
@OF_KINDS
@pytest.mark.parametrize("length", LENGTHS)
def test_rows_of_any_length(kind: str, length: int) -> None:
    made = KINDS[kind](N, length)
    compiled = CudaGraph(made)
    for rows in (1, 11):
        compiled.check(arrays(made, N=rows), 3e-5, 3e-5)


@needs_compiler
@OF_KINDS
@pytest.mark.parametrize("dtype", [F64, F16, BF16], ids=str)
def test_rows_of_any_type(kind: str, dtype: DType) -> None:
    last = {F64: 1e-12, F16: 1e-2, BF16: 6e-2}[dtype]
    for length in (33, 264, 1032):
        made = KINDS[kind](5, length, dtype=dtype)
        CudaGraph(made).check(arrays(made), last, last)


@needs_compiler
@pytest.mark.parametrize("dims", [(4, 3, 40), (2, 5, 7), (3, 40, 132)])
def test_rows_of_several_axes(dims: tuple[int, ...]) -> None:
    b, x = Builder("x"), value("x", *dims)
    total = b.sum(b.op("exp", x), (1, 2))
    wide = b.broadcast(total, dims, (0,))
    made = graph(b, [x], [b.op("div", b.op("exp", x), wide), b.op("sub", x, wide)])
    assert [s.held > 0 for s in schedules(made)] == [True]
    CudaGraph(made).check(arrays(made), 1e-5, 1e-5)


OF_ANY_LENGTH = {"softmax": softmax(N, M), "softmax gradient": softmax_gradient(N, M),
                 "log softmax": loss(N, M), "halves": softmax(N, M, dtype=BF16)}


def room(schedule: Schedule) -> int:
    """How long rows are that are held."""
    return schedule.held * schedule.lanes * schedule.group


@needs_compiler
@pytest.mark.parametrize("kind", OF_ANY_LENGTH)
def test_lengths_that_are_symbols(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In each variant what fits is held, and what does not is read again."""
    made = OF_ANY_LENGTH[kind]
    compiled = CudaGraph(made)
    last = 1e-2 if kind == "halves" else 3e-5
    every = plan(made, Options(target=f"cuda:{ARCH}"))[0].schedules
    assert len({room(s) for _, s in every}) > 3
    for name, schedule in every:
        (step,) = compiled.made.manifest["cuda"]["steps"]  # type: ignore[index]
        monkeypatch.setattr(on_cpu, "chosen", lambda *_, step=step, name=name: next(
            s for s in (*step["variants"], step) if s["kernel"] == name.replace(".", "_")))
        most = room(schedule)
        for length in (1, 3, 4, 8, most - 8, most - 1, most, most + 1, most + 8, 2 * most + 16):
            if length > 0 and all(length % number == 0 for _, number in schedule.multiples):
                compiled.check(arrays(made, N=2, M=length), last, last)


@pytest.mark.parametrize("rows", [1, 64, 16384])
@pytest.mark.parametrize("kind", OF_ANY_LENGTH)
def test_rows_are_held_whatever_their_length(kind: str, rows: int) -> None:
    """No kernel holds rows of 8192 and is good for rows of 64: the sizes of a call choose one. What
    none holds is read again by one that has many threads for each row."""
    options = Options(target=f"cuda:{ARCH}")
    program, _ = plan(OF_ANY_LENGTH[kind], options)
    kernels = {kernel.name: kernel for kernel in program.kernels}
    (launch,) = program.steps
    assert isinstance(launch, Launch)
    every, taken = dict(program.schedules), set()
    pack = 8 if kind == "halves" else 4
    for length in (32, 33, 64, 100, 257, 1000, 1024, 2047, 3000, 4096, 5001, 8184, 8191, 8192):
        sizes = {"M": length, "N": rows}
        name = runs(program, launch.kernel, sizes)
        taken.add(name)
        schedule = every[name]
        assert schedule.lanes == (1 if length % pack else pack)
        if room(schedule) < length:  # that is as good, by the model
            times = {n: Cycles(kernels[n], sizes, options).of(s) for n, s in every.items()}
            least = min(times[n] for n, s in every.items() if room(s) >= length)
            assert times[name] <= GOOD * (least + LAUNCH), sizes
    assert len(taken) > 3
    for length in (1 << 17, (1 << 20) + 1):
        schedule = every[runs(program, launch.kernel, {"M": length, "N": rows})]
        assert schedule.group >= 256
        assert schedule.lanes == (1 if length % pack else pack)


@needs_compiler
@pytest.mark.parametrize("length", [33, 40, 1000, 1030])
def test_the_first_largest(length: int) -> None:
    b, x = Builder("x"), value("x", N, length)
    made = graph(b, [x], [b.op("argmax", x, axis=1), b.op("reduce_max", x, axes=(1,))])
    assert all(s.held for s in schedules(made))
    rng = np.random.default_rng(1)
    compiled = CudaGraph(made)
    for array in (rng.integers(0, 4, (7, length)), -np.inf * np.ones((7, length)),
                  np.where(rng.random((7, length)) < 0.1, np.nan, 1)):
        compiled.check([array.astype(np.float32)])


def statements(made: Graph) -> list[str]:
    """The lines of the only kernel, after those of the prelude."""
    text = compile_cuda(made, Options(target=f"cuda:{ARCH}")).text
    assert text.count('extern "C"') == 1
    return text[text.index('extern "C"'):].splitlines()


@OF_KINDS
@pytest.mark.parametrize("length", HELD)
def test_memory_is_read_once_and_written_once(kind: str, length: int) -> None:
    """Each place is touched by one statement of the text, which stands in no loop."""
    made = KINDS[kind](37, length)
    (schedule,) = schedules(made)
    assert schedule.held * schedule.lanes * schedule.group >= length
    assert schedule.lanes == (1 if length % 4 else 4)
    lines = statements(made)
    assert not any(re.match(r" *(for|while) ", line) for line in lines)
    touched = Counter(place for line in lines for place in re.findall(
        r"\((p\d+ \+ \(?[\w* +]+\)?)\)|\b(p\d+\[[\w* +]+\])", line))
    params = len(made.params) + len(made.outputs)
    assert len(touched) == params * schedule.held
    assert set(touched.values()) == {1}


@pytest.mark.skipif(not nvrtc.is_here(), reason="NVRTC is not installed")
@pytest.mark.parametrize("arch", ["sm_80", "sm_90a"])
@OF_KINDS
def test_rows_lie_in_registers(kind: str, arch: str) -> None:
    for dims, dtype in (((16384, 4096), F32), ((N, 4096), BF16), ((16384, 1000), F32),
                        ((N, M), F32), ((512, 16384), F32)):
        if "norm" in kind and dims[-1] is M:
            continue
        made = compile_cuda(KINDS[kind](*dims, dtype=dtype), Options(target=f"cuda:{arch}"))
        for each in compile_cubin(made.text, arch)[1]:
            assert (each.stack, each.spilled) == (0, 0)


@pytest.mark.skipif(not nvrtc.is_here(), reason="NVRTC is not installed")
@pytest.mark.parametrize("arch", ["sm_80", "sm_90a"])
@OF_KINDS
def test_rows_are_read_16_bytes_at_a_time(kind: str, arch: str) -> None:
    """As often as there are vectors, and not once more."""
    for dtype, lanes in ((F32, 4), (BF16, 8)):
        made = KINDS[kind](16384, 4096, dtype=dtype)
        (schedule,) = schedules(made)
        assert schedule.lanes == lanes
        text = assembly(compile_cuda(made, Options(target=f"cuda:{arch}")).text, arch)
        for word, count in (("ld", len(made.params)), ("st", len(made.outputs))):
            wide = re.findall(rf"\b{word}\.global\.v4\.\w32\b", text)
            assert len(wide) == count * schedule.held
            assert len(re.findall(rf"\b{word}\.global\b", text)) == len(wide)


@needs_compiler
@OF_KINDS
@pytest.mark.parametrize("length", [1028, 4100, 4097])
def test_rows_that_no_registers_hold(
    kind: str, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are read again in each sweep, 16 bytes at a time where they are aligned."""
    monkeypatch.setattr(held_rows, "MOST_WORDS", 0)
    made = KINDS[kind](3, length)
    (schedule,) = schedules(made)
    assert (schedule.held, schedule.lanes) == (0, 1 if length % 4 else 4)
    CudaGraph(made).check(arrays(made), 3e-5, 3e-5)
