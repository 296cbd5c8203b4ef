"""One framework on one workload, alone in this process; prints one JSON object.

usage: python -m tests.benchmarks.worker FRAMEWORK WORKLOAD THREADS SECONDS
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable

from tests.benchmarks.processes import peak_megabytes

CHECKED_STEPS = 5
WARM_STEPS = 5


def main() -> None:
    """Losses of the first steps, then times of the following ones, in milliseconds."""
    framework, workload, threads, seconds = sys.argv[1:]
    limit_threads(int(threads))
    import numpy  # noqa: F401  the peers need it too: it is not part of what is measured

    begun = time.perf_counter()
    step = make(framework, workload, int(threads))
    losses = [step()]
    first = time.perf_counter() - begun
    losses += [step() for _ in range(CHECKED_STEPS - 1)]
    for _ in range(WARM_STEPS):
        step()
    times = measure(step, float(seconds))
    result = {
        "losses": losses,
        "median_ms": statistics.median(times) * 1e3,
        "min_ms": min(times) * 1e3,
        "steps": len(times),
        "first_s": first,
        "peak_mb": peak_megabytes(),
    }
    print(json.dumps(result))


def limit_threads(threads: int) -> None:
    """Before anything is imported: what libraries read, and as many CPUs as there are threads."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "DLC_THREADS"):
        os.environ[name] = str(threads)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def make(framework: str, workload: str, threads: int) -> Callable[[], float]:
    """A call that takes one training step and gives its loss."""
    if framework == "dlc":
        from tests.benchmarks import dlc_steps

        return dlc_steps.STEPS[workload](threads)
    if framework == "torch":
        from tests.benchmarks import torch_steps

        return torch_steps.STEPS[workload](threads)
    raise SystemExit(f"no framework {framework}")


def measure(step: Callable[[], float], seconds: float) -> list[float]:
    """The time of each step, for so long."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 5:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return times


if __name__ == "__main__":
    main()
