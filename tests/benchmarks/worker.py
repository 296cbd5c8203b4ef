"""One framework on one workload, alone in this process.

usage: python -m tests.benchmarks.worker FRAMEWORK WORKLOAD THREADS OUTPUTS [TARGET]

The first results are written to OUTPUTS (.npz). Then one JSON object is printed: how long imports
and the first call took. For each number of seconds that comes on standard input another one is
printed: the times of calls for so long. dlc makes code for the CPU TARGET, if there is one, and
peers do with its instructions.
"""

from __future__ import annotations

import importlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from tests.benchmarks.processes import end_with_parent, peak_megabytes

# Module and class of each framework, and what has to be installed for it.
FRAMEWORKS: Mapping[str, tuple[str, str, str]] = {
    "dlc": ("with_dlc", "Run", "dlc"),
    "jax": ("with_jax", "Run", "jax"),
    "torch": ("with_torch", "Run", "torch"),
    "torch_compile": ("with_torch", "CompiledRun", "torch"),
    "tf": ("with_tensorflow", "Run", "tensorflow"),
    "tf_xla": ("with_tensorflow", "XlaRun", "tensorflow"),
    "numpy": ("with_numpy", "Run", "numpy"),
}
# What keeps the peers from instructions that a target lacks. oneDNN is PyTorch's and TensorFlow's.
_AVX512 = "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR"
LIMITS: Mapping[str, Mapping[str, str]] = {"haswell": {
    "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell", "NPY_DISABLE_CPU_FEATURES": _AVX512,
    "XLA_FLAGS": "--xla_cpu_max_isa=AVX2"}}
CHECKED_STEPS = 3
WARM_SECONDS = 0.05
FEWEST = 5  # calls of a turn,
LATEST = 1.0  # unless they are so many seconds late


def main() -> None:
    """First results, then times of calls as they are asked for."""
    framework, name, threads, outputs, target = (*sys.argv[1:], "")[:5]
    end_with_parent()
    limit_threads(int(threads))
    os.environ.update(LIMITS.get(target, {}))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    import numpy as np  # all need it: it is not part of what is measured

    from tests.benchmarks.mathematics import Missing
    from tests.benchmarks.workloads import find

    workload = find(name)
    assert workload is not None
    begun = time.perf_counter()
    module, runner, _ = FRAMEWORKS[framework]
    try:
        made = importlib.import_module(f"tests.benchmarks.{module}")
        imported = time.perf_counter()
        if framework == "dlc" and target:
            made.compile_for(target)
        run = getattr(made, runner)(workload)
        first = run.call()
    except Missing as error:
        _answer(answers, {"lacks": str(error.args[0])})
        return
    called = time.perf_counter()
    np.savez(outputs, **_results(run, workload, first))
    _answer(answers, {"import_s": imported - begun, "first_s": called - imported})
    for line in sys.stdin:
        _answer(answers, measure(run.call, float(line)))


def _answer(file: Any, value: Mapping[str, Any]) -> None:
    print(json.dumps(value), file=file, flush=True)


def _results(run: Any, workload: Any, first: Any) -> dict[str, Any]:
    """The outputs; of a training step the losses, and what some steps added to the weights."""
    import numpy as np

    if workload.kind != "step":
        parts = first if isinstance(first, tuple | list) else (first,)
        return {f"output {i}": np.array(part) for i, part in enumerate(parts)}
    losses = [first, *(run.call() for _ in range(CHECKED_STEPS - 1))]
    before, after = workload.draw()[0], run.trained()
    return {"losses": np.array([float(x) for x in losses]),
            **{name: after[name] - before[name] for name in before}}


def limit_threads(threads: int) -> None:
    """Before anything is imported: what libraries read, and as many CPUs as there are threads."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "DLC_THREADS"):
        os.environ[name] = str(threads)
    os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="", JAX_PLATFORMS="cpu")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def measure(call: Callable[[], object], seconds: float) -> dict[str, float]:
    """Times of calls for so long, in milliseconds, after some that do not count."""
    call()
    begun = time.perf_counter()
    while time.perf_counter() < begun + min(WARM_SECONDS, seconds):
        call()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while (now := time.perf_counter()) < end or (len(times) < FEWEST and now < end + LATEST):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return {"median_ms": statistics.median(times) * 1e3, "min_ms": min(times) * 1e3,
            "calls": len(times), "peak_mb": peak_megabytes()}


if __name__ == "__main__":
    main()
