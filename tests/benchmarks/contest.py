"""Frameworks in turns on one workload: held to the same numbers first, then measured."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.processes import ROOT, inherited_environment, load, now
from tests.benchmarks.shapes import Array, Workload

AGREEMENT = 1e-4  # of losses and outputs, beside the largest
CHANGE_AGREEMENT = 2e-2  # of what steps added to a weight, which f32 rounds, beside the largest
ROUNDING = 1e-6  # of weights: a change is known to so much, absolutely
SPIN = """\
from tests.benchmarks.processes import end_with_parent
end_with_parent()
while True: pass
"""


class Failure(Exception):
    """A framework broke, or computes something else than ours: nothing was measured."""


@dataclass(slots=True)
class Result:
    """What one framework did: `lacks` says why it did nothing, `measured` when it ended, by how
    many turns, and how busy the machine was; turns hold a round each."""

    lacks: str = ""
    measured: str = ""
    import_s: float = 0.0
    first_s: float = 0.0
    difference: float = 0.0
    idle: list[Mapping[str, float]] = field(default_factory=list)
    busy: list[Mapping[str, float]] = field(default_factory=list)
    outputs: dict[str, Array] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rules:
    """How a contest is run: the Python of the peers, threads, rounds, seconds of a turn; the CPU
    that code is made for, if not this one."""

    python: str
    threads: int
    rounds: int
    seconds: float
    busy: bool = False
    target: str = ""


class Worker:
    """A process that measures when it is asked to, and is stopped when it is not."""

    def __init__(self, framework: str, workload: Workload, rules: Rules, folder: Path) -> None:
        self.outputs = folder / f"{framework}.npz"
        self.errors = (folder / f"{framework}.txt").open("w+")
        python = sys.executable if framework == "dlc" else rules.python
        command = [python, "-m", "tests.benchmarks.worker", framework, workload.name]
        self.process = subprocess.Popen(
            [*command, str(rules.threads), str(self.outputs), rules.target], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=self.errors, text=True, cwd=ROOT,
            env={**inherited_environment(), "DLC_CACHE": "off"},
        )

    def answer(self) -> dict[str, Any]:
        """The next line of what it prints; Failure, with what it said, if it broke."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.errors.seek(0)
            raise Failure(f"{self.process.args} failed:\n{self.errors.read()[-4000:]}")
        found: dict[str, Any] = json.loads(line)
        return found

    def turn(self, seconds: float) -> dict[str, Any]:
        """Times of calls for so long; before and after it the process stands still."""
        assert self.process.stdin is not None
        self.process.send_signal(signal.SIGCONT)
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        found = self.answer()
        self.process.send_signal(signal.SIGSTOP)
        return found

    def close(self) -> None:
        """Ends the process."""
        self.process.kill()
        self.process.communicate()
        self.errors.close()


@contextmanager
def spinner() -> Iterator[subprocess.Popen[bytes]]:
    """A process that keeps the last CPU busy whenever it is not stopped; it begins stopped."""
    process = subprocess.Popen([sys.executable, "-c", SPIN], cwd=ROOT)
    process.send_signal(signal.SIGSTOP)
    os.sched_setaffinity(process.pid, {max(os.sched_getaffinity(0))})
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def contest(workload: Workload, frameworks: Sequence[str], rules: Rules,
            absent: Mapping[str, str]) -> dict[str, Result]:
    """Every framework's result; `absent` says of some why they can't take part. Failure, where one
    breaks or the numbers do not agree."""
    results = {name: Result(lacks=absent.get(name, "")) for name in frameworks}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        workers = {}
        for name in frameworks:
            if name not in absent:
                worker = Worker(name, workload, rules, folder)
                stack.callback(worker.close)
                if _begin(worker, results[name]):
                    workers[name] = worker
        _agree(workload, results)
        spins = stack.enter_context(spinner()) if rules.busy else None
        for number in range(rules.rounds):
            for name in list(workers)[:: 1 if number % 2 == 0 else -1]:
                _take_turns(workers[name], results[name], rules, spins)
    for result in results.values():
        result.measured = f"{now()[5:16]}, {rules.rounds} x {rules.seconds:g} s, {load()}"
    return results


def _begin(worker: Worker, result: Result) -> bool:
    """Reads the first results; false if the framework has no such workload."""
    begun = worker.answer()
    result.lacks = begun.get("lacks", "")
    if result.lacks:
        return False
    result.import_s, result.first_s = begun["import_s"], begun["first_s"]
    with np.load(worker.outputs) as file:
        result.outputs = dict(file)
    worker.process.send_signal(signal.SIGSTOP)
    return True


def _take_turns(worker: Worker, result: Result, rules: Rules,
                spins: subprocess.Popen[bytes] | None) -> None:
    result.idle.append(worker.turn(rules.seconds))
    if spins is not None:
        spins.send_signal(signal.SIGCONT)
        result.busy.append(worker.turn(rules.seconds))
        spins.send_signal(signal.SIGSTOP)


def _agree(workload: Workload, results: Mapping[str, Result]) -> None:
    """Failure, where a framework does not compute what ours does."""
    ours = results["dlc"].outputs
    for name, result in results.items():
        if result.lacks:
            continue
        for key, value in ours.items():
            found = difference(key, value, result.outputs[key])
            result.difference = max(result.difference, found)
            if not found <= 1:
                raise Failure(f"{workload.name}: dlc and {name} differ in {key}, by {found:.3g} "
                              "times what is allowed")


def difference(key: str, ours: Array, theirs: Array) -> float:
    """How far two arrays are apart: up to 1 they agree."""
    if ours.shape != theirs.shape:
        return float("inf")
    largest = float(np.abs(ours).max())
    close = key == "losses" or key.startswith("output ")
    allowed = AGREEMENT * largest if close else CHANGE_AGREEMENT * largest + ROUNDING
    apart = float(np.abs(ours.astype(np.float64) - theirs).max())
    return apart / allowed if allowed else float("inf") if apart else 0.0
