"""Applying a GPU's schedule: rows that lie in the registers of a group of threads.

A row is counted through in vectors, of which thread `part` of a group has number `part`, and each
`group`-th after it: `schedule.held` of them. What a sweep has read or written of them the next one
finds in registers, so that memory is read once, and written once:

    x0 = x[i, part * 4 …], x1 = x[i, (part + 256) * 4 …], …      16 bytes each
    m = max of x0, x1, …; shuffles, shared memory
    y0 = exp(x0 - m), y1 = …                                     stored by sweep 3 alone
    s = sum of y0, y1, …
    y[i, part * 4 …] = y0 / s, …

Vectors past the end of a row are neither read nor written, and count for nothing. Where the length
of a row is a symbol, it may be more than the registers of a group hold: rows of such a call are
read again in each sweep, as many elements at once.
"""

from __future__ import annotations

from dataclasses import replace

from dlc.compiler.kernels.accesses import LANE, uses
from dlc.compiler.kernels.ranges import nonnegative
from dlc.compiler.loops.builder import Register
from dlc.compiler.loops.sweep import States
from dlc.compiler.loops.threads import Body, OnThreads
from dlc.ir.dims import Dim, coefficient, floordiv, product, symbol
from dlc.ir.kernel import Access, Compute, Index, Kernel
from dlc.ir.schedule import Schedule
from dlc.ir.types import BOOL

LOOPED = 4  # places of a row that a thread takes at a time, where they are read again


class InHeldRows(OnThreads):
    """Applies a schedule that has rows in registers.

    In a turn along the row, `turn` is its number (-1: there is none), and `ragged` says whether
    some threads are past the end then.
    """

    def __init__(self, kernel: Kernel, schedule: Schedule) -> None:
        super().__init__(kernel, schedule)
        self.turn = -1
        self.ragged_turn = False
        self.values: dict[tuple[Access, int], Register] = {}
        self.points: dict[int, dict[str, Dim]] = {}
        self.stored: list[tuple[Access, int]] = []
        self.last = {c.target: c for c in kernel.body if isinstance(c, Compute) and c.over}
        self.current: Compute | None = None
        (over,) = {c.over for c in self.last.values()}
        order = schedule.reduce
        self.row = sorted(over, key=lambda i: order.index(i.name))
        self.vectors: Dim = 0  # of the row

    def _vectors(self, index: Index) -> Dim:
        """How many values of an index of the row there are, those in the lanes as one."""
        high = self._bound(index.high, self.point)
        return floordiv(high, self.schedule.lanes if index.name == self.schedule.vector else 1)

    def sequence(self, body: Body) -> None:
        """The whole body for rows that fit, and for others, if the sizes of a call decide that."""
        self.vectors = product(tuple(self._vectors(i) for i in self.row))
        room = self.schedule.held * self.group - self.vectors
        if nonnegative(room, self.ranges):
            super().sequence(body)
            return
        with self.out.block() as statements:
            super().sequence(body)
        self.out.when((room,), statements)
        self._forget()
        with self.out.block() as statements:
            super().sequence(body)
        self.out.when((-1 - room,), statements)

    def _forget(self) -> None:
        """From here on each sweep reads what it needs."""
        self.schedule = replace(self.schedule, held=0, sweep=LOOPED)
        self.ranges[LANE] = (0, 0)
        self.before, self.vector_bound, self.whole = [], 0, False
        self.forget_ranges()

    def _around(self, run: list[Compute], over: list[Index], states: States) -> States:
        """A sweep over all vectors of the thread; what it writes is stored in the end."""
        if not self.schedule.held:
            return super()._around(run, over, states)
        self.stored = []
        for turn in range(self.schedule.held):
            self._enter(turn)
            states = self.computes_at(run, 0, states)
        for access, turn in self.stored:
            self._enter(turn)
            self._store(access, self.values[access, turn])
        self.turn, self.ragged_turn = -1, False
        return states

    def _enter(self, turn: int) -> None:
        """Moves to one vector of the thread."""
        self.turn = turn
        room = self.vectors - (turn + 1) * self.group
        self.ragged_turn = not (isinstance(room, int) and room >= 0)
        self.whole = not self.ragged_turn
        if turn not in self.points:
            outside = dict(self.point)
            number = self.named("v", self.part + turn * self.group, self.vectors - 1)
            self.number([(i.name, self._vectors(i)) for i in self.row], number)
            name = self.schedule.vector
            if name:
                self.point[name] = self.point[name] * self.schedule.lanes + symbol(LANE)
            self.points[turn] = {i.name: self.point[i.name] for i in self.row} | {"v": number}
            self.point = outside
        self.point |= {n: d for n, d in self.points[turn].items() if n != "v"}

    def live(self, lanes: int) -> str:
        """The mask that says whether the vector here is one of the row; empty if it always is."""
        if not self.ragged_turn:
            return ""
        return self.out.mask(self.points[self.turn]["v"], self.vectors, lanes, None, 0)

    # What a place of the row is, in registers

    def here(self, compute: Compute) -> None:
        """One compute without a reduction, at this place."""
        self.current = compute
        super().here(compute)

    def read(self, access: Access) -> Register:
        """An element or a vector; of a row, what is known of it."""
        if not self._is_of_row(access):
            return super().read(access)
        found = self.values.get((access, self.turn))
        if found is None:
            found = self.values[access, self.turn] = super().read(access)
        return found

    def _is_of_row(self, access: Access) -> bool:
        """Whether it is memory along the row, in a turn along it."""
        return (self.turn >= 0 and self.kernel.buffer(access.buffer).role != "local"
                and any(uses(access, i.name) for i in self.row))

    def write(self, target: Access, value: Register) -> None:
        """Keeps a vector of the row for the sweeps to come; the last one of its place is stored."""
        if not self._is_of_row(target):
            super().write(target, value)
            return
        self.values[target, self.turn] = self.out.widen(value, self.schedule.lanes)
        if self.last[target] is self.current:
            self.stored.append((target, self.turn))

    def _store(self, target: Access, value: Register) -> None:
        offset, lanes = self._offset(self.resolved(target)), self.schedule.lanes
        at = self.simple(offset - symbol(LANE)) if lanes > 1 else offset
        self.out.store(target.buffer, at, value, self.live(lanes))

    def _load_at(self, name: str, offset: Dim) -> Register:
        if not self.ragged_turn:
            return super()._load_at(name, offset)
        wide = coefficient(offset, LANE) == 1
        at = self.simple(offset - symbol(LANE)) if wide else offset
        lanes = self.schedule.lanes if wide else 1
        value = self.out.load(
            name, at, self.kernel.buffer(name).dtype, lanes, self.live(lanes))
        self.masked.add(value.name)
        return value

    def mask(self, name: str, exact: bool = False) -> str:
        """The mask of the lanes that count, all of them or none."""
        if self.turn < 0:
            return super().mask(name, exact)
        return self.live(self.schedule.lanes)

    def _reduced_mask(self) -> str:
        return self.live(self.schedule.lanes) if self.turn >= 0 else super()._reduced_mask()

    def _inside(self, keep: list[Register]) -> list[Register]:
        live = self.live(1) if self.turn >= 0 else ""
        return [*keep, *([Register(live, BOOL)] if live else [])]
