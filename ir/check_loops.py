"""Checks that Loops are well formed: single assignment, scope, types."""

from __future__ import annotations

from collections.abc import Callable

from dlc.ir.check_groups import GroupChecks
from dlc.ir.check_scope import WARP
from dlc.ir.dims import symbol, symbols
from dlc.ir.group_loops import GroupStatement
from dlc.ir.group_loops_text import GROUP_PRINTERS
from dlc.ir.kernel_rules import KernelError, TypeRuleError, result_dtype
from dlc.ir.loops import (
    Alloc,
    Apply,
    AsIndex,
    Barrier,
    Const,
    Copies,
    Copy,
    Exchange,
    Fetch,
    For,
    Fragments,
    If,
    IndexOf,
    LaneReduce,
    Let,
    Load,
    LoadIndex,
    LoopFunction,
    Mask,
    Matrices,
    Shuffle,
    Splat,
    Statement,
    Store,
    Tensor,
)
from dlc.ir.types import BF16, BOOL, F16, F32, I32


def check_loops(function: LoopFunction) -> None:
    """KernelError if `function` breaks a rule.

    A register is defined once in the whole function, before its use and in a scope around it; a
    loop's variable is new where it stands; operands have the types and lanes that are said; only
    what is writable is stored to. All threads of a chunk reach a barrier or a shuffle together:
    neither stands in a loop or a condition that depends on the thread, or on what was loaded.
    """
    _Checker(function).run()


