"""Products by warp groups: every form with odd edges, and each wait and signal is needed."""

from __future__ import annotations

import re

import numpy as np
import pytest

from dlc.compiler.cuda import nvrtc
from dlc.compiler.cuda.nvrtc import compile_cubin
from dlc.compiler.options import Options
from dlc.compiler.pipeline import compile_cuda, dump_graph
from dlc.compiler.schedules import group_tiles, tensor_tiles
from dlc.ir.dims import Dim, symbol
from dlc.ir.graph import Builder, Graph, Param, Value
from dlc.ir.ops.contract import Spec, conv_spec, matmul_spec, spec
from dlc.ir.scalar import cast_array
from dlc.ir.types import BF16, F16, F32, F64, DType, tensor
from dlc.runtime.cuda.device import device
from tests.cuda.compiled import HEADERS, CudaGraph
from tests.cuda.on_cpu import KernelFault, Module, needs_compiler
from tests.cuda.on_device import ON_GPU
from tests.cuda.ptx import assembly
from tests.cuda.test_tensor_tiles import FORMS, check, dense, einsums, numbers

M, N, K = symbol("M"), symbol("N"), symbol("K")
DIGITS = {BF16: 2.0**-8, F16: 2.0**-11}
SMALL = ((1, 1, 64),)
GROUPED = re.compile(r" {2}multiply_rows<\w+, (\d+), (true|false), (true|false)>")
pytestmark = pytest.mark.skipif(ON_GPU and device().arch != "sm_90a", reason="it takes sm_90a")


class GroupGraph(CudaGraph):
    """A graph for the GPUs that have warp groups."""

    arch = "sm_90a"


