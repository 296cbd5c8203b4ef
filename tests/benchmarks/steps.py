"""Training steps: dlc and its peers in turns, held to the same numbers first."""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Mapping, Sequence

from tests.benchmarks.processes import run_json, table

PEERS: Mapping[str, tuple[str, ...]] = {"lenet5": ("torch",), "lenet5.dl": ()}
AGREEMENT = 1e-4  # of two losses, relative
Result = Mapping[str, float]


def section(workload: str, threads: int, options: argparse.Namespace) -> str:
    """One workload with one number of threads: a heading and a table."""
    names = ["dlc", *(peer for peer in options.peers if peer in PEERS[workload])]
    results: dict[str, list[Result]] = {name: [] for name in names}
    first_losses: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        for name in names:
            command = ("-m", "tests.benchmarks.worker", name, workload)
            found = run_json(*command, str(threads), str(options.seconds), DLC_CACHE="off")
            first_losses[name] = found.pop("losses")
            check_agreement(first_losses)
            results[name].append(found)
    losses = ", ".join(f"{loss:.5f}" for loss in first_losses["dlc"])
    return (
        f"## Step of {workload}, {threads} thread{'s' * (threads > 1)}\n\n"
        f"{options.rounds} rounds of {options.seconds:g} s each, in turns, dlc without its cache; "
        f"losses of the first steps: {losses}\n\n{_table(results)}"
    )


def check_agreement(losses: Mapping[str, Sequence[float]]) -> None:
    """Ends the measurement where two frameworks do not compute the same."""
    for name, found in losses.items():
        for ours, theirs in zip(losses["dlc"], found, strict=True):
            if not math.isclose(ours, theirs, rel_tol=AGREEMENT):
                raise SystemExit(f"dlc and {name} differ: {losses['dlc']} and {found}")


def _table(results: Mapping[str, Sequence[Result]]) -> str:
    ours = _summary(results["dlc"])
    rows = []
    for name, found in results.items():
        row = _summary(found)
        rows.append(
            [
                name,
                f"{row['median_ms']:.3f}",
                f"{row['min_ms']:.3f}",
                f"{row['median_ms'] / ours['median_ms']:.2f}",
                f"{row['min_ms'] / ours['min_ms']:.2f}",
                f"{row['first_s']:.2f}",
                f"{row['peak_mb']:.0f}",
            ]
        )
    columns = ["", "median ms", "minimum ms", "median / dlc's", "minimum / dlc's"]
    return table([*columns, "to the first loss, s", "peak MB"], rows)


def _summary(results: Sequence[Result]) -> Result:
    """Medians of the rounds; of the minima, the least."""
    row = {key: statistics.median(result[key] for result in results) for key in results[0]}
    return {**row, "min_ms": min(result["min_ms"] for result in results)}
