"""One framework on one workload of `gpu_rows.py`, on the GPU, alone in this process.

usage: python -m tests.benchmarks.gpu_worker FRAMEWORK WORKLOAD SECONDS OUTPUTS

The first results are written to OUTPUTS (.npz). Then one JSON object is printed: milliseconds of a
call, as the host sees them over many calls that are waited for once, and those of its CPU.
"""

from __future__ import annotations

import importlib
import json
import os
import statistics
import sys
import time
from collections.abc import Mapping
from typing import Any

from tests.benchmarks.processes import end_with_parent

FRAMEWORKS: Mapping[str, tuple[str, str, str]] = {
    "dlc": ("gpu_dlc", "Run", "dlc"),
    "torch": ("gpu_torch", "Run", "torch"),
    "torch_compile": ("gpu_torch", "CompiledRun", "torch"),
    "torch_graph": ("gpu_torch", "GraphRun", "torch"),
    "jax": ("gpu_jax", "Run", "jax"),
}
WARM_CALLS = 5
TURN_SECONDS = 0.05


def main() -> None:
    """First results, then times."""
    framework, name, seconds, outputs = sys.argv[1:]
    end_with_parent()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    import numpy as np

    from tests.benchmarks.gpu_rows import ROWS
    from tests.benchmarks.mathematics import Missing
    from tests.benchmarks.worker import _results

    row = ROWS[name]
    module, runner, _ = FRAMEWORKS[framework]
    try:
        run = getattr(importlib.import_module(f"tests.benchmarks.{module}"), runner)(row)
        results = _results(run, row.workload, run.call())
    except Missing as error:
        found = {"lacks": str(error.args[0])}
    else:
        np.savez(outputs, **results)
        found = measure(run, float(seconds))
    print(json.dumps(found), file=answers, flush=True)


def measure(run: Any, seconds: float) -> dict[str, Any]:
    """Turns of many calls, each turn waited for at its end."""
    begun = time.perf_counter()
    run.many(WARM_CALLS)
    each = (time.perf_counter() - begun) / WARM_CALLS
    count = max(1, int(TURN_SECONDS / max(each, 1e-7)))
    times, busy = [], []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 3:
        start, started = time.perf_counter(), time.thread_time()
        run.many(count)
        busy.append((time.thread_time() - started) / count * 1e3)
        times.append((time.perf_counter() - start) / count * 1e3)
    return {"median_ms": statistics.median(times), "min_ms": min(times),
            "cpu_ms": statistics.median(busy), "calls": count * len(times)}


if __name__ == "__main__":
    main()
