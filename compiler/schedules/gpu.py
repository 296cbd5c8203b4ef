"""Schedules of a GPU: which places a thread has, and what threads do together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace

from dlc.compiler.kernels.accesses import accesses, stride, uses
from dlc.compiler.kernels.implicit_products import as_product
from dlc.compiler.loops import columns
from dlc.compiler.loops import running as running_sums
from dlc.compiler.loops.running import running_sum
from dlc.compiler.loops.threads import WARP
from dlc.compiler.options import Options
from dlc.compiler.schedules.columns import Columns
from dlc.compiler.schedules.group_tiles import GroupChoice, GroupSearch
from dlc.compiler.schedules.held_rows import HeldRowSearch
from dlc.compiler.schedules.neighbours import Neighbours
from dlc.compiler.schedules.product_tiles import TileChoice
from dlc.compiler.schedules.rows import row_of
from dlc.compiler.schedules.several_places import places_of_thread
from dlc.compiler.schedules.tensor_chains import best_chain
from dlc.compiler.schedules.tensor_operands import Alignment
from dlc.compiler.schedules.tensor_tiles import TensorChoice
from dlc.ir.dataclass import dataclass
from dlc.ir.dims import Dim, as_multiples, ceildiv, evaluate, product, symbols
from dlc.ir.kernel import Access, Compute, Index, Kernel, computes
from dlc.ir.schedule import GroupTile, Schedule, TensorTile

THREADS = 256  # of a block: eight warps, of which several blocks fit a processor
LONG_ROW = 1024  # from here on a block has a row, below a warp
LONG_SUM = 64  # elements of a running sum, from which on threads share it
SIDE = 4  # places of a row that a thread has at a time


def at_least_one(blocks: Dim) -> Dim:
    """Where there is never a place, one block finds that out."""
    return max(1, blocks) if isinstance(blocks, int) else blocks


@dataclass(slots=True)
class ThreadSearch:
    """Chooses the schedule of one kernel at likely sizes.

    `starts` are, for each parameter, where its memory begins in a buffer, in elements; `multiples`
    are symbols that are taken for multiples of numbers.
    """

    kernel: Kernel
    sizes: dict[str, int]
    options: Options
    starts: dict[str, list[Dim]]
    multiples: Mapping[str, int] = field(default_factory=dict)
    tiles: dict[Kernel, GroupSearch] = field(default_factory=dict)  # of forms that were seen

    @property
    def _side(self) -> Neighbours:
        return Neighbours(self.kernel, self.starts, self.multiples)

    def at(self, sizes: dict[str, int]) -> ThreadSearch:
        """The same search at other sizes."""
        return replace(self, sizes=sizes)

    def wished(self) -> dict[str, int]:
        """Symbols that would have to be multiples of numbers, so that more is copied at once."""
        if self._chain() is not None:
            return {}
        row = self._row()
        if row is not None:
            return self._side.wished(row[-1])
        made = as_product(self.kernel, self.sizes)
        if made is not None:
            return self._tiles(made).wished()
        order = self._order()
        last = [i for i in self.kernel.outer if i.name in order[-1:]]
        return {} if not last or self._vector(order)[0] else self._side.wished(last[0])

    def choose(self) -> tuple[Kernel, Schedule]:
        """The kernel, in the form that the schedule is for, and the schedule."""
        kernel, schedule = self._choose()
        tile = schedule.tensor
        wide = schedule.lanes > 1 or (tile is not None and max(tile.left, tile.right) > 0)
        if wide or schedule.part or schedule.grouped is not None:
            schedule = replace(schedule, multiples=tuple(sorted(self.multiples.items())))
        return kernel, schedule

    def _chain(self) -> Schedule | None:
        return best_chain(self.kernel, self.options, self._extent, Alignment(
            self.kernel, self.starts, as_multiples(self.multiples)))

    def _choose(self) -> tuple[Kernel, Schedule]:
        chain = self._chain()
        if chain is not None:
            return self.kernel, chain
        row = self._row()
        group = self._group(row)
        beside = self._in_columns(row) if group == 1 else None
        if beside is not None:
            return self.kernel, beside
        if row is not None:
            return self.kernel, self._in_groups(self._order(), row, group)
        made = as_product(self.kernel, self.sizes)
        if made is not None:
            search = self._tiles(made)
            found = [tile for tile in (
                search.choose(), search.best(), search.grouped()) if tile is not None]
            if found:
                best = min(found, key=lambda tile: tile.cycles)
                return made, replace(self, kernel=made)._in_tiles(best)
        return self.kernel, self._on_places()

    def _tiles(self, product: Kernel) -> GroupSearch:
        if product not in self.tiles:
            self.tiles[product] = GroupSearch(
                product, self.sizes, self.options, self.starts, self.multiples)
        return self.tiles[product].at(self.sizes)

    def _on_places(self) -> Schedule:
        """A thread for each place, or for a few side by side, or for a few of these."""
        order = self._order()
        reduce = self._reduced()
        vector, lanes = self._vector(order)
        schedule = Schedule(
            self.options.target, order, len(order), self._blocks(order, vector, lanes), vector,
            lanes, reduce=reduce, threads=THREADS, edge=((vector, "mask"),) if vector else ())
        places = self._places_of_thread(schedule)
        return replace(schedule, places=places, chunks=self._blocks(order, vector, lanes, places))

    def _places_of_thread(self, schedule: Schedule) -> int:
        """How many places (or vectors of them) a thread has: so many that memory is kept busy."""
        *rest, _ = schedule.order or ("",)
        ragged = any(not self._side.come_out_even(i, schedule.lanes)
                     for i in self.kernel.outer if i.name == schedule.vector)
        if not schedule.order or not self._is_plain() or (ragged and rest):
            return 1
        places = self._number(self._places(schedule.order)) // schedule.lanes
        return places_of_thread(self.kernel, schedule.lanes, places, self.options.target)

    def _is_plain(self) -> bool:
        """Whether it is elementwise: what is written is read at its own place, if at all."""
        found = [c for c in self.kernel.body if isinstance(c, Compute)]
        if len(found) != len(self.kernel.body) or any(c.combine or c.over or c.where
                                                      for c in found):
            return False
        written = {c.target.buffer: c.target for c in found}
        return all(a == written[a.buffer] for c in found for a in accesses(c)
                   if a.buffer in written)

    def _in_groups(self, order: tuple[str, ...], row: tuple[Index, ...], group: int) -> Schedule:
        """A warp or a block for each place, along whose row its threads go together."""
        lanes = self._side.along(row[-1], [
            a for a in self._side.accesses() if any(uses(a, i.name) for i in row)])
        lanes = lanes if group > 1 and self._extent(row[-1]) >= lanes else 1
        found = HeldRowSearch(self.kernel, row, lanes, self.options.target, self._extent).choose(
            ) if group > 1 else None
        group, held = (found.group, found.held) if found is not None else (group, 0)
        threads = group if group > WARP else THREADS
        blocks = at_least_one(ceildiv(self._places(order), threads // group))
        side = SIDE if self._extent(row[-1]) >= SIDE * lanes * group and not held else 1
        return Schedule(
            self.options.target, order, len(order), blocks, row[-1].name if lanes > 1 else "",
            lanes, reduce=tuple(i.name for i in row), sweep=side, threads=threads, group=group,
            held=held)

    def _in_columns(self, row: tuple[Index, ...] | None) -> Schedule | None:
        """Columns side by side, whose rows threads share; None where they have one each."""
        running, tree = running_sum(self.kernel), self._tree()
        if running is not None and self._extent(running.index) >= LONG_SUM:
            return self._beside((running.index,), (), running_sums.NEIGHBOURS)
        if tree:
            return self._beside(tree, tree, columns.NEIGHBOURS)
        return None if row is None else self._beside(row, row, SIDE, sweep=SIDE)

    def _beside(
        self, row: tuple[Index, ...], reduce: tuple[Index, ...], side: int, sweep: int = 0
    ) -> Schedule | None:
        order = self._order()
        places = self._places(order)
        if isinstance(places, int) and places < 1:
            return None
        found = self._columns(row[-1], side).beside(self.options.target)
        if found == THREADS:
            return None
        return Schedule(
            self.options.target, order, len(order), at_least_one(ceildiv(places, found)),
            reduce=tuple(i.name for i in reduce), sweep=sweep, threads=THREADS,
            group=THREADS // found, beside=found)

    def _columns(self, row: Index, side: int) -> Columns:
        order = self._order()
        last = [i for i in self.kernel.outer if i.name == order[-1]] if order else []
        along = self._along(row)[0] > (self._neighbours(last[0]) if last else 0)
        return Columns(
            self._number(self._places(order)), self._extent(row), 1 if along or not last else
            self._extent(last[0]), max(b.dtype.size for b in self.kernel.params), side)

    def columns_cycles(self, schedule: Schedule) -> float:
        """The estimated cycles of columns side by side, or of one for each thread."""
        if schedule.sweep:
            row, side = self._row() or (), SIDE
        elif schedule.reduce:
            row, side = self._tree(), columns.NEIGHBOURS
        else:
            running = running_sum(self.kernel)
            assert running is not None
            row, side = (running.index,), running_sums.NEIGHBOURS
        beside = schedule.beside or schedule.threads
        return self._columns(row[-1], side).cycles(beside, self.options.target)

    def _tree(self) -> tuple[Index, ...]:
        """The index of a sum in a tree, which comes first in a kernel; none if there is none."""
        first = self.kernel.body[0]
        plain = all(isinstance(c, Compute) for c in self.kernel.body)
        if plain and isinstance(first, Compute) and first.combine and first.combine.tree:
            return first.over
        return ()

    def _in_tiles(self, choice: TileChoice | TensorChoice | GroupChoice) -> Schedule:
        """A block for each tile of a product; other outer indices go round them."""
        tile = choice.tile
        rest = tuple(i.name for i in self.kernel.outer
                     if i.name not in (*tile.rows, *tile.columns))
        blocks = product((ceildiv(self._places(tile.rows), tile.height),
                          ceildiv(self._places(tile.columns), tile.width), self._places(rest)))
        order = (*rest, *tile.rows, *tile.columns)
        vector, lanes = self._side.of_results(tile)
        schedule = Schedule(self.options.target, order, len(order), at_least_one(blocks), vector,
                            lanes, reduce=choice.reduce, threads=THREADS)
        if isinstance(tile, TensorTile):
            return replace(schedule, threads=tile.threads, tensor=tile)
        if isinstance(tile, GroupTile):
            return replace(schedule, threads=tile.threads, grouped=tile)
        return replace(schedule, shared=tile)

    def _places(self, order: tuple[str, ...]) -> Dim:
        return product(tuple(self._high(name) for name in order))

    def _blocks(
        self, order: tuple[str, ...], vector: str, lanes: int, places: int = 1
    ) -> Dim:
        turns = [ceildiv(self._high(n), lanes) if n == vector else self._high(n) for n in order]
        return at_least_one(ceildiv(product(tuple(turns)), THREADS * places))

    def _high(self, name: str) -> Dim:
        high = next(i.high for i in self.kernel.outer if i.name == name)
        assert not isinstance(high, Access)
        return high

    def _number(self, dim: Dim) -> int:
        return evaluate(dim, {name: self.sizes.get(name, 1) for name in symbols(dim)})

    def _extent(self, index: Index) -> int:
        assert not isinstance(index.high, Access)
        assert not isinstance(index.low, Access)
        return max(1, self._number(index.high - index.low))

    def _reduced(self) -> tuple[str, ...]:
        """The reduced indices, in the order in which computes have them."""
        found: dict[str, None] = {}
        for compute in computes(self.kernel.body):
            if compute.combine is not None:
                found |= dict.fromkeys(
                    i.name for i in compute.over
                    if not any(i.name in symbols(e) for e in compute.target.at
                               if not isinstance(e, Access)))
        return tuple(found)

    def _order(self) -> tuple[str, ...]:
        """The outer indices, last the one along which most memory lies."""
        names = [i.name for i in self.kernel.outer]
        best = max(self.kernel.outer, key=self._neighbours, default=None)
        if best is not None and self._neighbours(best) > self._neighbours(self.kernel.outer[-1]):
            names.remove(best.name)
            names.append(best.name)
        return tuple(names)

    def _neighbours(self, index: Index) -> int:
        """How many accesses lie side by side along an index, if it is of any length."""
        if self._extent(index) < 2:
            return -1
        return sum(stride(self.kernel, a, index, 1) == 1 for a in self._side.accesses())

    def _row(self) -> tuple[Index, ...] | None:
        """The indices of the row, the one that threads share last; None if there is no row."""
        found = [c for c in self.kernel.body if isinstance(c, Compute)]
        row = row_of(self.kernel, found)
        return None if row is None else tuple(sorted(row, key=self._along))

    def _along(self, index: Index) -> tuple[int, int]:
        beside = sum(stride(self.kernel, a, index, 1) == 1 for a in self._side.accesses())
        return beside, self._extent(index)

    def has_groups(self) -> bool:
        """Whether several threads go along each row together, which lies along memory."""
        return self._group(self._row()) > 1

    def _group(self, row: tuple[Index, ...] | None) -> int:
        """How many threads have a row together."""
        if row is None:
            return 1
        length = self._extent(row[-1])
        beside = max((self._neighbours(i) for i in self.kernel.outer), default=0)
        if length < WARP or self._along(row[-1])[0] < beside:
            return 1
        return THREADS if length >= LONG_ROW else WARP

    def _vector(self, order: tuple[str, ...]) -> tuple[str, int]:
        """The outer index of which a thread has neighbours, and how many: 16 bytes, if all memory
        allows it."""
        if not order or len(list(computes(self.kernel.body))) != len(self.kernel.body):
            return "", 1
        index = next(i for i in self.kernel.outer if i.name == order[-1])
        plain = all(c.combine is None and not c.over and not c.where
                    for c in computes(self.kernel.body))
        lanes = self._side.flat(index) if plain else 1
        few = self._number(self._places(order)) < lanes * THREADS
        return ("", 1) if few or lanes == 1 else (index.name, lanes)
