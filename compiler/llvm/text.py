"""LLVM IR as text: types, constants, operands, and the lines of a function by scope."""

from __future__ import annotations

import re
import struct
from dataclasses import field
from functools import lru_cache

from dlc.ir.dataclass import dataclass
from dlc.ir.types import DTYPES, I32, I64, DType

# bf16 as its bits: LLVM would call a library, which is not there, for many CPUs.
_FLOATS = {"f16": "half", "bf16": "i16", "f32": "float", "f64": "double"}
_ELEMENTS = {name: _FLOATS.get(name, f"i{t.size * 8}") for name, t in DTYPES.items()} | {
    "bool": "i1"}
_LAST = re.compile(r"(-?\d+)\)")  # number of a splat
_LETTERS = re.compile(r"[^A-Za-z0-9_.]")


def element(dtype: DType) -> str:
    """The type of one element in a register."""
    return _ELEMENTS[dtype.name]


def stored(dtype: DType) -> str:
    """The type of one element in memory: a bool is a byte, 0 or 1."""
    return "i8" if dtype.kind == "bool" else element(dtype)


def vector(kind: str, lanes: int) -> str:
    """`lanes` of a type; the type itself for one lane."""
    return kind if lanes == 1 else f"<{lanes} x {kind}>"


def suffix(kind: str, lanes: int = 1) -> str:
    """How the name of an intrinsic spells a type: `v16f32`, `i64`."""
    names = {"half": "f16", "float": "f32", "double": "f64"}
    short = names.get(kind, kind)
    return short if lanes == 1 else f"v{lanes}{short}"


@lru_cache(1 << 12)  # registers have a few names each, and a number
def mangle(name: str) -> str:
    """A name of a program in the letters that LLVM allows; different names stay different."""
    return _LETTERS.sub(lambda letter: f"${ord(letter[0]):x}$", name)


def number(dtype: DType, value: float) -> str:
    """A constant of one element."""
    if dtype.kind == "bool":
        return "true" if value else "false"
    if dtype.name == "bf16":
        value = _bfloat(value)
    if dtype.is_integer or dtype.name == "bf16":
        bits = dtype.size * 8
        wrapped = int(value) & ((1 << bits) - 1)
        return str(wrapped - (1 << bits) if wrapped >> (bits - 1) else wrapped)
    if dtype.name == "f16":
        return "0xH" + _pack("e", value)[::-1].hex().upper()
    wide = struct.unpack("<f", _pack("f", value))[0] if dtype.name == "f32" else value
    return "0x" + struct.pack(">d", wide).hex().upper()


def _pack(code: str, value: float) -> bytes:
    """`value` rounded to a smaller float; what is too large becomes infinite."""
    try:
        return struct.pack(f"<{code}", value)
    except OverflowError:
        return struct.pack(f"<{code}", float("inf") if value > 0 else float("-inf"))


