"""Applying a schedule: tiles that stick out along the lanes, apart from those that do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from dlc.compiler.loops.compute import Computing

MANY_VECTORS = 8  # of a tile: a mask and an address for each would leave few registers
FEW_VECTORS = (4, 8)  # of tiles for what is left


class Edging(Computing):
    """Makes the code of whole tiles, and that of the last one."""

    def in_whole_tiles(self, fill: Callable[[], None]) -> None:
        """What `fill` makes for a tile; for one that sticks out apart, if it needs masks."""
        self._apart(fill, fill)

    def in_fitting_tiles(self, fill: Callable[[], None]) -> None:
        """What `fill` makes for a tile; where that has many vectors, for the last one in a tile of
        as few as it needs, so that of short rows none is computed for nothing."""
        if self.schedule.tile(self.schedule.vector) < MANY_VECTORS:
            fill()
        else:
            self._apart(fill, lambda: self._fitting(fill))

    def _apart(self, whole: Callable[[], None], last: Callable[[], None]) -> None:
        wide = self.schedule.lanes * self.schedule.tile(self.schedule.vector)
        left = self.simple(self.vector_bound - self.vector_base - wide)
        if not self.mask("", exact=True):
            whole()
            return
        for self.whole, fill in ((True, whole), (False, last)):
            with self.out.block() as body:
                fill()
            self.out.when((left if self.whole else -1 - left,), body)

    def _fitting(self, fill: Callable[[], None]) -> None:
        """The tile here, which sticks out, or the first of fewer vectors that covers the rest."""
        schedule, name, fewer = self.schedule, self.schedule.vector, 0
        rest = self.vector_bound - self.vector_base
        for size in (*(n for n in FEW_VECTORS if n < schedule.tile(name)), schedule.tile(name)):
            self.schedule = replace(schedule, tiles=tuple(
                replace(t, size=size) if t.index == name else t for t in schedule.tiles))
            with self.out.block() as body:
                fill()
            self.out.when((rest - 1 - fewer, size * schedule.lanes - rest), body)
            fewer = size * schedule.lanes
        self.schedule = schedule
