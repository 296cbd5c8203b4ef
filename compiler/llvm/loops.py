"""LLVM IR of loop functions: `void name(ptr args, i64 chunk)`.

`args` is a block of 8-byte slots: the pointers in order, then the symbols.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from dlc.compiler.llvm.index import Indices, Name
from dlc.compiler.llvm.scalars import LlvmBuilder
from dlc.compiler.llvm.target import Target
from dlc.compiler.llvm.text import (
    Operand,
    Scope,
    Writer,
    constant,
    element,
    mangle,
    number,
    stored,
    suffix,
    vector,
)
from dlc.ir.dims import Dim
from dlc.ir.loops import (
    Alloc,
    Apply,
    Const,
    For,
    If,
    IndexOf,
    LaneReduce,
    Let,
    Load,
    LoadIndex,
    LoopFunction,
    Mask,
    Splat,
    Statement,
    Store,
)
from dlc.ir.ops import OPS
from dlc.ir.scalar import PRIMITIVES
from dlc.ir.types import BOOL, I8, I16, I32, I64, DType

LINE = 64  # bytes of a cache line; stack buffers are aligned to it


def emit_function(function: LoopFunction, target: Target) -> str:
    """The definition of a loop function; it is internal to its module."""
    return FunctionEmitter(target).emit(function)


def function_name(function: LoopFunction) -> str:
    """The function's name in the module, `@` included."""
    return f"@kernel.{mangle(function.name)}"


