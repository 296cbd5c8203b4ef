"""Scans whose turns are one launch: the bits of launches turn by turn, and what a bug would do."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dlc
from dlc.compiler.cuda import nvrtc
from dlc.compiler.cuda.nvrtc import compile_cubin
from dlc.compiler.options import Options
from dlc.compiler.pipeline import compile_cuda
from dlc.frontend.build import Build
from dlc.ir.graph import Graph
from dlc.runtime.cuda.plan import Launch, Places, launches
from tests.cuda.compiled import HEADERS, CudaGraph
from tests.cuda.on_cpu import KernelFault, Module, needs_compiler
from tests.cuda.stand_in import asked, needs_stand_in, number
from tests.cuda.test_examples_cuda import draw, graph_of

LAYERS = ("RNN", "LSTM", "GRU")
SOURCE = """
import nn

model Net() {
    layer = nn.LAYER(8, 32)
    fn all(xs: f32[T, N, 8]) -> f32[T, N, 32] = layer(xs)
    step fit(xs: f32[T, N, 8]) -> f32 {
        made = layer(xs)
        loss = mean(made * made)
        minimize loss with adam(lr=0.01)
        return loss
    }
}
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Recurrent layers and their training steps."""
    found = {layer: tmp_path_factory.mktemp(layer) / "net.dl" for layer in LAYERS}
    for layer, file in found.items():
        file.write_text(SOURCE.replace("LAYER", layer))
    return found


def graph(file: Path, name: str) -> Graph:
    return Build(file).model("Net", {}).graph(name)


def steps(file: Path, room: int, count: int) -> tuple[list[np.ndarray], dict[str, np.ndarray], str]:
    """The losses of some steps, the parameters after them, and what the driver was asked for."""
    xs = np.random.default_rng(0).standard_normal((6, 5, 8)).astype(np.float32)
    number("room").value = room
    net: Any = dlc.load(file, device="cuda").Net(seed=3)
    net.fit(xs=xs)
    number("log_size").value = 0
    losses = [net.fit(xs=xs) for _ in range(count)]
    log = asked()
    number("room").value = 2
    return losses, {name: np.array(net.variables[name]) for name in net.variables}, log


@needs_stand_in
@pytest.mark.parametrize(("layer", "backwards"), [("RNN", 0), ("LSTM", 1), ("GRU", 0)])
def test_a_training_has_the_bits_of_launches_one_by_one(
    files: dict[str, Path], layer: str, backwards: int, on_stand_in: None
) -> None:
    number("backwards").value = backwards
    try:
        at_once, apart = (steps(files[layer], room, 3) for room in (2, 0))
    finally:
        number("backwards").value = 0
    assert at_once[0] == apart[0]
    assert np.isfinite(at_once[0]).all()
    for name, value in at_once[1].items():
        np.testing.assert_array_equal(value, apart[1][name])
    assert at_once[2].count("R") == 2, "forwards and back, recorded once"
    assert apart[2].count("R") == 0
    assert at_once[2].count("G") == apart[2].count("G") == 3


@needs_stand_in
def test_many_steps_in_one_call(files: dict[str, Path], on_stand_in: None) -> None:
    """Their launches are recorded before any of them has run."""
    xs = np.random.default_rng(0).standard_normal((6, 5, 8)).astype(np.float32)
    one, other = (dlc.load(files["RNN"], device="cuda").Net(seed=3) for _ in "ab")
    losses = [one.fit(xs=xs) for _ in range(4)]
    np.testing.assert_array_equal(other.fit.run(4, batch=None, xs=np.stack([xs] * 4)), losses)


def launched(manifest: dict[str, Any], room: int, **sizes: int) -> list[Launch]:
    """What a call of these sizes launches on a card with room for so many blocks."""
    plan = manifest["cuda"]
    known = {s: sizes.get(s, 1) for s in manifest["symbols"]}
    places = Places(plan, defaultdict(int), lambda launch: room)
    found = [launches(step, known, places) for step in plan["steps"]]
    return [launch for each in found for launch in each or ()]


def test_launches_of_the_language_model() -> None:
    """A turn has two launches forwards and three back; then all turns have one each."""
    made = compile_cuda(graph_of("lstm.dl", "fit"), Options(target="cuda:sm_90a"))
    manifest: Any = made.manifest
    for turns in (1, 64):
        apart, at_once = (launched(manifest, room, N=32, T=turns + 1) for room in (0, 132))
        assert len(apart) - len(at_once) == turns * (2 + 3) - 2
        assert [x.grid for x in at_once if x.resident] == [(32,), (64,)]
        assert len(at_once) == 41
    large = launched(manifest, 132, N=128, T=65)
    assert [x.grid for x in large if x.resident] == [(128,)], "more would be too many blocks"


@pytest.mark.parametrize(("layer", "each"), [("RNN", 3), ("LSTM", 2 + 3), ("GRU", 7)])
def test_launches_of_layers(layer: str, each: int, files: dict[str, Path]) -> None:
    manifest: Any = compile_cuda(
        graph(files[layer], "fit"), Options(target="cuda:sm_90a")).manifest
    apart, at_once = (launched(manifest, room, N=16, T=20) for room in (0, 132))
    assert len(apart) - len(at_once) == 20 * each - 2


def test_what_has_nothing_to_do_with_each_other_does_not_meet(files: dict[str, Path]) -> None:
    """A GRU adds its bias to one thing, and multiplies another one."""
    text = compile_cuda(graph(files["GRU"], "all"), Options(target="cuda:sm_90a")).text
    turn = text[text.index("for (Wide turn"):].splitlines()
    marks = [next((word for word in ("add", "contract", "syncthreads", "meet") if word in line), "")
             for line in turn]
    assert [mark for mark in marks if mark] == [
        "add", "syncthreads", "contract", "meet", "add", "meet"]


@needs_compiler
def test_a_missing_meeting(files: dict[str, Path]) -> None:
    compiled = CudaGraph(graph(files["LSTM"], "all"))
    text, arrays = compiled.made.text, draw(graph(files["LSTM"], "all"))
    expected = compiled.run(arrays)
    assert all(np.isfinite(each).all() for each in expected)
    calls = [match.start() for match in re.finditer(r"meet_all_blocks\(\);", text)]
    assert len(calls) == 2
    for at in calls:
        compiled.module = Module(
            text[:at] + text[at:].replace("meet_all_blocks();", ";", 1), HEADERS)
        found = [compiled._run(arrays, backwards) for backwards in (False, True)]
        same = [np.array_equal(a, b) for each in found for a, b in zip(each, expected, strict=True)]
        assert not all(same)


@needs_compiler
def test_who_does_not_meet(files: dict[str, Path]) -> None:
    compiled = CudaGraph(graph(files["LSTM"], "all"))
    first = "if (turn + 1 < turns) meet_all_blocks();"
    assert compiled.made.text.count(first) == 1
    compiled.module = Module(compiled.made.text.replace(
        first, "if (turn + 1 < turns && blockIdx.x) meet_all_blocks();"), HEADERS)
    with pytest.raises(KernelFault, match=r"blocks wait for all others|a block has ended"):
        compiled.run(draw(graph(files["LSTM"], "all")))


@pytest.mark.skipif(not nvrtc.is_here(), reason="NVRTC is not installed")
@pytest.mark.parametrize("arch", ["sm_80", "sm_90a"])
def test_it_compiles_without_spills(arch: str) -> None:
    text = compile_cuda(graph_of("lstm.dl", "fit"), Options(target=f"cuda:{arch}")).text
    found = [r for r in compile_cubin(text, arch)[1] if r.kernel.startswith("turns")]
    assert len(found) == 3
    assert [r for r in found if r.spilled or r.stack] == []


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not installed")
def test_no_load_goes_by_what_never_changes(files: dict[str, Path], tmp_path: Path) -> None:
    """Other blocks write what a kernel reads: the loads of constants would not see it."""
    text = compile_cuda(graph(files["LSTM"], "fit"), Options(target="cuda:sm_90a")).text
    (tmp_path / "net.cu").write_text(text)
    subprocess.run(["nvcc", "-ptx", "-arch=sm_90a", "-o", "net.ptx", "net.cu"], cwd=tmp_path,
                   check=True, capture_output=True)
    made = (tmp_path / "net.ptx").read_text()
    assert "ld.acquire.gpu" in made
    assert "ld.global.nc" not in made
