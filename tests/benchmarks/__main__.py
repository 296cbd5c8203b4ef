"""Measures dlc beside its peers and writes tests/benchmarks/RESULTS.md.

usage: python -m tests.benchmarks [lenet5] [lenet5.dl] [start] [compile] [memory] [accuracy]
                                  [OPTIONS]

Every framework runs alone in its process; they take turns over several rounds, so that a busy
moment of the machine meets all of them. A workload that a peer has too is compared only once the
losses of their first steps agree. Without names, everything is measured; what is not measured
stays in the file as it was. Each section says when it was measured, on what, and by which command.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.benchmarks import accuracy, compiling, startup, steps
from tests.benchmarks.processes import cpu_name, now

RESULTS = Path(__file__).with_name("RESULTS.md")


def main() -> None:
    """Runs what was asked for, prints it and writes it down."""
    options = parse(sys.argv[1:])
    sections: list[str] = []
    for workload in steps.PEERS:
        if workload in options.names:
            sections += [steps.section(workload, threads, options) for threads in options.threads]
    if "start" in options.names:
        sections.append(startup.start_section())
    if "compile" in options.names:
        sections.append(compiling.section())
    if "memory" in options.names:
        sections.append(startup.memory_section())
    if "accuracy" in options.names:
        sections.append(accuracy.section())
    command = " ".join(["python -m tests.benchmarks", *sys.argv[1:]])
    mark = f"{now()}, {cpu_name()}, by `{command}`."
    sections = [text.replace("\n\n", f"\n\n{mark}\n\n", 1) for text in sections]
    print("\n".join(sections))
    if not options.dry:
        RESULTS.write_text(merged(RESULTS.read_text() if RESULTS.exists() else "", sections))


def merged(before: str, sections: list[str]) -> str:
    """`before` with the sections of the same titles replaced, and new ones at the end."""
    kept = {part.partition("\n")[0]: part for part in before.split("\n## ")[1:]}
    made = {text.removeprefix("## ").partition("\n")[0]: text.removeprefix("## ")
            for text in sections}
    parts = [part.rstrip() for part in (kept | made).values()]
    return "# Figures\n\n" + "\n\n".join(f"## {part}" for part in parts) + "\n"


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    everything = [*steps.PEERS, "start", "compile", "memory", "accuracy"]
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(everything)}")
    parser.add_argument("--peers", default="torch", help="with commas between (default: torch)")
    parser.add_argument("--threads", default="1,2", help="numbers of threads (default: 1,2)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (default: 5)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each turn (default: 2)")
    parser.add_argument("--dry", action="store_true", help="do not write RESULTS.md")
    options = parser.parse_args(arguments)
    unknown = set(options.names) - set(everything)
    if unknown:
        parser.error(f"no such workload: {', '.join(sorted(unknown))}")
    options.names = options.names or everything
    options.peers = [peer for peer in options.peers.split(",") if peer]
    options.threads = [int(number) for number in options.threads.split(",")]
    return options


if __name__ == "__main__":
    main()
