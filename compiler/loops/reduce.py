"""Applying a schedule: reductions, for one place or for all places of a register tile at once."""

from __future__ import annotations

from collections.abc import Callable

from dlc.compiler.kernels.ranges import bind
from dlc.compiler.loops.builder import Register
from dlc.compiler.loops.compute import Computing
from dlc.ir.dims import Dim, ceildiv, coefficient, maximum, minimum, symbol
from dlc.ir.kernel import Access, Combine, Compute, Index, arg_names
from dlc.ir.types import BOOL, I32, DType

State = tuple[Register, ...]  # the accumulator of one place; argmax has the largest and its index
VECTOR_PLACE = "vector place"  # in a point: which vector of the register tile it is


class Reducing(Computing):
    """The loops of a reduction around the accumulators of several places."""

    def reduce_here(self, compute: Compute) -> Register:
        """The result at this place alone."""
        assert compute.combine is not None
        if compute.combine.tree:
            return self._tree(compute)
        return self.reduce(compute, [dict(self.point)])[0]

    def reduce(self, compute: Compute, points: list[dict[str, Dim]]) -> list[Register]:
        """The results at several places of the outer indices, which share their loops."""
        combine = compute.combine
        assert combine is not None
        order = self.schedule.reduce
        over = sorted(compute.over, key=lambda i: order.index(i.name) if i.name in order else -1)
        inner = any(i.name == self.schedule.vector for i in over)
        lanes = self.schedule.lanes if inner or self._outer_vector() else 1
        states = [self._empty(compute, lanes) for _ in points]
        before = dict(self.point)
        self._load_early(compute, points)
        if compute.where:
            states = self._where(compute, points, over, states)
        else:
            states = self._loops(compute, points, over, states, {})
        self.point = before
        results = [self._lanes(combine, s) if inner else s for s in states]
        return [s[-1] for s in results]

    def _load_early(self, compute: Compute, points: list[dict[str, Dim]]) -> None:
        """Loads the indices that no turn changes before the loops, where it is known to be safe."""
        if compute.where:
            return
        names = {i.name for i in compute.over}
        for access in (a for a in compute.args if isinstance(a, Access)):
            for e in access.at:
                if isinstance(e, Access) and not arg_names(e) & names:
                    for point in points:
                        self.point = point
                        if not self.by_lane(access):
                            self.loaded(e)

    def _outer_vector(self) -> bool:
        return any(i.name == self.schedule.vector for i in self.kernel.outer)

    def _empty(self, compute: Compute, lanes: int) -> State:
        combine, value = compute.combine, 0.0
        assert combine is not None
        if combine.kind == "argmax":
            dtype = self._value_dtype(compute)
            return (self.out.constant(dtype, self._bottom(dtype), lanes),
                    self.out.constant(I32, 0, lanes))
        if combine.kind == "max":
            value = self._bottom(combine.dtype)
        return (self.out.constant(combine.dtype, value, lanes),)

    def _bottom(self, dtype: DType) -> float:
        if dtype.is_float:
            return float("-inf")
        return 0 if dtype.kind == "uint" else -(2 ** (8 * dtype.size - 1))

    def _value_dtype(self, compute: Compute) -> DType:
        value = compute.value
        if isinstance(value, Access):
            return self.kernel.buffer(value.buffer).dtype
        if isinstance(value, str):
            return next(op.dtype for op in compute.body if op.name == value)
        return value.dtype

    def _where(
        self, compute: Compute, points: list[dict[str, Dim]], over: list[Index],
        states: list[State],
    ) -> list[State]:
        """A loop of one turn, or of none where a condition fails."""
        turns: Dim = 1
        for e in compute.where:
            turns = minimum(turns, maximum(0, bind(e, points[0], self.ranges) + 1))
        guard = Index(self.out.fresh("w"), turns)
        return self._loops(compute, points, [guard, *over], states, {})

    def _loops(
        self, compute: Compute, points: list[dict[str, Dim]], over: list[Index],
        states: list[State], inside: dict[str, Dim],
    ) -> list[State]:
        if not over:
            return [self._step(compute, p | inside, s)
                    for p, s in zip(points, states, strict=True)]
        index, rest = over[0], over[1:]
        low, high = (self._bound(b, points[0] | inside) for b in (index.low, index.high))
        if index.name in self.schedule.unroll:
            assert isinstance(low, int)
            assert isinstance(high, int)
            for k in range(low, high):
                states = self._loops(compute, points, rest, states, inside | {index.name: k})
            return states
        if index.name == self.schedule.vector:
            return self._vector_loop(compute, points, (index, rest), states, inside, high)
        self.span(index.name, low, high - 1)
        return self._loop(index.name, low, high, states, lambda s: self._loops(
            compute, points, rest, s, inside | {index.name: symbol(index.name)}))

    def _vector_loop(
        self, compute: Compute, points: list[dict[str, Dim]], here: tuple[Index, list[Index]],
        states: list[State], inside: dict[str, Dim], high: Dim,
    ) -> list[State]:
        (index, rest), lanes = here, self.schedule.lanes
        block = f"{index.name}.b"
        trips = self.simple(ceildiv(high, lanes))
        self.span(block, 0, trips - 1)
        self.vector_bound = high
        value = symbol(block) * lanes + symbol("lane")
        return self._loop(block, 0, trips, states, lambda s: self._loops(
            compute, points, rest, s, inside | {index.name: value}))

    def _bound(self, bound: Dim | Access, point: dict[str, Dim]) -> Dim:
        if not isinstance(bound, Access):
            return bind(bound, point, self.ranges)
        before, self.point = self.point, point
        found = self.loaded(bound)
        self.point = before
        return found

    def _loop(
        self, name: str, low: Dim, high: Dim, states: list[State],
        body: Callable[[list[State]], list[State]], step: Dim = 1, unrolled: bool | None = None,
    ) -> list[State]:
        flat = [r for s in states for r in s]
        own = [Register(self.out.fresh("a"), r.dtype, r.lanes) for r in flat]
        after = [Register(self.out.fresh("r"), r.dtype, r.lanes) for r in flat]
        width = len(states[0])
        with self.out.block() as statements:
            following = body([tuple(own[k:k + width]) for k in range(0, len(own), width)])
        self.out.loop(
            name, low, high, statements, step,
            tuple((o.name, r) for o, r in zip(own, flat, strict=True)), tuple(after),
            tuple(r for s in following for r in s), unrolled)
        return [tuple(after[k:k + width]) for k in range(0, len(after), width)]

    def _step(self, compute: Compute, point: dict[str, Dim], state: State) -> State:
        """One turn: combines one more element into the accumulator of one place."""
        combine = compute.combine
        assert combine is not None
        self.point = point
        last = compute.body[-1] if compute.body else None
        fused = (combine.kind == "sum" and last is not None and last.op == "mul"
                 and last.name == compute.value and combine.dtype.is_float)
        for op in compute.body[:-1] if fused else compute.body:
            self.names[op.name] = self.out.apply(
                op.op, tuple(self.arg(a) for a in op.args), op.dtype, op.attrs)
        if fused and last is not None:
            a, b = (self.arg(x) for x in last.args)
            a, b = self._alive(a, 0.0), self._alive(b, 0.0)
            return (self.out.apply("fma", (a, b, state[0]), combine.dtype),)
        value = self.arg(compute.value)
        if combine.kind == "argmax":
            return self._argmax(compute, self._alive(value, self._bottom(value.dtype)), state)
        if combine.kind == "max":
            value = self._alive(value, self._bottom(combine.dtype))
            return (self.out.apply("maximum", (state[0], value), combine.dtype),)
        return (self.out.apply("add", (state[0], self._alive(value, 0.0)), combine.dtype),)

    def _reduced_mask(self) -> str:
        """The mask of the vector index where lanes past its end must not count."""
        outer = any(i.name == self.schedule.vector for i in self.kernel.outer)
        return "" if outer or self.schedule.lanes == 1 else self.mask("", exact=True)

    def _alive(self, value: Register, neutral: float) -> Register:
        mask = self._reduced_mask()
        if not mask or (neutral == 0 and value.name in self.masked):
            return value
        keep = Register(mask, BOOL, self.schedule.lanes)
        wide = self.out.widen(value, self.schedule.lanes)
        key = ("alive", wide.name, mask)
        found = self.out.recall(key)
        if found is None:
            other = self.out.constant(value.dtype, neutral)
            found = self.out.remember(
                key, self.out.apply("select", (keep, wide, other), value.dtype))
        return found

    def _argmax(self, compute: Compute, value: Register, state: State) -> State:
        """Takes what is larger than the largest, and the first nan."""
        best, at = state
        larger = self.out.apply("gt", (value, best), BOOL)
        if value.dtype.is_float:
            nan = self.out.apply("ne", (value, value), BOOL)
            known = self.out.apply("eq", (best, best), BOOL)
            larger = self.out.apply("or", (larger, self.out.apply("and", (nan, known), BOOL)), BOOL)
        index = self._row_index(compute.over[0].name)
        return (self.out.apply("select", (larger, value, best), value.dtype),
                self.out.apply("select", (larger, index, at), I32))

    def _row_index(self, name: str) -> Register:
        """The value of a reduced index, in each lane."""
        place = bind(symbol(name), self.point, self.ranges)
        step = coefficient(place, "lane")
        assert isinstance(step, int)
        lanes = self.schedule.lanes if step else 1
        return self.out.index(I32, place - symbol("lane") * step, lanes, step)

    def _lanes(self, combine: Combine, state: State) -> State:
        (value,) = state
        return (self.out.over_lanes("add" if combine.kind == "sum" else "maximum", value),)

    def _tree(self, compute: Compute) -> Register:
        """Adds up the parts in place: neighbours, then neighbours of neighbours, and so on."""
        (index,) = compute.over
        access = compute.value
        assert isinstance(access, Access)
        count = self._bound(index.high, self.point)
        before = dict(self.point)
        self._tree_in_place(access, index.name, 1, count)
        self.point = before | {index.name: 0}
        first = self.read(access)
        self.point = before
        return first

    def _tree_in_place(self, access: Access, name: str, first: int, count: Dim) -> None:
        """The tree over the elements that are `first` apart, each sum in the place of its left."""
        step, at = self.out.fresh("s"), self.out.fresh("z")
        before = dict(self.point)
        self.span(step, first, count)
        self.span(at, 0, count - 1)
        with self.out.block() as outer:
            with self.out.block() as inner:
                self.point = before | {name: symbol(at)}
                left = self.read(access)
                self.point = before | {name: symbol(at) + symbol(step)}
                right = self.read(access)
                self.point = before | {name: symbol(at)}
                self.write(access, self.out.apply("add", (left, right), left.dtype))
            self.out.loop(at, 0, count - symbol(step), inner, symbol(step) * 2)
        self.out.loop(step, first, count, outer, 0)
        self.out.forget_memory()
        self.point = before