class _Checker(GroupChecks):
    """One function under inspection, with what is in scope."""

    def __init__(self, function: LoopFunction) -> None:
        super().__init__(function)
        self._checks: dict[type, Callable[..., None]] = {
            Alloc: self._alloc, Mask: self._mask, Load: self._load, Store: self._store,
            Const: self._const, IndexOf: self._index_of, Splat: self._splat, Apply: self._apply,
            LaneReduce: self._lane_reduce, For: self._for, If: self._if, Let: self._let,
            LoadIndex: self._load_index, AsIndex: self._as_index, Exchange: self._exchange,
            Fetch: self._fetch, Shuffle: self._shuffle, Barrier: self._barrier,
            Copy: self._copy, Copies: self._copies, Matrices: self._matrices,
            Fragments: self._fragments, Tensor: self._tensor,
            **self.group_checks(),
        }

    def run(self) -> None:
        """Checks all of it, in order."""
        threads = self.function.threads
        own = 1 + (threads > 1) + (self.function.together > 1)
        if len(self.indices) != own + len(self.function.symbols):
            self._fail("a symbol stands twice, or is called chunk or thread")
        if self.function.together < 1 or (self.function.together > 1 and threads > 1):
            self._fail(f"{self.function.together} chunks together")
        if threads != 1 and threads % WARP:
            self._fail(f"{threads} threads are no whole number of warps")
        for pointer in self.function.pointers:
            self._buffer(pointer.name, pointer.dtype, pointer.writable)
        unknown = symbols(self.function.chunks) - set(self.function.symbols)
        if unknown:
            self._fail(f"chunks depends on {', '.join(sorted(unknown))}")
        self._body(self.function.body)

    def _body(self, body: tuple[Statement, ...]) -> None:
        for statement in body:
            self.place = _place(statement)
            self._checks[type(statement)](statement)

    def _alloc(self, s: Alloc) -> None:
        if s.size < 1:
            self._fail(f"{s.size} elements")
        if s.shared and s.zeroed:
            self._fail("shared memory is never zeroed")
        self._buffer(s.name, s.dtype, True)
        self.sizes[s.name] = s.size
        self.shared |= {s.name} if s.shared else set()

    def _mask(self, s: Mask) -> None:
        self._dims(s.base, s.bound, *(() if s.low is None else (s.low,)))
        if s.step not in (0, 1):
            self._fail(f"a step of {s.step}")
        self._define(s.name, BOOL, s.lanes)

    def _load(self, s: Load) -> None:
        self._element(s.buffer, s.dtype, s.offset)
        self._masked(s.mask, s.lanes)
        self._define(s.name, s.dtype, s.lanes)

    def _store(self, s: Store) -> None:
        self._element(s.buffer, s.dtype, s.offset, write=True)
        self._masked(s.mask, s.lanes)
        self._expect(s.value, s.dtype, s.lanes)

    def _fetch(self, s: Fetch) -> None:
        self._element(s.buffer, s.dtype, s.offset)

    def _const(self, s: Const) -> None:
        if not s.dtype.is_float and s.value % 1 != 0:  # nan and inf too
            self._fail(f"{s.value} is no {s.dtype}")
        self._define(s.name, s.dtype, s.lanes)

    def _index_of(self, s: IndexOf) -> None:
        self._dims(s.value)
        if s.lanes == 1 and s.step:
            self._fail("one lane has no step")
        self._define(s.name, s.dtype, s.lanes)

    def _splat(self, s: Splat) -> None:
        self._expect(s.value, s.dtype, 1)
        self._define(s.name, s.dtype, s.lanes)

    def _apply(self, s: Apply) -> None:
        kinds = [self._use(name) for name in s.args]
        for name, (_, lanes) in zip(s.args, kinds, strict=True):
            if lanes != s.lanes:
                self._fail(f"{name} has {lanes} lanes, the result {s.lanes}")
        if not kinds or kinds[0][0] is not s.operand:
            self._fail(f"its first operand is not {s.operand}")
        try:
            dtype = result_dtype(s.op, tuple(dtype for dtype, _ in kinds), s.attrs)
        except (TypeRuleError, LookupError, ValueError, AssertionError) as error:
            self._fail(str(error))
        if dtype is not s.dtype:
            self._fail(f"it says {s.dtype}, its operands give {dtype}")
        self._define(s.name, s.dtype, s.lanes)

    def _lane_reduce(self, s: LaneReduce) -> None:
        if s.lanes & (s.lanes - 1):
            self._fail(f"{s.lanes} lanes are no power of two")
        self._expect(s.value, s.dtype, s.lanes)
        self._define(s.name, s.dtype, 1)

    def _exchange(self, s: Exchange) -> None:
        if s.distance < 1 or s.distance & (s.distance - 1) or s.lanes % (2 * s.distance):
            self._fail(f"{s.distance} is no distance in {s.lanes} lanes")
        self._expect(s.first, s.dtype, s.lanes)
        self._expect(s.second, s.dtype, s.lanes)
        self._define(s.name, s.dtype, s.lanes)

    def _shuffle(self, s: Shuffle) -> None:
        if self.function.threads == 1 or s.distance not in (1, 2, 4, 8, 16):
            self._fail(f"{s.distance} is no distance in a warp")
        self._together(WARP)
        self._expect(s.value, s.dtype, 1)
        self._define(s.name, s.dtype, 1)

    def _barrier(self, s: Barrier) -> None:
        self._together(WARP if s.warp else 0)

    def _copy(self, s: Copy) -> None:
        self._shared_element(s.buffer, s.dtype, s.at)
        self._element(s.source, s.dtype, s.offset)
        self._masked(s.mask, 1)
        if s.dtype.size * s.lanes not in (4, 8, 16):
            self._fail(f"{s.dtype.size * s.lanes} bytes can't be copied at once")

    def _copies(self, s: Copies) -> None:
        if s.pending is not None and s.pending < 0:
            self._fail(f"{s.pending} groups")

    def _matrices(self, s: Matrices) -> None:
        self._together(WARP)
        for place in s.places:
            self._shared_element(s.buffer, s.dtype, place)
        if s.dtype not in (F16, BF16, F32) or len(s.places) != (
                4 if s.turned and s.dtype is F32 else 1):
            self._fail(f"{len(s.places)} places of {s.dtype} are no matrices")
        self._define(s.name, s.word, 4)

    def _fragments(self, s: Fragments) -> None:
        for name in s.values:
            self._expect(name, F32, 1)
        if s.dtype not in (F16, BF16, F32) or len(s.values) * s.dtype.size != 16:
            self._fail(f"{len(s.values)} values are no matrices of {s.dtype}")
        self._define(s.name, s.word, 4)

    def _tensor(self, s: Tensor) -> None:
        self._together(WARP)
        for name in (s.left, s.right):
            self._expect(name, F32 if s.dtype is F32 else I32, 4)
        self._expect(s.sums, F32, 4)
        if s.dtype not in (F16, BF16, F32):
            self._fail(f"{s.dtype} is not multiplied so")
        self._define(s.name, F32, 4)

    def _let(self, s: Let) -> None:
        self._dims(s.value)
        self._index(s.name)
        self._vary(s.name, s.value)

    def _load_index(self, s: LoadIndex) -> None:
        if not s.dtype.is_integer:
            self._fail(f"{s.dtype} is no integer")
        self._element(s.buffer, s.dtype, s.offset)
        self._index(s.name)
        self._vary(s.name, symbol("thread"))

    def _as_index(self, s: AsIndex) -> None:
        if not s.dtype.is_integer:
            self._fail(f"{s.dtype} is no integer")
        self._expect(s.value, s.dtype, 1)
        self._index(s.name)
        self._vary(s.name, symbol("thread"))

    def _if(self, s: If) -> None:
        self._dims(*s.conditions)
        saved, apart = self._enter(), self._enter_apart(*s.conditions)
        self._body(s.body)
        self.apart = apart
        self._leave(saved)

    def _for(self, s: For) -> None:
        place = self.place
        self._dims(s.low, s.high, s.step)
        if isinstance(s.step, int) and s.step < 0:
            self._fail(f"a step of {s.step}")
        if s.unrolled and not all(isinstance(d, int) for d in (s.low, s.high, s.step)):
            self._fail("it is unrolled, but its turns are not constant")
        if not len(s.carried) == len(s.next) == len(s.after):
            self._fail(f"{len(s.carried)} carried, {len(s.next)} next, {len(s.after)} after")
        for _, first, dtype, lanes in s.carried:
            self._expect(first, dtype, lanes)
        saved, apart = self._enter(), self._enter_apart(s.low, s.high, s.step)
        self._index(s.var)
        self._vary(s.var, s.low, s.step)
        for name, _, dtype, lanes in s.carried:
            self._define(name, dtype, lanes)
        self._body(s.body)
        self.apart = apart
        self.place = place
        for name, (_, _, dtype, lanes) in zip(s.next, s.carried, strict=True):
            self._expect(name, dtype, lanes)
        self._leave(saved)
        for name, (_, _, dtype, lanes) in zip(s.after, s.carried, strict=True):
            self._define(name, dtype, lanes)

def _place(statement: Statement) -> str:
    """What a statement is, in a few words."""
    if isinstance(statement, For):
        return f"for {statement.var}"
    if isinstance(statement, (Barrier, Copies)):
        return "barrier" if isinstance(statement, Barrier) else "copies"
    if isinstance(statement, GroupStatement):
        return GROUP_PRINTERS[type(statement)](statement)
    if isinstance(statement, Copy):
        return f"copy {statement.buffer}[{statement.at}]"
    if isinstance(statement, Store):
        return f"{statement.buffer}[{statement.offset}] = …"
    if isinstance(statement, Fetch):
        return f"fetch {statement.buffer}[{statement.offset}]"
    return "if" if isinstance(statement, If) else f"{statement.name} = …"


__all__ = ["KernelError", "check_loops"]
