"""Sizes that are symbols and turn out to be multiples of what is copied at once: kernels of their
own run then, and the others at all other sizes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from dlc.compiler.cuda import nvrtc
from dlc.compiler.cuda.nvrtc import compile_cubin
from dlc.compiler.options import Options
from dlc.compiler.pipeline import compile_cuda, plan
from dlc.compiler.schedules import tensor_tiles
from dlc.frontend.build import Build
from dlc.frontend.records import SHARED
from dlc.ir.dims import Dim, symbol
from dlc.ir.graph import Builder, Graph, Param, Value
from dlc.ir.ops.contract import matmul_spec
from dlc.ir.scalar import cast_array
from dlc.ir.types import BF16, F16, F32, F64, DType, tensor
from dlc.runtime.cuda.plan import Step, chosen
from tests.cuda import compiled
from tests.cuda.compiled import CudaGraph
from tests.cuda.on_cpu import needs_compiler
from tests.cuda.test_tensor_tiles import KINDS, check, numbers

K, M, N, T = map(symbol, "KMNT")
GPU = "cuda:sm_90a"
SIZES = ((1, 1, 1), (9, 8, 8), (37, 45, 67), (70, 64, 72), (70, 64, 71), (33, 60, 80))


def dense(dtype: DType, turned: bool = False) -> Graph:
    """tanh(x @ w + b), or of x.T: all sizes are symbols."""
    dims: tuple[Dim, Dim] = (K, M) if turned else (M, K)
    x, w, bias = (Value(name, tensor(dtype, each))
                  for name, each in (("x", dims), ("w", (K, N)), ("b", (N,))))
    b = Builder("xwb")
    left = b.op("transpose", x, order=(1, 0)) if turned else x
    made = b.op("contract", left, w, **matmul_spec((M, K), (K, N)))
    out = b.op("tanh", b.op("add", made, b.broadcast(bias, made.dims, (1,))))
    return Graph("dense", (Param(x), Param(w), Param(bias)), tuple(b.nodes), (out,))


def bodies(text: str) -> dict[str, str]:
    """The text of each kernel, by its name."""
    head = r'extern "C" __global__ void [^(]*\(\d+, \d+\) (\w+)\('
    return dict(re.findall(head + r"(.*?)\n}\n", text, re.S))


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kernels that launches ran."""
    names: list[str] = []

    def told(step: Step, sizes: dict[str, int]) -> Step:
        found = chosen(step, sizes)
        names.append(found["kernel"])
        return found

    monkeypatch.setattr(compiled, "chosen", told)
    return names


@needs_compiler
@KINDS
def test_what_runs_copies_as_much_as_sizes_allow(
    dtype: DType, options: Options, ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensor_tiles.TileSearch, "choose", lambda self: None)  # small ones too
    monkeypatch.setattr(tensor_tiles, "FEWEST", 1)
    for turned in (False, True):
        made = CudaGraph(dense(dtype, turned), options)
        text = bodies(made.made.text)
        lines = (lambda m, k, n: (m, n)) if turned else (lambda m, k, n: (k, n))
        pack = 4 if options.precision == "tf32" else 8
        for m, k, n in SIZES:
            ran.clear()
            check_of(made, options, turned, M=m, K=k, N=n)
            fits = all(size % pack == 0 for size in lines(m, k, n))
            products = [text[name] for name in ran if "multiply_" in text[name]]
            assert products
            for body in products:
                assert ("copy_bytes<16>" in body) == fits


def check_of(made: CudaGraph, options: Options, turned: bool, **sizes: int) -> None:
    """Near NumPy's numbers."""
    if not turned:
        check(made, options, sizes["K"], **sizes)
        return
    given = numbers(made.meaning, **sizes)
    (found,) = made.run(given)
    x, w, bias = (cast_array(a, F64) for a in given)
    np.testing.assert_allclose(
        cast_array(found, F64), np.tanh(x.T @ w + bias), rtol=2.0**-6, atol=2.0**-6)


@needs_compiler
def test_rows_that_meet_one_row(ran: list[str]) -> None:
    """Elementwise work on rows whose length is a symbol: where it is a multiple of 4, a thread has
    four elements side by side, of which none sticks out."""
    x, y = Value("x", tensor(F32, (M, N))), Value("y", tensor(F32, (N,)))
    b = Builder("xy")
    out = b.op("mul", x, b.broadcast(y, x.dims, (1,)))
    made = CudaGraph(Graph("scaled", (Param(x), Param(y)), tuple(b.nodes), (out,)))
    text = bodies(made.made.text)
    for m, n in ((3, 8), (5, 7), (70, 64), (1, 1), (300, 12)):
        ran.clear()
        given = numbers(made.meaning, M=m, N=n)
        (found,) = made.run(given)
        np.testing.assert_array_equal(found, given[0] * given[1])
        assert ("Pack<float, 4>" in text[ran[-1]]) == (n % 4 == 0)
    assert not [body for body in text.values() if "Pack" in body and " ? " in body]


