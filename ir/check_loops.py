"""Checks that Loops are well formed: single assignment, scope, types."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from dlc.ir.dims import Dim, symbol, symbols
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
from dlc.ir.types import BF16, BOOL, F16, F32, I32, DType

Kind = tuple[DType, int]  # an element type, and lanes
WARP = 32  # threads that go in step as far as shuffles are concerned


def check_loops(function: LoopFunction) -> None:
    """KernelError if `function` breaks a rule.

    A register is defined once in the whole function, before its use and in a scope around it; a
    loop's variable is new where it stands; operands have the types and lanes that are said; only
    what is writable is stored to. All threads of a chunk reach a barrier or a shuffle together:
    neither stands in a loop or a condition that depends on the thread, or on what was loaded.
    """
    _Checker(function).run()


class _Checker:
    """One function under inspection, with what is in scope."""

    def __init__(self, function: LoopFunction) -> None:
        self.function = function
        self.indices = {"chunk", *function.symbols}
        self.indices |= {"thread"} if function.threads > 1 else set()
        # The indices that may differ from thread to thread: of all, and of one warp; and how many
        # loops and conditions round here do.
        self.varying = ({"thread"}, {"thread"})
        self.apart = [0, 0]
        self.registers: dict[str, Kind] = {}
        self.buffers: dict[str, tuple[DType, bool]] = {}
        self.shared: set[str] = set()
        self.defined: set[str] = set()  # all registers and buffers ever defined
        self.place = ""
        self._checks: dict[type, Callable[..., None]] = {
            Alloc: self._alloc, Mask: self._mask, Load: self._load, Store: self._store,
            Const: self._const, IndexOf: self._index_of, Splat: self._splat, Apply: self._apply,
            LaneReduce: self._lane_reduce, For: self._for, If: self._if, Let: self._let,
            LoadIndex: self._load_index, AsIndex: self._as_index, Exchange: self._exchange,
            Fetch: self._fetch, Shuffle: self._shuffle, Barrier: self._barrier,
            Copy: self._copy, Copies: self._copies, Matrices: self._matrices,
            Fragments: self._fragments, Tensor: self._tensor,
        }

    def run(self) -> None:
        """Checks all of it, in order."""
        threads = self.function.threads
        if len(self.indices) != 1 + (threads > 1) + len(self.function.symbols):
            self._fail("a symbol stands twice, or is called chunk or thread")
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

    def _define(self, name: str, dtype: DType, lanes: int) -> None:
        if lanes < 1:
            self._fail(f"{lanes} lanes")
        self._new(name)
        self.registers[name] = dtype, lanes

    def _new(self, name: str) -> None:
        if not name or name in self.defined:
            self._fail(f"{name or 'an empty name'} is defined already")
        self.defined.add(name)

    def _buffer(self, name: str, dtype: DType, writable: bool) -> None:
        self._new(name)
        self.buffers[name] = dtype, writable

    def _index(self, name: str) -> None:
        if not name or name in self.indices:
            self._fail(f"{name or 'an empty name'} is an index already")
        self.indices.add(name)

    def _dims(self, *dims: Dim) -> None:
        for dim in dims:
            unknown = symbols(dim) - self.indices
            if unknown:
                self._fail(f"{', '.join(sorted(unknown))} in {dim} is no index here")

    def _use(self, name: str) -> Kind:
        if name not in self.registers:
            self._fail(f"there is no register {name} here")
        return self.registers[name]

    def _expect(self, name: str, dtype: DType, lanes: int) -> None:
        found = self._use(name)
        if found != (dtype, lanes):
            self._fail(f"{name} is {_text(found)}, not {_text((dtype, lanes))}")

    def _element(self, buffer: str, dtype: DType, offset: Dim, write: bool = False) -> None:
        if buffer not in self.buffers:
            self._fail(f"there is no buffer {buffer} here")
        kind, writable = self.buffers[buffer]
        if kind is not dtype:
            self._fail(f"{buffer} holds {kind}, not {dtype}")
        if write and not writable:
            self._fail(f"{buffer} is only read")
        self._dims(offset)

    def _masked(self, mask: str, lanes: int) -> None:
        if mask:
            self._expect(mask, BOOL, lanes)

    def _alloc(self, s: Alloc) -> None:
        if s.size < 1:
            self._fail(f"{s.size} elements")
        if s.shared and s.zeroed:
            self._fail("shared memory is never zeroed")
        self._buffer(s.name, s.dtype, True)
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
        self._together(warp=True)
        self._expect(s.value, s.dtype, 1)
        self._define(s.name, s.dtype, 1)

    def _barrier(self, s: Barrier) -> None:
        self._together(s.warp)

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
        self._together(warp=True)
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
        self._together(warp=True)
        for name in (s.left, s.right):
            self._expect(name, F32 if s.dtype is F32 else I32, 4)
        self._expect(s.sums, F32, 4)
        if s.dtype not in (F16, BF16, F32):
            self._fail(f"{s.dtype} is not multiplied so")
        self._define(s.name, F32, 4)

    def _shared_element(self, buffer: str, dtype: DType, offset: Dim) -> None:
        self._element(buffer, dtype, offset, write=True)
        if buffer not in self.shared:
            self._fail(f"{buffer} is not shared")

    def _together(self, warp: bool) -> None:
        if self.apart[warp]:
            self._fail("not all threads come here together")

    def _vary(self, name: str, *dims: Dim) -> None:
        """An index is new here; it differs between threads if one does in `dims`."""
        for varying, varies in zip(self.varying, self._varies(*dims), strict=True):
            varying.discard(name)
            varying.update({name} if varies else ())

    def _varies(self, *dims: Dim) -> tuple[bool, bool]:
        """Whether a dim differs between the threads of a chunk, and between those of a warp."""
        every, warp = self.varying
        return (any(symbols(dim) & every for dim in dims),
                any(_differs_in_warp(dim, warp) for dim in dims))

    def _enter_apart(self, *dims: Dim) -> list[int]:
        before = self.apart
        self.apart = [n + varies for n, varies in zip(before, self._varies(*dims), strict=True)]
        return before

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

    def _enter(self) -> tuple[set[str], dict[str, Kind], dict[str, tuple[DType, bool]]]:
        return set(self.indices), dict(self.registers), dict(self.buffers)

    def _leave(
        self, saved: tuple[set[str], dict[str, Kind], dict[str, tuple[DType, bool]]]
    ) -> None:
        self.indices, self.registers, self.buffers = saved

    def _fail(self, message: str) -> NoReturn:
        raise KernelError(self.function.name or "loops", self.place, message)


def _differs_in_warp(dim: Dim, varying: set[str]) -> bool:
    """Whether a dim may differ in a warp; the quotient of `thread` by whole warps does not."""
    if isinstance(dim, int):
        return False
    for factor in (f for monomial, _ in dim.terms for f, _ in monomial):
        if isinstance(factor, str):
            if factor in varying:
                return True
        elif factor.kind == "//" and factor.left is symbol("thread") and isinstance(
                factor.right, int) and factor.right % WARP == 0:
            continue
        elif any(_differs_in_warp(side, varying) for side in (factor.left, factor.right)):
            return True
    return False


def _text(kind: Kind) -> str:
    dtype, lanes = kind
    return f"{dtype}x{lanes}" if lanes > 1 else str(dtype)


def _place(statement: Statement) -> str:
    """What a statement is, in a few words."""
    if isinstance(statement, For):
        return f"for {statement.var}"
    if isinstance(statement, (Barrier, Copies)):
        return "barrier" if isinstance(statement, Barrier) else "copies"
    if isinstance(statement, Copy):
        return f"copy {statement.buffer}[{statement.at}]"
    if isinstance(statement, Store):
        return f"{statement.buffer}[{statement.offset}] = …"
    if isinstance(statement, Fetch):
        return f"fetch {statement.buffer}[{statement.offset}]"
    return "if" if isinstance(statement, If) else f"{statement.name} = …"


__all__ = ["KernelError", "check_loops"]
