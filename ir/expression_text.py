"""Text of what a compute reads and calculates: accesses, bounds, scalar ops; both directions.

    mul(x[n, v + r - 1] else 0.0, sub(1.0: f32, w[ids[n], r]))

An op that only the next ones need is nested in them. Its name is not printed if it is `t` and the
number of the op in the kernel, so that it can be told from the text; other ops stand on lines of
their own (`norm = div(a, b)`). A type is written (`: f32`) where it is not that of what stands
before: for a number, the argument before it; for an op, its last argument or its attribute `to`;
comparisons are bool.
"""

from __future__ import annotations

from collections import Counter

from dlc.ir.dims import Dim
from dlc.ir.kernel import (
    Access,
    Arg,
    Buffer,
    Compute,
    Index,
    IndexValue,
    Kernel,
    Number,
    ScalarOp,
    computes,
)
from dlc.ir.notation import value_text
from dlc.ir.scalar import COMPARISONS
from dlc.ir.tokens import Scanner, name_text
from dlc.ir.types import BOOL, DTYPES, DType

Attrs = tuple[tuple[str, int | DType], ...]
NESTED = 72
"""Ops are not nested to texts longer than this."""


class ExpressionPrinter:
    """Prints bodies of the computes of one kernel, one after the other in their order."""

    def __init__(self, kernel: Kernel) -> None:
        self.buffers = {b.name: b.dtype for b in (*kernel.params, *kernel.locals)}
        self.uses: Counter[str] = Counter()
        self.names: set[str] = set()
        for compute in computes(kernel.body):
            self.uses += _uses(compute)
            self.names.update(op.name for op in compute.body)
        self.dtypes: dict[str, DType] = {}  # of the ops printed so far
        self.count = 0

    def body(self, compute: Compute, dtype: DType | None) -> tuple[list[str], str]:
        """Lines of ops, then the value; `dtype` is that of what the value goes into."""
        lines: list[str] = []
        pending: list[tuple[str, str]] = []  # ops that wait to be nested, and their texts
        here = _uses(compute)

        def flush() -> None:
            lines.extend(f"{name_text(name)} = {text}" for name, text in pending)
            pending.clear()

        for op in compute.body:
            wanted = [a for a in op.args if any(a == name for name, _ in pending)]
            if wanted != [name for name, _ in pending[len(pending) - len(wanted):]]:
                flush()
                wanted = []
            inner = dict(pending[len(pending) - len(wanted):])
            text = self._call(op, inner)
            if inner and len(text) > NESTED:
                flush()
                inner, text = {}, self._call(op, {})
            del pending[len(pending) - len(inner):]
            plain = op.name == f"t{self.count}" and op.name not in self.dtypes
            self.dtypes[op.name] = op.dtype
            self.count += 1
            if not (plain and self.uses[op.name] == here[op.name] == 1):
                flush()
                lines.append(f"{name_text(op.name)} = {text}")
            else:
                pending.append((op.name, text))
        if [name for name, _ in pending] == [compute.value]:
            return lines, pending[0][1]
        flush()
        return lines, self.arg(compute.value, dtype)

    def _call(self, op: ScalarOp, inner: dict[str, str]) -> str:
        args: list[str] = []
        before: DType | None = None
        for arg in op.args:
            args.append(inner[arg] if isinstance(arg, str) and arg in inner
                        else self.arg(arg, before))
            before = self.dtype(arg)
        args += [f"{name} = {attr_text(value)}" for name, value in op.attrs]
        kind = "" if op.dtype is default_dtype(op.op, op.attrs, before) else f": {op.dtype}"
        return f"{name_text(op.op)}({', '.join(args)}){kind}"

    def dtype(self, arg: Arg) -> DType | None:
        """The element type of an argument, if it is known here."""
        if isinstance(arg, str):
            return self.dtypes.get(arg)
        return self.buffers.get(arg.buffer) if isinstance(arg, Access) else arg.dtype

    def arg(self, arg: Arg, before: DType | None) -> str:
        """An argument; `before` is the type of what stands before it."""
        if isinstance(arg, str):
            return name_text(arg)
        if isinstance(arg, Number):
            return value_text(arg.value) + ("" if arg.dtype is before else f": {arg.dtype}")
        if isinstance(arg, IndexValue):
            return f"({arg.value}): {arg.dtype}"
        bare = not arg.at and arg.buffer in self.buffers and arg.buffer not in self.names
        return access_text(arg, bare)


def access_text(access: Access, bare: bool = False) -> str:
    """`x[n, 2*v + r] else 0.0`; without brackets if `bare`."""
    at = "" if bare else f"[{', '.join(map(bound_text, access.at))}]"
    fill = "" if access.fill is None else f" else {value_text(access.fill)}"
    return f"{name_text(access.buffer)}{at}{fill}"


def bound_text(bound: Dim | Access) -> str:
    """A dim, or an access that is loaded."""
    return access_text(bound) if isinstance(bound, Access) else str(bound)