@needs_compiler
def test_every_variant_gives_what_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    made = CudaGraph(dense(BF16))
    ran: set[str] = set()
    for number in range(12):
        def one(step: Step, sizes: dict[str, int], number: int = number) -> Step:
            allowed = [v for v in step.get("variants", ()) if all(
                sizes[left[1]] % left[2] == right for left, relation, right in v["where"]
                if relation == "==")]
            found = [*allowed, step][number % (len(allowed) + 1)]
            ran.add(found["kernel"])
            return found

        monkeypatch.setattr(compiled, "chosen", one)
        for m, k, n in SIZES:
            check(made, Options(), k, M=m, K=k, N=n)
    assert len(ran) == made.made.text.count("__global__") > 4


@needs_compiler
def test_parts_of_what_is_stacked_begin_at_such_sizes_too(tmp_path: Path, ran: list[str]) -> None:
    """h @ x[t] for all t: the memory of x[t] begins at t*N*N."""
    path = tmp_path / "products.dl"
    path.write_text(
        "fn run(x: bf16[T, N, N], h0: bf16[M, N]) -> bf16[M, N] {\n"
        "    scan e in x carry h = h0 {\n        h = tanh(h @ e)\n    }\n    return h\n}\n")
    graph = Build(path).model(SHARED, {}).graph("run")
    made = CudaGraph(graph)
    text = bodies(made.made.text)
    for m, n, fits in ((9, 16, True), (17, 40, True), (17, 39, False), (3, 44, False)):
        ran.clear()
        x, h = numbers(graph, T=3, M=m, N=n)
        (found,) = made.run([x, h])
        for e in x:
            h = cast_array(np.tanh(h.astype(np.float64) @ e.astype(np.float64)).astype(
                np.float32), BF16)
            h = cast_array(h, F32)
        np.testing.assert_allclose(cast_array(found, F32), h, rtol=0.03, atol=0.01)
        assert any("copy_bytes<16>" in text[name] for name in ran) == fits


def asked(graph: Graph, options: Options) -> set[str]:
    """What kernels ask of multiples."""
    program, _ = plan(graph, options)
    return {str(c) for v in program.variants for c in v.where if c.relation == "=="}


@pytest.mark.parametrize(("columns", "expected"), [
    (512, set()), (2 * N + 1, set()), (4 * N, {"N % 2 == 0"}), (N + 16, {"N % 8 == 0"}),
    (8 * N, set())], ids=str)
def test_no_more_is_asked_than_is_needed(columns: Dim, expected: set[str]) -> None:
    """What is known needs no question, nor does what can't be."""
    x, w = Value("x", tensor(BF16, (M, 512))), Value("w", tensor(BF16, (512, columns)))
    b = Builder("xw")
    y = b.op("contract", x, w, **matmul_spec(x.dims, w.dims))
    assert asked(Graph("of_columns", (Param(x), Param(w)), tuple(b.nodes), (y,)), Options(
        GPU)) == expected


@pytest.mark.skipif(not nvrtc.is_here(), reason="NVRTC is not installed")
@pytest.mark.parametrize("arch", ["sm_80", "sm_90a"])
@KINDS
def test_machine_code(dtype: DType, options: Options, arch: str) -> None:
    settings = Options(f"cuda:{arch}", precision=options.precision)
    made = compile_cuda(dense(dtype), settings)
    _, each = compile_cubin(made.text, arch)
    assert [r for r in each if r.stack or r.spilled] == []
    wide = [name for name, body in bodies(made.text).items() if "copy_bytes<16>" in body]
    assert len(wide) >= 2


def test_of_what_kinds() -> None:
    """f32 that stays f32 is copied element by element, whatever its sizes."""
    for dtype, options, number in ((BF16, Options(GPU), 8), (F16, Options(GPU), 8),
                                   (F32, Options(GPU, precision="tf32"), 4)):
        assert asked(dense(dtype), options) == {f"K % {number} == 0", f"N % {number} == 0"}
    assert asked(dense(F32), Options(GPU)) == set()