class FunctionEmitter:
    """Emits one loop function."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.writer = Writer()
        self.indices = Indices(self.writer)
        self.values: dict[str, Operand] = {}
        self.pointers: dict[str, str] = {}
        self._emitters: dict[type, Callable[..., None]] = {
            Alloc: self._alloc, Mask: self._mask, Load: self._load, Store: self._store,
            Const: self._const, IndexOf: self._index_of, Splat: self._splat, Apply: self._apply,
            LaneReduce: self._lane_reduce, For: self._for, If: self._if, Let: self._let,
            LoadIndex: self._load_index,
        }

    def emit(self, function: LoopFunction) -> str:
        """The definition as text."""
        self._arguments(function)
        self.body(function.body)
        self.writer.line("ret void")
        name = function_name(function)
        return (f"define internal void {name}(ptr noalias readonly %args, i64 %chunk) #0 {{\n"
                f"{self.writer.text()}\n}}\n")

    def _arguments(self, function: LoopFunction) -> None:
        self.indices.define("chunk", Name("%chunk", 0, (0, inf)))
        for at, pointer in enumerate(function.pointers):
            self.pointers[pointer.name] = self._argument(at, "ptr", pointer.name)
        for at, symbol in enumerate(function.symbols, len(function.pointers)):
            register = self._argument(at, "i64", symbol)
            self.indices.define(symbol, Name(register, 0, (0, inf)))

    def _argument(self, at: int, kind: str, name: str) -> str:
        slot = self.writer.emit(f"getelementptr i64, ptr %args, i64 {at}", "slot")
        return self.writer.emit(f"load {kind}, ptr {slot}", name)

    def body(self, statements: tuple[Statement, ...]) -> None:
        """Emits statements in order."""
        for statement in statements:
            self._emitters[type(statement)](statement)

    def _enter(self, label: str) -> tuple[dict[str, Name], dict[str, Dim], dict[str, Operand]]:
        """Enters a scope; what it defines is forgotten by `_leave`."""
        self.writer.push(label)
        return dict(self.indices.names), dict(self.indices.aliases), dict(self.values)

    def _leave(
        self, saved: tuple[dict[str, Name], dict[str, Dim], dict[str, Operand]]
    ) -> Scope:
        self.indices.names, self.indices.aliases, self.values = saved
        return self.writer.pop()

    def _alloc(self, s: Alloc) -> None:
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

    def _mask(self, s: Mask) -> None:
        distance = self.indices.resolve(s.bound - s.base)
        scope = self.writer.scopes[self.indices.depth(distance)]
        key = ("mask", distance, s.lanes)
        if key not in scope.known:
            scope.known[key] = self._make_mask(distance, s.lanes)
        self.values[s.name] = Operand(scope.known[key], BOOL, s.lanes)

    def _make_mask(self, distance: Dim, lanes: int) -> str:
        """The lanes below `distance`, clamped, so that a compare of narrow numbers is enough."""
        left, depth = self.indices.value(distance), self.indices.depth(distance)
        emit = self.writer.emit
        if lanes == 1:
            return emit(f"icmp sgt i64 {left}, 0", "m", depth)
        dtype = I32 if lanes <= 16 else I16 if lanes <= 32 else I8
        low = emit(f"call i64 @llvm.smax.i64(i64 {left}, i64 0)", "m", depth)
        few = emit(f"call i64 @llvm.smin.i64(i64 {low}, i64 {lanes})", "m", depth)
        small = emit(f"trunc i64 {few} to {element(dtype)}", "m", depth)
        spread = self._spread(Operand(small, dtype), lanes, depth)
        numbers = _count(dtype, lanes, 1)
        return emit(f"icmp slt {spread.kind} {numbers}, {spread.text}", "m", depth)

    def _set(self, name: str, register: str, dtype: DType, lanes: int) -> None:
        self.values[name] = Operand(register, dtype, lanes)

    def _spread(self, scalar: Operand, lanes: int, depth: int | None = None) -> Operand:
        """A scalar in all lanes."""
        if not scalar.text.startswith("%"):
            text = f"splat ({element(scalar.dtype)} {scalar.text})"
            return Operand(text, scalar.dtype, lanes)
        kind = vector(element(scalar.dtype), lanes)
        one = self.writer.emit(f"insertelement {kind} poison, {scalar}, i64 0", "s", depth)
        text = (f"shufflevector {kind} {one}, {kind} poison,"
                f" <{lanes} x i32> zeroinitializer")
        return Operand(self.writer.emit(text, "s", depth), scalar.dtype, lanes)

    def _load(self, s: Load) -> None:
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

    def _store(self, s: Store) -> None:
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

    def _const(self, s: Const) -> None:
        self._set(s.name, constant(s.dtype, s.value, s.lanes), s.dtype, s.lanes)

    def _index_of(self, s: IndexOf) -> None:
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

    def _splat(self, s: Splat) -> None:
        self.values[s.name] = self._spread(self.values[s.value], s.lanes)

    def _builder(self, lanes: int) -> LlvmBuilder:
        return LlvmBuilder(self.writer, lanes, self.target.scales)

    def _apply(self, s: Apply) -> None:
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

    def _lane_reduce(self, s: LaneReduce) -> None:
        value, lanes = self.values[s.value], s.lanes
        while lanes > 1:
            lanes //= 2
            low, high = (self._half(value, lanes, start) for start in (0, lanes))
            value = self._builder(lanes).primitive(s.op, low, high)
        self.values[s.name] = value

    def _half(self, value: Operand, lanes: int, start: int) -> Operand:
        if lanes == 1:
            text = self.writer.emit(f"extractelement {value}, i64 {start}", "h")
            return Operand(text, value.dtype)
        order = ", ".join(f"i32 {start + lane}" for lane in range(lanes))
        text = self.writer.emit(
            f"shufflevector {value}, {value.kind} poison, <{lanes} x i32> <{order}>", "h")
        return Operand(text, value.dtype, lanes)

    def _let(self, s: Let) -> None:
        value = self.indices.resolve(s.value)
        if isinstance(value, int):
            self.indices.alias(s.name, value)
            return
        span = self.indices.range(value)
        register = self.indices.value(value)
        depth = self.indices.depth(value)
        self.indices.define(s.name, Name(register, depth, span, self.indices.is_loaded(value)))

    def _load_index(self, s: LoadIndex) -> None:
        kind = stored(s.dtype)
        place = self.indices.address(self.pointers[s.buffer], kind, s.offset)
        loaded = self.writer.emit(f"load {kind}, ptr {place}, align {s.dtype.size}", s.name)
        register = self._builder(1).cast(Operand(loaded, s.dtype), I64).text
        low = 0.0 if s.dtype.kind == "uint" else -inf
        self.indices.define(s.name, Name(register, self.writer.depth, (low, inf), True))

    def _if(self, s: If) -> None:
        tests = []
        for condition in s.conditions:
            value = self.indices.resolve(condition)
            low, high = self.indices.range(value)
            if high < 0:
                return
            if low < 0:
                tests.append(self.writer.emit(
                    f"icmp sge i64 {self.indices.value(value)}, 0", "c"))
        if not tests:
            self._straight(s.body)
            return
        test = tests[0]
        for other in tests[1:]:
            test = self.writer.emit(f"and i1 {test}, {other}", "c")
        then, end = self.writer.label("then"), self.writer.label("end")
        saved = self._enter(then)
        self.body(s.body)
        inner = self._leave(saved)
        self.writer.line(f"br i1 {test}, label %{then}, label %{end}")
        self.writer.start(then)
        self.writer.join(inner)
        self.writer.line(f"br label %{end}")
        self.writer.start(end)

    def _straight(self, body: tuple[Statement, ...]) -> None:
        """A body that runs exactly once, in a scope of its own for the sake of its names."""
        saved = self._enter(self.writer.scopes[-1].block)
        self.body(body)
        self.writer.join(self._leave(saved))

    def _for(self, s: For) -> None:
        low, high = self.indices.resolve(s.low), self.indices.resolve(s.high)
        turns = _turns(low, high, self.indices.resolve(s.step))
        if turns == 0:
            self._results(s, [self.values[first] for _, first, _, _ in s.carried])
        elif turns == 1:
            self._once(s, low)
        else:
            self._loop(s, low, high)

    def _results(self, s: For, values: list[Operand]) -> None:
        for name, value in zip(s.after, values, strict=True):
            self.values[name] = value

    def _once(self, s: For, low: Dim) -> None:
        saved = self._enter(self.writer.scopes[-1].block)
        self.indices.alias(s.var, low)
        for name, first, _, _ in s.carried:
            self.values[name] = self.values[first]
        self.body(s.body)
        last = [self.values[name] for name in s.next]
        self.writer.join(self._leave(saved))
        self._results(s, last)

    def _loop(self, s: For, low: Dim, high: Dim) -> None:
        writer, indices = self.writer, self.indices
        first = indices.value(low)
        limit = indices.value(high)
        step = "" if s.step == 0 else indices.value(s.step)
        certain = indices.range(high - low)[0] >= 1
        starts = [self.values[name] for _, name, _, _ in s.carried]
        head, end = writer.label(s.var), writer.label("end")
        var, following = writer.fresh(s.var), writer.fresh(s.var)
        saved = self._enter(head)
        span = (indices.range(low)[0], indices.range(high)[1] - 1)
        indices.define(s.var, Name(var, writer.depth, span))
        phis = self._carry(s)
        self.body(s.body)
        last = [self.values[name] for name in s.next]
        inner = self._leave(saved)
        before = writer.scopes[-1].block
        if certain:
            writer.line(f"br label %{head}")
        else:
            enter = writer.emit(f"icmp slt i64 {first}, {limit}", "c")
            writer.line(f"br i1 {enter}, label %{head}, label %{end}")
        writer.start(head)
        writer.line(f"{var} = phi i64 [{first}, %{before}], [{following}, %{inner.block}]")
        for phi, start, value in zip(phis, starts, last, strict=True):
            writer.line(f"{phi.text} = phi {phi.kind} [{start.text}, %{before}],"
                        f" [{value.text}, %{inner.block}]")
        writer.join(inner)
        writer.line(f"{following} = " + (
            f"add nsw i64 {var}, {step}" if step else f"shl nuw nsw i64 {var}, 1"))
        more = writer.emit(f"icmp slt i64 {following}, {limit}", "c")
        writer.line(f"br i1 {more}, label %{head}, label %{end}")
        writer.start(end)
        if not certain:
            last = [self._merge(start, before, value, inner.block)
                    for start, value in zip(starts, last, strict=True)]
        self._results(s, last)

    def _carry(self, s: For) -> list[Operand]:
        """The registers that live across turns, as they are in the body."""
        phis = []
        for name, _, dtype, lanes in s.carried:
            phis.append(Operand(self.writer.fresh(name), dtype, lanes))
            self.values[name] = phis[-1]
        return phis

    def _merge(self, start: Operand, before: str, value: Operand, block: str) -> Operand:
        text = f"phi {value.kind} [{start.text}, %{before}], [{value.text}, %{block}]"
        return Operand(self.writer.emit(text, "r"), value.dtype, value.lanes)


def _count(dtype: DType, lanes: int, step: int) -> str:
    """The vector 0, step, 2 step, …"""
    kind = element(dtype)
    return "<" + ", ".join(f"{kind} {number(dtype, lane * step)}" for lane in range(lanes)) + ">"


def _turns(low: Dim, high: Dim, step: Dim) -> int:
    """0 or 1 if a loop is known to turn so often, 2 for all others."""
    length = high - low
    if not isinstance(length, int) or not isinstance(step, int):
        return 2
    if length <= 0:
        return 0
    if step == 0:
        return 1 if isinstance(low, int) and isinstance(high, int) and 2 * low >= high > 0 else 2
    return 1 if length <= step else 2
