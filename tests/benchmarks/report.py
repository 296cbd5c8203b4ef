"""What contests say, as tables: a row a workload, rows of earlier runs kept."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.benchmarks.contest import AGREEMENT, CHANGE_AGREEMENT, Result, Rules
from tests.benchmarks.processes import table
from tests.benchmarks.shapes import Workload
from tests.benchmarks.worker import FRAMEWORKS
from tests.benchmarks.workloads import WORKLOADS

BUSY_LIMIT = 2.2
MEMORY_LIMIT = 0.5
TIMES = f"""\
Milliseconds of a call, median / minimum over all rounds; steps are whole training steps (forward,
backward, update) that give the loss. "Of the best peer's": our time over that of the best peer in
the same round, the median of the rounds; then the least time of all over the least of the peers'.
"Of the roof": the least time that the FLOPs needed (not those executed) or the bytes of inputs,
weights and results could take on this machine, over our minimum; the roofs stand below. Each runs
alone in its process, all others stopped, in turns whose order alternates; dlc without its cache.
Numbers were compared first: losses of three steps and outputs to {AGREEMENT:g} of the largest, what
the steps added to the weights to {CHANGE_AGREEMENT:g}. Results of dlc lie in memory that is used
again once the caller lets go of it; peers allocate as they do."""
MEMORY = """\
Seconds to import, then seconds to build, compile and make the first call; the process's peak in
MB."""
BUSY = f"""\
Median milliseconds beside a process that keeps one of the CPUs busy, over the idle ones of the same
round: the median of the rounds. Ours may be {BUSY_LIMIT} at most."""


def times(workload: Workload, results: Mapping[str, Result], threads: int,
          roofs: Mapping[str, Any]) -> list[str]:
    """The row of the table of times."""
    cells = [_cell(results.get(name), _time) for name in FRAMEWORKS]
    median, least, best = beside_best(results)
    beside = [f"{median:.2f}", f"{least:.2f}", best] if best else ["", "", ""]
    asked = f"≤ {workload.asked:.2f}" if workload.asked else ""
    roof = share(workload, results["dlc"], threads, roofs)
    return [workload.name, *cells, *beside, asked, roof, results["dlc"].measured]


def memory(workload: Workload, results: Mapping[str, Result]) -> list[str]:
    """The row of the table of first calls and memory."""
    cells = [_cell(results.get(name), _first) for name in FRAMEWORKS]
    part = ""
    if _measured(results.get("jax")):
        part = f"{_peak(results['dlc']) / _peak(results['jax']):.2f}"
    return [workload.name, *cells, part, f"≤ {MEMORY_LIMIT}" if workload.kind == "step" else ""]


def busy(workload: Workload, results: Mapping[str, Result]) -> list[str]:
    """The row of the table of a busy machine."""
    return [workload.name, *(_cell(results.get(name), _busy) for name in FRAMEWORKS)]


def beside_best(results: Mapping[str, Result]) -> tuple[float, float, str]:
    """Our time over the best peer's, by median and by minimum, and who that is."""
    peers = {name: x for name, x in results.items() if name != "dlc" and _measured(x)}
    if not peers:
        return math.nan, math.nan, ""
    ours = results["dlc"]
    ratios = {name: statistics.median(a["median_ms"] / b["median_ms"] for a, b in
                                      zip(ours.idle, x.idle, strict=True))
              for name, x in peers.items()}
    best = max(ratios, key=lambda name: ratios[name])
    return ratios[best], _least(ours) / min(map(_least, peers.values())), best


def share(workload: Workload, ours: Result, threads: int, roofs: Mapping[str, Any]) -> str:
    """How near our minimum comes to what the machine allows, and what bounds it."""
    cores = roofs[str(min(threads, len(roofs)))]
    arithmetic = workload.flops / cores["fma"] / 1e6
    moved = bandwidth_ms(workload, ours, cores["memory"])
    bound = "FMA" if arithmetic > moved else "bytes"
    return f"{max(arithmetic, moved) / _least(ours):.0%} ({bound})"


