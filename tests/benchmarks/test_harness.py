"""The harness: a small contest, its tables, and the loops that measure the machine."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from dlc.frontend.build import Built
from dlc.runtime.errors import GpuError
from tests.benchmarks import __main__ as harness
from tests.benchmarks import contest as contests
from tests.benchmarks import gpu, gpu_rows, profiles, report, roofs, with_dlc, worker
from tests.benchmarks.contest import Result, Rules, contest, difference
from tests.benchmarks.gpu_worker import FRAMEWORKS as FRAMEWORKS_OF_A_GPU
from tests.benchmarks.shapes import Workload
from tests.benchmarks.workloads import BROADER, SEVEN, find

ROOFS = {"1": {"fma": 100.0, "memory": {
    pattern: {"1000": 50.0, "100000000": 10.0} for pattern in roofs.PATTERNS}}}


def turns(*medians: float) -> list[dict[str, float]]:
    return [{"median_ms": x, "min_ms": x, "calls": 5, "peak_mb": 100.0} for x in medians]


def test_a_contest() -> None:
    """Each in its process; one that is not there is told, one that has no such thing too."""
    workload = find("gemm13")
    assert workload is not None
    rules = Rules(sys.executable, 1, 2, 0.01, busy=True)
    results = contest(workload, ["dlc", "numpy", "jax"], rules, {"jax": "not installed"})
    assert [len(results[name].idle) for name in results] == [2, 2, 0]
    assert [len(results[name].busy) for name in results] == [2, 2, 0]
    assert all(turn["calls"] >= 5 for name in ("dlc", "numpy") for turn in results[name].idle)
    assert results["numpy"].difference < 1
    row = report.times(workload, results, 1, ROOFS)
    assert row[0] == "gemm13"
    assert row[2] == "not installed"
    lenet5 = contest(SEVEN["lenet5"], ["dlc", "numpy"], Rules(sys.executable, 1, 1, 0.01), {})
    assert lenet5["numpy"].lacks == "has no gradients"


def test_a_contest_for_a_cpu_with_less(monkeypatch: pytest.MonkeyPatch) -> None:
    """dlc makes code for it, NumPy leaves out what it lacks; the file of results stays."""
    workload = find("gemm13")
    assert workload is not None
    rules = Rules(sys.executable, 1, 1, 0.01, target="haswell")
    assert contest(workload, ["dlc", "numpy"], rules, {})["numpy"].difference < 1
    monkeypatch.setattr(Built, "options", Built.options)
    with_dlc.compile_for("haswell")
    run = with_dlc.Run(workload)
    assert run.function.model.built.options("product").target == "haswell"
    assert harness.parse(["gemm13", "--target", "haswell"]).dry


def test_numbers_that_differ_end_a_measurement() -> None:
    ours = np.array([1.0, 2.0])
    assert difference("losses", ours, ours * (1 + 5e-5)) <= 1
    assert difference("losses", ours, ours * (1 + 2e-4)) > 1
    assert difference("output 0", ours, ours[:1]) == float("inf")
    assert not difference("output 0", ours, np.array([np.nan, 2.0])) <= 1
    assert difference("output 0", 0 * ours, 0 * ours) == 0
    assert difference("w", ours, ours * 1.01) <= 1
    assert difference("w", ours, ours * 1.03) > 1


def test_ratios_are_of_rounds() -> None:
    """A busy round makes both slow: the median of the ratios does not see it."""
    results = {"dlc": Result(idle=turns(1, 10, 1)), "jax": Result(idle=turns(2, 20, 2.5)),
               "torch": Result(idle=turns(4, 4, 4)), "numpy": Result(lacks="not installed")}
    median, least, best = report.beside_best(results)
    assert (median, best) == (0.5, "jax")
    assert least == 0.5


@pytest.mark.parametrize(("name", "milliseconds", "expected"), [
    ("gemm512", 2 * 512**3 / 100 / 1e6 / 0.5, "50% (FMA)"),
    ("softmax", 2 * 4 * 4096 * 1024 / 10 / 1e6 / 0.25, "25% (bytes)"),
])
def test_shares_of_the_roof(name: str, milliseconds: float, expected: str) -> None:
    workload = SEVEN[name]
    outputs = {"output 0": np.zeros((4096, 1024) if name == "softmax" else (1, 1), np.float32)}
    ours = Result(idle=turns(milliseconds), outputs=outputs)
    assert report.share(workload, ours, 1, ROOFS) == expected


def test_rows_of_earlier_runs_stay() -> None:
    def section(*rows: list[str]) -> str:
        return "## T\n\ntext\n\n" + report.table(["workload", "ms"], list(rows))

    both = section(["lenet5", "1"], ["gemm512", "2"])
    text = harness.merged("", [both])
    text = harness.merged(text, [section(["mlp", "3"], ["gemm512", "4"])])
    rows = [line for line in text.splitlines() if line.startswith("| ")][2:]
    assert rows == ["| lenet5 | 1 |", "| mlp | 3 |", "| gemm512 | 4 |"]
    other = "## T\n\ntext\n\n" + report.table(["workload", "s"], [["mlp", "5"]])
    assert "gemm512" not in harness.merged(text, [other])


def test_peers_that_are_not_installed_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    frameworks = {"numpy": worker.FRAMEWORKS["numpy"], "jax": ("", "", "no_such_package")}
    monkeypatch.setattr(harness, "FRAMEWORKS", frameworks)
    assert harness.missing(sys.executable, ["numpy", "jax"]) == {"jax": "not installed"}


def test_the_command_line() -> None:
    options = harness.parse(["seven", "gemm77", "--threads", "2", "--peers", "jax"])
    assert [x.name for x in options.workloads] == [*SEVEN, "gemm77"]
    assert (options.threads, options.peers, options.busy) == ([2], ["jax"], False)
    with pytest.raises(SystemExit):
        harness.parse(["no_such_workload"])


def test_the_loops_that_measure_do_their_work() -> None:
    """What is copied is copied, what is read is read, FMAs count up."""
    code = roofs.compiled()
    step = roofs.UNROLLED * code.lanes * 4
    rng = np.random.default_rng(0)
    source, turns_of_all = roofs._aligned(4 * step), 4
    source[:] = rng.integers(0, 256, len(source))
    for name in ("copy", "copy_past"):
        target = roofs._aligned(4 * step)
        code.function(name)(source.ctypes.data, target.ctypes.data, turns_of_all, 3)
        assert (target == source).all()
    code.function("write")(source.ctypes.data, target.ctypes.data, turns_of_all, 3)
    assert not target.any()
    code.function("read")(source.ctypes.data, target.ctypes.data, turns_of_all, 3)
    assert (target[:step] == np.bitwise_xor.reduce(source.reshape(4, step))).all()
    ones = np.ones(2 * roofs.ACCUMULATORS * code.lanes, np.float32)
    code.function("fma")(ones.ctypes.data, ones.ctypes.data + ones.nbytes // 2, 3, 0)
    assert (ones[len(ones) // 2 :] == 3).all()


def test_what_breaks_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a framework broke, with what it said; the other workloads are measured."""
    monkeypatch.setattr(contests, "AGREEMENT", 0.0)
    with pytest.raises(contests.Failure, match="dlc and numpy differ in output 0"):
        contest(BROADER["mlp_1"], ["dlc", "numpy"], Rules(sys.executable, 1, 1, 0.01), {})
    broken = Workload("no_such_workload", "", "forward", {}, "")
    with pytest.raises(contests.Failure, match=r"(?s)failed:.*AssertionError"):
        contest(broken, ["dlc"], Rules(sys.executable, 1, 1, 0.01), {})


