"""Checks what a Schedule says of blocks of tiles, and of panels for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NoReturn

from dlc.ir.dims import Dim, symbol, symbols
from dlc.ir.kernel import Access, Compute, Index, Kernel, computes
from dlc.ir.schedule import Schedule

Fail = Callable[[str, str], NoReturn]


def check_blocks(
    kernel: Kernel, schedule: Schedule, reduced: Mapping[str, Index], fail: Fail
) -> None:
    """What is outside a block depends on none of its tiles, and what is in a panel neither.

    `fail` is told the line of the schedule, and what is wrong there.
    """
    if not schedule.block:
        if schedule.outside or schedule.within or schedule.panel or schedule.blocks != 0:
            fail("block", "loops outside or within, blocks, or a panel, of no block")
        if schedule.ahead or (schedule.depth and not schedule.part):
            fail("panel", "a depth, or something to be fetched ahead, of no panel")
        return
    first = next((c for c in computes(kernel.body) if c.combine), None)
    if schedule.block < 0 or first is None or not schedule.order or first.where:
        fail("block", f"{schedule.block} tiles of no reduction")
    if not 0 <= schedule.outside <= len(schedule.reduce):
        fail("outside", f"{schedule.outside} of {len(schedule.reduce)} loops")
    _check_within(kernel, schedule, fail)
    inside = _inside(schedule) | set(schedule.round_tiles)
    for index in first.over:
        if index.name in schedule.reduce[:schedule.outside] and _bounded(index, inside):
            fail("outside", f"the bounds of {index.name} depend on a tile")
    _check_panel(kernel, schedule, first, reduced, fail)


def _inside(schedule: Schedule) -> set[str]:
    """The outer indices that change from tile to tile."""
    return {t.index for t in schedule.tiles} | {schedule.innermost}


def _check_within(kernel: Kernel, schedule: Schedule, fail: Fail) -> None:
    """Loops within a block have a constant number of turns, and go round its tiles."""
    if not 0 <= schedule.within < len(schedule.order):
        fail("within", f"{schedule.within} of {len(schedule.order)} loops")
    if schedule.within and (not schedule.panel or schedule.parallel > len(
            schedule.order) - schedule.within):
        fail("within", "there is no panel, or one of the loops is split")
    names = set(schedule.round_tiles)
    if names & ({t.index for t in schedule.tiles} | {schedule.vector}):
        fail("within", "one of the loops has a tile or the lanes")
    for index in kernel.outer:
        if index.name in names and (index.low != 0 or not isinstance(index.high, int)):
            fail("within", f"the extent of {index.name} is not constant")


def _check_panel(
    kernel: Kernel, schedule: Schedule, first: Compute, reduced: Mapping[str, Index], fail: Fail
) -> None:
    name = schedule.panel
    if not name:
        if schedule.depth or schedule.ahead:
            fail("panel", "a depth, or something to be fetched ahead, of no panel")
        return
    if schedule.ahead < 0 or (schedule.ahead and schedule.outside > len(schedule.reduce) - 2):
        fail("ahead", "there is no loop round the last one over a panel")
    if schedule.depth < 1 or schedule.depth % schedule.lanes:
        fail("panel", f"a depth of {schedule.depth}")
    if schedule.outside >= len(schedule.reduce):
        fail("panel", "all reduced loops are outside")
    found = [a for a in first.args if isinstance(a, Access)]
    read = [a for a in found if a.buffer == name and _uses(a, schedule.vector)]
    if len(set(read)) != 1 or read[0].fill is not None or first.where:
        fail("panel", f"the reduction does not read {name} at one place alone")
    _check_operand(kernel, schedule, read[0], fail)
    _check_bounds(schedule, read[0], reduced, fail)


def _check_operand(kernel: Kernel, schedule: Schedule, read: Access, fail: Fail) -> None:
    if not schedule.vector or schedule.reduce[-1:] in ((), (schedule.vector,)):
        fail("panel", "it needs a vector, of another index than the innermost reduced")
    tiled = [t.index for t in schedule.tiles if _uses(read, t.index)]
    outer = {i.name for i in kernel.outer}
    rows = {schedule.vector} if schedule.vector in outer else set(tiled[:1])
    for index in tiled:
        if index not in rows:
            fail("panel", f"{read.buffer} depends on {index}, which is tiled")
    for index in (schedule.innermost, *schedule.round_tiles):
        if _uses(read, index):
            fail("panel", f"{read.buffer} depends on {index}, a loop over tiles")


def _check_bounds(
    schedule: Schedule, read: Access, reduced: Mapping[str, Index], fail: Fail
) -> None:
    """No bounds depend on tiles; those that depend on loops within a block are of whole axes."""
    inside, within = _inside(schedule), set(schedule.round_tiles)
    for index in reduced.values():
        if _bounded(index, inside):
            fail("panel", "bounds of reduced indices depend on a tile")
        if _bounded(index, within) and symbol(index.name) not in read.at:
            fail("panel", f"{read.buffer} has no axis of {index.name}")


def _bounded(index: Index, names: set[str]) -> bool:
    """Whether the bounds of an index depend on some names."""
    return any(_uses(b, name) for b in (index.low, index.high) for name in names)


def _uses(where: Dim | Access, name: str) -> bool:
    if isinstance(where, Access):
        return any(_uses(at, name) for at in where.at)
    return name in symbols(where)
