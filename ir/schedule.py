"""Schedules: how a kernel is carried out, as data. Nothing else may steer an emitter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Edge = Literal["mask", "clamp", "scalar"]


@dataclass(frozen=True, slots=True)
class Tile:
    """A register tile: `size` values of an index side by side, unrolled."""

    index: str
    size: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """The decisions for one kernel.

    order:    the outer indices, outermost loop first; each loop goes over tiles of its index.
    parallel: how many of the first loops are split into chunks that threads claim.
    vector:   the index whose values lie in the lanes of vector registers, and how many
              ("" is none).
    tiles:    register tiles of the first reduction's accumulators.
    reduce:   the order of the reduced indices, outermost first.
    unroll:   reduced indices of constant extent that are unrolled.
    edge:     what happens where a tile or a vector sticks out.
    cost:     estimated nanoseconds of one chunk at the hint sizes (whether threads pay).
    """

    target: str
    order: tuple[str, ...]
    parallel: int = 0
    vector: str = ""
    lanes: int = 1
    tiles: tuple[Tile, ...] = ()
    reduce: tuple[str, ...] = ()
    unroll: tuple[str, ...] = ()
    edge: tuple[tuple[str, Edge], ...] = ()
    cost: int = 0

    def tile(self, index: str) -> int:
        """The tile size of an index (1 if it has none)."""
        return next((t.size for t in self.tiles if t.index == index), 1)
