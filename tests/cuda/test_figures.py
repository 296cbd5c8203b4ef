"""What measures on a GPU, over the stand-in driver: it runs, and computes what is computed."""

from __future__ import annotations

import numpy as np
import pytest

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
