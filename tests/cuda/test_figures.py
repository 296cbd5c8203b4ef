"""What measures on a GPU, over the stand-in driver: it runs, and computes what is computed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dlc.frontend.bench import cuda
from dlc.frontend.commands.cli import main
from tests.benchmarks import gpu, gpu_dlc, gpu_worker, with_dlc
from tests.benchmarks.contest import difference
from tests.benchmarks.gpu_rows import Row
from tests.benchmarks.shapes import Workload, normal
from tests.benchmarks.worker import _results
from tests.benchmarks.workloads import BROADER
from tests.cuda.stand_in import asked, needs_stand_in

pytestmark = [needs_stand_in, pytest.mark.usefixtures("on_stand_in")]


def test_steps_and_their_times() -> None:
    workload = BROADER["mlp_odd"]
    run = gpu_dlc.Run(Row(workload))
    found = _results(run, workload, run.call())
    here = with_dlc.Run(workload)
    for name, value in _results(here, workload, here.call()).items():
        assert difference(name, value, found[name]) <= 1
    begun = asked().count("G")
    times = gpu_worker.measure(run, 0.01)
    assert asked().count("G") >= begun + times["calls"]
    assert 0 < times["min_ms"] <= times["median_ms"]


def test_products_of_halves() -> None:
    inputs = {"x": normal(9, 8), "y": normal(8, 5)}
    workload = Workload("p", "products.dl product_of_halves", "forward", inputs, "product")
    run = gpu_dlc.Run(Row(workload, half=True))
    (found,) = run.call()
    _, drawn = workload.draw()
    np.testing.assert_allclose(found, drawn["x"] @ drawn["y"], 0.05, 0.05)
    run.many(3)


def test_the_bandwidth_of_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "COPIED", 1 << 20)
    assert gpu.copy_bandwidth() == 2 * (1 << 20) / 1e-3  # an event of the stand-in takes 1 ms
    assert gpu.gpu().startswith("stand-in, sm_80")


def test_dlc_bench(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel a row, with the lines it came from; shares of what the card can do."""
    monkeypatch.setattr(cuda, "COPIED", 1 << 16)
    monkeypatch.setattr(cuda, "TURNS", 2)
    file = tmp_path / "f.dl"
    file.write_text("model Net {\n param w: f32[8, 4] = normal()\n"
                    " step fit(x: f32[N, 8], y: u8[N]) -> f32 {\n"
                    "  loss = softmax_cross_entropy(x @ w, y)\n"
                    "  minimize loss with sgd()\n  return loss\n }\n}\n")
    words = ["bench", str(file), "--device", "cuda", "--size", "N=5", "--seconds", "0.01"]
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    rows = told["rows"]
    assert told["device"] == "cuda"
    took = sum(row["seconds"] for row in rows)
    assert took == pytest.approx(1e-3 * round(took / 1e-3))  # of the stand-in: 1 ms for a kernel
    assert 0 < took <= 1e-3 * sum(row["launches"] for row in rows) + 1e-9
    assert any(line.endswith("f.dl:4") for row in rows for line in row["lines"])
    assert sum(row["operations"] for row in rows) > 2 * 2 * 5 * 8 * 4
    assert told["roofs"]["bytes"] == 2 * (1 << 16) / 1e-3
    assert main(words) == 0
    assert ", cuda: " in capsys.readouterr().out
    assert main([*words, "--launches"]) == 1
    assert "--launches and --trace are of a CPU" in capsys.readouterr().err
