"""Statements of loops that are no loops: memory, masks, constants, operations, index values."""

from __future__ import annotations

from math import inf

from dlc.compiler.llvm.index import Indices
from dlc.compiler.llvm.scalars import LlvmBuilder
from dlc.compiler.llvm.target import Target
from dlc.compiler.llvm.text import (
    Operand,
    Writer,
    element,
    number,
    stored,
    suffix,
    vector,
)
from dlc.compiler.loops.names import Name
from dlc.ir.dims import Dim
from dlc.ir.loops import (
    Alloc,
    Apply,
    AsIndex,
    Const,
    Exchange,
    Fetch,
    IndexOf,
    LaneReduce,
    Let,
    Load,
    LoadIndex,
    Mask,
    Splat,
    Store,
)
from dlc.ir.ops import OPS
from dlc.ir.scalar import PRIMITIVES
from dlc.ir.types import BOOL, I8, I16, I32, I64, DType

LINE = 64  # bytes of a cache line; stack buffers are aligned to it


class StatementEmitter:
    """Emits statements into the innermost scope; knows what each name of a program stands for."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.writer = Writer()
        self.indices = Indices(self.writer)
        self.values: dict[str, Operand] = {}
        self.pointers: dict[str, str] = {}

    def alloc(self, s: Alloc) -> None:
        """Reserves stack memory."""
        name = self.writer.fresh(s.name)
        size = -(-s.size * s.dtype.size // LINE) * LINE
        self.writer.allocas.append(f"  {name} = alloca [{size} x i8], align {LINE}")
        self.pointers[s.name] = name
        if s.zeroed:
            self._zero(name, size)

    def _zero(self, pointer: str, size: int) -> None:
        """Clears a stack buffer by whole cache lines, without a call of memset."""
        kind = f"<{LINE} x i8>"
        if size <= 16 * LINE:
            for start in range(0, size, LINE):
                place = self.indices.address(pointer, "i8", start)
                self.writer.line(f"store {kind} zeroinitializer, ptr {place}, align {LINE}")
            return
        before, head = self.writer.scopes[-1].block, self.writer.label("zero")
        at, following = self.writer.fresh("at"), self.writer.fresh("at")
        self.writer.line(f"br label %{head}")
        self.writer.start(head)
        self.writer.line(f"{at} = phi i64 [0, %{before}], [{following}, %{head}]")
        place = self.writer.emit(f"getelementptr i8, ptr {pointer}, i64 {at}", "p")
        self.writer.line(f"store {kind} zeroinitializer, ptr {place}, align {LINE}")
        self.writer.line(f"{following} = add nuw nsw i64 {at}, {LINE}")
        more = self.writer.emit(f"icmp ult i64 {following}, {size}", "c")
        end = self.writer.label("zeroed")
        self.writer.line(f"br i1 {more}, label %{head}, label %{end}")
        self.writer.start(end)

    def mask(self, s: Mask) -> None:
        """Makes a mask, where all that it depends on is known."""
        above = self.indices.resolve(s.bound - s.base)
        below: Dim = 0 if s.low is None else self.indices.resolve(s.low - s.base)
        sure = self.indices.range(below)[1] <= 0
        depth = max(self.indices.depth(above), 0 if sure else self.indices.depth(below))
        scope = self.writer.scopes[depth]
        key = ("mask", above, 0 if sure else below, s.lanes, s.step)
        if key not in scope.known:
            make = self._make_mask if s.step else self._alike
            made = make(above, s.lanes, "slt", depth)
            if not sure:
                other = make(below, s.lanes, "sge", depth)
                kind = vector("i1", s.lanes)
                made = self.writer.emit(f"and {kind} {made}, {other}", "m", depth)
            scope.known[key] = made
        self.values[s.name] = Operand(scope.known[key], BOOL, s.lanes)

    def _alike(self, distance: Dim, lanes: int, compare: str, depth: int) -> str:
        """All lanes, or none: whether 0 is below (`slt`) `distance`, or is not (`sge`)."""
        value = self.indices.value(distance)
        one = self.writer.emit(f"icmp {compare} i64 0, {value}", "m", depth)
        return self._spread(Operand(one, BOOL), lanes, depth).text if lanes > 1 else one

    def _make_mask(self, distance: Dim, lanes: int, compare: str, depth: int) -> str:
        """The lanes below (`slt`) `distance`, or those from there on (`sge`).

        It is clamped, so that a compare of narrow numbers is enough.
        """
        left = self.indices.value(distance)
        emit = self.writer.emit
        if lanes == 1:
            return emit(f"icmp {compare} i64 0, {left}", "m", depth)
        dtype = I32 if lanes <= 16 else I16 if lanes <= 32 else I8
        low = emit(f"call i64 @llvm.smax.i64(i64 {left}, i64 0)", "m", depth)
        few = emit(f"call i64 @llvm.smin.i64(i64 {low}, i64 {lanes})", "m", depth)
        small = emit(f"trunc i64 {few} to {element(dtype)}", "m", depth)
        spread = self._spread(Operand(small, dtype), lanes, depth)
        numbers = self.writer.spread(spread.kind, _count(dtype, lanes, 1), depth)
        return emit(f"icmp {compare} {spread.kind} {numbers}, {spread.text}", "m", depth)

    def _set(self, name: str, register: str, dtype: DType, lanes: int) -> None:
        self.values[name] = Operand(register, dtype, lanes)

    def _spread(self, scalar: Operand, lanes: int, depth: int | None = None) -> Operand:
        """A scalar in all lanes."""
        if not scalar.text.startswith("%"):
            text = self.writer.constant(scalar.text, scalar.dtype, lanes)
            return Operand(text, scalar.dtype, lanes)
        kind = vector(element(scalar.dtype), lanes)
        one = self.writer.emit(f"insertelement {kind} poison, {scalar}, i64 0", "s", depth)
        text = (f"shufflevector {kind} {one}, {kind} poison,"
                f" <{lanes} x i32> zeroinitializer")
        return Operand(self.writer.emit(text, "s", depth), scalar.dtype, lanes)

    def load(self, s: Load) -> None:
        """Loads from memory."""
        kind = vector(stored(s.dtype), s.lanes)
        place = self.indices.address(self.pointers[s.buffer], stored(s.dtype), s.offset)
        if s.mask:
            register = self._masked_load(s, place)
        else:
            register = self.writer.emit(f"load {kind}, ptr {place}, align {s.dtype.size}", s.name)
        if s.dtype is BOOL:
            zero = "zeroinitializer" if s.lanes > 1 else "0"
            register = self.writer.emit(f"icmp ne {kind} {register}, {zero}", s.name)
        self._set(s.name, register, s.dtype, s.lanes)

    def _masked_load(self, s: Load, place: str) -> str:
        one = stored(s.dtype)
        kind, mask = f"<{s.lanes} x {one}>", self._mask_vector(s.mask)
        name = f"@llvm.masked.load.v{s.lanes}{suffix(one)}.p0"
        loaded = self.writer.emit(
            f"call {kind} {name}(ptr {place}, i32 {s.dtype.size}, {mask},"
            f" {kind} zeroinitializer)", s.name)
        if s.lanes > 1:
            return loaded
        return self.writer.emit(f"extractelement {kind} {loaded}, i64 0", s.name)

    def _mask_vector(self, name: str) -> str:
        """A mask with its type, a vector even for one lane."""
        mask = self.values[name]
        if mask.lanes > 1:
            return str(mask)
        return f"<1 x i1> {self.writer.emit(f'bitcast {mask} to <1 x i1>', 'm')}"

    def store(self, s: Store) -> None:
        """Stores to memory."""
        value = self.values[s.value]
        one = stored(s.dtype)
        kind, text = vector(one, s.lanes), value.text
        place = self.indices.address(self.pointers[s.buffer], one, s.offset)
        if s.dtype is BOOL:
            text = self.writer.emit(f"zext {value} to {kind}", "b")
        if not s.mask:
            self.writer.line(f"store {kind} {text}, ptr {place}, align {s.dtype.size}")
            return
        if s.lanes == 1:
            kind = f"<1 x {one}>"
            text = self.writer.emit(f"insertelement {kind} poison, {one} {text}, i64 0", "s")
        name = f"@llvm.masked.store.v{s.lanes}{suffix(one)}.p0"
        mask = self._mask_vector(s.mask)
        self.writer.line(
            f"call void {name}({kind} {text}, ptr {place}, i32 {s.dtype.size}, {mask})")

    def fetch(self, s: Fetch) -> None:
        """Asks for memory that will be read."""
        place = self.indices.address(self.pointers[s.buffer], stored(s.dtype), s.offset)
        self.writer.line(f"call void @llvm.prefetch.p0(ptr {place}, i32 0, i32 3, i32 1)")

    def const(self, s: Const) -> None:
        """A constant."""
        text = self.writer.constant(number(s.dtype, s.value), s.dtype, s.lanes)
        self._set(s.name, text, s.dtype, s.lanes)

    def index_of(self, s: IndexOf) -> None:
        """An index expression as a number."""
        whole = Operand(self.indices.value(s.value), I64)
        narrow = s.dtype if s.dtype.is_integer else I64
        builder = self._builder(1)
        scalar = builder.cast(whole, narrow) if whole.text.startswith("%") else Operand(
            number(narrow, int(whole.text)), narrow)
        if s.lanes > 1:
            scalar = self._spread(scalar, s.lanes)
            if s.step:
                text = f"add {scalar}, {_count(narrow, s.lanes, s.step)}"
                scalar = Operand(self.writer.emit(text, s.name), narrow, s.lanes)
        self.values[s.name] = self._builder(s.lanes).cast(scalar, s.dtype)

    def splat(self, s: Splat) -> None:
        """A scalar in all lanes."""
        self.values[s.name] = self._spread(self.values[s.value], s.lanes)

    def _builder(self, lanes: int) -> LlvmBuilder:
        return LlvmBuilder(self.writer, lanes, self.target.scales)

    def apply(self, s: Apply) -> None:
        """An op of the registry, or a primitive."""
        builder = self._builder(s.lanes)
        args = [self.values[name] for name in s.args]
        op = OPS.get(s.op)
        if op is not None and op.formula is not None:
            result = op.formula(builder, dict(s.attrs), *args)
            assert isinstance(result, Operand)
        elif s.op in PRIMITIVES:
            result = builder.primitive(s.op, *args)
        else:
            raise ValueError(f"{s.op} has no formula")
        assert result.dtype is s.dtype, (s.op, result.dtype, s.dtype)
        self.values[s.name] = result

    def lane_reduce(self, s: LaneReduce) -> None:
        """Combines the lanes by halves."""
        value, lanes = self.values[s.value], s.lanes
        while lanes > 1:
            lanes //= 2
            low, high = (self._half(value, lanes, start) for start in (0, lanes))
            value = self._builder(lanes).primitive(s.op, low, high)
        self.values[s.name] = value

    def exchange(self, s: Exchange) -> None:
        """Exchanges lanes of two vectors."""
        first, second, by = self.values[s.first], self.values[s.second], s.distance
        order = []
        for lane in range(s.lanes):
            if s.upper:
                order.append(s.lanes + lane if lane & by else lane + by)
            else:
                order.append(s.lanes + lane - by if lane & by else lane)
        picked = ", ".join(f"i32 {lane}" for lane in order)
        text = f"shufflevector {first}, {second}, <{s.lanes} x i32> <{picked}>"
        self._set(s.name, self.writer.emit(text, s.name), s.dtype, s.lanes)

    def _half(self, value: Operand, lanes: int, start: int) -> Operand:
        if lanes == 1:
            text = self.writer.emit(f"extractelement {value}, i64 {start}", "h")
            return Operand(text, value.dtype)
        order = ", ".join(f"i32 {start + lane}" for lane in range(lanes))
        text = self.writer.emit(
            f"shufflevector {value}, {value.kind} poison, <{lanes} x i32> <{order}>", "h")
        return Operand(text, value.dtype, lanes)

    def let(self, s: Let) -> None:
        """Names an index expression."""
        value = self.indices.resolve(s.value)
        if isinstance(value, int):
            self.indices.alias(s.name, value)
            return
        span = self.indices.range(value)
        register = self.indices.value(value)
        depth = self.indices.depth(value)
        self.indices.define(s.name, Name(register, depth, span, self.indices.is_loaded(value)))

    def load_index(self, s: LoadIndex) -> None:
        """Names a loaded index."""
        kind = stored(s.dtype)
        place = self.indices.address(self.pointers[s.buffer], kind, s.offset)
        loaded = self.writer.emit(f"load {kind}, ptr {place}, align {s.dtype.size}", s.name)
        self._index(s.name, Operand(loaded, s.dtype))

    def as_index(self, s: AsIndex) -> None:
        """Names an index that was computed."""
        self._index(s.name, self.values[s.value])

    def _index(self, name: str, value: Operand) -> None:
        """From here on `name` is an integer that may be anything its type holds."""
        register = self._builder(1).cast(value, I64).text
        low = 0.0 if value.dtype.kind == "uint" else -inf
        self.indices.define(name, Name(register, self.writer.depth, (low, inf), True))


def _count(dtype: DType, lanes: int, step: int) -> str:
    """The vector 0, step, 2 step, …"""
    kind = element(dtype)
    return "<" + ", ".join(f"{kind} {number(dtype, lane * step)}" for lane in range(lanes)) + ">"
