"""The section of a GPU: each framework alone in its process, one after another, in one run.

What is needed is a GPU, PyCUDA and, for peers, PyTorch and JAX that have CUDA; a peer that is not
there is told in its cells. Without a GPU nothing is measured, and the section says so.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.contest import difference
from tests.benchmarks.gpu_rows import ROWS, Row
from tests.benchmarks.gpu_worker import FRAMEWORKS
from tests.benchmarks.processes import ROOT, inherited_environment, table

TITLE = "## On a GPU"
COMMAND = "python -m tests.benchmarks gpu"
SECONDS = 1.0
COPIED = 1 << 30
COPIES = 20
LAUNCH_US = 10.0
HALF = 1e-2  # of bf16 results, beside the largest
TEXT = """\
Milliseconds of a call, median / minimum, over many calls that are waited for once; data lie on the
GPU before, steps are whole training steps. Each framework runs alone in its process. f32 is f32 in
all of them (no tf32). `torch_compile` is torch.compile with CUDA graphs, `torch_graph` a whole step
of that as one graph. Numbers were compared first, as those of a CPU are."""


class NoGpu(SystemExit):
    """There is nothing to measure on."""


def section(python: str, names: tuple[str, ...] = tuple(ROWS), seconds: float = SECONDS) -> str:
    """The table, measured now; NoGpu where there is no GPU."""
    card = gpu()
    bandwidth = copy_bandwidth()
    rows = []
    for name in names:
        row = ROWS[name]
        found = contest(row, python, seconds)
        rows.append(cells(row, found, bandwidth))
        print(*rows[-1], sep=" | ", flush=True)
    text = f"{card}; a copy moves {bandwidth / 1e9:.0f} GB/s (read and written)."
    return f"{TITLE}\n\n{text}\n\n{TEXT}\n\n{table(columns(), rows)}"


def empty_section() -> str:
    """The table before anybody has measured."""
    rows = [[name, "not measured yet", *[""] * (len(FRAMEWORKS) - 1), row.asked, "", ""]
            for name, row in ROWS.items()]
    told = (f"Not measured yet: `{COMMAND}` fills this table on a machine with a GPU, with date, "
            "card and driver.")
    return f"{TITLE}\n\n{told}\n\n{TEXT}\n\n{table(columns(), rows)}"


def columns() -> list[str]:
    """The heads of the table."""
    return ["workload", *FRAMEWORKS, "asked", "reached", "CPU µs of a step"]


def gpu() -> str:
    """The card and its driver."""
    from dlc.runtime.cuda.device import device
    from dlc.runtime.errors import GpuError

    try:
        return str(device())
    except GpuError as error:
        raise NoGpu(f"nothing was measured on a GPU: {error}") from error


def copy_bandwidth() -> float:
    """Bytes a second that a copy of 1 GB on the card reads and writes: the best of some."""
    from dlc.runtime.cuda.device import Block, device

    with device() as on:
        source, target = Block(on, COPIED, "a copy"), Block(on, COPIED, "a copy")
        best = float("inf")
        for _ in range(COPIES):
            begin, end = on.cuda.Event(), on.cuda.Event()
            begin.record(on.stream)
            on.cuda.memcpy_dtod_async(target.address, source.address, COPIED, on.stream)
            end.record(on.stream)
            end.synchronize()
            best = min(best, end.time_since(begin) / 1e3)
    return 2 * COPIED / best


def contest(row: Row, python: str, seconds: float) -> dict[str, dict[str, Any]]:
    """What each framework did; `lacks` says why one did nothing, or that its numbers differ."""
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in FRAMEWORKS:
            outputs = Path(folder, f"{name}.npz")
            found[name] = _run(name, row, sys.executable if name == "dlc" else python, seconds,
                               outputs)
            if "lacks" not in found[name] and name != "dlc":
                _compare(row, Path(folder, "dlc.npz"), outputs, found[name])
    return found


def _run(name: str, row: Row, python: str, seconds: float, outputs: Path) -> dict[str, Any]:
    command = [python, "-m", "tests.benchmarks.gpu_worker", name, row.workload.name,
               str(seconds), str(outputs)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT,
                         env=inherited_environment(), check=False)
    if run.returncode:
        if name == "dlc":
            raise SystemExit(f"{row.workload.name} failed:\n{run.stderr[-4000:]}")
        return {"lacks": (run.stderr.strip().splitlines() or ["failed"])[-1][:80]}
    made: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return made


def _compare(row: Row, ours: Path, theirs: Path, result: dict[str, Any]) -> None:
    allowed = HALF / 1e-4 if row.half else 1.0  # `difference` is in units of 1e-4
    with np.load(ours) as a, np.load(theirs) as b:
        worst = max((difference(key, a[key], b[key]), key) for key in a.files)
    if not worst[0] <= allowed:
        result["lacks"] = f"differs in {worst[1]}, by {worst[0]:.3g} times what is allowed"


def cells(row: Row, found: Mapping[str, Mapping[str, Any]], bandwidth: float) -> list[str]:
    """A row of the table."""
    times = [x["lacks"] if "lacks" in x else f"{x['median_ms']:.4g} / {x['min_ms']:.4g}"
             for x in found.values()]
    ours = found["dlc"]
    cpu = f"{ours['cpu_ms'] * 1e3:.1f} (≤ {LAUNCH_US:g})" if row.workload.kind == "step" else ""
    return [row.workload.name, *times, row.asked, reached(row, found, bandwidth), cpu]


def reached(row: Row, found: Mapping[str, Mapping[str, Any]], bandwidth: float) -> str:
    """What is asked, as it was measured: by medians."""
    seconds = found["dlc"]["median_ms"] / 1e3
    parts = [f"{row.moved / seconds / bandwidth:.0%} of a copy"] * bool(row.bandwidth)
    parts += [f"{row.workload.flops / seconds / 1e12:.0f} TFLOP/s"] * bool(row.rate)
    peers = {name: found[name]["median_ms"] for name in row.beside if "lacks" not in found[name]}
    if peers:
        best = min(peers, key=lambda name: peers[name])
        parts.append(f"{peers[best] / found['dlc']['median_ms']:.2f} × {best}")
    return ", ".join(parts) or "no peer"
