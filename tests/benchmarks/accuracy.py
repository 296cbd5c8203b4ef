"""What `examples/lenet5.dl` reaches: its whole training, for three seeds."""

from __future__ import annotations

import os
import statistics
import tempfile

from tests.benchmarks.processes import run_json, table

SEEDS = (0, 1, 2)
LIMIT = 0.010


def section() -> str:
    """A row for each seed, and the mean."""
    rows, errors = [], []
    for seed in SEEDS:
        with tempfile.TemporaryDirectory() as folder:
            weights = os.path.join(folder, "weights.safetensors")
            command = ("-m", "dlc", "train", "examples/lenet5.dl", "--json")
            done = run_json(*command, "--seed", str(seed), "--save", weights)
        errors.append(float(done["error_rate"]))
        row = [str(seed), str(done["epoch"]), f"{done['loss']:.5f}", f"{errors[-1]:.2%}"]
        rows.append([*row, f"{LIMIT:.1%}"])
    rows.append(["mean", "", "", f"{statistics.mean(errors):.2%}", f"{LIMIT:.1%}"])
    columns = ["seed", "epochs", "last training loss", "test error", "at most"]
    return "## Test error of lenet5.dl on MNIST\n\n" + table(columns, rows)
