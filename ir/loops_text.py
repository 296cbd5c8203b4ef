"""The text form of Loops, and back: `parse_loops(print_loops(f)) == f`.

    loops relu<N>(x: const f32, y: f32) chunks (N + 15) // 16 {
      alloc spare: f32[16] zeroed
      mask m: x16 = 16*chunk to N
      v: f32x16 = x[16*chunk] where m
      c: f32x16 = 0.0
      t: f32x16 = maximum(v, c)
      y[16*chunk]: f32x16 = t where m
    }

`f32x16` are sixteen lanes of f32. A call is an elementwise op; `of i64` follows where its operands
have another type than its result. The other statements:

    let at = chunk % 5                 let row = ids[at]: i32           (an index that is loaded)
    let row: i32 = v                                                    (a register as an index)
    i: i32x16 = index 16*chunk step 1  s: f32x16 = splat v              h: f32 = lanes add x16 v
    if N - 1 >= 0 { … }
    r = for k = 0 to N step 2 carry a: f32 = zero { …  next b }         (`doubling` for a step of 0)
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, Literal, get_args

from dlc.ir.dims import Dim
from dlc.ir.expression_text import attr_text, read_attr
from dlc.ir.loops import (
    Alloc,
    Apply,
    AsIndex,
    Const,
    Exchange,
    For,
    If,
    IndexOf,
    LaneReduce,
    Let,
    Load,
    LoadIndex,
    LoopFunction,
    Mask,
    Pointer,
    Splat,
    Statement,
    Store,
)
from dlc.ir.notation import value_text
from dlc.ir.tokens import Scanner, joined, name_text, names_text
from dlc.ir.types import DTYPES, DType

LaneOp = Literal["add", "maximum", "minimum"]
_VECTOR = re.compile(r"([a-z]+[0-9]*)x([0-9]+)")
_LANES = re.compile(r"x([0-9]+)")
_REDUCTIONS: Final[dict[str, LaneOp]] = {name: name for name in get_args(LaneOp)}


def print_loops(function: LoopFunction) -> str:
    """The text of a loop function."""
    symbols = f"<{names_text(function.symbols)}>" if function.symbols else ""
    pointers = [f"{name_text(p.name)}: {'' if p.writable else 'const '}{p.dtype}"
                for p in function.pointers]
    head = joined(f"loops {name_text(function.name)}{symbols}(", pointers,
                  f") chunks {function.chunks} {{", "    ")
    return "\n".join([*head, *_block(function.body, "  "), "}"]) + "\n"


def _block(body: tuple[Statement, ...], indent: str) -> list[str]:
    lines: list[str] = []
    for statement in body:
        if isinstance(statement, For):
            lines += _for(statement, indent)
        elif isinstance(statement, If):
            conditions = ", ".join(f"{dim} >= 0" for dim in statement.conditions)
            lines.append(f"{indent}if {conditions}{' ' if conditions else ''}{{")
            lines += [*_block(statement.body, indent + "  "), f"{indent}}}"]
        else:
            lines.append(f"{indent}{_PRINTERS[type(statement)](statement)}")
    return lines


def _for(s: For, indent: str) -> list[str]:
    step = ""
    if s.step != 1:
        step = " doubling" if s.step == 0 else f" step {s.step}"
    carried = [f"{name_text(name)}: {kind_text(dtype, lanes)} = {name_text(first)}"
               for name, first, dtype, lanes in s.carried]
    head, wide = f"for {s.var} = {s.low} to {s.high}{step}", f"{indent}    "
    lines = [f"{indent}{head}"]
    if s.after:
        lines = joined(indent, list(map(name_text, s.after)), f" = {head}", wide)
    if carried:
        lines[-1:] = joined(f"{lines[-1]} carry ", carried, " {", wide)
    else:
        lines[-1] += " {"
    lines += _block(s.body, indent + "  ")
    if s.next:
        lines += joined(f"{indent}  next ", list(map(name_text, s.next)), "", f"{indent}    ")
    return [*lines, f"{indent}}}"]


def kind_text(dtype: DType, lanes: int) -> str:
    """`f32x16`, or `f32` for one lane."""
    return str(dtype) if lanes == 1 else f"{dtype}x{lanes}"


def _typed(name: str, dtype: DType, lanes: int, rest: str) -> str:
    return f"{name_text(name)}: {kind_text(dtype, lanes)} = {rest}"


def _masked(mask: str) -> str:
    return f" where {name_text(mask)}" if mask else ""


def _alloc(s: Alloc) -> str:
    return f"alloc {name_text(s.name)}: {s.dtype}[{s.size}]{' zeroed' if s.zeroed else ''}"


def _mask(s: Mask) -> str:
    return f"mask {name_text(s.name)}: x{s.lanes} = {s.base} to {s.bound}"


def _load(s: Load) -> str:
    place = f"{name_text(s.buffer)}[{s.offset}]{_masked(s.mask)}"
    return _typed(s.name, s.dtype, s.lanes, place)


def _store(s: Store) -> str:
    return (f"{name_text(s.buffer)}[{s.offset}]: {kind_text(s.dtype, s.lanes)} = "
            f"{name_text(s.value)}{_masked(s.mask)}")


def _const(s: Const) -> str:
    return _typed(s.name, s.dtype, s.lanes, value_text(s.value))


def _index_of(s: IndexOf) -> str:
    step = f" step {s.step}" if s.step else ""
    return _typed(s.name, s.dtype, s.lanes, f"index {s.value}{step}")


def _splat(s: Splat) -> str:
    return _typed(s.name, s.dtype, s.lanes, f"splat {name_text(s.value)}")


def _apply(s: Apply) -> str:
    args = [*map(name_text, s.args), *(f"{name} = {attr_text(v)}" for name, v in s.attrs)]
    operand = "" if s.operand is s.dtype else f" of {s.operand}"
    return _typed(s.name, s.dtype, s.lanes, f"{name_text(s.op)}({', '.join(args)}){operand}")


def _lane_reduce(s: LaneReduce) -> str:
    return _typed(s.name, s.dtype, 1, f"lanes {s.op} x{s.lanes} {name_text(s.value)}")


def _exchange(s: Exchange) -> str:
    which = "upper" if s.upper else "lower"
    return _typed(s.name, s.dtype, s.lanes, f"exchange {name_text(s.first)},"
                  f" {name_text(s.second)} by {s.distance} {which}")


def _let(s: Let) -> str:
    return f"let {s.name} = {s.value}"


def _load_index(s: LoadIndex) -> str:
    return f"let {s.name} = {name_text(s.buffer)}[{s.offset}]: {s.dtype}"


def _as_index(s: AsIndex) -> str:
    return f"let {s.name}: {s.dtype} = {name_text(s.value)}"


_PRINTERS: Final[dict[type, Callable[..., str]]] = {
    Alloc: _alloc, Mask: _mask, Load: _load, Store: _store, Const: _const, IndexOf: _index_of,
    Splat: _splat, Apply: _apply, LaneReduce: _lane_reduce, Let: _let, LoadIndex: _load_index,
    AsIndex: _as_index, Exchange: _exchange,
}


def parse_loops(text: str) -> LoopFunction:
    """The loop function that `text` writes down; TextError for anything else."""
    scan = Scanner(text)
    function = read_loops(scan)
    scan.end()
    return function


def read_loops(scan: Scanner) -> LoopFunction:
    """The loop function that comes next."""
    return _LoopsParser(scan).function()


class _LoopsParser:
    """Reads one loop function."""

    def __init__(self, scanner: Scanner) -> None:
        self.scan = scanner

    def function(self) -> LoopFunction:
        """`loops name<symbols>(pointers) chunks dim { … }`"""
        scan = self.scan
        scan.expect("loops")
        name = scan.name()
        symbols = scan.bracketed("<", ">", scan.name) if scan.word == "<" else ()
        pointers = scan.bracketed("(", ")", self._pointer)
        scan.expect("chunks")
        chunks = scan.dim()
        body = self._block()
        scan.expect("}")
        return LoopFunction(name, symbols, pointers, chunks, body)

    def _pointer(self) -> Pointer:
        name = self.scan.name()
        self.scan.expect(":")
        writable = not self.scan.take("const")
        return Pointer(name, self.scan.dtype(), writable)

    def _block(self) -> tuple[Statement, ...]:
        """`{` and statements, up to `next` or `}`."""
        self.scan.expect("{")
        body: list[Statement] = []
        while self.scan.word not in ("}", "next"):
            body.append(self._statement())
        return tuple(body)

    def _statement(self) -> Statement:
        scan = self.scan
        known: dict[str, Callable[[], Statement]] = {
            "alloc": self._alloc, "mask": self._mask, "let": self._let, "if": self._if,
            "for": lambda: self._for(())}
        if scan.word in known:
            return known[scan.word]()
        if scan.after == "[":
            return self._store()
        if scan.after == ":":
            return self._definition()
        after = scan.items(scan.name)
        scan.expect("=")
        return self._for(after)

    def _alloc(self) -> Alloc:
        scan = self.scan
        scan.expect("alloc")
        name = scan.name()
        scan.expect(":")
        dtype = scan.dtype()
        scan.expect("[")
        size = scan.integer()
        scan.expect("]")
        return Alloc(name, dtype, size, scan.take("zeroed"))

    def _mask(self) -> Mask:
        scan = self.scan
        scan.expect("mask")
        name = scan.name()
        scan.expect(":")
        lanes = self._lanes()
        scan.expect("=")
        base = scan.dim()
        scan.expect("to")
        return Mask(name, base, scan.dim(), lanes)

    def _let(self) -> Let | LoadIndex | AsIndex:
        scan = self.scan
        scan.expect("let")
        name = scan.next("word")
        if scan.take(":"):
            dtype = scan.dtype()
            scan.expect("=")
            return AsIndex(name, scan.name(), dtype)
        scan.expect("=")
        if scan.after != "[":
            return Let(name, scan.dim())
        buffer = scan.name()
        offset = self._offset()
        scan.expect(":")
        return LoadIndex(name, buffer, offset, scan.dtype())

    def _if(self) -> If:
        self.scan.expect("if")
        conditions = self.scan.items(self._condition) if self.scan.word != "{" else ()
        body = self._block()
        self.scan.expect("}")
        return If(conditions, body)

    def _condition(self) -> Dim:
        dim = self.scan.dim()
        self.scan.expect(">=")
        self.scan.expect("0")
        return dim

    def _for(self, after: tuple[str, ...]) -> For:
        scan = self.scan
        scan.expect("for")
        var = scan.next("word")
        scan.expect("=")
        low = scan.dim()
        scan.expect("to")
        high = scan.dim()
        step: Dim = 0 if scan.take("doubling") else scan.dim() if scan.take("step") else 1
        carried = scan.items(self._carried) if scan.take("carry") else ()
        body = self._block()
        following = scan.items(scan.name) if scan.take("next") else ()
        scan.expect("}")
        return For(var, low, high, body, step, carried, following, after)

    def _carried(self) -> tuple[str, str, DType, int]:
        name = self.scan.name()
        dtype, lanes = self._kind()
        self.scan.expect("=")
        return name, self.scan.name(), dtype, lanes

    def _kind(self) -> tuple[DType, int]:
        """`: f32x16`"""
        self.scan.expect(":")
        match = _VECTOR.fullmatch(self.scan.word)
        if match is None or match[1] not in DTYPES:
            return self.scan.dtype(), 1
        self.scan.next("word")
        return DTYPES[match[1]], int(match[2])

    def _lanes(self) -> int:
        match = _LANES.fullmatch(self.scan.word)
        if match is None:
            self.scan.fail(f"expected a number of lanes as in x16, found {self.scan.word!r}")
        self.scan.next("word")
        return int(match[1])

    def _offset(self) -> Dim:
        self.scan.expect("[")
        offset = self.scan.dim()
        self.scan.expect("]")
        return offset

    def _where(self) -> str:
        return self.scan.name() if self.scan.take("where") else ""

    def _store(self) -> Store:
        buffer = self.scan.name()
        offset = self._offset()
        dtype, lanes = self._kind()
        self.scan.expect("=")
        return Store(buffer, offset, self.scan.name(), dtype, lanes, self._where())

    def _definition(self) -> Statement:
        """`name: type = …`"""
        scan = self.scan
        name = scan.name()
        dtype, lanes = self._kind()
        scan.expect("=")
        if scan.at_number():
            return Const(name, scan.number(), dtype, lanes)
        if scan.take("splat"):
            return Splat(name, scan.name(), dtype, lanes)
        if scan.take("index"):
            value = scan.dim()
            return IndexOf(name, value, dtype, lanes, scan.integer() if scan.take("step") else 0)
        if scan.take("lanes"):
            return self._lane_reduce(name, dtype)
        if scan.take("exchange"):
            return self._exchange(name, dtype, lanes)
        if scan.after == "(":
            return self._apply(name, dtype, lanes)
        buffer = scan.name()
        offset = self._offset()
        return Load(name, buffer, offset, dtype, lanes, self._where())

    def _exchange(self, name: str, dtype: DType, lanes: int) -> Exchange:
        scan = self.scan
        first = scan.name()
        scan.expect(",")
        second = scan.name()
        scan.expect("by")
        distance = scan.integer()
        upper = scan.take("upper")
        if not upper:
            scan.expect("lower")
        return Exchange(name, first, second, distance, upper, dtype, lanes)

    def _lane_reduce(self, name: str, dtype: DType) -> LaneReduce:
        op = self.scan.word
        if op not in _REDUCTIONS:
            self.scan.fail(f"expected one of {', '.join(_REDUCTIONS)}, found {op!r}")
        self.scan.next("word")
        lanes = self._lanes()
        return LaneReduce(name, _REDUCTIONS[op], self.scan.name(), dtype, lanes)

    def _apply(self, name: str, dtype: DType, lanes: int) -> Apply:
        scan = self.scan
        op = scan.name()
        args: list[str] = []
        attrs: list[tuple[str, int | DType]] = []

        def read() -> None:
            if scan.after == "=":
                attrs.append(read_attr(scan))
            else:
                args.append(scan.name())

        scan.bracketed("(", ")", read)
        operand = scan.dtype() if scan.take("of") else dtype
        return Apply(name, op, tuple(args), dtype, operand, lanes, tuple(attrs))
