"""Reads the text form of Loops; see `loops_text.py`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, get_args

from dlc.ir.dims import Dim
from dlc.ir.expression_text import read_attr
from dlc.ir.group_loops_text import read_group_statement
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
    LaneOp,
    LaneReduce,
    Let,
    Load,
    LoadIndex,
    LoopFunction,
    Mask,
    Matrices,
    Pointer,
    Shuffle,
    Splat,
    Statement,
    Store,
    Tensor,
)
from dlc.ir.tokens import Scanner
from dlc.ir.types import DTYPES, DType

_VECTOR = re.compile(r"([a-z]+[0-9]*)x([0-9]+)")
_LANES = re.compile(r"x([0-9]+)")
_REDUCTIONS: Final[dict[str, LaneOp]] = {name: name for name in get_args(LaneOp)}


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
        """`loops name<symbols>(pointers) chunks dim together 8 threads 32 { … }`"""
        scan = self.scan
        scan.expect("loops")
        name = scan.name()
        symbols = scan.bracketed("<", ">", scan.name) if scan.word == "<" else ()
        pointers = scan.bracketed("(", ")", self._pointer)
        scan.expect("chunks")
        chunks = scan.dim()
        together = scan.integer() if scan.take("together") else 1
        threads = scan.integer() if scan.take("threads") else 1
        multiples = scan.items(self._multiple) if scan.take("multiples") else ()
        body = self._block()
        scan.expect("}")
        return LoopFunction(name, symbols, pointers, chunks, body, threads, multiples, together)

    def _multiple(self) -> tuple[str, int]:
        return self.scan.name(), self.scan.integer()

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
            "alloc": self._alloc, "fetch": self._fetch, "mask": self._mask, "let": self._let,
            "if": self._if, "for": lambda: self._for(()), "copy": self._copy}
        if scan.word in known:
            return known[scan.word]()
        if scan.word == "barrier" and scan.after not in (":", "[", ",", "="):
            scan.expect("barrier")
            return Barrier(scan.take("warp"))
        if scan.word == "copies" and scan.after in ("end", "wait"):
            scan.expect("copies")
            return Copies(None if scan.take("end") else self._pending())
        of_group = read_group_statement(scan)
        if of_group is not None:
            return of_group
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
        return Alloc(name, dtype, size, scan.take("zeroed"), scan.take("shared"))

    def _fetch(self) -> Fetch:
        scan = self.scan
        scan.expect("fetch")
        buffer = scan.name()
        offset = self._offset()
        scan.expect(":")
        return Fetch(buffer, offset, scan.dtype())

    def _copy(self) -> Copy:
        scan = self.scan
        scan.expect("copy")
        buffer, at = scan.name(), self._offset()
        scan.expect("=")
        source, offset = scan.name(), self._offset()
        return Copy(buffer, at, source, offset, *self._kind(), self._where())

    def _pending(self) -> int:
        self.scan.expect("wait")
        return self.scan.integer()

    def _matrices(self, name: str) -> Matrices:
        scan = self.scan
        buffer = scan.name()
        scan.expect("[")
        places = scan.items(scan.dim)
        scan.expect("]")
        scan.expect(":")
        return Matrices(name, buffer, places, scan.dtype(), scan.take("turned"))

    def _fragments(self, name: str) -> Fragments:
        values = self.scan.items(self.scan.name)
        self.scan.expect(":")
        return Fragments(name, values, self.scan.dtype())

    def _tensor(self, name: str) -> Tensor:
        scan = self.scan
        left = scan.name()
        scan.expect(",")
        right, second = scan.name(), scan.take("second")
        scan.expect("plus")
        sums = scan.name()
        scan.expect(":")
        return Tensor(name, left, right, second, sums, scan.dtype())

    def _mask(self) -> Mask:
        scan = self.scan
        scan.expect("mask")
        name = scan.name()
        scan.expect(":")
        lanes = self._lanes()
        scan.expect("=")
        base = scan.dim()
        scan.expect("to")
        bound = scan.dim()
        low = scan.dim() if scan.take("from") else None
        return Mask(name, base, bound, lanes, low, 0 if scan.take("alike") else 1)

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
        unrolled = True if scan.take("unrolled") else False if scan.take("rolled") else None
        carried = scan.items(self._carried) if scan.take("carry") else ()
        body = self._block()
        following = scan.items(scan.name) if scan.take("next") else ()
        scan.expect("}")
        return For(var, low, high, body, step, carried, following, after, unrolled)

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
        if scan.take("shuffle"):
            other = scan.name()
            scan.expect("by")
            return Shuffle(name, other, scan.integer(), dtype)
        if scan.take("exchange"):
            return self._exchange(name, dtype, lanes)
        of_matrices: dict[str, Callable[[str], Statement]] = {
            "matrices": self._matrices, "fragments": self._fragments, "tensor": self._tensor}
        if scan.word in of_matrices:
            return of_matrices[scan.next("word")](name)
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
