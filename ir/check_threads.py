"""Checks what a Schedule says of the threads of a GPU."""

from __future__ import annotations

from collections.abc import Callable

from dlc.ir.schedule import Schedule, SharedTile

WARP, MOST_THREADS = 32, 1024  # threads of a warp, and the most of a block


def check_threads(schedule: Schedule, fail: Callable[[str, str], None]) -> None:
    """All outer loops of a GPU's schedule are split, and a group goes along a row.

    `fail` is told the line of the schedule, and what is wrong there.
    """
    threads, group = schedule.threads, schedule.group
    if not threads:
        if group != 1:
            fail("group", f"{group} threads of none")
        return
    if threads % WARP or not 0 < threads <= MOST_THREADS:
        fail("threads", f"{threads} threads are no block")
    if schedule.parallel != len(schedule.order):
        fail("parallel", "not all outer loops are split")
    if group not in (1, WARP, threads):
        fail("group", f"{group} threads are no warp and no block")
    if group > 1 and not schedule.sweep:
        fail("group", "there is no sweep along a row")
    if schedule.shared is not None:
        _check_tile(schedule, schedule.shared, fail)


def _check_tile(
    schedule: Schedule, tile: SharedTile, fail: Callable[[str, str], None]
) -> None:
    """All threads have a part of the tile, and of the places of its sums."""
    threads = tile.rows_of_threads * tile.columns_of_threads * tile.slices
    if threads != schedule.threads:
        fail("shared", f"{tile.slices} times {tile.rows_of_threads} rows of"
                       f" {tile.columns_of_threads} threads are not {schedule.threads}")
    if min(tile.down, tile.across, tile.depth, tile.slices) < 1:
        fail("shared", "a size is less than 1")
    if tile.depth % tile.slices or not 0 <= tile.outside < len(schedule.reduce):
        fail("shared", "the sum has no such slices or loops")
    names = (*tile.rows, *tile.columns)
    if len(set(names)) < len(names) or not set(names) <= set(schedule.order):
        fail("shared", "rows and columns are no two groups of outer indices")
    if not schedule.reduce or schedule.vector or schedule.group != 1 or schedule.tiles:
        fail("shared", "it has no reduced index, or lanes, groups or tiles besides")
