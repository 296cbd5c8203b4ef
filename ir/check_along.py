"""Checks what a Schedule says of sums that are transposed for what follows them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NoReturn

from dlc.ir.dims import Dim, coefficient, lower_bound, substitute, symbol, symbols
from dlc.ir.kernel import Access, Index, Kernel, computes
from dlc.ir.schedule import Schedule, places_along

Fail = Callable[[str, str], NoReturn]


def check_along(kernel: Kernel, schedule: Schedule, fail: Fail) -> None:
    """The sums of tiles of two outer indices, `along` and the vector's, and nothing else; and what
    they read goes on as far as tiles do.

    `fail` is told the line of the schedule, and what is wrong there.
    """
    if not schedule.along:
        return
    index = next((i for i in kernel.outer if i.name == schedule.along), None)
    names = [tile.index for tile in schedule.tiles]
    if index is None or isinstance(index.high, Access) or index.low != 0 or (
            names[:1] != [index.name] or names[1:] not in ([], [schedule.vector])):
        fail("along", f"tiles are not of {schedule.along} and of the vector index, in this order")
    if schedule.vector not in {i.name for i in kernel.outer} - {index.name} or not schedule.reduce:
        fail("along", f"there are no sums whose lanes lie along an outer index beside {index.name}")
    if schedule.block or schedule.turn or schedule.part or schedule.sweep or schedule.threads:
        fail("along", "it has blocks, turns, parts or sweeps, or threads, besides")
    _check_reads(kernel, index, places_along(index.high, schedule.tile(index.name)), fail)


def _check_reads(kernel: Kernel, index: Index, places: Dim, fail: Fail) -> None:
    """So many places of an index may be read."""
    sums = next(c for c in computes(kernel.body) if c.combine)
    over = {i.name: i for i in sums.over}
    for access in (a for a in sums.args if isinstance(a, Access)):
        for e, extent in zip(access.at, kernel.buffer(access.buffer).dims, strict=True):
            if isinstance(e, Access) or index.name not in symbols(e):
                continue
            last = _largest(substitute(e, {index.name: places - 1}), over)
            if access.fill is not None or last is None or lower_bound(extent - 1 - last) < 0:
                fail("along", f"{access.buffer} does not go on where tiles of {index.name} do")


def _largest(e: Dim, over: Mapping[str, Index]) -> Dim | None:
    """An index with reduced ones that have constant bounds at their largest; None for others."""
    for name in symbols(e) & over.keys():
        step, index = coefficient(e, name), over[name]
        if not isinstance(step, int) or not isinstance(index.low, int) or not isinstance(
                index.high, int):
            return None
        e = e + (index.high - 1 if step > 0 else index.low) * step - symbol(name) * step
    return e
