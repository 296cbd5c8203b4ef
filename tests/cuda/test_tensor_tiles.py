"""Products on tensor cores: every form with odd edges, and each wait and barrier is needed."""

from __future__ import annotations

import re
import struct

import numpy as np
import pytest

from dlc.compiler.cuda import nvrtc
from dlc.compiler.cuda.nvrtc import compile_cubin
from dlc.compiler.options import Options
from dlc.compiler.pipeline import compile_cuda, dump_graph
from dlc.compiler.schedules import group_tiles, tensor_tiles
from dlc.ir.dims import Dim, symbol
from dlc.ir.graph import Builder, Graph, Param, Value
from dlc.ir.ops.contract import conv_spec, matmul_spec, spec
from dlc.ir.scalar import cast_array
from dlc.ir.types import BF16, F16, F32, F64, DType, tensor
from tests.compiler import test_ops_compiled as ops
from tests.cuda.compiled import HEADERS, CudaGraph
from tests.cuda.on_cpu import KernelFault, Memory, Module, needs_compiler
from tests.cuda.test_implicit_products import with_gradients

M, N = symbol("M"), symbol("N")
TF32 = Options(precision="tf32")
KINDS = pytest.mark.parametrize(("dtype", "options"), [
    (BF16, Options()), (F16, Options()), (F32, TF32), (F32, Options(precision="bf16"))],
    ids=["bf16", "f16", "tf32", "rounded to bf16"])
DIGITS = {BF16: 2.0**-8, F16: 2.0**-11}
ROUNDED = {"f32": 0.0, "tf32": 2.0**-10, "bf16": 2.0**-7}  # of a product of two operands
MULTIPLY = re.compile(r"= multiply_\w+\(")


@pytest.fixture(autouse=True)
def _on_tensor_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small products too, and none by warp groups."""
    monkeypatch.setattr(group_tiles.GroupSearch, "grouped", lambda self: None)
    monkeypatch.setattr(tensor_tiles.TileSearch, "choose", lambda self: None)
    monkeypatch.setattr(tensor_tiles, "FEWEST", 1)


def tile(monkeypatch: pytest.MonkeyPatch, *sizes: object) -> None:
    """From here on tiles have these warps, matrices down and across, and stages."""
    for name, size in zip(("WARPS", "DOWN", "ACROSS", "STAGES"), sizes, strict=True):
        monkeypatch.setattr(tensor_tiles, name, (size,))


def dense(dtype: DType, rows: Dim, inner: int, columns: int, prologue: bool = False) -> Graph:
    """tanh(x @ w + b), or of max(x, 0)."""
    x, w = Value("x", tensor(dtype, (rows, inner))), Value("w", tensor(dtype, (inner, columns)))
    bias = Value("b", tensor(dtype, (columns,)))
    b = Builder("xwb")
    left = b.op("maximum", x, b.constant(0.0, x.type)) if prologue else x
    made = b.op("contract", left, w, **matmul_spec(x.dims, w.dims))
    out = b.op("tanh", b.op("add", made, b.broadcast(bias, made.dims, (1,))))
    return Graph("dense", (Param(x), Param(w), Param(bias)), tuple(b.nodes), (out,))


def numbers(graph: Graph, **sizes: int) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    made = [rng.standard_normal([d if isinstance(d, int) else sizes[str(d)]
                                 for d in p.value.dims]).astype(np.float32) * 0.3
            for p in graph.params]
    return [cast_array(cast_array(a, p.value.dtype), F32) if p.value.dtype is BF16
            else cast_array(a, p.value.dtype) for a, p in zip(made, graph.params, strict=True)]


def check(compiled: CudaGraph, options: Options, inner: int, **sizes: int) -> None:
    """Near NumPy's numbers in f64: what operands and results are rounded to, and sums in f32."""
    graph = compiled.meaning
    given = numbers(graph, **sizes)
    (found,) = compiled.run(given)
    x, w, bias = (cast_array(a, F64) for a in given)
    expected = np.tanh(x @ w + bias)
    close = np.abs(x) @ np.abs(w) * (ROUNDED[options.precision] + inner * 2.0**-24)
    close = close + 3 * DIGITS.get(graph.params[0].value.dtype, 2.0**-22)
    assert (np.abs(cast_array(found, F64) - expected) <= close).all()


@needs_compiler
@KINDS
@pytest.mark.parametrize(("warps", "down", "across", "stages"), [
    ((1, 1), 2, 4, 2), ((2, 4), 2, 2, 3), ((2, 2), 2, 4, 4)])
