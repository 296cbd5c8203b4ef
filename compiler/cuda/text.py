"""CUDA C as text: types, numbers, names, and the lines of a function."""

from __future__ import annotations

import re
import struct
from typing import Final

from dlc.compiler.llvm.text import number as llvm_number
from dlc.ir.dataclass import dataclass
from dlc.ir.types import DType

_IN_REGISTERS: Final = {
    "f16": "float", "bf16": "float", "f32": "float", "f64": "double", "i8": "signed char",
    "i16": "short", "i32": "int", "i64": "long long", "u8": "unsigned char", "bool": "bool"}
_IN_MEMORY: Final = {"f16": "unsigned short", "bf16": "unsigned short", "bool": "unsigned char"}
_LETTERS = re.compile(r"[^A-Za-z0-9_]")


def kind(dtype: DType) -> str:
    """The C type of a register; numbers of 16 bits are floats there that have only their digits."""
    return _IN_REGISTERS[dtype.name]


def stored(dtype: DType) -> str:
    """The C type of an element in memory."""
    return _IN_MEMORY.get(dtype.name, kind(dtype))


def mangle(name: str) -> str:
    """A name of a program in letters that C allows; different names may become the same."""
    return _LETTERS.sub("_", name)


def number(dtype: DType, value: float) -> str:
    """A constant."""
    if dtype.kind == "bool":
        return "true" if value else "false"
    if dtype.is_float:
        return _float(_nearest(dtype, value), "" if dtype.size == 8 else "f")
    if dtype.kind == "uint":
        return str(int(value) % (1 << dtype.size * 8))
    text = llvm_number(dtype, value)
    if dtype.size == 8:
        return f"(-{2**63 - 1}LL - 1)" if int(text) == -(2**63) else f"{text}LL"
    return f"(-{2**31 - 1} - 1)" if int(text) == -(2**31) else text


def _nearest(dtype: DType, value: float) -> float:
    """The nearest number of the type."""
    value = float(value)
    if dtype.size == 8 or value != value:
        return value
    if dtype.name == "bf16":
        upper = int(llvm_number(dtype, value)) & 0xFFFF
        return _unpacked("<f", (upper << 16).to_bytes(4, "little"))
    code = "<e" if dtype.name == "f16" else "<f"
    try:
        return _unpacked(code, struct.pack(code, value))
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def _unpacked(code: str, data: bytes) -> float:
    (found,) = struct.unpack(code, data)
    return float(found)


def _float(value: float, suffix: str) -> str:
    """Short numbers as people write them, others by their bits."""
    if value != value or value in (float("inf"), float("-inf")):
        return _special(value, suffix)
    text = repr(value)
    return f"{text if len(text) <= 10 else value.hex()}{suffix}"


def _special(value: float, suffix: str) -> str:
    if not suffix:
        (bits,) = struct.unpack("<q", struct.pack("<d", value))
        return f"__longlong_as_double({bits}LL)"
    (bits,) = struct.unpack("<i", struct.pack("<f", value))
    return f"__int_as_float({bits})"


@dataclass(frozen=True, slots=True)
class Operand:
    """A value in C: its text (a name or a constant) and its element type; `bits` is how it lies in
    memory, if that is known."""

    text: str
    dtype: DType
    constant: bool = False
    bits: str = ""

    def __str__(self) -> str:
        return self.text


class Writer:
    """Writes one function: indented lines, and names that are used once."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._indent = 1
        self._used: set[str] = set()

    def fresh(self, hint: str) -> str:
        """A name that nothing has yet, like `hint`."""
        name = mangle(hint)
        at, found = 0, name if name[:1].isalpha() and name not in _WORDS else f"{name}_"
        while found in self._used:
            at += 1
            found = f"{name}_{at}"
        self._used.add(found)
        return found

    def line(self, text: str) -> None:
        """Adds a line."""
        self.lines.append("  " * self._indent + text)

    def emit(self, dtype: DType, text: str, hint: str = "t") -> Operand:
        """A new value."""
        return Operand(self.define(kind(dtype), text, hint), dtype)

    def define(self, kind: str, text: str, hint: str) -> str:
        """The name of a new value of a C type."""
        name = self.fresh(hint)
        self.line(f"const {kind} {name} = {text};")
        return name

    def open(self, text: str) -> None:
        """Begins a block."""
        self.line(f"{text} {{")
        self._indent += 1

    def close(self) -> None:
        """Ends a block."""
        self._indent -= 1
        self.line("}")


_WORDS: Final = frozenset(
    "asm auto bool break case char class const continue default delete do double else enum explicit"
    " extern false float for friend goto if inline int long mutable namespace new operator private"
    " protected public register return short signed sizeof static struct switch template this throw"
    " true try typedef typename union unsigned using virtual void volatile while and or not xor"
    " compl bitand bitor chunk thread larger smaller rounded root scaled saturated divided fused"
    " quotient rest"
    .split())