def test_profiles_of_what_is_slower() -> None:
    """Kernels with their lines where the peer is faster; else what was reached alone."""
    workload = BROADER["mlp_odd"]
    (reached,) = profiles.rows(workload, 0.5, "jax", 1)
    assert (reached[0], reached[-1]) == ("mlp_odd", "0.50 of jax's time")
    head, *kernels = profiles.rows(workload, 1.5, "jax", 1)
    assert float(head[1]) > 0
    assert len(kernels) == profiles.KERNELS
    assert all("dense.dl:" in row[-1] and float(row[1]) > 0 for row in kernels)
    (alone,) = profiles.rows(workload, float("nan"), "", 1)
    assert alone[-1] == "no peer"


def test_the_table_of_a_gpu() -> None:
    """What is reached is told beside what is asked; numbers that differ are no times."""
    times = {"median_ms": 2.0, "min_ms": 1.0, "cpu_ms": 0.004, "calls": 9}
    slow = {**times, "median_ms": 6.0}
    found = {"dlc": times, "torch": slow, "torch_compile": {"lacks": "not there"},
             "torch_graph": {**slow, "median_ms": 5.0}, "jax": slow}
    row = dict(zip(gpu.columns(), gpu.cells(gpu_rows.ROWS["lenet5"], found, 1e12), strict=True))
    assert row["asked"] == "≥ 3 × torch_compile / torch_graph / jax"
    assert row["reached"] == "2.50 × torch_graph"
    assert row["dlc"] == "2 / 1"
    assert row["torch_compile"] == "not there"
    assert row["CPU µs of a step"] == "4.0 (≤ 10)"
    large = gpu_rows.ROWS["copy_like_1gb"]
    seconds = (2 * 2**30 + 4 * 16384) / 1e12
    assert gpu.reached(large, {"dlc": {"median_ms": 2e3 * seconds}}, 1e12) == "50% of a copy"
    product = gpu_rows.ROWS["gemm4096_bf16"]
    assert gpu.reached(product, {"dlc": {"median_ms": 1.0}}, 1e12) == "137 TFLOP/s"
    assert set(FRAMEWORKS_OF_A_GPU) == set(found)
    for text in ("Not measured yet", *gpu_rows.ROWS, gpu.COMMAND):
        assert text in gpu.empty_section()


def test_without_a_gpu_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> None:
        raise GpuError("there is no driver of NVIDIA's on this machine")

    monkeypatch.setattr("dlc.runtime.cuda.device.device", none)
    with pytest.raises(SystemExit, match="nothing was measured on a GPU: there is no driver"):
        gpu.section(sys.executable)


def test_products_and_bytes_of_the_table_of_a_gpu() -> None:
    rows = gpu_rows.ROWS
    for name, factor in (("lenet5", 16), ("mlp", 8), ("lstm", 32)):
        assert rows[f"{name}_1024"].workload.flops == factor * SEVEN[name].flops
    assert rows["softmax_gradient"].moved == 3 * 4 * 16384 * 4096
