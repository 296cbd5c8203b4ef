"""Attention on tensor cores: both products of a chain, whose elements stay in registers between."""

from __future__ import annotations

import re

import numpy as np
import pytest

from dlc.compiler.cuda import nvrtc
from dlc.compiler.cuda.nvrtc import compile_cubin
from dlc.compiler.kernels.chain_parts import chain_parts
from dlc.compiler.options import Options
from dlc.compiler.passes.differentiate import differentiate
from dlc.compiler.passes.lower_precision import lower_precision
from dlc.compiler.pipeline import compile_cuda, dump_graph, plan
from dlc.compiler.schedules import tensor_chains
from dlc.ir.graph import Builder, Graph
from dlc.ir.interpret import run_graph
from dlc.ir.schedule import ChainTile
from dlc.ir.types import BF16, F16, F32, F64, DType
from tests.compiler.test_chains import Attention, N, S, T, draw, einsum, triangle
from tests.compiler.test_kernels import graph, value
from tests.cuda.compiled import HEADERS, CudaGraph
from tests.cuda.on_cpu import Module, needs_compiler

TOLERANCE = {"bf16": 3e-2, "f16": 4e-3, "tf32": 6e-3}


def options(precision: str, target: str = "cuda:sm_80") -> Options:
    return Options(target=target, precision=precision)


def tiles(made: Graph, given: Options) -> list[ChainTile | None]:
    """Of each chain, its tile on tensor cores."""
    program = plan(made, given)[0]
    schedules = dict(program.schedules)
    return [schedules[k.name].chain for k in program.kernels if chain_parts(k) is not None]


def check(made: Graph, precision: str, sizes: tuple[int, int, int]) -> CudaGraph:
    """All chains are on tensor cores, and near the meaning with operands of that precision."""
    found = tiles(made, options(precision))
    assert found
    assert all(tile is not None for tile in found)
    compiled, arrays = CudaGraph(made, Options(precision=precision)), draw(made, sizes)
    arrays[0] = arrays[0] / 3
    meant = run_graph(lower_precision(differentiate(made), options(precision)), arrays)
    for got, right in zip(compiled.run(arrays), meant, strict=True):
        scale = max(1, np.abs(right).max())
        np.testing.assert_allclose(got / scale, right / scale, rtol=0, atol=TOLERANCE[precision])
    return compiled


@needs_compiler
@pytest.mark.parametrize(("precision", "depth", "sizes"), [
    ("bf16", 32, (2, 17, 70)), ("bf16", 7, (1, 70, 130)), ("f16", 20, (1, 40, 33)),
    ("f16", 64, (1, 1, 1)), ("tf32", 40, (1, 70, 130)), ("tf32", 7, (2, 33, 5)),
    ("tf32", 24, (1, 64, 64))])
def test_attention_and_its_gradients(
    precision: str, depth: int, sizes: tuple[int, int, int]
) -> None:
    """A depth of 7 has no neighbours that are copied at once; of 20, pairs."""
    check(Attention(depth=depth).graph(), precision, sizes)


@needs_compiler
@pytest.mark.parametrize("seen", ["le", "ge"])
@pytest.mark.parametrize("precision", ["bf16", "tf32"])
def test_a_triangle_of_keys(precision: str, seen: str) -> None:
    check(triangle(seen), precision, (1, 100, 0))


@needs_compiler
@pytest.mark.parametrize("precision", ["f16", "tf32"])
def test_keys_and_values_that_lie_the_other_way(precision: str) -> None:
    """Memory lies along the sum of the last product, and across that of the first one."""
    b = Builder(("q", "k", "v"))
    q, k, v = value("q", N, T, 24), value("k", N, 24, S), value("v", N, 40, S)
    weights = b.op("softmax", einsum(b, "nqd,ndk->nqk", q, k), axis=2)
    made = graph(b, [q, k, v], [einsum(b, "nqk,nek->nqe", weights, v)])
    found = tiles(made, options(precision))
    copied = (4, 1, 1) if precision == "tf32" else (8, 0, 0)
    assert [tile.copied for tile in found if tile] == [copied]
    check(made, precision, (2, 35, 70))