def bandwidth_ms(workload: Workload, ours: Result, rates: Mapping[str, Any]) -> float:
    """The least time to read inputs and weights and to write results or weights once: at the rate
    of the nearest size that was measured, and of the pattern (read, write or copy) that it is."""
    written = sum(x.nbytes for x in workload.weights.values())
    read = sum(x.nbytes for x in workload.inputs.values()) + written
    if workload.kind != "step":
        written = sum(x.nbytes for x in ours.outputs.values())
    pattern = "read" if written < 0.1 * read else "write" if read < 0.1 * written else "copy"
    sizes = {int(size): rate for size, rate in rates[pattern].items()}
    nearest = min(sizes, key=lambda size: abs(math.log(size / (read + written))))
    return (read + written) / sizes[nearest] / 1e6


def sections(rules: Rules, rows: Mapping[str, Sequence[list[str]]]) -> list[str]:
    """The tables of one number of threads, as Markdown."""
    ending = f"{rules.threads} thread{'s' * (rules.threads > 1)}"
    names = ["workload", *FRAMEWORKS]
    made = [f"## Workloads, {ending}\n\n{TIMES}\n\n" + table(
        [*names, "of the best peer's: median", "minimum", "best peer", "asked", "of the roof",
         "measured"], list(rows["times"]))]
    made.append(f"## First calls and memory, {ending}\n\n{MEMORY}\n\n" + table(
        [*names, "peak over jax's", "asked"], list(rows["memory"])))
    if rules.busy:
        made.append(f"## Beside a busy process, {ending}\n\n{BUSY}\n\n" + table(
            names, list(rows["busy"])))
    return made


def roofs_section(roofs: Mapping[str, Any]) -> str:
    """The roofs that shares are of."""
    sizes = list(roofs["1"]["memory"]["read"])
    rows = [[f"{cores} core{'s' * (cores != '1')}", f"{found['fma']:.0f}", pattern,
             *(f"{found['memory'][pattern][size]:.0f}" for size in sizes)]
            for cores, found in roofs.items() for pattern in found["memory"]]
    columns = ["at once", "FMA GFLOP/s", "GB/s", *(f"{int(size) / 2**20:g} MB" for size in sizes)]
    text = ("By generated loops: 16 independent chains of FMAs, memory read, written, or copied "
            "(bytes read and written count), in all by the cores at once; the best of many turns, "
            "before the workloads and after them.")
    return f"## Roofs\n\n{text}\n\n{table(columns, rows)}"


def merged_rows(before: str, after: str) -> str:
    """The section `after`, with the rows of `before` whose first cell it has not.

    Rows stay in the order of the table of workloads; other columns than before drop them."""
    old, new = before.splitlines(), after.splitlines()
    place = next((i for i, line in enumerate(new) if line.startswith("| --- ")), None)
    if place is None or new[place - 1] not in old:
        return after
    head, kept = new[: place + 1], old[old.index(new[place - 1]) + 2 :]
    rows = _by_first_cell(kept) | _by_first_cell(new[place + 1 :])
    order = list(WORKLOADS)
    named = sorted(rows, key=lambda name: order.index(name) if name in order else len(order))
    return "\n".join([*head, *(line for name in named for line in rows[name])]) + "\n"


def _by_first_cell(lines: Sequence[str]) -> dict[str, list[str]]:
    rows: dict[str, list[str]] = {}
    for line in lines:
        if line.startswith("|"):
            rows.setdefault(line.split("|")[1].strip(), []).append(line)
    return rows


def _measured(result: Result | None) -> bool:
    return result is not None and bool(result.idle)


def _cell(result: Result | None, written: Callable[[Result], str]) -> str:
    if result is None:
        return ""
    return written(result) if result.idle else result.lacks


def _least(result: Result) -> float:
    return min(turn["min_ms"] for turn in result.idle)


def _peak(result: Result) -> float:
    return max(turn["peak_mb"] for turn in result.idle)


def _time(result: Result) -> str:
    median = statistics.median(turn["median_ms"] for turn in result.idle)
    return f"{median:.3g} / {_least(result):.3g}"


def _first(result: Result) -> str:
    return f"{result.import_s:.2f} + {result.first_s:.2f} s, {_peak(result):.0f} MB"


def _busy(result: Result) -> str:
    pairs = zip(result.busy, result.idle, strict=True)
    ratio = statistics.median(a["median_ms"] / b["median_ms"] for a, b in pairs)
    median = statistics.median(turn["median_ms"] for turn in result.busy)
    return f"{ratio:.2f} ({median:.3g} ms)"
