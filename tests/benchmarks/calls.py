"""What a call from Python costs, and what many steps in one call save."""

from __future__ import annotations

from tests.benchmarks.processes import run_json, table

SCRIPT = """
import json, statistics, time
import numpy as np
import dlc

rng = np.random.default_rng(0)
program = dlc.load("tests/benchmarks/programs/calls.dl")
small = program.Small(seed=0)
lenet = dlc.load("examples/plain_lenet5.dl").PlainLeNet5(seed=0)
scalar, vector = np.float32(2), np.ones(16, np.float32)
rows = np.ones((64, 16), np.float32)
image = rng.standard_normal((64, 1, 32, 32)).astype(np.float32)
label = rng.integers(0, 10, 64).astype(np.int32)

def steps(fit, batch, *data):
    for start in range(0, 64, batch):
        fit(*(each[start : start + batch] for each in data))

CASES = {
    "same": (50, lambda: program.same(scalar)),
    "array": (50, lambda: program.doubled(vector)),
    "param": (50, lambda: small.shifted(rows)),
    "lenet5": (5, lambda: lenet.scores(image[:1])),
    "small calls": (1, lambda: steps(small.fit, 1, rows)),
    "small run": (1, lambda: small.fit.run(64, batch=1, x=rows)),
    "lenet5 calls": (1, lambda: steps(lenet.fit, 8, image, label)),
    "lenet5 run": (1, lambda: lenet.fit.run(8, batch=8, x=image, y=label)),
}
COUNTS = {"small calls": 64, "small run": 64, "lenet5 calls": 8, "lenet5 run": 8}
times = {name: [] for name in CASES}
for name, (count, call) in CASES.items():
    for _ in range(20 * count):
        call()
for _ in range(200):  # in turns, so that a busy moment meets all of them
    for name, (count, call) in CASES.items():
        begun = time.perf_counter()
        for _ in range(count):
            call()
        times[name].append((time.perf_counter() - begun) / count / COUNTS.get(name, 1) * 1e6)
print(json.dumps({k: [statistics.median(v), min(v)] for k, v in times.items()}))
"""
ROWS = {
    "same": ("`same(x)`: its scalar argument", 2),
    "array": ("an array of 16 numbers in, one out", 2),
    "param": ("the same, 64 × 16, beside a param", 4),
    "lenet5": ("plain LeNet-5, `scores` of one image", 25),
}
PAIRS = {"small": "16 params, batch 1", "lenet5": "plain LeNet-5, batch 8"}


def section() -> str:
    """Calls from NumPy arrays to NumPy arrays; `fit.run(n, …)` beside n calls of `fit`."""
    found = run_json("-c", SCRIPT)
    rows = [[text, *_two(found[name]), f"{limit:g}"] for name, (text, limit) in ROWS.items()]
    made = table(["a call", "median µs", "minimum µs", "at most"], rows)
    pairs = []
    for name, text in PAIRS.items():
        calls, run = found[f"{name} calls"], found[f"{name} run"]
        pairs.append([text, *_two(calls), *_two(run), f"{run[1] / calls[1]:.2f}", "1"])
    columns = ["a step", "calls: median µs", "minimum", "`run`: median µs", "minimum",
               "ratio of minima", "at most"]
    text = "All from Python, with code that is there."
    return f"## Calls\n\n{text}\n\n{made}\n{table(columns, pairs)}"


def _two(times: list[float]) -> list[str]:
    return [f"{time:.2f}" for time in times]