@pytest.fixture
def by_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small products too, in small tiles."""
    monkeypatch.setattr(tensor_tiles.TileSearch, "choose", lambda self: None)
    monkeypatch.setattr(tensor_tiles.TensorSearch, "best", lambda self: None)
    monkeypatch.setattr(group_tiles, "TILES", SMALL)
    monkeypatch.setattr(group_tiles, "MOST_STAGES", 3)


@needs_compiler
@pytest.mark.usefixtures("by_groups")
@pytest.mark.parametrize("dtype", [BF16, F16], ids=str)
@pytest.mark.parametrize(("tile", "stages", "band"), [
    ((1, 1, 64), 3, 2), ((2, 1, 128), 4, 8), ((1, 2, 128), 2, 1)], ids=str)
def test_tiles(
    dtype: DType, tile: tuple[int, int, int], stages: int, band: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in (("TILES", (tile,)), ("MOST_STAGES", stages), ("FEWEST_STAGES", stages),
                        ("BAND", band)):
        monkeypatch.setattr(group_tiles, name, value)
    for inner, columns in ((64, 72), (328, 136)):
        compiled = GroupGraph(dense(dtype, N, inner, columns))
        assert GROUPED.findall(compiled.made.text)[0][0] == str(tile[2])
        for rows in (1, 200):
            check(compiled, Options(), inner, N=rows)


@needs_compiler
@pytest.mark.usefixtures("by_groups")
@pytest.mark.parametrize("dtype", [BF16, F16], ids=str)
def test_einsums(dtype: DType) -> None:
    """Factors that are turned, batches, and sums over two indices."""
    graph = einsums(dtype, {"m": 40, "n": 72, "k": 80, "b": 3, "j": 8})
    compiled = GroupGraph(graph)
    found = {form[1:] for form in GROUPED.findall(compiled.made.text)}
    assert len(found) == 4  # either factor is turned, or both
    given = numbers(graph)
    for number, ((maps, out), made) in enumerate(
            zip(FORMS.values(), compiled.run(given), strict=True)):
        x, w = (cast_array(a, F64) for a in given[2 * number:2 * number + 2])
        form = f"{','.join(maps)}->{out}"
        expected, size = np.einsum(form, x, w), np.einsum(form, np.abs(x), np.abs(w))
        close = size * 2.0**-18 + np.abs(expected) * DIGITS[dtype]
        assert (np.abs(cast_array(made, F64) - expected) <= close).all(), form


@needs_compiler
@pytest.mark.usefixtures("by_groups")
def test_sizes_that_are_symbols() -> None:
    """Where lines of both factors are multiples of 16 bytes, groups multiply them."""
    x, w = Value("x", tensor(BF16, (M, K))), Value("w", tensor(BF16, (K, N)))
    b = Builder("xw")
    y = b.op("contract", x, w, **matmul_spec(x.dims, w.dims))
    compiled = GroupGraph(Graph("matmul", (Param(x), Param(w)), tuple(b.nodes), (y,)))
    assert GROUPED.search(compiled.made.text)
    assert "K % 8 == 0" in compiled.made.text
    for m, k, n in ((3, 16, 8), (70, 104, 72), (5, 13, 9), (66, 8, 7), (1, 0, 8)):
        given = numbers(compiled.meaning, M=m, K=k, N=n)
        (found,) = compiled.run(given)
        expected = cast_array(given[0], F64) @ cast_array(given[1], F64)
        assert (np.abs(cast_array(found, F64) - expected) <= np.abs(expected) * 2.0**-8
                + k * 2.0**-20).all()


@needs_compiler
@pytest.mark.usefixtures("by_groups")
def test_indices_of_64_bits() -> None:
    class Wide(GroupGraph):
        defined = ("WIDE_INDICES",)

    check(Wide(dense(BF16, N, 136, 72)), Options(), 136, N=70)


# What groups do not multiply

def test_which_products() -> None:
    """Large ones of 16 bits, of whose factors lines begin at multiples of 16 bytes; what has to be
    computed first goes by way of registers."""
    def made(dtype: DType, *sizes: int, precision: str = "f32", target: str = "sm_90a") -> str:
        return dump_graph(dense(dtype, *sizes), "kernels", Options(
            f"cuda:{target}", precision=precision))

    assert "grouped bf16 2, 1, 256, 4, 0," in made(BF16, 4096, 4096, 4096)
    assert "grouped f16" in made(F16, 2048, 4096, 1024)
    for other in (made(BF16, 4096, 4095, 4096), made(BF16, 4096, 4096, 4092),
                  made(BF16, 256, 256, 256), made(F32, 4096, 4096, 4096, precision="tf32"),
                  made(BF16, 4096, 4096, 4096, target="sm_80"),
                  made(BF16, 4096, 4096, 4096, target="sm_90")):
        assert "grouped" not in other
        assert "tensor " in other


def test_what_lies_in_no_boxes() -> None:
    """Windows of an image that stick out of it; but images and channels are rows and columns."""
    def made(x: tuple[Dim, ...], w: tuple[Dim, ...], how: Spec) -> str:
        left, right = Value("x", tensor(BF16, x)), Value("w", tensor(BF16, w))
        b = Builder("xw")
        y = b.op("contract", left, right, **how)
        graph = Graph("f", (Param(left), Param(right)), tuple(b.nodes), (y,))
        return dump_graph(graph, "kernels", Options("cuda:sm_90a"))

    x, w = (64, 256, 56, 56), (256, 256, 3, 3)
    assert "grouped" not in made(x, w, conv_spec(x, w, padding=1))
    n, h, c, o = map(symbol, "nhco")
    plain = spec({"n": 64, "h": 3136, "c": 256, "o": 512}, ((n, h, c), (c, o)), (n, h, o),
                 (64, 3136, 512))
    assert "grouped" in made((64, 3136, 256), (256, 512), plain)


# Planted bugs

BUGS = {
    "no wait for what is copied": (r"await_phase\(full.*;", ""),
    "no wait for an empty stage": (r"await_phase\(empty.*;", ""),
    "no barrier": (r"__syncthreads\(\);", ""),
    "fewer bytes": (r"(arrive_expecting\(full \+ stage), \d+", r"\1, 8192"),
    "no beginning": (r"products_begin\(\);", ""),
    "no end": (r"products_end_group\(\);", ""),
    "no wait for the turn before": (r"wait_for_products<1>\(\);", ""),
    "no wait for the last turn": (r"wait_for_products<0>\(\);", ""),
    "one warp gives back": (r"-in_warp >= 0", "thread == 0"),
    "another stage": (r"const Index stage_1 = .*;", "const Index stage_1 = turn_1 % 2;"),
    "another stage is copied": (r"const Index stage = .*;", "const Index stage = turn % 2;"),
    "one stage for both": (r"copy_box\(left\w* \+ \(.*?\),", "copy_box(right2,"),
}


@needs_compiler
@pytest.mark.usefixtures("by_groups")
def test_what_is_missing_shows() -> None:
    compiled = GroupGraph(dense(BF16, 70, 320, 72))
    text = compiled.made.text
    first = text.index('extern "C"')
    for name, (pattern, by) in BUGS.items():
        changed = re.sub(pattern, by, text[first:], count=1)
        assert changed != text[first:], name
        compiled.module = Module(text[:first] + changed, HEADERS)
        assert _fails(compiled), name


def _fails(compiled: CudaGraph) -> bool:
    try:
        check(compiled, Options(), 320)
    except (AssertionError, KernelFault):
        return True
    return False


# What follows the sums

@pytest.mark.parametrize(("dtype", "precision", "tile", "pack"), [
    (F32, "f32", "shared", "float, 4"), (F64, "f32", "shared", "double, 2"),
    (F32, "tf32", "tensor", "float, 2"), (BF16, "f32", "tensor", "unsigned short, 2"),
    (BF16, "f32", "grouped", "unsigned short, 2")])
def test_results_side_by_side_are_one_access(
    dtype: DType, precision: str, tile: str, pack: str
) -> None:
    """Without a test where tiles come out even; one by one where a row has no whole packs."""
    size, odd = (4096, 8) if tile == "grouped" else (1024, 7)
    options = Options("cuda:sm_90a" if tile == "grouped" else "cuda:sm_80", precision=precision)

    def end(columns: int) -> str:
        graph = dense(dtype, size, size, columns)
        assert f" {tile} " in dump_graph(graph, "kernels", options)
        text = compile_cuda(graph, options).text
        return text[text.rindex("#pragma unroll"):]

    store = f"*(Pack<{pack}> *)(p3 +"
    even, ragged = end(size), end(size + odd)
    assert store in even
    assert "if (" not in even
    assert (store in ragged) == (odd == 8)
    assert "if (" in ragged


# What a GPU's compiler makes of it

@pytest.mark.skipif(not nvrtc.is_here(), reason="NVRTC is not installed")
def test_machine_code(monkeypatch: pytest.MonkeyPatch) -> None:
    logs: list[str] = []
    resources = nvrtc._resources
    monkeypatch.setattr(nvrtc, "_resources", lambda log: logs.append(log) or resources(log))
    for dtype, graph in ((BF16, dense(BF16, 4096, 4096, 4096)), (F16, dense(F16, N, 4096, 1024)),
                         (BF16, einsums(BF16, dict.fromkeys("mnkbj", 512)))):
        text = compile_cuda(graph, Options("cuda:sm_90a", hints={"N": 4096})).text
        _, each = compile_cubin(text, "sm_90a")
        assert [r for r in each if r.stack or r.spilled] == []
        assert "wgmma" not in logs.pop()  # one that it makes wait for another it tells of
        made = assembly(text, "sm_90a")
        assert f"wgmma.mma_async.sync.aligned.m64n256k16.f32.{dtype}.{dtype}" in made
        assert re.search(r"cp.async.bulk.tensor.[23]d.shared::cluster.global.mbarrier::comp", made)
        assert "setmaxnreg.inc.sync.aligned" in made
