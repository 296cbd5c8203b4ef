"""The text of each stage of a small program, kept beside it; `pytest --update` writes it anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlc.compiler.options import Options
from dlc.compiler.pipeline import dump_graph
from dlc.frontend.build import Build
from dlc.frontend.records import SHARED

FOLDER = Path(__file__).with_name("golden")
STAGES = ("graph", "simplify", "fused", "kernels", "memory", "loops")
GPU_STAGES = ("kernels", "loops", "cuda")


@pytest.mark.parametrize("stage", STAGES)
def test_dump(stage: str, update: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDER)  # places are told by the path as it was given
    graph = Build(Path("dense.dl"), cached=False).model("Line", {}).graph("fit")
    text = dump_graph(graph, stage, Options(target="x86-64-v4"))
    golden = FOLDER / f"dense.{stage}.txt"
    if update:
        golden.write_text(text)
    assert text == golden.read_text(), f"{golden.name} differs: see the diff of --update"


@pytest.mark.parametrize("stage", GPU_STAGES)
def test_dump_for_a_gpu(stage: str, update: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDER)
    graph = Build(Path("dense.dl"), cached=False).model("Line", {}).graph("fit")
    text = dump_graph(graph, stage, Options(target="cuda:sm_80"))
    if stage == "cuda":
        text = text[text.index('extern "C"'):]  # what stands before the kernels is prelude.cu
    golden = FOLDER / f"dense.gpu.{stage}.txt"
    if update:
        golden.write_text(text)
    assert text == golden.read_text(), f"{golden.name} differs: see the diff of --update"


def test_dump_of_variants(update: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which kernel runs at which sizes stands before the launches."""
    monkeypatch.chdir(FOLDER)
    graph = Build(Path("product.dl"), cached=False).model(SHARED, {}).graph("product")
    text = dump_graph(graph, "kernels", Options(target="cuda:sm_90a"))
    golden = FOLDER / "product.gpu.kernels.txt"
    if update:
        golden.write_text(text)
    assert text == golden.read_text(), f"{golden.name} differs: see the diff of --update"


def test_target_decides_the_lanes() -> None:
    """The same kernels for other CPUs: narrower vectors, the same meaning."""
    graph = Build(FOLDER / "dense.dl", cached=False).model("Line", {}).graph("fit")
    for target, vector in (("x86-64-v4", "<16 x float>"), ("x86-64-v3", "<8 x float>"),
                           ("aarch64", "<4 x float>")):
        assert vector in dump_graph(graph, "llvm", Options(target=target))
        assert dump_graph(graph, "asm", Options(target=target))
