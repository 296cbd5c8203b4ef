"""Applying a GPU's schedule: factors in the panels that tensor cores multiply.

What lies in memory as it is multiplied is copied without registers: the copies go on by themselves.
What is computed first, or lies there so that 16 bytes are no neighbours, is loaded and then stored.
"""

from __future__ import annotations

from collections.abc import Callable

from dlc.compiler.kernels.products import needed
from dlc.compiler.loops.builder import Register
from dlc.compiler.loops.copies import Copying
from dlc.compiler.loops.tensor_panels import Panel
from dlc.ir.dataclass import dataclass
from dlc.ir.dims import Dim, floordiv, mod, symbol
from dlc.ir.kernel import Access, Arg, Compute
from dlc.ir.types import F32, DType

Piece = tuple[Dim, list[Register]]  # a place in shared memory, and what goes there


@dataclass(frozen=True, slots=True)
class Source:
    """Where the elements of a panel come from.

    `value` is a factor of the product `compute`. `stand(m, k)` lets the indices stand at row `m` of
    the panel and place `k` of the sum, and says whether it counts (`keep`). So many elements as
    `lanes` are copied at once (0: they go through registers). Whether neighbours in memory lie
    `along` the sum.
    """

    compute: Compute
    value: Arg
    stand: Callable[[Dim, Dim], None]
    lanes: int
    along: bool


class OnPanels(Copying):
    """Copies factors into panels, each thread its part of them, and reads matrices there."""

    def start_copies(
        self, panel: Panel, source: Source, stage: Dim, rolled: bool = False
    ) -> None:
        """Starts the copies of this thread."""
        access = narrow(source.compute, source.value, panel.dtype)
        assert isinstance(access, Access)
        lanes, in_line = source.lanes, panel.used // source.lanes

        def one(number: Dim) -> None:
            line = self.named("m", floordiv(number, in_line), panel.lines - 1)
            start = self.named("k", mod(number, in_line), in_line - 1) * lanes
            m, k = (line, start) if panel.along else (start, line)
            source.stand(m, k)
            mask = self.keep.name if self.keep is not None else ""
            self.out.copy((panel.memory, panel.place(stage, m, k)),
                          (access.buffer, self._offset(access)), panel.dtype, lanes, mask)
            self.keep = None

        self._shared_out(panel.lines * in_line, one, rolled)

    def load_pieces(self, panel: Panel, source: Source, stage: Dim) -> list[Piece]:
        """Loads what goes into this thread's packs of a panel, of which all have as many."""
        found: list[Piece] = []
        assert panel.size * panel.depth % (panel.pack * self.schedule.threads) == 0
        self._shared_out(panel.size * panel.depth // panel.pack,
                         lambda number: found.append(self._piece(panel, source, stage, number)))
        return found

    def store_pieces(self, panel: Panel, pieces: list[Piece]) -> None:
        """Stores what was loaded, 16 bytes at once."""
        for place, values in pieces:
            pack = self.out.alloc("pack", panel.dtype, panel.pack)
            for lane, value in enumerate(values):
                self.out.store(pack, lane, value)
            self.out.store(panel.memory, place, self.out.load(pack, 0, panel.dtype, panel.pack))

    def copy_pieces(self, panel: Panel, source: Source, stage: Dim) -> None:
        """Loads and stores this thread's packs of a panel, one after another."""
        self._shared_out(panel.size * panel.depth // panel.pack, lambda number: self.store_pieces(
            panel, [self._piece(panel, source, stage, number)]), rolled=True)

    def _piece(self, panel: Panel, source: Source, stage: Dim, number: Dim) -> Piece:
        """The pack with this number of all, which lies along the sum."""
        packs = panel.depth // panel.pack
        m = floordiv(number, packs) if source.along else mod(number, panel.size)
        k = mod(number, packs) if source.along else floordiv(number, panel.size)
        m = self.named("m", m, panel.size - 1)
        k = self.named("k", k, packs - 1) * panel.pack
        value, values = narrow(source.compute, source.value, panel.dtype), []
        for lane in range(panel.pack):
            source.stand(m, k + lane)
            values.append(self.kept(source.compute, value))
            self.keep = None
        return panel.place(stage, m, k), values

    def matrices(
        self, panel: Panel, at: tuple[Dim, Dim, Dim], rows: bool, of_sums: bool = False
    ) -> Register:
        """16 rows of the left factor, or 16 columns of the right one, at one step of the sum: `at`
        is the stage, the first of them, and the first place of the step.

        Of the four matrices of rows, two lie below each other, then the other two beside them; of
        columns, those of one half of the step and of the other follow each other. The left factor
        may be what is left `of_sums` of another product: of f32 the even places are then one half.
        """
        lane, (stage, first, k) = symbol("in.warp"), at
        if panel.dtype is F32 and (of_sums or not panel.along):
            parts = [(r % 2, r // 2) if rows else (r // 2, r % 2) for r in range(4)]
            m, step, apart = first + floordiv(lane, 4), k + mod(lane, 4), 4
            if of_sums:
                step, apart = k + 2 * mod(lane, 4), 1
            places = tuple(panel.place(stage, m + 8 * below, step + apart * beside)
                           for below, beside in parts)
            return self.out.matrices(panel.memory, places, F32, True)
        in_order, other = mod(lane, 16), mod(lane, 8) + 8 * floordiv(lane, 16)
        upper, odd = floordiv(lane, 16), mod(floordiv(lane, 8), 2)
        line, half = (in_order, upper) if rows == panel.along else (other, odd)
        m, step = (line, panel.pack * half) if panel.along else (8 * half, line)
        place = panel.place(stage, first + m, step + k)
        return self.out.matrices(panel.memory, (place,), panel.dtype, not panel.along)

    def _shared_out(
        self, count: int, one: Callable[[Dim], None], rolled: bool = False
    ) -> None:
        """Each of `count` things by one of the threads; in a loop that stays one if `rolled`:
        places of copies then take no registers while others are multiplied."""
        threads = self.schedule.threads
        turns = -(-count // threads)
        if not rolled or turns == 1:
            for e in range(turns):
                self._one_of(count, e * threads + symbol("thread"), (e + 1) * threads, one)
            return
        var = self.out.fresh("e")
        self.span(var, 0, turns - 1)
        with self.out.block() as body:
            self._one_of(count, symbol(var) * threads + symbol("thread"), turns * threads, one)
        self.out.loop(var, 0, turns, body, unrolled=False)

    def _one_of(self, count: int, number: Dim, below: int, one: Callable[[Dim], None]) -> None:
        """What is done with one of `count` things, whose number is less than `below`, if there is
        one."""
        if below <= count:
            one(number)
            return
        with self.out.block() as body:
            one(number)
        self.out.when((count - 1 - number,), body)


def narrow(compute: Compute, value: Arg, dtype: DType) -> Arg:
    """A factor as tensor cores take it: before it is made f32."""
    if dtype is F32:
        return value
    last = needed(compute, value)[-1]
    assert last.op == "cast"
    return last.args[0]
