"""Applying a schedule: reads whose neighbours in memory lie along another index than the lanes.

As many rows as there are lanes are loaded along that index and transposed: each vector that comes
of it holds, for one value of the other index, what the lanes need.
"""

from __future__ import annotations

from dlc.compiler.kernels.accesses import LANE, offset_of
from dlc.compiler.loops.builder import Register
from dlc.compiler.loops.sequence import Sequencing
from dlc.ir.dims import Dim, coefficient, minimum, substitute, symbol
from dlc.ir.kernel import Access, Compute


class Turning(Sequencing):
    """Carries out elementwise computes for a square of the vector index and `schedule.turn`."""

    square: dict[Access, str] = {}  # noqa: RUF012  where what was turned lies, while it is used
    square_low: Dim = 0

    def turned(self, computes: list[Compute], bound: Dim) -> None:
        """The computes for as many values of the index `turn` as there are lanes, from here on."""
        name, lanes = self.schedule.turn, self.schedule.lanes
        first = self.point[name]
        square: dict[Access, str] = {}
        for access in self._across(computes):
            dtype = self.kernel.buffer(access.buffer).dtype
            stack = square[access] = self.out.alloc("square", dtype, lanes * lanes)
            columns = self.load_turned(access, name, (first, bound), self.row_points())
            for k, column in enumerate(columns):
                self.out.store(stack, k * lanes, column)
        turn, before = f"{name}.t", dict(self.point)
        high = self.simple(minimum(lanes, bound - first))
        self.span(turn, 0, lanes - 1)
        with self.out.block() as body:
            self.point[name] = first + symbol(turn)
            self.square, self.square_low = square, first
            for compute in computes:
                self.compute(compute)
            self.square = {}
        self.out.loop(turn, 0, high, body)
        self.point = before

    def _across(self, computes: list[Compute]) -> list[Access]:
        """The reads whose lanes are no neighbours in memory."""
        reads = [a for c in computes for a in c.args if isinstance(a, Access) and a.fill is None
                 and not any(isinstance(e, Access) for e in a.at)]
        return [a for a in dict.fromkeys(reads)
                if coefficient(self._offset(a), LANE) not in (0, 1)]

    def read(self, access: Access) -> Register:
        """An element or a vector; from the square, if it was turned."""
        stack = self.square.get(access)
        if stack is None:
            return super().read(access)
        at = (self.point[self.schedule.turn] - self.square_low) * self.schedule.lanes
        return self.out.load(stack, self.simple(at), self.kernel.buffer(access.buffer).dtype,
                             self.schedule.lanes)

    def load_turned(
        self, access: Access, name: str, bounds: tuple[Dim, Dim], rows: list[Dim]
    ) -> list[Register]:
        """Rows along the index `name` from a first value on, below a bound, transposed.

        `rows` are the vector index in each lane.
        """
        first, bound = bounds
        lanes, dtype = self.schedule.lanes, self.kernel.buffer(access.buffer).dtype
        mask = "" if self._fits(first, bound) else self.out.mask(first, bound, lanes)
        loaded = []
        for row in rows:
            point = self.point | {self.schedule.vector: row, name: first}
            at = offset_of(self.kernel, access, point, self.ranges)
            loaded.append(self.out.load(access.buffer, at, dtype, lanes, mask))
        return self.out.transpose(loaded)

    def _fits(self, first: Dim, bound: Dim) -> bool:
        """Whether whole vectors from `first` on are known to end at the bound or before."""
        left = self.simple(bound - first - self.schedule.lanes)
        return isinstance(left, int) and left >= 0

    def row_points(self, place: Dim | None = None) -> list[Dim]:
        """The vector index in each lane; past the end the last one again, which is dropped."""
        rows: list[Dim] = []
        bound = self.vector_bound
        place = self.point[self.schedule.vector] if place is None else place
        for lane in range(self.schedule.lanes):
            value = substitute(place, {LANE: lane})
            if not (isinstance(bound, int) and bound % self.schedule.lanes == 0):
                value = self.named("row", minimum(value, bound - 1), bound - 1)
            rows.append(value)
        return rows