@needs_compiler
@pytest.mark.parametrize(("warps", "down", "stages", "part"), [
    (1, 1, 2, 16), (2, 2, 2, 32), (4, 1, 3, 64), (1, 1, 3, 128)])
@pytest.mark.parametrize("precision", ["bf16", "tf32"])
def test_tiles_of_all_sizes(
    precision: str, warps: int, down: int, stages: int, part: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, size in (("WARPS", warps), ("DOWN", down), ("STAGES", stages), ("PARTS", part)):
        monkeypatch.setattr(tensor_chains, name, (size,))
    monkeypatch.setattr(tensor_chains, "MOST_REGISTERS", 1000)
    monkeypatch.setattr(tensor_chains, "chain_tiles", lambda *_: None)
    made = Attention(heads=1, depth=16).graph(gradients=False)
    compiled = check(made, precision, (1, 70, 200))
    assert f"first_p += {part}" in compiled.made.text


@needs_compiler
@pytest.mark.parametrize("dropped", [r"__syncthreads\(\);", r"wait_for_copies<\d>\(\);"])
def test_each_meeting_is_needed(dropped: str) -> None:
    made = Attention(heads=1, depth=16).graph(gradients=False)
    compiled = check(made, "bf16", (1, 70, 130))
    (place,) = re.findall(dropped, compiled.made.text)
    compiled.module = Module(compiled.made.text.replace(place, ""), HEADERS)
    arrays = draw(made, (1, 70, 130))
    (right,) = run_graph(made, arrays)
    (got,) = compiled.run(arrays)
    assert not np.abs(got - right).max() < 0.1


def test_f32_is_multiplied_as_it_is() -> None:
    """Unless tf32 is asked for; and doubles always are."""
    assert tiles(Attention().graph(), options("f32")) == [None] * 3
    assert tiles(Attention(dtype=F64).graph(), options("tf32")) == [None] * 3
    assert tiles(Attention().graph(), options("bf16", "cuda:sm_75")) == [None] * 3


def test_weights_that_are_not_rounded_are_not_multiplied_so() -> None:
    """Operands of 16 bits are; but what is made of them is f32."""
    b = Builder(("q", "k", "v"))
    q, k, v = (value(n, *dims, dtype=BF16) for n, dims in (
        ("q", (T, 16)), ("k", (S, 16)), ("v", (S, 16))))
    wide = [b.op("cast", x, to=F32) for x in (q, k, v)]
    weights = b.op("softmax", einsum(b, "qd,kd->qk", *wide[:2]), axis=1)
    made = graph(b, [q, k, v], [einsum(b, "qk,kd->qd", weights, wide[2])])
    assert tiles(made, options("f32")) == [None]
    assert [tile.dtype for tile in tiles(made, options("tf32")) if tile] == [F32]


def test_each_stage_shows_it() -> None:
    made, given = Attention(depth=64, dtype=BF16).graph(gradients=False), options("f32")
    (tile,) = tiles(made, given)
    assert tile is not None
    sizes = f"{tile.warps}, {tile.down}, {tile.stages}, 8, 8, 8"
    assert f"chain bf16 {sizes}" in dump_graph(made, "kernels", given)
    assert ": i32x4 = fragments " in dump_graph(made, "loops", given)
    text = dump_graph(made, "cuda", given)
    assert "two_bf16(" in text
    assert "copy_bytes<16>(" in text


@pytest.mark.skipif(not nvrtc.is_here(), reason="NVRTC is not installed")
@pytest.mark.parametrize(("dtype", "precision"), [
    (BF16, "f32"), (F16, "f32"), (F32, "bf16"), (F32, "tf32")], ids=str)
@pytest.mark.parametrize("depth", [7, 32, 64, 128, 256])
def test_all_lies_in_registers(depth: int, dtype: DType, precision: str) -> None:
    made = Attention(heads=8, depth=depth, dtype=dtype).graph()
    given = Options(target="cuda:sm_80", precision=precision,
                    hints={"N": 8, "T": 1024, "S": 1024})
    text = compile_cuda(made, given).text
    assert ("= multiply_" in text) == (depth < 256 or precision != "tf32")
    for arch in ("sm_80", "sm_90a"):
        each = compile_cubin(text, arch)[1]
        assert [r for r in each if r.spilled or r.stack] == []
