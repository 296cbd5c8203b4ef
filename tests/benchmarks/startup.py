"""What a user waits for, and what a training process takes: import, first step, memory."""

from __future__ import annotations

import json
import os
import statistics
import tempfile
from typing import Any

from tests.benchmarks.processes import run_json, run_python, table

IMPORT_LIMIT = 0.15
COLD_LIMIT = 0.6
WARM_LIMIT = 0.06
COMPILE_LIMIT = 0.01
MEMORY_LIMIT = 250

IMPORT = "import time; t = time.perf_counter(); import dlc; print(time.perf_counter() - t)"
FIRST_STEP = """
import json, sys, time
import numpy as np
rng = np.random.default_rng(0)
batch = {"image": rng.integers(0, 256, (64, 28, 28)).astype(np.uint8),
         "label": rng.integers(0, 10, 64).astype(np.uint8)}
begun, before = time.perf_counter(), time.process_time()
import dlc
model = dlc.load("examples/lenet5.dl").LeNet5(seed=0)
built = time.perf_counter()
model.fit._compile()
compiled = time.perf_counter()
loss = float(model.fit(**batch))
ended, after = time.perf_counter(), time.process_time()
heavy = [name for name in ("lark", "llvmlite", "dlc.frontend.text.parse",
                            "dlc.compiler.llvm.library") if name in sys.modules]
print(json.dumps({"seconds": ended - begun, "compiling": compiled - built, "cpu": after - before,
                  "heavy": heavy, "loss": loss}))
"""


def start_section() -> str:
    """`import dlc`; from `dlc.load` to the end of the first step, with cold and warm caches."""
    imports = [float(run_python("-c", IMPORT)) for _ in range(7)]
    cold, warm = [], []
    for _ in range(5):
        with tempfile.TemporaryDirectory() as cache:
            cold.append(_first_step(cache))
            warm += [_first_step(cache) for _ in range(3)]
    for run in warm:
        if run["heavy"]:
            raise SystemExit(f"a warm start imports {run['heavy']}")
    rows = [
        _row("`import dlc`", imports, [], IMPORT_LIMIT),
        _row("to the end of the first step, cold cache", *_times(cold), COLD_LIMIT),
        _row("the same, warm cache", *_times(warm), WARM_LIMIT),
        _row("of it code found, linked, initial values", _each(warm, "compiling"), [],
             COMPILE_LIMIT),
    ]
    text = ("NumPy is imported already, everything else counts; the model is lenet5.dl. With a "
            "warm cache nothing is parsed, and neither lark nor LLVM is loaded.")
    columns = ["", "median s", "minimum s", "CPU s, all threads", "at most"]
    return f"## Start\n\n{text}\n\n{table(columns, rows)}\n{_cold_profile()}"


def _cold_profile() -> str:
    """Where the time of a cold start goes: `fit`, one step after another in one thread."""
    lines = run_python("-m", "dlc", "dump", "examples/lenet5.dl", "--function", "fit", "--stage",
                       "timing", "--json", DLC_CACHE="off").splitlines()
    spans = [row for line in lines for row in json.loads(line)["rows"]]
    groups = dict.fromkeys(row["group"] for row in spans)
    rows = []
    for group in groups:
        own = sorted((row for row in spans if row["group"] == group), key=lambda r: -r["seconds"])
        most = ", ".join(f"{row['name']} {row['seconds']:.3f}" for row in own[:4])
        rows.append([group, f"{sum(row['seconds'] for row in own):.3f}", most])
    return table(["`dlc dump --stage timing`, `fit`", "s", "most of it"], rows)


def _first_step(cache: str) -> dict[str, Any]:
    return run_json("-c", FIRST_STEP, DLC_CACHE=cache)


def _each(runs: list[dict[str, Any]], key: str) -> list[float]:
    return [float(run[key]) for run in runs]


def _times(runs: list[dict[str, Any]]) -> tuple[list[float], list[float]]:
    return _each(runs, "seconds"), _each(runs, "cpu")


def _row(name: str, seconds: list[float], cpu: list[float], limit: float) -> list[str]:
    busy = f"{statistics.median(cpu):.3f}" if cpu else ""
    return [name, f"{statistics.median(seconds):.3f}", f"{min(seconds):.3f}", busy, f"{limit:g}"]


TRAIN = """
import sys
from dlc.frontend.commands.cli import main
code = main(["train", "examples/lenet5.dl", "--epochs", "1", "--json", "--save", sys.argv[1]])
from tests.benchmarks.processes import peak_megabytes
print(peak_megabytes())
sys.exit(code)
"""


def train_one_epoch(weights: str, **environment: str) -> tuple[dict[str, float], float]:
    """Trains `lenet5.dl` for an epoch; its record, and the process's peak in MB."""
    lines = run_python("-c", TRAIN, weights, **environment).splitlines()
    epoch: dict[str, float] = json.loads(lines[0])
    return epoch, float(lines[-1])


def memory_section() -> str:
    """The peak of a process that trains `lenet5.dl` on MNIST for an epoch, code not cached."""
    with tempfile.TemporaryDirectory() as folder:
        epoch, peak = train_one_epoch(os.path.join(folder, "w.safetensors"), DLC_CACHE="off")
    row = [f"{peak:.0f}", str(MEMORY_LIMIT)]
    row += [f"{epoch['examples_per_second']:,.0f}", f"{epoch['loss']:.4f}"]
    columns = ["peak MB", "at most", "images/s", "mean loss"]
    return "## Training lenet5.dl on MNIST, one epoch\n\n" + table(columns, [row])
