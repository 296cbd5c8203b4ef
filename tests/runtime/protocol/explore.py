"""Every state that a machine can come into, whatever the order of its threads."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from dlc.runtime.pool_code import FIELDS
from tests.runtime.protocol.machine import Broken, Machine, State


@dataclass(frozen=True, slots=True)
class Explored:
    """How much there was to see."""

    states: int
    steps: int
    ends: int


def explore(machine: Machine) -> Explored:
    """Looks at every state once; `Broken` where something does not hold in one, or where no way
    leads from one to the end without luck."""
    queue = deque(machine.begin())
    numbers = {state: at for at, state in enumerate(queue)}
    reached_from: list[list[int]] = [[] for _ in queue]
    ends, steps = [], 0
    while queue:
        state = queue.popleft()
        at = numbers[state]
        _check(machine, state)
        if machine.is_end(state):
            ends.append(at)
        for step in machine.steps(state):
            steps += 1
            to = numbers.get(step.state)
            if to is None:
                to = numbers[step.state] = len(numbers)
                queue.append(step.state)
                reached_from.append([])
            if not step.by_chance:
                reached_from[to].append(at)
    if _count_before(ends, reached_from) < len(numbers):
        raise Broken("from some state no way leads to the end")
    return Explored(len(numbers), steps, len(ends))


def _count_before(ends: list[int], reached_from: list[list[int]]) -> int:
    """How many states lead to an end."""
    seen = set(ends)
    stack = list(ends)
    while stack:
        for before in reached_from[stack.pop()]:
            if before not in seen:
                seen.add(before)
                stack.append(before)
    return len(seen)


def _check(machine: Machine, state: State) -> None:
    """What must hold in every state."""
    claimed = [_claims(machine, state, at) for at in range(len(state.threads))]
    for at in range(len(machine.callers)):
        thread = state.threads[at]
        if thread >= 0 and "@await" in machine.roles[at].inside[thread]:
            _waits_for_claims(machine, state, at, claimed)
    _nobody_sleeps_through_work(machine, state, claimed)


def _claims(machine: Machine, state: State, at: int) -> tuple[int, int] | None:
    """The stage and chunk that a thread is about to run."""
    thread = state.threads[at]
    if thread < 0:
        return None
    operation = machine.roles[at].operations[thread]
    if operation[0] != "chunk":
        return None
    assert isinstance(operation[3], int)
    return int(str(operation[1]).removeprefix("@fn")), operation[3]


def _waits_for_claims(machine: Machine, state: State, caller: int,
                      claimed: list[tuple[int, int] | None]) -> None:
    """A caller waits only for chunks that somebody has claimed."""
    for stage in state.open & set(machine.stages(caller)):
        for chunk in range(machine.chunks[stage]):
            if (stage, chunk) not in state.begun and (stage, chunk) not in claimed:
                raise Broken("a caller waits for who has claimed nothing")


def _nobody_sleeps_through_work(machine: Machine, state: State,
                                claimed: list[tuple[int, int] | None]) -> None:
    """While the owner runs a chunk and others are left, a worker is awake."""
    workers = range(len(machine.callers), len(state.threads))
    if not all(state.asleep[at] == FIELDS["wake"] for at in workers):
        return
    for own in claimed[: len(machine.callers)]:
        if own is None:
            continue
        stage = own[0]
        left = [c for c in range(machine.chunks[stage])
                if (stage, c) not in state.begun and (stage, c) != own]
        if left and _is_published(machine, state, own):
            raise Broken("all workers sleep through a stage")


def _is_published(machine: Machine, state: State, own: tuple[int, int]) -> bool:
    """Whether the owner of the pool is the one who runs this chunk."""
    return any(
        claim == own and "@stage" in machine.roles[at].inside[state.threads[at]]
        for at in range(len(machine.callers))
        if (claim := _claims(machine, state, at)) is not None
    )
