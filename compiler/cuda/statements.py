"""Statements of Loops as CUDA C. A vector of lanes is as many variables of one thread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf

from dlc.compiler.cuda.expressions import Expressions
from dlc.compiler.cuda.scalars import CudaBuilder
from dlc.compiler.cuda.text import Operand, Writer, kind, stored
from dlc.compiler.loops.names import Name
from dlc.ir.dims import Dim, as_multiples, mod, substitute, symbol, symbols
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
    Mask,
    Matrices,
    Shuffle,
    Splat,
    Statement,
    Store,
    Tensor,
)
from dlc.ir.ops import OPS
from dlc.ir.scalar import PRIMITIVES
from dlc.ir.types import BOOL, F32, I64, DType

ALIGNMENT = 16  # bytes: what one access of a thread may have at most
Lanes = tuple[Operand, ...]


class StatementEmitter:
    """Emits the statements of one function; knows what each name of a program stands for."""

    def __init__(self, multiples: tuple[tuple[str, int], ...] = ()) -> None:
        self.writer = Writer()
        self.builder = CudaBuilder(self.writer)
        self.indices = Expressions()
        self.values: dict[str, Lanes] = {}
        self.pointers: dict[str, str] = {}
        self.dynamic: dict[str, int] = {}  # where shared memory lies that the block asks for
        self.multiples = dict(multiples)  # what sizes are known to be multiples of
        self._emitters: dict[type, Callable[..., None]] = {
            Alloc: self._alloc, Mask: self._mask, Load: self._load, Store: self._store,
            Const: self._const, IndexOf: self._index_of, Splat: self._splat, Apply: self._apply,
            LaneReduce: self._lane_reduce, Let: self._let, LoadIndex: self._load_index,
            AsIndex: self._as_index, Exchange: self._exchange, Shuffle: self._shuffle,
            Barrier: self._barrier, Fetch: self._fetch, For: self._for, If: self._if,
            Copy: self._copy, Copies: self._copies, Matrices: self._matrices,
            Fragments: self._fragments, Tensor: self._tensor,
        }

    def body(self, statements: tuple[Statement, ...]) -> None:
        """Emits statements in order."""
        for statement in statements:
            self._emitters[type(statement)](statement)

    def _alloc(self, s: Alloc) -> None:
        name = self.pointers[s.name] = self.writer.fresh(s.name)
        if s.name in self.dynamic:
            form, start = f"{stored(s.dtype)} *", self.dynamic[s.name]
            self.writer.line(f"{form}const {name} = ({form})(all_shared + {start});")
            return
        where = f"{'__shared__ ' if s.shared else ''}__align__({ALIGNMENT}) "
        zeroed = " = {}" if s.zeroed else ""
        self.writer.line(f"{where}{stored(s.dtype)} {name}[{s.size}]{zeroed};")

    def _mask(self, s: Mask) -> None:
        low, bound = self.indices.text(s.low or 0), self.indices.text(s.bound)
        made = []
        for lane in range(s.lanes if s.step else 1):
            at = self.indices.text(s.base + s.step * lane)
            above = "" if s.low is None else f" && {low} <= {at}"
            made.append(self.writer.emit(BOOL, f"{at} < {bound}{above}", s.name))
        self.values[s.name] = tuple(made) if s.step else tuple(made) * s.lanes

    def _load(self, s: Load) -> None:
        if self._is_pack(s):
            self.values[s.name] = self._load_pack(s)
            return
        masks = self.values[s.mask] if s.mask else (None,) * s.lanes
        self.values[s.name] = tuple(
            self._read(self._element(s.buffer, s.offset + lane), s, masks[lane])
            for lane in range(s.lanes))

    def _read(self, element: str, s: Load, mask: Operand | None = None) -> Operand:
        """An element of memory as a register."""
        text = _loaded(element, s.dtype)
        if not s.dtype.is_float or s.dtype.size > 2:
            zero = self.builder.const(s.dtype, 0)
            return self.writer.emit(s.dtype, f"{mask} ? {text} : {zero}" if mask else text, s.name)
        kept = f"{mask} ? {element} : ({stored(s.dtype)})0" if mask else element
        bits = self.writer.define(stored(s.dtype), kept, f"{s.name}.bits")
        return replace(self.writer.emit(s.dtype, _loaded(bits, s.dtype), s.name), bits=bits)

    def _is_pack(self, s: Load | Store) -> bool:
        """Whether neighbours may be touched at once: all of them or none, at an aligned place."""
        alike = not s.mask or len({v.text for v in self.values[s.mask]}) == 1
        return s.lanes > 1 and alike and self._is_aligned(s.offset, s.lanes)

    def _is_aligned(self, offset: Dim, lanes: int) -> bool:
        """Whether neighbours may be read at once; buffers begin at addresses that allow it."""
        return mod(substitute(offset, as_multiples(self.multiples)), lanes) == 0

    def _load_pack(self, s: Load) -> Lanes:
        pack, form = self.writer.fresh("pack"), f"Pack<{stored(s.dtype)}, {s.lanes}>"
        place = self._pack(s, f"const {form}")
        if s.mask:
            place = f"{self.values[s.mask][0]} ? {place} : {form}{{}}"
        self.writer.line(f"const {form} {pack} = {place};")
        return tuple(self._read(f"{pack}.at[{lane}]", s) for lane in range(s.lanes))

    def _pack(self, s: Load | Store, form: str) -> str:
        return f"*({form} *)({self.pointers[s.buffer]} + {self.indices.atom(s.offset)})"

    def _element(self, buffer: str, offset: Dim) -> str:
        return f"{self.pointers[buffer]}[{self.indices.text(offset)}]"

    def _store(self, s: Store) -> None:
        values = [_to_store(v) for v in self.values[s.value]]
        if self._is_pack(s):
            form = f"Pack<{stored(s.dtype)}, {s.lanes}>"
            keep = f"if ({self.values[s.mask][0]}) " if s.mask else ""
            self.writer.line(
                f"{keep}{self._pack(s, form)} = {form}{{{{{', '.join(values)}}}}};")
            return
        for lane, value in enumerate(values):
            keep = f"if ({self.values[s.mask][lane]}) " if s.mask else ""
            self.writer.line(f"{keep}{self._element(s.buffer, s.offset + lane)} = {value};")

    def _const(self, s: Const) -> None:
        self.values[s.name] = (self.builder.const(s.dtype, s.value),) * s.lanes

    def _index_of(self, s: IndexOf) -> None:
        self.values[s.name] = tuple(
            self.builder.cast(Operand(self.indices.wide(s.value + lane * s.step), I64), s.dtype)
            for lane in range(s.lanes))

    def _splat(self, s: Splat) -> None:
        self.values[s.name] = self.values[s.value] * s.lanes

    def _apply(self, s: Apply) -> None:
        made: list[Operand] = []
        for args in zip(*(self.values[name] for name in s.args), strict=True):
            if s.op in OPS:
                formula = OPS[s.op].formula
                assert formula is not None, f"{s.op} has no formula"
                result = formula(self.builder, dict(s.attrs), *args)
                assert isinstance(result, Operand)
            else:
                assert s.op in PRIMITIVES, f"{s.op} is no primitive"
                result = self.builder.primitive(s.op, *args)
            made.append(result)
        self.values[s.name] = tuple(made)

    def _lane_reduce(self, s: LaneReduce) -> None:
        values = self.values[s.value]
        while len(values) > 1:
            half = len(values) // 2
            values = tuple(self.builder.primitive(s.op, a, b)
                           for a, b in zip(values[:half], values[half:], strict=True))
        self.values[s.name] = values

    def _exchange(self, s: Exchange) -> None:
        first, second = self.values[s.first], self.values[s.second]
        by = s.distance
        self.values[s.name] = tuple(
            (second[lane] if s.upper else second[lane - by]) if lane & by
            else (first[lane + by] if s.upper else first[lane]) for lane in range(s.lanes))

    def _shuffle(self, s: Shuffle) -> None:
        (value,) = self.values[s.value]
        wide = s.dtype if s.dtype.size >= 4 or s.dtype.is_float else None
        text = f"__shfl_xor_sync(0xffffffffu, {'' if wide else '(int)'}{value}, {s.distance})"
        text = text if wide else f"({kind(s.dtype)}){text}"
        self.values[s.name] = (self.writer.emit(s.dtype, text, s.name),)

    def _barrier(self, s: Barrier) -> None:
        self.writer.line("__syncwarp();" if s.warp else "__syncthreads();")

    def _copy(self, s: Copy) -> None:
        to, source = (f"{self.pointers[name]} + {self.indices.atom(at)}"
                      for name, at in ((s.buffer, s.at), (s.source, s.offset)))
        keep = self.values[s.mask][0] if s.mask else "true"
        self.writer.line(f"copy_bytes<{s.dtype.size * s.lanes}>({to}, {source}, {keep});")

    def _copies(self, s: Copies) -> None:
        self.writer.line("copies_end_group();" if s.pending is None
                         else f"wait_for_copies<{s.pending}>();")

    def _matrices(self, s: Matrices) -> None:
        """f32 is rounded here, once for all products."""
        if len(s.places) > 1:
            words = [f"tf32_bits({self._element(s.buffer, place)})" for place in s.places]
        else:
            made = self.writer.fresh("matrices")
            call = "load_matrices_turned" if s.turned else "load_matrices"
            place = f"{self.pointers[s.buffer]} + {self.indices.atom(s.places[0])}"
            self.writer.line(f"const Words {made} = {call}({place});")
            words = [f"{made}.at[{n}]" for n in range(4)]
            if s.dtype is F32:
                words = [f"tf32_bits(__int_as_float((int){word}))" for word in words]
        self.values[s.name] = tuple(
            Operand(self.writer.define("unsigned", word, s.name), s.word) for word in words)

    def _fragments(self, s: Fragments) -> None:
        values = [self.values[name][0] for name in s.values]
        if s.dtype is F32:
            words = [f"tf32_bits({value})" for value in values]
        else:
            pairs = zip(values[::2], values[1::2], strict=True)
            words = [f"two_{s.dtype}({first}, {second})" for first, second in pairs]
        self.values[s.name] = tuple(
            Operand(self.writer.define("unsigned", word, s.name), s.word) for word in words)

    def _tensor(self, s: Tensor) -> None:
        right = self.values[s.right][2 * s.second:2 * s.second + 2]
        given = ", ".join(map(str, (*self.values[s.left], *right, *self.values[s.sums])))
        made = self.writer.fresh("sums")
        kind = "tf32" if s.dtype is F32 else str(s.dtype)
        self.writer.line(f"const Sums {made} = multiply_{kind}({given});")
        self.values[s.name] = tuple(Operand(f"{made}.at[{n}]", F32) for n in range(4))

    def _fetch(self, s: Fetch) -> None:
        """Nothing: while some threads wait for memory, others run."""

    def _let(self, s: Let) -> None:
        value = self.indices.resolve(s.value)
        if isinstance(value, int):
            self.indices.alias(s.name, value)
            return
        span, loaded = self.indices.range(value), self.indices.is_loaded(value)
        made = self.writer.define("Index", self.indices.text(value), s.name)
        self.indices.define(s.name, Name(made, 0, span, loaded))

    def _load_index(self, s: LoadIndex) -> None:
        text = _loaded(self._element(s.buffer, s.offset), s.dtype)
        self._index(s.name, text, s.dtype)

    def _as_index(self, s: AsIndex) -> None:
        (value,) = self.values[s.value]
        self._index(s.name, value.text, s.dtype)

    def _index(self, name: str, text: str, dtype: DType) -> None:
        """From here on `name` is an integer that may be anything its type holds."""
        low = 0.0 if dtype.kind == "uint" else -inf
        made = self.writer.define("Index", text, name)
        self.indices.define(name, Name(made, 0, (low, inf), True))

    def _if(self, s: If) -> None:
        tests = []
        known = dict(self.multiples)
        for condition in s.conditions:
            self.multiples |= _multiple(condition)
            low, high = self.indices.range(condition)
            if high < 0:
                self.multiples = known
                return
            if low < 0:
                tests.append(f"{self.indices.text(condition)} >= 0")
        self._inside(f"if ({' && '.join(tests)})" if tests else "", s.body)
        self.multiples = known

    def _inside(self, head: str, body: tuple[Statement, ...]) -> None:
        """Statements in a block; what it defines is forgotten after it."""
        saved = dict(self.indices.names), dict(self.indices.aliases), dict(self.values)
        if head:
            self.writer.open(head)
        self.body(body)
        if head:
            self.writer.close()
        self.indices.names, self.indices.aliases, self.values = saved

    def _for(self, s: For) -> None:
        low, high = self.indices.text(s.low), self.indices.text(s.high)
        states = []
        for (_, first, dtype, _), name in zip(s.carried, s.after, strict=True):
            states.append([self._variable(dtype, value, name) for value in self.values[first]])
        var = self.writer.fresh(s.var)
        further = f"{var} *= 2" if s.step == 0 else f"{var} += {self.indices.text(s.step)}"
        if s.unrolled is not None:
            self.writer.line("#pragma unroll" if s.unrolled else "#pragma unroll 1")
        saved = dict(self.indices.names), dict(self.indices.aliases), dict(self.values)
        span = (self.indices.range(s.low)[0], self.indices.range(s.high)[1] - 1)
        self.indices.define(s.var, Name(var, 0, span))
        self.writer.open(f"for (Index {var} = {low}; {var} < {high}; {further})")
        self._turn(s, states)
        self.writer.close()
        self.indices.names, self.indices.aliases, self.values = saved
        for name, state in zip(s.after, states, strict=True):
            self.values[name] = tuple(state)

    def _variable(self, dtype: DType, value: Operand, hint: str) -> Operand:
        name = self.writer.fresh(hint)
        self.writer.line(f"{kind(dtype)} {name} = {value};")
        return Operand(name, dtype)

    def _turn(self, s: For, states: list[list[Operand]]) -> None:
        """One turn of a loop: it sees what the one before left, and leaves what comes next."""
        for (name, _, dtype, _), state in zip(s.carried, states, strict=True):
            self.values[name] = tuple(
                self.writer.emit(dtype, value.text, name) for value in state)
        self.body(s.body)
        for name, state in zip(s.next, states, strict=True):
            for variable, value in zip(state, self.values[name], strict=True):
                self.writer.line(f"{variable} = {value};")


def _loaded(element: str, dtype: DType) -> str:
    """An element of memory as a register."""
    if dtype.kind == "bool":
        return f"{element} != 0"
    return f"{dtype}_value({element})" if dtype.is_float and dtype.size == 2 else element


def _multiple(condition: Dim) -> dict[str, int]:
    """What `0 - M % 4 >= 0` says of M."""
    rest = 0 - condition
    names = symbols(rest)
    if len(names) != 1:
        return {}
    (name,) = names
    found = {n for n in (2, 4, 8, 16) if rest == mod(symbol(name), n)}
    return dict.fromkeys(names, found.pop()) if found else {}


def _to_store(value: Operand) -> str:
    """A register as it lies in memory."""
    if value.bits:
        return value.bits
    two = value.dtype.is_float and value.dtype.size == 2
    return f"{value.dtype}_bits({value})" if two else value.text
