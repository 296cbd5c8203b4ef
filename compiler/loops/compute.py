"""Applying a schedule: reads, scalar ops and writes at one place of the loops."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

from dlc.compiler.kernels.accesses import LANE, offset_of
from dlc.compiler.kernels.ranges import bind, index_ranges, nonnegative, simplify
from dlc.compiler.loops.builder import LoopBuilder, Register
from dlc.ir.dims import Dim, coefficient, maximum, minimum, substitute, symbol, symbols
from dlc.ir.kernel import Access, Arg, Compute, IndexValue, Kernel, Number, arg_names
from dlc.ir.loops import Let
from dlc.ir.schedule import Schedule
from dlc.ir.types import BOOL, I64


class Computing(ABC):
    """The state of applying a schedule, and the statements for one compute.

    point:  what each index of the kernel is here, in loop variables, constants and `lane`.
    ranges: what is known of loop variables.
    names:  the registers of the kernel's scalar ops here; locals: of its locals.
    """

    def __init__(self, kernel: Kernel, schedule: Schedule) -> None:
        self.kernel, self.schedule = kernel, schedule
        self.out = LoopBuilder()
        self.point: dict[str, Dim] = {}
        self.ranges: dict[str, tuple[Dim, Dim]] = {LANE: (0, schedule.lanes - 1)}
        self.names: dict[str, Register] = {}
        self.locals: dict[str, Register] = {}
        self.arrays: dict[str, str] = {}  # the stack memory of local arrays
        self.vector_bound: Dim = 0
        self.whole = False  # whether no vector sticks out here
        self.masked: set[str] = set()  # vectors that are 0 in the lanes past the end
        self.offsets: dict[tuple[Access, Dim], Dim] = {}
        self.index_ranges = index_ranges(kernel)
        self.settled: dict[Compute, Compute] = {}  # what is left of computes in a part of an index
        self.inside: dict[tuple[Dim, Dim], bool] = {}
        self.ragged: dict[tuple[str, bool, Dim, Dim], bool] = {}

    @property
    def vector_base(self) -> Dim:
        """The vector index in the first lane, here."""
        return substitute(self.point.get(self.schedule.vector, 0), {LANE: 0})

    def span(self, name: str, low: Dim, high: Dim) -> None:
        """Makes known that low <= name <= high from here on."""
        if self.ranges.get(name) != (low, high):
            self.ranges[name] = (low, high)
            self.offsets.clear()  # what was decided by the range before

    def forget_ranges(self) -> None:
        """Forgets what was decided by ranges that hold no more."""
        self.inside.clear()
        self.ragged.clear()
        self.offsets.clear()

    def named(self, hint: str, value: Dim, high: Dim, low: Dim = 0) -> Dim:
        """A value under a name of its own, known to lie from `low` to `high`."""
        name = self.out.fresh(f"{hint}.")
        self.out.add(Let(name, value))
        self.span(name, low, high)
        return symbol(name)

    def simple(self, dim: Dim) -> Dim:
        """`dim` with what the ranges decide decided."""
        return simplify(dim, self.ranges)

    def compute(self, compute: Compute) -> None:
        """One compute at this place."""
        if compute.combine is not None:
            self.locals[compute.target.buffer] = self.reduce_here(compute)
        else:
            self.here(compute)

    def here(self, compute: Compute) -> None:
        """One compute without a reduction, at this place."""
        self.write(compute.target, self.value(compute))

    def value(self, compute: Compute) -> Register:
        """What a compute without a reduction gives, at this place."""
        compute = self.settled.get(compute, compute)
        for op in compute.body:
            args = tuple(self.arg(a) for a in op.args)
            self.names[op.name] = self.out.apply(op.op, args, op.dtype, op.attrs)
        return self.arg(compute.value)

    @abstractmethod
    def reduce_here(self, compute: Compute) -> Register:
        """The result of a reduction at this place alone."""

    def arg(self, arg: Arg) -> Register:
        """The register of an operand."""
        if isinstance(arg, str):
            return self.names[arg]
        if isinstance(arg, Number):
            return self.out.constant(arg.dtype, arg.value)
        if isinstance(arg, IndexValue):
            value = bind(arg.value, self.point, self.ranges)
            step = coefficient(value, LANE)
            if step == 0:
                return self.out.index(arg.dtype, value)
            assert step is not None, "an index value is affine in the vector index"
            first, lanes = value - symbol(LANE) * step, self.schedule.lanes
            if isinstance(step, int):
                return self.out.index(arg.dtype, first, lanes, step)
            apart = self.out.apply("mul", (
                self.out.index(arg.dtype, 0, lanes, 1), self.out.index(arg.dtype, step)), arg.dtype)
            return self.out.apply("add", (self.out.index(arg.dtype, first), apart), arg.dtype)
        return self.read(arg)

    def read(self, access: Access) -> Register:
        """Loads an element, or a vector of them."""
        if access.buffer in self.locals and not access.at:
            return self.locals[access.buffer]
        if self.by_lane(access):
            return self._read_by_lane(access)
        plain = self.resolved(access)
        if access.fill is None:
            return self._load_at(access.buffer, self._offset(plain))
        index = tuple(bind(e, self.point, self.ranges) for e in plain.at
                      if not isinstance(e, Access))
        return self._guarded(Access(access.buffer, index), plain, access.fill)

    def resolved(self, access: Access) -> Access:
        """An access whose loaded indices are loaded, and have names."""
        if not any(isinstance(e, Access) for e in access.at):
            return access
        at = tuple(self.loaded(e) if isinstance(e, Access) else e for e in access.at)
        return Access(access.buffer, at, access.fill)

    def loaded(self, access: Access) -> Dim:
        """An integer element as an index: of memory, a local array or a local register."""
        buffer = self.kernel.buffer(access.buffer)
        if buffer.role == "local":
            value = self.read(access)
            assert value.lanes == 1, "an index in the lanes is read lane by lane"
            return self.out.as_index(value)
        offset = self._offset(self.resolved(access))
        assert LANE not in symbols(offset), "an index in the lanes is read lane by lane"
        return self.out.load_index(access.buffer, offset, buffer.dtype, buffer.role == "in")

    def by_lane(self, access: Access) -> bool:
        """Whether a loaded index of it differs from lane to lane."""
        names = {n for e in access.at if isinstance(e, Access) for n in arg_names(e)}
        return any(LANE in symbols(self.point.get(name, 0)) for name in names)

    def _read_by_lane(self, access: Access) -> Register:
        """Reads lane by lane, through the stack; lanes past the end are not touched."""
        buffer, lanes = self.kernel.buffer(access.buffer), self.schedule.lanes
        stack = self.out.alloc("lanes", buffer.dtype, lanes, zeroed=True)
        var, before = self.out.fresh("l"), self.point
        self.span(var, 0, lanes - 1)
        high = self._live_lanes()
        with self.out.block() as body:
            self._in_lane(symbol(var))
            self.out.store(stack, symbol(var), self.read(access))
        self.point = before
        self.offsets.clear()
        self.out.loop(var, 0, high, body)
        return self.out.load(stack, 0, buffer.dtype, lanes)

    def _live_lanes(self) -> Dim:
        """How many lanes are not past the end."""
        lanes = self.schedule.lanes
        if self.whole:
            return lanes
        return self.simple(minimum(lanes, self.vector_bound - self.vector_base))

    def _in_lane(self, lane: Dim) -> None:
        """From here on the vector index stands for one of its lanes."""
        self.point = {name: substitute(value, {LANE: lane}) for name, value in self.point.items()}
        self.offsets.clear()

    def _offset(self, access: Access) -> Dim:
        """The offset of an access here.

        Digits of a layout are resolved once, for the vector's index; the rest only takes values.
        """
        vector = self.schedule.vector
        if vector not in self.point:
            return offset_of(self.kernel, access, self.point, self.ranges)
        key = access, self.point[vector]
        base = self.offsets.get(key)
        if base is None:
            known = {vector: self.point[vector]}
            base = offset_of(self.kernel, access, known, self.ranges)
            self.offsets[key] = base
        return bind(base, self.point, self.ranges)

    def _load(self, access: Access, name: str) -> Register:
        return self._load_at(name, offset_of(self.kernel, access, {}, self.ranges))

    def _load_at(self, name: str, offset: Dim) -> Register:
        buffer, lanes = self.kernel.buffer(name), self.schedule.lanes
        step = coefficient(offset, LANE)
        if step == 0:
            return self.out.load(name, offset, buffer.dtype)
        if step == 1:
            offset = self.simple(offset - symbol(LANE))
            reduced = all(i.name != self.schedule.vector for i in self.kernel.outer)
            mask = self.mask(name, exact=reduced)
            value = self.out.load(name, offset, buffer.dtype, lanes, mask)
            if mask:
                self.masked.add(value.name)
            return value
        return self._gather(name, offset)

    def mask(self, name: str, exact: bool = False) -> str:
        """The mask of the vector index, empty where all lanes may be touched.

        Buffers whose layout is padded to whole vectors may, unless the values count (`exact`).
        """
        if self.whole:
            return ""
        key = (name, exact, self.vector_base, self.vector_bound)
        needed = self.ragged.get(key)
        if needed is None:
            needed = self.ragged[key] = self._is_ragged(name, exact)
        if not needed:
            return ""
        return self.out.mask(self.vector_base, self.vector_bound, self.schedule.lanes)

    def _is_ragged(self, name: str, exact: bool) -> bool:
        rest = self.simple(self.vector_bound - self.vector_base - self.schedule.lanes)
        if nonnegative(rest, self.ranges) or self._divides():
            return False
        layout = self.kernel.buffer(name).layout if name and not exact else None
        if layout is None or not layout.digits:
            return True
        outermost = {a: d for a, d in reversed(layout.digits)}
        return self.schedule.lanes not in outermost.values()

    def _divides(self) -> bool:
        bound = self.vector_bound
        return isinstance(bound, int) and bound % self.schedule.lanes == 0

    def _gather(self, name: str, offset: Dim) -> Register:
        """Loads lane by lane, through the stack."""
        buffer, lanes = self.kernel.buffer(name), self.schedule.lanes
        stack = self.out.alloc("lanes", buffer.dtype, lanes, zeroed=True)
        var = self.out.fresh("l")
        self.span(var, 0, lanes - 1)
        high = self._live_lanes()
        with self.out.block() as body:
            at = self.simple(substitute(offset, {LANE: symbol(var)}))
            self.out.store(stack, symbol(var), self.out.load(name, at, buffer.dtype))
        self.out.loop(var, 0, high, body)
        self.out.forget_memory()
        return self.out.load(stack, 0, buffer.dtype, lanes)

    def _guarded(self, access: Access, original: Access, fill: float) -> Register:
        """Reads where all indices are inside, and takes `fill` where one is not.

        Neighbouring lanes are loaded at once, those inside; else each lane at the nearest index.
        """
        buffer = self.kernel.buffer(access.buffer)
        tested: list[tuple[Dim, Dim]] = []
        nearest: list[Dim | Access] = []
        for e, was, extent in zip(access.at, original.at, buffer.dims, strict=True):
            assert not isinstance(e, Access)
            if not self._always_inside(was, extent):
                tested.append((e, extent))
                e = minimum(maximum(0, e), extent - 1)
            nearest.append(e)
        if not tested:  # in a part of an index, all is inside
            return self._load(access, access.buffer)
        at_once = offset_of(self.kernel, access, {}, self.ranges)
        if coefficient(at_once, LANE) == 1 and all(
                coefficient(e, LANE) in (0, 1) for e, _ in tested):
            return self._load_inside(access.buffer, at_once, tested, fill)
        value = self._load(Access(access.buffer, tuple(nearest)), access.buffer)
        sides = [side for e, extent in tested for side in (e, extent - 1 - e)
                 if not nonnegative(side, self.ranges)]
        return self._filled(value, [self._is_inside(side) for side in sides], fill)

    def _always_inside(self, e: Dim | Access, extent: Dim) -> bool:
        """Whether an index expression of the kernel stays within an axis, lanes in use alone."""
        if isinstance(e, Access):
            return False
        key = (e, extent)
        if key not in self.inside:
            self.inside[key] = (nonnegative(e, self.index_ranges)
                                and nonnegative(extent - 1 - e, self.index_ranges))
        return self.inside[key]

    def _load_inside(
        self, name: str, offset: Dim, tested: list[tuple[Dim, Dim]], fill: float
    ) -> Register:
        """Loads the lanes in which all indices are inside; `fill` in the others."""
        lanes = self.schedule.lanes
        keep: list[Register] = []
        for e, extent in tested:
            step = coefficient(e, LANE)
            assert isinstance(step, int)
            mask = self.out.mask(e - symbol(LANE) * step, extent, lanes, 0, step)
            keep.append(Register(mask, BOOL, lanes))
        reduced = all(i.name != self.schedule.vector for i in self.kernel.outer)
        own = self.mask(name, exact=reduced)
        both = self._all([*keep, *([Register(own, BOOL, lanes)] if own else [])])
        dtype = self.kernel.buffer(name).dtype
        value = self.out.load(name, self.simple(offset - symbol(LANE)), dtype, lanes, both.name)
        if own or not reduced:
            self.masked.add(value.name)
        filled = fill == 0 and math.copysign(1, fill) > 0  # lanes that are not loaded are 0
        return value if filled else self._filled(value, keep, fill)

    def _all(self, masks: list[Register]) -> Register:
        """The lanes that are on in all masks."""
        both = masks[0]
        for mask in masks[1:]:
            key = ("both", both.name, mask.name)
            found = self.out.recall(key)
            both = found or self.out.remember(key, self.out.apply("and", (both, mask), BOOL))
        return both

    def _is_inside(self, side: Dim) -> Register:
        """Whether a number is not negative, in each lane."""
        step = coefficient(side, LANE)
        assert isinstance(step, int)
        lanes = self.schedule.lanes if step else 1  # `side` holds no index of the kernel
        at = self.out.index(I64, side - symbol(LANE) * step, lanes, step)
        return self.out.apply("ge", (at, self.out.constant(I64, 0)), BOOL)

    def _filled(self, value: Register, tests: list[Register], fill: float) -> Register:
        """`value` where all tests hold, else `fill`."""
        other = self.out.constant(value.dtype, fill)
        for keep in tests:
            value = self.out.apply("select", (keep, value, other), value.dtype)
        return value

    def write(self, target: Access, value: Register) -> None:
        """Stores a value at the target's place."""
        buffer = self.kernel.buffer(target.buffer)
        if buffer.role == "local":
            self.locals[target.buffer] = value
            return
        offset = self._offset(self.resolved(target))
        step = coefficient(offset, LANE)
        lanes = self.schedule.lanes
        if step == 0:
            self.out.store(target.buffer, offset, value)
        elif step == 1:
            at = self.simple(offset - symbol(LANE))
            self.out.store(target.buffer, at, self.out.widen(value, lanes),
                           self.mask(target.buffer))
        else:
            self._scatter(target.buffer, offset, self.out.widen(value, lanes))

    def _scatter(self, name: str, offset: Dim, value: Register) -> None:
        """Stores lane by lane, through the stack."""
        lanes = self.schedule.lanes
        stack = self.out.alloc("lanes", value.dtype, lanes)
        self.out.store(stack, 0, value)
        var = self.out.fresh("l")
        self.span(var, 0, lanes - 1)
        high = self._live_lanes()
        with self.out.block() as body:
            at = self.simple(substitute(offset, {LANE: symbol(var)}))
            self.out.store(name, at, self.out.load(stack, symbol(var), value.dtype))
        self.out.loop(var, 0, high, body)
