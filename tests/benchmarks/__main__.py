"""Measures dlc beside its peers and writes tests/benchmarks/RESULTS.md.

usage: python -m tests.benchmarks [WORKLOAD…] [--peers jax,torch,…] [--threads 1,2] [--busy] …
                                  [--target haswell]

A WORKLOAD is one of the table in `workloads.py`, `gemmN` for a square product of any size, `seven`
(those held to figures), `broader` (all others), or one of `calls start compile memory accuracy
stages`, on dlc alone; `gpu` is the table of a GPU. Without names everything of the CPU is measured.

Every framework runs alone in its process, all others stopped; they take turns over several rounds,
so that a busy moment of the machine meets all of them. Times are compared only once the numbers
agree. Peers live in the Python that --python names; what is not installed there is told. What is
not measured stays in the file as it was. With `--target haswell` dlc makes code for AVX2, and peers
have no AVX-512: such figures are printed, not written.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.benchmarks import accuracy, calls, compiling, gpu, profiles, report, stages, startup
from tests.benchmarks.contest import Failure, Rules, contest
from tests.benchmarks.processes import ROOT, cpu_name, load, now, run_json
from tests.benchmarks.worker import FRAMEWORKS, LIMITS
from tests.benchmarks.workloads import BROADER, SEVEN, find

RESULTS = Path(__file__).with_name("RESULTS.md")
ALONE = {"calls": calls.section, "start": startup.start_section, "compile": compiling.section,
         "memory": startup.memory_section, "accuracy": accuracy.section,
         "stages": stages.section}
ROOF_SECONDS = 0.2


def main() -> None:
    """Runs what was asked for, prints it and writes it down."""
    options = parse(sys.argv[1:])
    sections = workload_sections(options) if options.workloads else []
    for name, made in ALONE.items():
        if name in options.names:
            sections.append(made())
    if "gpu" in options.names:
        sections.append(gpu.section(options.python))
    words = ["PATH" if word == options.python else word for word in sys.argv[1:]]
    command = " ".join(["python -m tests.benchmarks", *words])
    mark = f"{now()}, {cpu_name()}, {load()}, by `{command}`."
    sections = [text.replace("\n\n", f"\n\n{mark}\n\n", 1) for text in sections]
    print("\n".join(sections))
    if not options.dry:
        RESULTS.write_text(merged(RESULTS.read_text() if RESULTS.exists() else "", sections))
    if options.failures:
        raise SystemExit("\n".join(options.failures))


def workload_sections(options: argparse.Namespace) -> list[str]:
    """The tables of all workloads, for each number of threads; rows are printed as they come.
    What failed is told at the end, and has no row. Ctrl-C ends with those that are done."""
    absent = missing(options.python, options.peers)
    frameworks = ["dlc", *options.peers]
    roofs = measured_roofs()
    found: dict[int, list[tuple[Any, Any]]] = {}
    for threads in options.threads:
        rules = rules_of(options, threads)
        for workload in options.workloads:
            try:
                results = contest(workload, frameworks, rules, absent)
            except Failure as failure:
                options.failures.append(str(failure))
                print(f"{workload.name} failed", flush=True)
                continue
            except KeyboardInterrupt:
                options.failures.append(f"interrupted at {workload.name}: the rest is as it was")
                return finished(options, found, roofs)
            found.setdefault(threads, []).append((workload, results))
            print(*report.times(workload, results, threads, roofs), sep=" | ", flush=True)
    return finished(options, found, roofs)


def rules_of(options: argparse.Namespace, threads: int) -> Rules:
    """How contests with so many threads are run."""
    return Rules(options.python, threads, options.rounds, options.seconds, options.busy,
                 options.target)


def finished(options: argparse.Namespace, found: Mapping[int, list[tuple[Any, Any]]],
             roofs: dict[str, Any]) -> list[str]:
    """The tables of what was measured, with the roofs, which are measured once more."""
    roofs = best_of(roofs, measured_roofs())
    sections = [report.roofs_section(roofs)]
    for threads, pairs in found.items():
        rules = rules_of(options, threads)
        rows = {"times": [report.times(*pair, threads, roofs) for pair in pairs],
                "memory": [report.memory(*pair) for pair in pairs],
                "busy": [report.busy(*pair) for pair in pairs] if options.busy else []}
        sections += report.sections(rules, rows)
        if rules.target:
            continue  # `dlc bench` is of this machine
        profiled = [row for workload, results in pairs for row in profiles.rows(
            workload, *report.beside_best(results)[::2], threads)]
        sections.append(profiles.section(profiled, threads))
    return sections


def measured_roofs() -> dict[str, Any]:
    """The roofs as they are now."""
    return run_json("-m", "tests.benchmarks.roofs", str(ROOF_SECONDS))


def best_of(first: Any, second: Any) -> Any:
    """The higher of two numbers, everywhere in two objects of the same keys."""
    if isinstance(first, Mapping):
        return {key: best_of(first[key], second[key]) for key in first}
    return max(first, second)


def missing(python: str, peers: list[str]) -> dict[str, str]:
    """The peers that are not installed in that Python, and that they are not."""
    script = "import importlib.util, sys; sys.exit(importlib.util.find_spec(sys.argv[1]) is None)"
    packages = {peer: FRAMEWORKS[peer][2] for peer in peers}
    absent = {package for package in set(packages.values())
              if subprocess.run([python, "-c", script, package], cwd=ROOT).returncode}
    return {peer: "not installed" for peer, package in packages.items() if package in absent}


def merged(before: str, sections: list[str]) -> str:
    """`before` with the sections of the same titles replaced, and new ones at the end; rows of
    workloads that were not measured now are kept."""
    kept = {part.partition("\n")[0]: part for part in before.split("\n## ")[1:]}
    for text in sections:
        part = text.removeprefix("## ")
        title = part.partition("\n")[0]
        kept[title] = report.merged_rows(kept.get(title, ""), part)
    return "# Figures\n\n" + "\n\n".join(f"## {part.rstrip()}" for part in kept.values()) + "\n"


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    groups = {"seven": list(SEVEN), "broader": list(BROADER)}
    peers = [name for name in FRAMEWORKS if name != "dlc"]
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    help_names = f"of {', '.join([*groups, *SEVEN, *BROADER, *ALONE])}, gpu, or gemmN"
    parser.add_argument("names", nargs="*", metavar="WORKLOAD", help=help_names)
    parser.add_argument("--peers", default=",".join(peers), help="default: %(default)s")
    parser.add_argument("--python", default=sys.executable, help="of the peers (default: this)")
    parser.add_argument("--threads", default="1,2", help="numbers of threads (default: 1,2)")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each (default: 7)")
    parser.add_argument("--seconds", type=float, default=0.3, help="of each turn (default: 0.3)")
    parser.add_argument("--busy", action="store_true", help="also beside a process that is busy")
    parser.add_argument("--dry", action="store_true", help="do not write RESULTS.md")
    parser.add_argument("--target", default="", choices=LIMITS, help="not this CPU: one with less")
    options = parser.parse_args(arguments)
    options.dry |= bool(options.target)
    options.names = options.names or [*SEVEN, *BROADER, *ALONE]
    options.names = [x for name in options.names for x in groups.get(name, [name])]
    options.peers = [peer for peer in options.peers.split(",") if peer]
    options.threads = [int(number) for number in options.threads.split(",")]
    unknown = {x for x in options.names if x not in (*ALONE, "gpu") and not find(x)}
    unknown |= set(options.peers) - set(peers)
    if unknown:
        parser.error(f"no such workload or peer: {', '.join(sorted(unknown))}")
    options.failures = []
    options.workloads = [found for x in options.names if (found := find(x))]
    return options


if __name__ == "__main__":
    main()
