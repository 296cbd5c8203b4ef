"""Checks what a Schedule says of the threads of a GPU."""

from __future__ import annotations

from collections.abc import Callable

from dlc.ir.schedule import Schedule

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
