"""Orders of steps: what depends on each other keeps its order, and less is alive."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from dlc.compiler.options import Options
from dlc.compiler.passes.order_steps import order_steps
from dlc.compiler.passes.plan_memory import lifetimes, live_bytes, temp_bytes
from dlc.ir.dims import symbol
from dlc.ir.kernel import Buffer, BufferRole, Kernel, Layout
from dlc.ir.program import (
    BufferKind,
    Check,
    Commit,
    Launch,
    Loop,
    Print,
    Program,
    ProgramBuffer,
    Step,
)
from dlc.ir.types import F32

N = symbol("N")
ROLES: dict[str, BufferRole] = {"r": "in", "w": "out", "u": "inout"}
KINDS: dict[str, BufferKind] = {"v": "var", "x": "in", "y": "out"}


def launch(text: str) -> Launch:
    """`w:a r:b` writes a and reads b; the kernel's name says so."""
    words = text.split()
    return Launch("".join(word[0] for word in words), tuple(word[2:] for word in words), ())


def program(*steps: Step | str, sizes: dict[str, int] | None = None) -> Program:
    """A program of launches as texts; buffers called v… are variables, x… inputs, y… results."""
    made = tuple(launch(step) if isinstance(step, str) else step for step in steps)
    names = dict.fromkeys(name for step in made for name in _names(step))
    kernels = {
        each.kernel: Kernel(each.kernel, (), tuple(
            Buffer(f"p{at}", F32, (), ROLES[role]) for at, role in enumerate(each.kernel)),
            (), (), ())
        for each in _launches(made)}
    buffers = tuple(
        ProgramBuffer(name, F32, (16 * (sizes or {}).get(name, 1),), KINDS.get(name[0], "temp"),
                      Layout()) for name in names)
    return Program("p", (), buffers, made, tuple(kernels.values()))


def _launches(steps: Iterable[Step]) -> Iterable[Launch]:
    for step in steps:
        if isinstance(step, Launch):
            yield step
        elif isinstance(step, Loop):
            yield from _launches((*step.test, *step.body))


def _names(step: Step) -> tuple[str, ...]:
    match step:
        case Launch() | Print():
            return step.buffers
        case Check():
            return (step.buffer,)
        case Loop():
            return tuple(name for each in (*step.test, *step.body) for name in _names(each))
        case _:
            return ()


def ordered(found: Program) -> tuple[Step, ...]:
    return order_steps(found, Options()).steps


def alive(found: Program) -> int:
    return live_bytes(lifetimes(found), temp_bytes(found, {}))


def test_updates_follow_their_gradients() -> None:
    found = program("w:a r:x", "w:b r:x", "w:c r:x", Commit(), "u:v1 r:a", "u:v2 r:b", "u:v3 r:c")
    better = order_steps(found, Options())
    assert (alive(found), alive(better)) == (3 * 64, 64)
    written: set[str] = set()
    for step in better.steps:
        if isinstance(step, Launch):
            written.add(step.buffers[0])
            assert step.kernel == "wr" or step.buffers[1] in written
    assert isinstance(better.steps[0], Commit)


def test_a_good_order_stays() -> None:
    found = program("w:a r:x", "w:b r:a", "w:c r:b", "w:y r:c")
    assert order_steps(found, Options()) is found


def test_checks_prints_and_loops_stand_before_the_commit_in_their_order() -> None:
    loop = Loop("t", 3, (launch("w:e r:x"),))
    found = program("w:a r:x", "w:b r:x", Print(("b",), 1, ("", "")), Check("a", 1, ""), loop,
                    "w:c r:x", "w:d r:x", Commit(), "u:v1 r:c", "u:v2 r:d", sizes={"d": 9, "c": 9})
    kinds = [type(step) for step in ordered(found) if not isinstance(step, Launch)]
    assert kinds == [Print, Check, Loop, Commit]
    assert ordered(found) != found.steps


def test_a_variable_is_written_after_all_that_reads_its_old_value() -> None:
    found = program("w:a r:x", Commit(), "w:b r:v1", "u:v1 r:a", "w:y r:b", "w:c r:v1", "u:v2 r:c")
    steps = ordered(found)
    at = {step: steps.index(step) for step in steps}
    assert at[launch("w:b r:v1")] < at[launch("u:v1 r:a")] < at[launch("w:c r:v1")]


def test_sizes_that_a_loop_tells_are_known_after_it() -> None:
    loop = Loop("t", 0, (launch("w:big r:x"),), (launch("w:more r:x"),), "")
    late = Launch("wr", ("a", "x"), (symbol("t"),))
    found = program("w:h r:x", loop, late, "w:y r:a", "u:h r:a", "w:y2 r:h", sizes={"big": 99})
    steps = ordered(found)
    assert steps.index(loop) < steps.index(late)


@pytest.mark.parametrize("seed", range(60))
def test_whoever_shares_memory_keeps_the_order(seed: int) -> None:
    chance = random.Random(seed)
    names = [f"t{k}" for k in range(9)] + ["v1", "v2", "x"]
    steps: list[Step | str] = []
    for at in range(24):
        if at == 12:
            steps.append(Commit())
        writable = [n for n in names if n[0] == "t" or (n[0] == "v" and at >= 12)]
        role = chance.choice("wwu")
        target = chance.choice(writable)
        reads = chance.sample([n for n in names if n != target], chance.randint(0, 3))
        steps.append(" ".join([f"{role}:{target}", *(f"r:{name}" for name in reads)]))
    found = program(*steps, sizes={f"t{k}": chance.randint(1, 9) for k in range(9)})
    better = order_steps(found, Options())
    assert alive(better) <= alive(found)
    assert sorted(map(repr, better.steps)) == sorted(map(repr, found.steps))
    assert _conflicts(better) == _conflicts(found)


def _conflicts(found: Program) -> dict[str, list[tuple[str, ...]]]:
    """For each buffer its writes in order, with the sets of reads between them."""
    told: dict[str, list[tuple[str, ...]]] = {}
    committed = False
    for step in found.steps:
        if isinstance(step, Commit):
            committed = True
        if not isinstance(step, Launch):
            continue
        text = repr(step)
        for role, name in zip(step.kernel, step.buffers, strict=True):
            entries = told.setdefault(name, [()])
            if role == "r":
                entries[-1] = tuple(sorted((*entries[-1], text)))
            else:
                assert committed or name[0] != "v"
                entries += [(text,), ()]
    return told
