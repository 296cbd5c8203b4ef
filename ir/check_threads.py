"""Checks what a Schedule says of the threads of a GPU."""

from __future__ import annotations

from collections.abc import Callable

from dlc.ir.group_loops import MOST_OF_BOX, ROWS
from dlc.ir.schedule import PAIR, ChainTile, GroupTile, Schedule, SharedTile, TensorTile
from dlc.ir.types import BF16, F16, F32

WARP, MOST_THREADS = 32, 1024  # threads of a warp, and the most of a block
MOST_SUMS = 256  # columns of all 64 rows of a group: half of the registers that a thread may have


def check_threads(schedule: Schedule, fail: Callable[[str, str], None]) -> None:
    """All outer loops of a GPU's schedule are split, and a group goes along a row.

    `fail` is told the line of the schedule, and what is wrong there.
    """
    threads, group = schedule.threads, schedule.group
    if not threads:
        if group != 1 or schedule.beside or schedule.held or schedule.places != 1:
            fail("group", f"{group} threads of none")
        return
    if threads % WARP or not 0 < threads <= MOST_THREADS:
        fail("threads", f"{threads} threads are no block")
    if schedule.parallel != len(schedule.order):
        fail("parallel", "not all outer loops are split")
    if schedule.beside:
        _check_beside(schedule, fail)
    elif group not in (1, WARP, threads):
        fail("group", f"{group} threads are no warp and no block")
    elif group > 1 and not schedule.sweep:
        fail("group", "there is no sweep along a row")
    _check_places(schedule, fail)
    _check_tiles(schedule, fail)


def _check_tiles(schedule: Schedule, fail: Callable[[str, str], None]) -> None:
    if schedule.shared is not None:
        _check_tile(schedule, schedule.shared, fail)
    if schedule.tensor is not None:
        _check_tensor(schedule, schedule.tensor, fail)
    if schedule.chain is not None:
        _check_chain(schedule, schedule.chain, fail)
    if schedule.grouped is not None:
        _check_grouped(schedule, schedule.grouped, fail)


def _check_places(schedule: Schedule, fail: Callable[[str, str], None]) -> None:
    """What a thread holds is of a row; where it has several places, nothing is reduced."""
    if schedule.held and (schedule.group == 1 or schedule.sweep != 1):
        fail("held", "there is no group that goes along a row, a vector at a time")
    if schedule.places != 1 and (schedule.places < 1 or schedule.group > 1 or schedule.reduce):
        fail("places", "a thread has more than one place only where it has nothing to reduce")


def _check_beside(schedule: Schedule, fail: Callable[[str, str], None]) -> None:
    """Places side by side and the threads of each are all threads of a block."""
    group, beside = schedule.group, schedule.beside
    if group < 1 or group * beside != schedule.threads:
        fail("beside", f"{beside} places of {group} threads are no {schedule.threads} threads")
    if beside & (beside - 1) or group & (group - 1):
        fail("beside", f"{beside} places, or {group} threads, are no power of two")
    if schedule.vector or schedule.tiles or schedule.shared is not None:
        fail("beside", "it has lanes or tiles besides")


def _check_tile(
    schedule: Schedule, tile: SharedTile, fail: Callable[[str, str], None]
) -> None:
    """All threads have a part of the tile, and of the places of its sums."""
    threads = tile.rows_of_threads * tile.columns_of_threads * tile.slices
    if threads != schedule.threads:
        fail("shared", f"{tile.slices} times {tile.rows_of_threads} rows of"
                       f" {tile.columns_of_threads} threads are not {schedule.threads}")
    if min(tile.down, tile.across, tile.depth, tile.slices) < 1 or tile.stages not in (1, 2):
        fail("shared", "a size is less than 1, or there are other stages than one or two")
    if tile.depth % tile.slices or not 0 <= tile.outside < len(schedule.reduce):
        fail("shared", "the sum has no such slices or loops")
    side = 1 if tile.slices > 1 else tile.across
    _check_product(schedule, "shared", (tile.rows, tile.columns), side, fail)


