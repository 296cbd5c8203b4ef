"""Checks that a Schedule fits its Kernel, and that what runs in parallel owns what it writes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn

from dlc.ir.check_along import check_along
from dlc.ir.check_blocks import check_blocks
from dlc.ir.check_threads import check_threads
from dlc.ir.dims import Dim, Poly, coefficient, floordiv, symbol, symbols
from dlc.ir.expression_text import access_text
from dlc.ir.kernel import Access, Arg, Index, Kernel, Seq, computes
from dlc.ir.kernel_rules import KernelError
from dlc.ir.schedule import Schedule


def check_schedule(kernel: Kernel, schedule: Schedule) -> None:
    """KernelError if `schedule` can't be applied to `kernel`, a kernel that is well formed.

    `order` is a permutation of the outer indices, `reduce` one of the reduced, in which an index
    comes after those in its bounds; tiles are of outer indices; the vector is an outer or a
    reduced index; what is unrolled has a constant extent. For each parallel index, all that is
    written to memory is owned: two of its values never touch one element.
    """
    _Checker(kernel, schedule).run()


class _Checker:
    """A kernel and its schedule under inspection."""

    def __init__(self, kernel: Kernel, schedule: Schedule) -> None:
        self.kernel, self.schedule = kernel, schedule
        self.computes = list(computes(kernel.body))
        self.outer = {i.name: i for i in kernel.outer}
        self.over: dict[str, list[Index]] = {}  # computes may use a name each for their own
        for index in (i for c in self.computes for i in c.over):
            self.over.setdefault(index.name, []).append(index)
        self.reduced = {i.name: i for c in self.computes if c.combine
                        for i in c.over if not _uses(c.target, i.name)}

    def run(self) -> None:
        """Checks all of it."""
        self._order()
        self._vector()
        self._tiles()
        self._reduce()
        self._unroll()
        self._turn()
        check_along(self.kernel, self.schedule, self._fail)
        check_blocks(self.kernel, self.schedule, self.reduced, self._fail)
        self._edges()
        self._fetch()
        self._sizes()
        self._sweep()
        self._together()
        self._part()
        self._multiples()
        check_threads(self.schedule, self._fail)
        self._parallel()

    def _sizes(self) -> None:
        schedule = self.schedule
        for line, dim, least in (("chunks", schedule.chunks, 1), ("cost", schedule.cost, 0),
                                 ("blocks", schedule.blocks, 0)):
            unknown = symbols(dim) - set(self.kernel.symbols)
            if unknown:
                self._fail(line, f"it depends on {_list(sorted(unknown))}")
            if isinstance(dim, int) and dim < least:
                self._fail(line, f"{dim} is less than {least}")

    def _order(self) -> None:
        order, parallel = self.schedule.order, self.schedule.parallel
        if sorted(order) != sorted(self.outer):
            self._fail("order", f"it has {_list(order)}, the outer indices are {_list(self.outer)}")
        self._nested("order", order, self.outer)
        if not 0 <= parallel <= len(order):
            self._fail("parallel", f"{parallel} of {len(order)} loops")

    def _nested(self, line: str, order: tuple[str, ...], indices: dict[str, Index]) -> None:
        """An index comes after those that its bounds use."""
        for at, name in enumerate(order):
            for later in order[at + 1:]:
                if any(_uses(bound, later) for bound in (indices[name].low, indices[name].high)):
                    self._fail(line, f"the bounds of {name} use {later}, which comes after it")

    def _vector(self) -> None:
        name, lanes = self.schedule.vector, self.schedule.lanes
        if lanes < 1 or lanes & (lanes - 1):
            self._fail("vector", f"{lanes} lanes are no power of two")
        if not name:
            if lanes != 1:
                self._fail("vector", f"{lanes} lanes of no index")
        elif name not in self.outer and name not in self.reduced:
            self._fail("vector", f"{name} is neither an outer nor a reduced index")

    def _tiles(self) -> None:
        names = [tile.index for tile in self.schedule.tiles]
        self._distinct("tiles", names)
        for tile in self.schedule.tiles:
            inner = self.schedule.part > 0 and tile.index in self.over
            if tile.index not in self.outer and not inner:
                self._fail("tiles", f"{tile.index} is no outer index")
            if tile.size < 1:
                self._fail("tiles", f"{tile.size} values of {tile.index}")

    def _reduce(self) -> None:
        reduce = self.schedule.reduce
        self._distinct("reduce", reduce)
        if set(reduce) != set(self.reduced):
            self._fail("reduce", f"it has {_list(reduce)}, reduced are {_list(self.reduced)}")
        self._nested("reduce", reduce, self.reduced)

    def _unroll(self) -> None:
        self._distinct("unroll", self.schedule.unroll)
        for name in self.schedule.unroll:
            if name not in self.over:
                self._fail("unroll", f"there is no inner index {name}")
            if any(_extent(index) is None for index in self.over[name]):
                self._fail("unroll", f"the extent of {name} is not constant")
            if name == self.schedule.vector:
                self._fail("unroll", f"{name} is the vector index")

    def _turn(self) -> None:
        name, schedule = self.schedule.turn, self.schedule
        if not name:
            return
        if name not in self.outer or name == schedule.vector or schedule.vector not in self.outer:
            self._fail("turn", f"{name} and the vector index are not two outer indices")
        if schedule.tiles or self.reduced or any(c.over for c in self.computes):
            self._fail("turn", "it is for kernels of elements alone")

    def _sweep(self) -> None:
        """A sweep takes a power of two places; it needs plain computes, all over the same row."""
        side = self.schedule.sweep
        if self.schedule.moments < 0 or (self.schedule.moments and not side):
            self._fail("moments", f"chunks of {self.schedule.moments} places of no sweep")
        if not side:
            return
        if side < 0 or side & (side - 1):
            self._fail("sweep", f"{side} places are no power of two")
        if len(self.computes) != len(self.kernel.body) or any(
                c.where or (c.combine and c.combine.tree) for c in self.computes):
            self._fail("sweep", "not all of the kernel are computes along a row")
        if len({c.over for c in self.computes if c.over}) != 1:
            self._fail("sweep", "there is no row, or more than one")
        if len(self.schedule.tiles) > 1 or self.schedule.unroll:
            self._fail("sweep", "it has unrolled indices, or more than one tile")

    def _together(self) -> None:
        """Chunks that are done as one are of vectors, of which a stripe has several."""
        schedule = self.schedule
        if schedule.together != 1 and (
                schedule.together < 1 or not schedule.sweep or schedule.parallel != 1
                or [tile.index for tile in schedule.tiles] != [schedule.vector]
                or schedule.order[0] != schedule.vector or schedule.threads):
            self._fail("together", "chunks are not of vectors of stripes")

    def _part(self) -> None:
        """Parts are of rows that lie in local arrays, as many elements as tiles cover."""
        schedule = self.schedule
        arrays = {b.name: b for b in self.kernel.locals if b.dims}
        rows = {i.name for c in self.computes if c.combine and c.target.buffer in arrays
                for i in c.over if c.target.at == (symbol(i.name),)}
        if not schedule.part:
            return
        tile = schedule.shared or schedule.chain
        tiled = (schedule.vector,) if tile is None else tile.rows
        if not rows or len(tiled) != 1 or tiled[0] not in self.outer:
            self._fail("part", "there are no rows in the lanes that are made of products")
        if schedule.part < 0 or any(
                schedule.part % schedule.tile(n) for n in rows & set(schedule.reduce)):
            self._fail("part", f"{schedule.part} is no multiple of the tile of the row")
        if schedule.block or schedule.sweep or schedule.turn or schedule.unroll:
            self._fail("part", "it has blocks, sweeps, turns or unrolled indices besides")

    def _multiples(self) -> None:
        self._distinct("multiples", [name for name, _ in self.schedule.multiples])
        for name, number in self.schedule.multiples:
            if name not in self.kernel.symbols:
                self._fail("multiples", f"{name} is no symbol")
            if number < 2 or number & (number - 1):
                self._fail("multiples", f"{number} is no power of two above 1")

    def _edges(self) -> None:
        self._distinct("edge", [name for name, _ in self.schedule.edge])
        tiled = {tile.index for tile in self.schedule.tiles} | {self.schedule.vector}
        for name, _ in self.schedule.edge:
            if name not in tiled:
                self._fail("edge", f"{name} has no tile and is not the vector index")

    def _fetch(self) -> None:
        self._distinct("fetch", self.schedule.fetch)
        known = {b.name for b in self.kernel.params}
        for name in self.schedule.fetch:
            if name not in known:
                self._fail("fetch", f"{name} is no parameter")
        if self.schedule.fetch and not self.reduced:
            self._fail("fetch", "there is no reduction to do it before")

    def _distinct(self, line: str, names: Iterable[str]) -> None:
        names = list(names)
        if len(set(names)) != len(names):
            self._fail(line, f"a name stands twice in {_list(names)}")

    def _parallel(self) -> None:
        """Every write owns each parallel index, and what is written is read in the same part."""
        parallel = [name for name in self.schedule.order[:self.schedule.parallel]
                    if self.outer[name].high != 1]
        if not parallel:
            return
        owned: dict[str, dict[str, tuple[Dim | Access, ...]]] = {}
        for access in self._writes():
            owners = self._owners(access, parallel)
            for name in parallel:
                if name not in owners:
                    self._fail("parallel", f"{name} does not own {access_text(access)}")
            before = owned.setdefault(access.buffer, owners)
            self._same(access, owners, before)
        for access in self._reads():
            if access.buffer in owned:
                owners = self._owners(access, parallel)
                self._same(access, owners, owned[access.buffer])

    def _same(
        self, access: Access, owners: dict[str, tuple[Dim | Access, ...]],
        before: dict[str, tuple[Dim | Access, ...]],
    ) -> None:
        if owners != before:
            name = next(n for n in (*before, *owners) if owners.get(n) != before.get(n))
            self._fail("parallel", f"{access_text(access)} may lie where another {name} writes")

    def _writes(self) -> list[Access]:
        found = []
        for compute in self.computes:
            tree = compute.combine is not None and compute.combine.tree
            for access in (compute.target, compute.value if tree else None):
                if isinstance(access, Access) and self._is_shared(access):
                    found.append(access)
        return found

    def _is_shared(self, access: Access) -> bool:
        """Whether it lies in memory of which it is not known that each part writes its own."""
        return self.kernel.buffer(access.buffer).role not in ("local", "placed")

    def _reads(self) -> list[Access]:
        indices = [*self.kernel.outer, *_sequences(self.kernel.body)]
        found = [a for index in indices for bound in (index.low, index.high)
                 for a in _accesses(bound)]
        for compute in self.computes:
            args: list[Arg | Dim] = [a for op in compute.body for a in op.args]
            args += [compute.value, *(a for a in compute.target.at)]
            args += [bound for index in compute.over for bound in (index.low, index.high)]
            found += [access for arg in args for access in _accesses(arg)]
        return found

    def _owners(
        self, access: Access, parallel: list[str]
    ) -> dict[str, tuple[Dim | Access, ...]]:
        """The parallel indices that can be told from where `access` lies, and by which parts."""
        free = set(self.kernel.symbols)
        owners: dict[str, tuple[Dim | Access, ...]] = {}
        changed = True
        while changed:
            changed = False
            for name in parallel:
                at = () if name in owners else self._owner(access, name, free)
                if at:
                    owners[name], changed = at, True
                    free.add(name)
        return owners

    def _owner(
        self, access: Access, name: str, known: set[str]
    ) -> tuple[Dim | Access, ...]:
        for axis, at in enumerate(access.at):
            if isinstance(at, Access):
                continue
            step = coefficient(at, name)
            if isinstance(step, int) and step:
                rest = at - symbol(name) * step
                if self._span(rest, known) < abs(step):
                    return (axis, at)
            left = _split(at, name)
            if left is not None and left in access.at:
                return (axis, at, access.at.index(left), left)
        return ()

    def _span(self, rest: Dim, known: set[str]) -> float:
        """How far `rest` varies while the names in `known` stay."""
        total = 0.0
        for name in symbols(rest) - known:
            step = coefficient(rest, name)
            ranges = [self.outer[name]] if name in self.outer else self.over.get(name, [])
            extents = [_most(index) for index in ranges]
            if not isinstance(step, int) or not extents or None in extents:
                return float("inf")
            total += abs(step) * (max(e for e in extents if e is not None) - 1)
        return total

    def _fail(self, line: str, message: str) -> NoReturn:
        raise KernelError(f"schedule of {self.kernel.name or 'kernel'}", line, message)


def _list(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


def _extent(index: Index) -> int | None:
    """The number of values of an index, if it is constant."""
    if isinstance(index.low, int) and isinstance(index.high, int):
        return index.high - index.low
    return None


def _most(index: Index) -> int | None:
    """The most values that an index has, if a constant bounds them."""
    low, high = index.low, index.high
    if isinstance(high, Poly) and len(high.terms) == 1 and isinstance(low, int):
        (((factor, power), *rest), number) = high.terms[0]
        if not isinstance(factor, str) and factor.kind == "min" and (
                power == 1 and not rest and number == 1):
            sides = [e for e in (factor.left, factor.right) if isinstance(e, int)]
            return min(sides) - low if sides else None
    return _extent(index)


def _split(at: Dim, name: str) -> Dim | None:
    """`name // d`, if `at` is `name % d`: together they tell the index."""
    if not isinstance(at, Poly) or at.symbols != {name}:
        return None
    for divisor in _divisors(at):
        if at == symbol(name) % divisor:
            return floordiv(symbol(name), divisor)
    return None


def _divisors(dim: Poly) -> list[Dim]:
    return [factor.right for monomial, _ in dim.terms for factor, _ in monomial
            if not isinstance(factor, str)]


def _uses(where: Dim | Access, name: str) -> bool:
    if isinstance(where, Access):
        return any(_uses(at, name) for at in where.at)
    return name in symbols(where)


def _accesses(arg: Arg | Dim) -> list[Access]:
    """An access and those that its indices load."""
    if not isinstance(arg, Access):
        return []
    return [arg, *(inner for at in arg.at for inner in _accesses(at))]


def _sequences(body: Iterable[object]) -> list[Index]:
    found = []
    for step in body:
        if isinstance(step, Seq):
            found += [step.index, *_sequences(step.body)]
    return found


__all__ = ["KernelError", "check_schedule"]
