"""What compiling a transformer takes: cold, warm, and as it grows deeper."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time

from tests.benchmarks.processes import run_json, run_python, table

MODEL = "examples/masked_words.dl"
COMPILE = """
import json, sys, time
import numpy as np
depth, kind = int(sys.argv[1]), sys.argv[2]
text = np.random.default_rng(0).integers(0, 1000, (2, 16)).astype(np.int32)
inputs = {"text": text, "mask": np.ones((2, 16), bool)}
if kind == "fit":
    inputs |= {"target": text, "chosen": np.ones((2, 16), bool)}
begun = time.perf_counter()
import dlc
module = dlc.load("examples/masked_words.dl")
model = module.MaskedWords(words=1000, depth=depth, seed=0)
built = time.perf_counter()
function = getattr(model, kind)
result = function(**inputs)
called = time.perf_counter()
again = [time.perf_counter()]
for _ in range(3):
    function(**inputs)
    again.append(time.perf_counter())
step = min(b - a for a, b in zip(again, again[1:]))
launches = [x["name"] for x in model.built.artifact(kind).manifest["launches"]]
print(json.dumps({"seconds": called - begun, "compiling": called - built - step, "step": step,
                  "kernels": len(set(launches)), "launches": len(launches)}))
"""
LIMITS = {("scores", "cold"): 3.0, ("fit", "cold"): 8.0, ("scores", "warm"): 0.5,
          ("fit", "warm"): 0.5}
NAMES = {"scores": "forward", "fit": "training step"}
CHECK_LIMIT = 0.5
GROWTH_LIMIT = 2.2
LARGEST = ("examples/transformer.dl", "examples/masked_words.dl", "examples/lstm.dl",
           "examples/dbn.dl")


def section() -> str:
    """Cold and warm compiles of six layers, growth from six to twelve, and `dlc check`."""
    rows = [row for kind in NAMES for row in _rows(kind)]
    columns = ["6 layers, 384 wide", "median s", "minimum s", "at most", "of it compiling",
               "kernels", "launches"]
    parts = ["## Compiling a transformer\n", "NumPy is imported already; `dlc.load`, the weights "
             "and the end of the first call count.\n", table(columns, rows), _growth(), _check()]
    return "\n".join(parts)


def _rows(kind: str) -> list[list[str]]:
    found: dict[str, list[dict[str, float]]] = {"cold": [], "warm": []}
    for _ in range(3):
        with tempfile.TemporaryDirectory() as cache:
            found["cold"].append(_compile(6, kind, cache))
            found["warm"].append(_compile(6, kind, cache))
    rows = []
    for state, runs in found.items():
        seconds = [run["seconds"] for run in runs]
        least = min(run["compiling"] for run in runs)
        rows.append([f"{NAMES[kind]}, {state}", f"{statistics.median(seconds):.2f}",
                     f"{min(seconds):.2f}", f"{LIMITS[kind, state]:g}", f"{least:.2f}",
                     f"{runs[0]['kernels']:.0f}", f"{runs[0]['launches']:.0f}"])
    return rows


def _growth() -> str:
    rows = []
    for kind, name in NAMES.items():
        pairs = [(_cold(6, kind), _cold(12, kind)) for _ in range(3)]
        ratios = [b["compiling"] / a["compiling"] for a, b in pairs]
        kernels = f"{pairs[0][0]['kernels']:.0f}, {pairs[0][1]['kernels']:.0f}"
        rows.append([name, f"{statistics.median(ratios):.2f}", f"{min(ratios):.2f}",
                     f"{GROWTH_LIMIT:g}", kernels])
    columns = ["12 layers against 6, compile time", "median ratio", "minimum", "at most",
               "kernels of 6 and 12"]
    return table(columns, rows)


def _check() -> str:
    rows = []
    for file in LARGEST:
        seconds = []
        for _ in range(5):
            begun = time.perf_counter()
            run_python("-m", "dlc", "check", file)
            seconds.append(time.perf_counter() - begun)
        rows.append([f"`dlc check {file}`", f"{statistics.median(seconds):.2f}",
                     f"{min(seconds):.2f}", f"{CHECK_LIMIT:g}"])
    return table(["whole process", "median s", "minimum s", "at most"], rows)


def _cold(depth: int, kind: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as cache:
        return _compile(depth, kind, cache)


def _compile(depth: int, kind: str, cache: str) -> dict[str, float]:
    return run_json("-c", COMPILE, str(depth), kind, DLC_CACHE=cache)


if __name__ == "__main__":
    sys.stdout.write(section())