def _bfloat(value: float) -> int:
    """The bits of the nearest bf16, halves to even."""
    bits = int.from_bytes(_pack("f", value), "little")
    if value != value:
        return 0x7FC0
    return (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16


@dataclass(frozen=True, slots=True)
class Operand:
    """A register or a constant: its text, element type and number of lanes.

    Some constants are `loaded` into a register.
    """

    text: str
    dtype: DType
    lanes: int = 1
    loaded: bool = False

    @property
    def is_constant(self) -> bool:
        """Whether it is a number that is known."""
        return self.loaded or not self.text.startswith("%")

    @property
    def kind(self) -> str:
        """Its LLVM type."""
        return vector(element(self.dtype), self.lanes)

    def __str__(self) -> str:
        kind = _ELEMENTS[self.dtype.name]
        return f"{kind} {self.text}" if self.lanes == 1 else f"<{self.lanes} x {kind}> {self.text}"


def splat(dtype: DType, value: float, lanes: int) -> Operand:
    """A number in all lanes."""
    one = number(dtype, value)
    return Operand(one if lanes == 1 else f"splat ({element(dtype)} {one})", dtype, lanes)


@dataclass(slots=True)
class Scope:
    """Code that runs under the same loops: lines so far, and the block they end in.

    The lines of an inner scope join those of the outer one when it is left, so that code may be
    added to an outer scope in the meantime: it stands before the inner one, and dominates it.
    """

    block: str
    lines: list[str] = field(default_factory=list)
    known: dict[object, str] = field(default_factory=dict)  # what was computed, and its register


class Table:
    """Constants of a function in memory. One that a block uses several times is there as often:
    LLVM would load it once, and hold it.

    The memory is not said to be constant: what lies in such LLVM would load before a loop.
    """

    def __init__(self) -> None:
        self.name = ""
        self._places: dict[tuple[Operand, int], int] = {}  # in bytes, of constants and their copies
        self._uses: dict[tuple[str, Operand], int] = {}  # by block
        self._fields: list[tuple[str, str]] = []  # types and values
        self._end = 0

    def place(self, block: str, x: Operand) -> str:
        """Where a constant lies that a block uses once more."""
        copy = self._uses[block, x] = self._uses.get((block, x), 0) + 1
        at = self._places.get((x, copy))
        if at is None:
            size = x.lanes * x.dtype.size
            at = self._places[x, copy] = -(-self._end // size) * size
            if at > self._end:
                self._fields.append((f"[{at - self._end} x i8]", "zeroinitializer"))
            self._fields.append((x.kind, x.text))
            self._end = at + size
        return f"getelementptr (i8, ptr {self.name}, i64 {at})"

    def definition(self) -> str:
        """The memory; empty if nothing is there."""
        if not self._fields:
            return ""
        kinds = ", ".join(kind for kind, _ in self._fields)
        values = ", ".join(f"{kind} {text}" for kind, text in self._fields)
        return f"{self.name} = internal global <{{ {kinds} }}> <{{ {values} }}>, align 64\n"


class Writer:
    """Writes one function: fresh names, and a stack of scopes.

    Where registers do not do for all constants (`kept` is not None), those that are not kept are
    loaded from a table each time that one is used. LLVM makes such a load a part of the instruction
    that uses it, where it holds other constants in registers round all loops, and takes those of
    accumulators and of values for it. A `brief` function is to be compiled fast.
    """

    def __init__(self) -> None:
        self.brief = False
        self.kept: frozenset[str] | None = None
        self.words = True  # whether constants of integers are kept
        self.table = Table()
        self.scopes = [Scope("entry")]
        self.allocas: list[str] = []
        self._count = 0

    @property
    def depth(self) -> int:
        """The number of the innermost scope."""
        return len(self.scopes) - 1

    def fresh(self, hint: str = "t") -> str:
        """A new register name, `%` included."""
        self._count += 1
        return f"%{mangle(hint)}.{self._count}"

    def label(self, hint: str) -> str:
        """A new label."""
        return self.fresh(hint)[1:]

    def line(self, text: str, depth: int | None = None) -> None:
        """Adds a line to a scope, the innermost if none is named."""
        self.scopes[-1 if depth is None else depth].lines.append(f"  {text}")

    def emit(self, text: str, hint: str = "t", depth: int | None = None) -> str:
        """Adds an instruction that gives a value; returns the value's register."""
        self._count += 1
        name = f"%{mangle(hint)}.{self._count}"
        scope = self.scopes[-1 if depth is None else depth]
        scope.lines.append(f"  {name} = {text}")
        return name

    def once(self, key: object, text: str, hint: str = "t", depth: int | None = None) -> str:
        """Like `emit`, but an instruction of the same key is not repeated in the scope."""
        known = self.scopes[-1 if depth is None else depth].known
        found = known.get(key)
        if found is None:
            found = known[key] = self.emit(text, hint, depth)
        return found

    def ready(self, x: Operand, depth: int | None = None) -> Operand:
        """An operand as an instruction takes it: a constant vector that is not kept is loaded."""
        if self.kept is None or x.lanes == 1 or x.loaded or not x.is_constant or self._stays(x):
            return x
        return self._loaded(x, depth)

    def word(self, op: str, x: Operand) -> Operand:
        """An operand of an integer operation: where integers are not kept, a constant of which LLVM
        need not know what it is comes from the table. That the upper halves of factors are 0 it
        sees from a mask, for which it makes no instruction."""
        if self.words or x.lanes == 1 or not x.text.startswith("splat"):
            return x
        word = splat(I64, 2 ** 32 - 1, x.lanes)
        if x.dtype is I32 and op in ("add", "sub", "and", "or", "xor"):
            return self._loaded(x, None)
        if x.dtype is I64 and op == "mul" and 0 <= int(_LAST.findall(x.text)[0]) < 2 ** 32:
            text = self.emit(f"and {self._loaded(x, None)}, {word.text}", "c")
            return Operand(text, I64, x.lanes, True)
        return x

    def _loaded(self, x: Operand, depth: int | None) -> Operand:
        place = self.table.place(self.scopes[-1 if depth is None else depth].block, x)
        return Operand(self.emit(f"load {x.kind}, ptr {place}", "c", depth), x.dtype, x.lanes, True)

    def _stays(self, x: Operand) -> bool:
        """Whether a constant is kept, or is made without memory, or with little."""
        assert self.kept is not None
        return x.text.startswith("splat") and (
            not x.dtype.is_float or x.text in self.kept or x == splat(x.dtype, 0, x.lanes))

    def start(self, label: str) -> None:
        """Begins a block in the innermost scope."""
        self.scopes[-1].lines.append(f"{label}:")
        self.scopes[-1].block = label

    def push(self, label: str) -> None:
        """Enters a scope whose first block is `label`."""
        self.scopes.append(Scope(label))

    def pop(self) -> Scope:
        """Leaves the innermost scope; its lines are the caller's to place."""
        return self.scopes.pop()

    def join(self, inner: Scope) -> None:
        """Puts the lines of a scope that was left at the end of the innermost one."""
        self.scopes[-1].lines += inner.lines
        self.scopes[-1].block = inner.block

    def text(self) -> str:
        """All lines, those that reserve memory first."""
        assert len(self.scopes) == 1
        return "\n".join(("entry:", *self.allocas, *self.scopes[0].lines))
