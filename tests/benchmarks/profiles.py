"""Where the time goes of workloads that do not reach what is asked, by `dlc bench`."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.processes import ROOT, inherited_environment, table
from tests.benchmarks.shapes import PROGRAMS, Workload

SECONDS = 0.5
KERNELS = 4


def profile(workload: Workload, threads: int) -> dict[str, Any]:
    """What `dlc bench --json` says of our part of a workload."""
    model, function = workload.place
    with tempfile.TemporaryDirectory() as folder:
        options = [] if model is None else ["--model", model]
        options += [x for pair in workload.building.items() for x in ("--with", "=".join(
            map(str, pair)))]
        for name, value in workload.draw()[1].items():
            file = Path(folder) / f"{name}.npy"
            np.save(file, value)
            options += ["--input", f"{name}={file}"]
        command = [sys.executable, "-m", "dlc", "bench", str(PROGRAMS / workload.file),
                   "--function", function, *options, "--threads", str(threads),
                   "--seconds", str(SECONDS), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT,
                              env=inherited_environment())
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def rows(workload: Workload, part: float, best: str, threads: int) -> list[list[str]]:
    """What the workload reached: `part` of the time of the `best` peer, "" if there was none. Where
    that is more than is asked, or than the peer takes, its slowest kernels too."""
    asked = f", asked ≤ {workload.asked:.2f}" if workload.asked else ""
    reached = f"{part:.2f} of {best}'s time{asked}" if best else "no peer"
    head = [workload.name, "", "", "", "", reached]
    if not best or part <= (workload.asked or 1):
        return [head]
    found = profile(workload, threads)
    head[1] = f"{found['fastest'] * 1e3:.3g}"
    return [head, *(_kernel(workload.name, row) for row in found["rows"][:KERNELS])]


def _kernel(name: str, row: Mapping[str, Any]) -> list[str]:
    lines = ", ".join(Path(line).name for line in row["lines"])
    return [name, f"{row['seconds'] * 1e3:.3g}", f"{row['share']:.0%}",
            f"{row['operations_per_second'] / 1e9:.0f} ({row['of_operation_roof']:.0%})",
            f"{row['bytes_per_second'] / 1e9:.0f} ({row['of_byte_roof']:.0%})",
            f"`{row['kernel']}`, {lines}"]


def section(made: list[list[str]], threads: int) -> str:
    """The table of one number of threads."""
    text = ("Of what is slower than asked or than the best peer. By `dlc bench`: the fastest call, "
            f"then the {KERNELS} kernels that take most of a call (medians), with their rates and "
            "what part of the roofs that `dlc bench` measures they are. Bytes are those that a "
            "kernel touches, in caches too.")
    columns = ["workload", "ms", "share", "GFLOP/s", "GB/s", "kernel and lines"]
    ending = f"{threads} thread{'s' * (threads > 1)}"
    return f"## Where the time goes, {ending}\n\n{text}\n\n{table(columns, made)}"
