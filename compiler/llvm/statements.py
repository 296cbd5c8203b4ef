"""Statements of loops that are no loops: memory, masks, constants, operations, index values."""

from __future__ import annotations

from math import inf

from dlc.compiler.llvm.masks import LINE, MaskEmitter, lane_numbers
from dlc.compiler.llvm.scalars import LlvmBuilder
from dlc.compiler.llvm.text import (
    Operand,
    splat,
    stored,
    vector,
)
from dlc.compiler.loops.names import Name
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
    Splat,
    Store,
)
from dlc.ir.ops import OPS
from dlc.ir.scalar import PRIMITIVES
from dlc.ir.types import BOOL, I64, DType


class StatementEmitter(MaskEmitter):
    """Emits statements into the innermost scope; knows what each name of a program stands for."""

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

    def _set(self, name: str, register: str, dtype: DType, lanes: int) -> None:
        self.values[name] = Operand(register, dtype, lanes)

    def load(self, s: Load) -> None:
        """Loads from memory."""
        kind = vector(stored(s.dtype), s.lanes)
        place = self.indices.address(self.pointers[s.buffer], stored(s.dtype), s.offset)
        if s.mask:
            register = self.masked_load(s, place)
        else:
            register = self.writer.emit(f"load {kind}, ptr {place}, align {s.dtype.size}", s.name)
        if s.dtype is BOOL:
            zero = "zeroinitializer" if s.lanes > 1 else "0"
            register = self.writer.emit(f"icmp ne {kind} {register}, {zero}", s.name)
        self._set(s.name, register, s.dtype, s.lanes)

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
        self.masked_store(s, place, text)

    def fetch(self, s: Fetch) -> None:
        """Asks for memory that will be read."""
        place = self.indices.address(self.pointers[s.buffer], stored(s.dtype), s.offset)
        self.writer.line(f"call void @llvm.prefetch.p0(ptr {place}, i32 0, i32 3, i32 1)")

    def const(self, s: Const) -> None:
        """A constant."""
        self.values[s.name] = splat(s.dtype, s.value, s.lanes)

    def index_of(self, s: IndexOf) -> None:
        """An index expression as a number."""
        whole = Operand(self.indices.value(s.value), I64)
        narrow = s.dtype if s.dtype.is_integer else I64
        builder = self._builder(1)
        scalar = builder.cast(whole, narrow) if not whole.is_constant else splat(
            narrow, int(whole.text), 1)
        if s.lanes > 1:
            scalar = self.spread(scalar, s.lanes)
            if s.step:
                numbers = self.writer.ready(lane_numbers(narrow, s.lanes, s.step))
                text = f"add {scalar}, {numbers.text}"
                scalar = Operand(self.writer.emit(text, s.name), narrow, s.lanes)
        self.values[s.name] = self._builder(s.lanes).cast(scalar, s.dtype)

    def splat(self, s: Splat) -> None:
        """A scalar in all lanes."""
        self.values[s.name] = self.spread(self.values[s.value], s.lanes)

    def _builder(self, lanes: int) -> LlvmBuilder:
        return LlvmBuilder(self.writer, lanes, self.target.scales)

    def apply(self, s: Apply) -> None:
        """An op of the registry, or a primitive."""
        builder = self._builder(s.lanes)
        args = [self.writer.ready(self.values[name]) for name in s.args]
        both = self.both(args) if s.op == "and" and s.dtype is BOOL else None
        if both is not None:
            self.values[s.name] = both
            return
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