def test_tiles(
    dtype: DType, options: Options, warps: tuple[int, int], down: int, across: int, stages: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tile(monkeypatch, warps, down, across, stages)
    for inner, columns in ((64, 72), (137, 67)):
        compiled = CudaGraph(dense(dtype, N, inner, columns), options)
        assert MULTIPLY.search(compiled.made.text)
        for rows in (1, 130):
            check(compiled, options, inner, N=rows)


@needs_compiler
def test_what_is_copied_without_registers(monkeypatch: pytest.MonkeyPatch) -> None:
    tile(monkeypatch, (2, 2), 2, 4, 3)
    for dtype, options, inner, columns, expected in (
            (BF16, Options(), 64, 72, {"16"}), (BF16, Options(), 68, 70, {"8", "4"}),
            (BF16, Options(), 37, 67, set()), (F32, TF32, 68, 70, {"16", "8"}),
            (F32, TF32, 37, 67, {"4"})):
        compiled = CudaGraph(dense(dtype, N, inner, columns), options)
        assert set(re.findall(r"copy_bytes<(\d+)>", compiled.made.text.partition(
            'extern "C"')[2])) == expected
        check(compiled, options, inner, N=77)


@needs_compiler
@KINDS
def test_products_and_convolutions_of_odd_sizes(dtype: DType, options: Options) -> None:
    together = ops.Together(ops.products(dtype), compiled=lambda g, o: CudaGraph(g, options))
    assert MULTIPLY.search(together.compiled.made.text)  # type: ignore[attr-defined]
    last = max(ops.last_digits(dtype), ROUNDED[options.precision] * 8, 4 * DIGITS.get(dtype, 0))
    for n in (1, 37, 70):
        together.check(n, last, 2.5 * last)


FORMS: dict[str, tuple[tuple[str, ...], str]] = {
    "left turned": (("km", "kn"), "mn"), "right turned": (("mk", "nk"), "mn"),
    "both turned": (("km", "nk"), "mn"), "in batches": (("bmk", "bkn"), "bmn"),
    "a batch inside": (("mbk", "kbn"), "bmn"), "result turned": (("mk", "kn"), "nm"),
    "two summed": (("mjk", "jkn"), "mn"), "rows of two": (("mjk", "kn"), "jmn"),
}


def einsums(dtype: DType, extents: dict[str, int]) -> Graph:
    """All forms, each of operands of its own."""
    b = Builder(f"{v}{k}" for k in range(len(FORMS)) for v in "xw")
    params, results = [], []
    for number, (maps, out) in enumerate(FORMS.values()):
        for letter, m in zip("xw", maps, strict=True):
            dims = tuple(extents[i] for i in m)
            params.append(Value(f"{letter}{number}", tensor(dtype, dims)))
        places = [tuple(map(symbol, m)) for m in (*maps, out)]
        used: dict[str, Dim] = {i: extents[i] for i in sorted({*maps[0], *maps[1]})}
        results.append(b.op("contract", *params[-2:], **spec(
            used, (places[0], places[1]), places[2], tuple(extents[i] for i in out))))
    return Graph("einsums", tuple(map(Param, params)), tuple(b.nodes), tuple(results))


@needs_compiler
@KINDS
@pytest.mark.parametrize("extents", [{"m": 40, "n": 48, "k": 72, "b": 3, "j": 8},
                                     {"m": 19, "n": 37, "k": 23, "b": 2, "j": 3}], ids=str)
def test_einsums(extents: dict[str, int], dtype: DType, options: Options) -> None:
    graph = einsums(dtype, extents)
    compiled = CudaGraph(graph, options)
    assert len(MULTIPLY.findall(compiled.made.text)) > len(FORMS)
    given = numbers(graph)
    for number, ((maps, out), found) in enumerate(
            zip(FORMS.values(), compiled.run(given), strict=True)):
        x, w = (cast_array(a, F64) for a in given[2 * number:2 * number + 2])
        form = f"{','.join(maps)}->{out}"
        expected, size = np.einsum(form, x, w), np.einsum(form, np.abs(x), np.abs(w))
        close = size * (ROUNDED[options.precision] + 2.0**-18) + np.abs(expected) * DIGITS.get(
            dtype, 0)
        assert (np.abs(cast_array(found, F64) - expected) <= close).all()


@needs_compiler
@pytest.mark.parametrize("precision", ["tf32", "bf16"])
@pytest.mark.parametrize("settings", [{"padding": 1}, {"stride": 2, "padding": 1},
                                      {"dilation": 2}, {"groups": 2}], ids=str)
def test_a_convolution_and_its_gradients(precision: str, settings: dict[str, int]) -> None:
    x: tuple[Dim, ...] = (N, 8, 7, 9)
    w = (12, 8 // settings.get("groups", 1), 3, 3)
    graph = with_gradients(x, w, conv_spec(x, w, **settings))
    compiled = CudaGraph(graph, Options(precision=precision))
    assert len(MULTIPLY.findall(compiled.made.text)) >= 3
    for n in (1, 5):
        compiled.check(numbers(graph, N=n), rtol=3 * ROUNDED[precision],
                       atol=40 * ROUNDED[precision] * 0.3)


@needs_compiler
@pytest.mark.parametrize("dtype", [BF16, F32], ids=str)
def test_what_is_computed_before(dtype: DType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fusion leaves maximum in a kernel of its own, but a product may read what is made there."""
    tile(monkeypatch, (2, 2), 2, 4, 3)
    options = TF32 if dtype is F32 else Options()
    x = Value("x", tensor(dtype, (N, 40)))
    b = Builder("x")
    y = b.op("contract", x, b.op("transpose", x, order=(1, 0)), **matmul_spec((N, 40), (40, N)))
    graph = Graph("gram", (Param(x),), tuple(b.nodes), (y,))
    compiled = CudaGraph(graph, options)
    for n in (1, 33, 70):
        (found,) = compiled.run(numbers(graph, N=n))
        each = cast_array(numbers(graph, N=n)[0], F64)
        np.testing.assert_allclose(cast_array(found, F64), each @ each.T, rtol=2.0**-7,
                                   atol=2.0**-8)


# Planted bugs

def broken(text: str, at: int, pattern: str, by: str) -> str:
    places = [m.span() for m in re.finditer(pattern, text)]
    start, end = places[at]
    return text[:start] + by + text[end:]


@needs_compiler
@pytest.mark.parametrize(("pattern", "by"), [
    (r"__syncthreads\(\);", ""), (r"wait_for_copies<1>\(\);", ""),
    (r"wait_for_copies<1>\(\);", "wait_for_copies<2>();"), (r"(?<=  )copies_end_group\(\);", ""),
    (r"const Index stage = .*;", "const Index stage = turn % 2;")],
    ids=["barrier", "wait", "one group more", "end of a group", "stage"])
def test_what_is_missing_shows(
    pattern: str, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tile(monkeypatch, (2, 2), 1, 4, 3)
    graph = dense(BF16, 70, 320, 72)
    compiled = CudaGraph(graph)
    text = compiled.made.text
    first = text.index('extern "C"')
    text = text[:first] + broken(text[first:], 0, pattern, by)
    compiled.module = Module(text, HEADERS)
    with pytest.raises((AssertionError, KernelFault)):
        check(compiled, Options(), 320)


@needs_compiler
def test_lanes_multiply_together() -> None:
    module = Module("""
extern "C" __global__ void k(float *x) {
  if (threadIdx.x < 16) x[0] = multiply_f16(0, 0, 0, 0, 0, 0, 0, 0, 0, 0).at[0];
}""", HEADERS)
    with pytest.raises(KernelFault, match="wait"):
        module.launch("k", 1, 32, Memory(4, np.float32))


# What a GPU's compiler makes of it

def products_in(code: bytes) -> int:
    """How many instructions of machine code multiply matrices of 16 bits or tf32."""
    (table,) = struct.unpack_from("<Q", code, 40)
    width, count = struct.unpack_from("<HH", code, 58)
    found = 0
    for k in range(count):
        _, kind, flags, _, start, size = struct.unpack_from("<IIQQQQ", code, table + k * width)
        if kind == 1 and flags & 4:  # machine code
            words = np.frombuffer(code[start:start + size], "<u4").reshape(-1, 4)
            found += int(((words[:, 0] & 0xFFF) == 0x23C).sum())
    return found


@pytest.mark.skipif(not nvrtc.is_here(), reason="NVRTC is not installed")
@pytest.mark.parametrize("arch", ["sm_80", "sm_90a"])
@KINDS
def test_machine_code(dtype: DType, options: Options, arch: str) -> None:
    for sizes in ((4096, 4096, 4096), (1000, 999, 1001), (256, 256, 256)):
        graph = dense(dtype, M, *sizes[1:])
        settings = Options(f"cuda:{arch}", hints={"M": sizes[0]}, precision=options.precision)
        code, each = compile_cubin(compile_cuda(graph, settings).text, arch)
        assert any(r.kernel.startswith("contract") for r in each)
        assert [r for r in each if r.stack or r.spilled] == []
        assert products_in(code) >= 8


def test_which_tiles() -> None:
    """Large ones for large products, more of them for small ones; f32 stays f32."""

    def found(rows: int, inner: int, columns: int, precision: str = "bf16") -> tuple[int, ...]:
        text = dump_graph(dense(F32, rows, inner, columns), "kernels", Options(
            "cuda:sm_90a", precision=precision))
        told = re.search(r"tensor \w+ (.*)", text)
        return tuple(map(int, told[1].split(","))) if told else ()

    assert found(4096, 4096, 4096, "f32") == ()
    down, across, *_ = found(4096, 4096, 4096)
    assert down * across == 8
    assert found(4096, 4096, 4096)[:4] > found(256, 256, 256)[:4]
    assert found(4096, 4096, 4096)[5] >= 3


