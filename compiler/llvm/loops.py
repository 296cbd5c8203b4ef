"""LLVM IR of loop functions: `void name(ptr args, i64 chunk)`.

`args` is a block of 8-byte slots: the pointers in order, then the symbols.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from dlc.compiler.llvm.index import Counter
from dlc.compiler.llvm.statements import StatementEmitter
from dlc.compiler.llvm.target import Target
from dlc.compiler.llvm.text import Operand, Scope, mangle, splat
from dlc.compiler.loops.names import Name
from dlc.compiler.loops.pressure import constants_in_registers, integers_in_registers
from dlc.ir.dims import Dim
from dlc.ir.loops import (
    Alloc,
    Apply,
    AsIndex,
    Const,
    Exchange,
    Fetch,
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
from dlc.ir.types import DTYPES


def emit_function(function: LoopFunction, target: Target, brief: bool = False) -> str:
    """The definition of a loop function; it is internal to its module."""
    return FunctionEmitter(target, brief).emit(function)


def function_name(function: LoopFunction) -> str:
    """The function's name in the module, `@` included."""
    return f"@kernel.{mangle(function.name)}"


FEW_FREE = 8  # vector registers beside those that a loop carries: operands need them,
FEW_OF_16 = 10  # and LLVM's order of loads, too, where there are 16 in all


def most_carried(body: tuple[Statement, ...]) -> int:
    """The most vectors that one loop carries from turn to turn."""
    most = 0
    for statement in body:
        if isinstance(statement, For):
            own = sum(1 for _, _, _, lanes in statement.carried if lanes > 1)
            most = max(most, own, most_carried(statement.body))
        elif isinstance(statement, If):
            most = max(most, most_carried(statement.body))
    return most


def has_loops(statement: Statement) -> bool:
    """Whether a statement is a loop or holds one."""
    if isinstance(statement, If):
        return any(map(has_loops, statement.body))
    return isinstance(statement, For)


class FunctionEmitter(StatementEmitter):
    """Emits one loop function."""

    def __init__(self, target: Target, brief: bool) -> None:
        super().__init__(target)
        self.writer.brief = brief
        self.carrying = -1  # the scope of the loop here, if it carries registers
        self._emitters: dict[type, Callable[..., None]] = {
            Alloc: self.alloc, Mask: self.mask, Load: self.load, Store: self.store,
            Const: self.const, IndexOf: self.index_of, Splat: self.splat, Apply: self.apply,
            LaneReduce: self.lane_reduce, Let: self.let, LoadIndex: self.load_index,
            AsIndex: self.as_index, Exchange: self.exchange, Fetch: self.fetch, For: self._for,
            If: self._if,
        }

    def emit(self, function: LoopFunction) -> str:
        """The definition as text."""
        self.writer.kept = self._kept(function)
        self.writer.table.name = f"@constants.{mangle(function.name)}"
        self._arguments(function)
        self.body(function.body)
        self.writer.line("ret void")
        name = function_name(function)
        return (f"{self.writer.table.definition()}"
                f"define internal void {name}(ptr noalias readonly %args, i64 %chunk) #0 {{\n"
                f"{self.writer.text()}\n}}\n")

    def _kept(self, function: LoopFunction) -> frozenset[str] | None:
        """The constants that are held in registers; None if all are."""
        target = self.target
        free = target.registers - most_carried(function.body)
        if free <= (FEW_OF_16 if target.registers <= 16 else FEW_FREE):
            return frozenset()
        room = target.registers, target.register_bytes
        kept = constants_in_registers(function.body, *room)
        self.writer.words = kept is None or integers_in_registers(function.body, *room)
        return None if kept is None else frozenset(
            splat(DTYPES[dtype], value, lanes=2).text for dtype, value in kept)

    def _arguments(self, function: LoopFunction) -> None:
        self.indices.define("chunk", Name("%chunk", 0, (0, inf)))
        for at, pointer in enumerate(function.pointers):
            self.pointers[pointer.name] = self._argument(at, "ptr", pointer.name)
        for at, symbol in enumerate(function.symbols, len(function.pointers)):
            register = self._argument(at, "i64", symbol)
            self.indices.define(symbol, Name(register, 0, (0, inf)))
        if function.together > 1:
            self._chunks_together(function)

    def _chunks_together(self, function: LoopFunction) -> None:
        """The chunks of this call: how many calls have is an argument after the others."""
        group = self._argument(len(function.pointers) + len(function.symbols), "i64", "group")
        first = self.writer.emit(f"mul nsw i64 %chunk, {group}", "first")
        after = self.writer.emit(f"add nsw i64 {first}, {group}", "after")
        chunks = self.indices.value(function.chunks)
        last = self.writer.emit(f"call i64 @llvm.smin.i64(i64 {after}, i64 {chunks})", "last")
        self.indices.define("chunk", Name(first, 0, (0, inf)))
        self.indices.define("chunk.after", Name(last, 0, (0, inf)))

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
        around, self.carrying = self.carrying, writer.depth if s.carried else -1
        counter = Counter(s.var, writer.depth, first, step, around)
        innermost = step and not any(map(has_loops, s.body))
        indices.counter = counter if innermost else None
        self.body(s.body)
        indices.counter, self.carrying = None, around
        last = [self.values[name] for name in s.next]
        inner = self._leave(saved)
        before = writer.scopes[-1].block
        if certain:
            writer.line(f"br label %{head}")
        else:
            enter = writer.emit(f"icmp slt i64 {first}, {limit}", "c")
            writer.line(f"br i1 {enter}, label %{head}, label %{end}")
        writer.start(head)
        counted = [(var, first, following), *(each[:3] for each in counter.sums)]
        for name, begun, after in counted:
            writer.line(f"{name} = phi i64 [{begun}, %{before}], [{after}, %{inner.block}]")
        for phi, start, value in zip(phis, starts, last, strict=True):
            writer.line(f"{phi.text} = phi {phi.kind} [{start.text}, %{before}],"
                        f" [{value.text}, %{inner.block}]")
        writer.join(inner)
        for name, _, after, added in counter.sums:
            writer.line(f"{after} = add i64 {name}, {added}")
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