def index_text(index: Index) -> str:
    """`k<5`, or `low <= k < high`."""
    if isinstance(index.low, int) and index.low == 0:
        return f"{index.name}<{bound_text(index.high)}"
    return f"{bound_text(index.low)} <= {index.name} < {bound_text(index.high)}"


def attr_text(value: int | DType) -> str:
    """The value of an attribute of a scalar op."""
    return str(value) if isinstance(value, DType) else value_text(value)


def default_dtype(op: str, attrs: Attrs, last: DType | None) -> DType | None:
    """The type that an op's result has where none is written."""
    if op in COMPARISONS:
        return BOOL
    return next((v for name, v in attrs if name == "to" and isinstance(v, DType)), last)


def _uses(compute: Compute) -> Counter[str]:
    args = [a for op in compute.body for a in op.args] + [compute.value]
    return Counter(a for a in args if isinstance(a, str))


class ExpressionParser:
    """Reads what `ExpressionPrinter` prints."""

    def __init__(self, scanner: Scanner) -> None:
        self.scan = scanner
        self.buffers: dict[str, Buffer] = {}
        self.dtypes: dict[str, DType] = {}
        self.ops: list[ScalarOp] = []
        self.count = 0

    def body(self, dtype: DType | None) -> tuple[tuple[ScalarOp, ...], Arg]:
        """`: value` or `{ name = op … value }`; `dtype` is that of what the value goes into."""
        self.ops = []
        if not self.scan.take("{"):
            value = self.arg(dtype)
            return tuple(self.ops), value
        while self.scan.at_name() and self.scan.after == "=":
            name = self.scan.name()
            self.scan.expect("=")
            if self.scan.after != "(":
                self.scan.fail("expected an op")
            self._call(name)
        value = self.arg(dtype)
        self.scan.expect("}")
        return tuple(self.ops), value

    def arg(self, before: DType | None) -> Arg:
        """An argument: an op, a read, a number or an index expression."""
        scan = self.scan
        if scan.take("("):
            dim = scan.dim()
            scan.expect(")")
            scan.expect(":")
            return IndexValue(scan.dtype(), dim)
        if scan.at_number():
            value = scan.number()
            dtype = scan.dtype() if scan.take(":") else before
            if dtype is None:
                scan.fail("the type of the number must be written before this")
            return Number(dtype, value)
        if scan.after == "(":
            return self._call("")
        name = scan.name()
        if scan.word == "[" or (name in self.buffers and name not in self.dtypes):
            return self._access(name)
        return name

    def _call(self, name: str) -> str:
        """An op with its arguments; it gets the next name if `name` is empty."""
        scan = self.scan
        op = scan.name()
        args: list[Arg] = []
        attrs: list[tuple[str, int | DType]] = []
        before: DType | None = None
        scan.expect("(")
        while not scan.take(")"):
            if args or attrs:
                scan.expect(",")
            if scan.after == "=":
                attrs.append(read_attr(scan))
            else:
                args.append(self.arg(before))
                before = self._dtype(args[-1])
        dtype = scan.dtype() if scan.take(":") else default_dtype(op, tuple(attrs), before)
        if dtype is None:
            scan.fail(f"the type of {op} must be written before this")
        name = name or f"t{self.count}"
        self.count += 1
        self.dtypes[name] = dtype
        self.ops.append(ScalarOp(name, op, tuple(args), dtype, tuple(attrs)))
        return name

    def _dtype(self, arg: Arg) -> DType | None:
        if isinstance(arg, str):
            return self.dtypes.get(arg)
        if isinstance(arg, Access):
            return self.buffers[arg.buffer].dtype if arg.buffer in self.buffers else None
        return arg.dtype

    def access(self) -> Access:
        """A read or a write; brackets may be left out where there are no indices."""
        return self._access(self.scan.name())

    def _access(self, name: str) -> Access:
        at = self.scan.bracketed("[", "]", self.bound) if self.scan.word == "[" else ()
        fill = self.scan.number() if self.scan.take("else") else None
        return Access(name, at, fill)

    def bound(self) -> Dim | Access:
        """A dim, or an access (always with brackets)."""
        return self.access() if self.scan.after == "[" else self.scan.dim()

    def index(self) -> Index:
        """`k<5`, or `low <= k < high`."""
        scan = self.scan
        if scan.after == "<":
            name, low = scan.next("word"), None
        else:
            low = self.bound()
            scan.expect("<=")
            name = scan.next("word")
        scan.expect("<")
        return Index(name, self.bound(), 0 if low is None else low)


def read_attr(scan: Scanner) -> tuple[str, int | DType]:
    """`name = value`"""
    name = scan.next("word")
    scan.expect("=")
    if scan.word in DTYPES:
        return name, scan.dtype()
    value = scan.number()
    if not isinstance(value, int):
        scan.fail("expected a whole number or an element type")
    return name, value
