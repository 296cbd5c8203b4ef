"""Takes the times of a compiled function: of its launches in a build that takes them, and of whole
calls in the build that everybody uses. Both go on the same variables, in turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from dlc.compiler.llvm.timed import EVENT, HEADER, TOTALS, parallel_of
from dlc.compiler.pipeline import compile_timed
from dlc.ir.dataclass import dataclass
from dlc.ir.program import Launch, Parallel, Program, each_step
from dlc.runtime.arguments import Arguments
from dlc.runtime.artifact import Artifact
from dlc.runtime.function import Function
from dlc.runtime.memory import address_of

if TYPE_CHECKING:
    from dlc.frontend.driver import Model

CAPACITY: Final = 1 << 18  # events of a call that can be kept
LEAST_CALLS: Final = 6
TURN_SECONDS: Final = 0.05  # of each build, before the other has its turn

Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Times:
    """What was measured, in seconds and ns.

    plain:    of whole calls of the usual build.
    timed:    of those calls of the timed build that count: the faster half.
    launches: for each launch of the program `TOTALS`, the mean of these calls (ns, turns, busy).
    events:   of the fastest call, as `EVENT`; `lost` are those for which there was no room.
    """

    plain: list[float]
    timed: list[float]
    launches: NDArray[np.float64]
    events: Numbers
    lost: int


class Timed:
    """A function in the build that takes times."""

    def __init__(self, model: Model, name: str) -> None:
        built = model.built
        code, manifest, self.program = compile_timed(built.graph(name), built.options(name))
        self._launches = len(launches_of(self.program))
        places = self._launches + len(parallel_of(self.program))
        self._totals = len(HEADER), len(HEADER) + len(TOTALS) * places
        self._block: Numbers = np.zeros(self._totals[1] + CAPACITY * len(EVENT), np.int64)
        self._block[HEADER.index("capacity")] = CAPACITY
        self.call = Function(
            Artifact(manifest, code), model.storage(), address_of(self._block))

    def clear(self) -> None:
        """Forgets what was seen."""
        self._block[HEADER.index("events")] = 0
        self._block[self._totals[0]:self._totals[1]] = 0

    def totals(self) -> Numbers:
        """For each launch `TOTALS`, since they were cleared. Launches in pieces share the time in
        which the caller waited for these, by the time that threads spent in them."""
        start, end = self._totals
        found = self._block[start:end].reshape(-1, len(TOTALS)).copy()
        ns, busy = TOTALS.index("ns"), TOTALS.index("busy")
        for waited, (_, inside) in zip(
                found[self._launches:, ns], pieces_of(self.program), strict=True):
            spent = found[inside, busy]
            if waited:
                found[inside, ns] = spent * waited // max(1, spent.sum())
        return found[:self._launches]

    def events(self) -> tuple[Numbers, int]:
        """What was seen since, and how many events there was no room for."""
        seen = int(self._block[HEADER.index("events")])
        kept = min(seen, CAPACITY)
        start = self._totals[1]
        found = self._block[start:start + kept * len(EVENT)].reshape(-1, len(EVENT)).copy()
        return found, seen - kept


def launches_of(program: Program) -> list[Launch]:
    """The launches in the order of their numbers."""
    return [step for step in each_step(program.steps) if isinstance(step, Launch)]


def pieces_of(program: Program) -> list[tuple[Parallel, slice]]:
    """What is done in pieces, and the numbers of the launches in it."""
    found = []
    steps = list(each_step(program.steps))
    for at, step in enumerate(steps):
        if isinstance(step, Parallel):
            first = sum(isinstance(s, Launch) for s in steps[:at])
            own = sum(isinstance(s, Launch) for s in each_step(step.body))
            found.append((step, slice(first, first + own)))
    return found


def sizes_of(timed: Timed, arguments: Mapping[str, Any]) -> dict[str, int]:
    """The sizes of the program's symbols in a call, under the names that the program has."""
    door = Arguments(timed.call.manifest)
    sizes = door.bind(door.gather((), arguments))
    return dict(zip(timed.program.symbols, sizes.values(), strict=True))


def measure(
    plain: Callable[..., object], timed: Timed, arguments: Mapping[str, Any], seconds: float
) -> Times:
    """Calls both builds in turns for some `seconds` in all."""
    whole: list[float] = []
    calls: list[tuple[float, Numbers]] = []
    events: tuple[Numbers, int] = np.zeros((0, len(EVENT)), np.int64), 0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or min(len(whole), len(calls)) < LEAST_CALLS:
        whole += _turn(lambda: _seconds(plain, arguments))
        turn = time.perf_counter() + TURN_SECONDS
        while time.perf_counter() < turn:
            timed.clear()
            took = _seconds(timed.call, arguments)
            if all(took < each for each, _ in calls):
                events = timed.events()
            calls.append((took, timed.totals()))
    calls.sort(key=lambda call: call[0])
    kept = calls[:(len(calls) + 1) // 2]
    return Times(whole, [took for took, _ in kept], _mean([totals for _, totals in kept]), *events)


def _turn(call: Callable[[], float]) -> list[float]:
    """The seconds of calls, for a while."""
    found = []
    end = time.perf_counter() + TURN_SECONDS
    while time.perf_counter() < end:
        found.append(call())
    return found


def _seconds(call: Callable[..., object], arguments: Mapping[str, Any]) -> float:
    start = time.perf_counter()
    call(**arguments)
    return time.perf_counter() - start


def _mean(totals: Sequence[Numbers]) -> NDArray[np.float64]:
    return np.asarray(np.mean(np.stack(totals), axis=0))