def _check_tensor(
    schedule: Schedule, tile: TensorTile, fail: Callable[[str, str], None]
) -> None:
    """All warps have a part of the tile, and all threads of what is copied for it."""
    if tile.threads != schedule.threads:
        fail("tensor", f"{tile.warps_down} rows of {tile.warps_across} warps are not"
                       f" {schedule.threads} threads")
    if tile.dtype not in (F16, BF16, F32):
        fail("tensor", f"{tile.dtype} is not multiplied so")
    if not {tile.left, tile.right} <= {0, tile.pack, tile.pack // 2, tile.pack // 4}:
        fail("tensor", "so many elements can't be copied at once")
    if min(tile.down, tile.across, tile.depth) < 1 or tile.across % 2 or tile.stages < 2:
        fail("tensor", "a size is too small, or a warp has no pairs of columns")
    if tile.depth % tile.step or not 0 <= tile.outside < len(schedule.reduce):
        fail("tensor", "the sum has no such steps or loops")
    if any(side * tile.depth % (schedule.threads * (lanes or tile.pack))
           for side, lanes in ((tile.height, tile.left), (tile.width, tile.right))):
        fail("tensor", "threads have no even part of what is copied")
    _check_product(schedule, "tensor", (tile.rows, tile.columns), PAIR, fail)


def _check_chain(
    schedule: Schedule, tile: ChainTile, fail: Callable[[str, str], None]
) -> None:
    """All warps have whole matrices of rows, of parts, and of what lies on its way."""
    if tile.threads != schedule.threads:
        fail("chain", f"{tile.warps} warps are not {schedule.threads} threads")
    if tile.dtype not in (F16, BF16, F32):
        fail("chain", f"{tile.dtype} is not multiplied so")
    if not set(tile.copied) <= {0, tile.pack, tile.pack // 2, tile.pack // 4}:
        fail("chain", "so many elements can't be copied at once")
    if tile.down < 1 or tile.stages < 2 or schedule.part < 1 or schedule.part % 16:
        fail("chain", "a size is too small, or a part has no pairs of columns")
    _check_product(schedule, "chain", (tile.rows, ()), 1, fail)


def _check_grouped(
    schedule: Schedule, tile: GroupTile, fail: Callable[[str, str], None]
) -> None:
    """Each group has whole products, whose sums its registers hold; boxes are not too large."""
    if min(tile.groups, tile.down) < 1 or tile.threads != schedule.threads:
        fail("grouped", f"{tile.groups} groups and one more are not {schedule.threads} threads")
    if tile.dtype not in (F16, BF16):
        fail("grouped", f"{tile.dtype} is not multiplied so")
    if tile.width % ROWS or not 0 < tile.width <= MOST_OF_BOX or tile.height > MOST_OF_BOX:
        fail("grouped", f"there are no tiles of {tile.height} rows and {tile.width} columns")
    if tile.down * tile.width > MOST_SUMS:
        fail("grouped", "a thread has more sums than registers")
    if tile.stages < 2 or tile.band < 1 or not 0 <= tile.outside < len(schedule.reduce):
        fail("grouped", "there are too few stages, or bands, or the sum has no such loops")
    _check_product(schedule, "grouped", (tile.rows, tile.columns), PAIR, fail)


def _check_product(
    schedule: Schedule, line: str, sides: tuple[tuple[str, ...], tuple[str, ...]], side: int,
    fail: Callable[[str, str], None],
) -> None:
    """Rows and columns are outer indices; lanes are at most so many columns side by side."""
    names = (*sides[0], *sides[1])
    if len(set(names)) < len(names) or not set(names) <= set(schedule.order):
        fail(line, "rows and columns are no two groups of outer indices")
    tiles = (schedule.shared, schedule.tensor, schedule.chain, schedule.grouped)
    if not schedule.reduce or schedule.group != 1 or schedule.tiles or (
            sum(t is not None for t in tiles) > 1):
        fail(line, "it has no reduced index, or groups or tiles besides")
    if schedule.lanes > side or (schedule.vector and schedule.vector not in sides[1][-1:]):
        fail(line, f"a thread has no {schedule.lanes} columns side by side along"
                   f" {schedule.vector}")
