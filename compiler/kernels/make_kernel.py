"""Makes the Kernel of a group: what each element of its outputs is, in reads and scalar ops."""

from __future__ import annotations

from dataclasses import field

from dlc.compiler.kernels.invert import Inverse, outer_names, outer_ranges
from dlc.compiler.kernels.ranges import nonnegative, simplify
from dlc.compiler.kernels.shapes import is_unit_reshape
from dlc.ir.dataclass import dataclass
from dlc.ir.dims import Dim, substitute, symbol, symbols
from dlc.ir.fused import Group
from dlc.ir.graph import Node, Value
from dlc.ir.kernel import (
    Access,
    Arg,
    Buffer,
    Combine,
    CombineKind,
    Compute,
    Index,
    IndexValue,
    Kernel,
    Layout,
    Number,
    ScalarOp,
)
from dlc.ir.ops import OPS
from dlc.ir.ops.indices import axis_attr
from dlc.ir.ops.shape import dims_attr
from dlc.ir.types import BOOL, I64, DType

At = tuple[Dim, ...]


@dataclass(slots=True)
class Memory:
    """Which values lie in memory, and how."""

    made: dict[Value, Node]
    stored: set[Value]
    layouts: dict[Value, Layout]
    inverses: dict[Value, Inverse]


@dataclass(slots=True)
class KernelMaker:
    """Builds one kernel. `buffers` lists the values behind the kernel's parameters, in order."""

    group: Group
    memory: Memory
    buffers: list[Value] = field(default_factory=list)
    params: list[Buffer] = field(default_factory=list)
    ops: list[ScalarOp] = field(default_factory=list)
    known: dict[tuple[Value, At], Arg] = field(default_factory=dict)
    ranges: dict[str, tuple[Dim, Dim]] = field(default_factory=dict)
    identity: At = ()
    count: int = 0
    padded: bool = False  # reading where it may be outside, which gives 0

    def make(self, targets: dict[Value, Value]) -> Kernel:
        """The kernel; `targets` says into whose memory an output goes (itself if absent)."""
        group = self.group
        names = outer_names(len(group.domain))
        self.identity = tuple(
            0 if extent == 1 else symbol(n) for n, extent in zip(names, group.domain, strict=True))
        self.ranges = dict(outer_ranges(group.domain))
        computes: list[Compute] = []
        local: tuple[Buffer, ...] = ()
        if group.root is not None:
            local = (self._reduction(group.root, computes),)
        for node in group.nodes:
            if node is not group.root and node.op not in ("call", "check"):
                for value in node.results:
                    self.known[value, self.identity] = self._compute(node, self.identity)
        for value in group.outputs:
            self._write(value, targets.get(value, value), computes)
        used = {s for b in self.params for d in b.dims for s in symbols(d)}
        used |= {s for d in group.domain for s in symbols(d)}
        for compute in computes:
            used |= compute.names
        indices = {n for n in used if n[0] in "ik" and n[1:].isdigit()}
        outer = tuple(Index(n, d) for n, d in zip(names, group.domain, strict=True))
        return Kernel("", tuple(sorted(used - indices)), tuple(self.params), local, outer,
                      tuple(computes))

    def make_copy(self, source: Value) -> Kernel:
        """The kernel that writes a value, stored or not, into the group's only output."""
        names = outer_names(len(self.group.domain))
        at = tuple(symbol(n) for n in names)
        self.ranges = dict(outer_ranges(self.group.domain))
        self.identity = tuple(0 if d == 1 else e
                              for d, e in zip(self.group.domain, at, strict=True))
        self.known[self.group.outputs[0], self.identity] = self._element(source, at)
        return self.make({})

    def _write(self, value: Value, target: Value, computes: list[Compute]) -> None:
        given = self.known.get((value, self.identity))
        if given is None:
            given = self._compute(self.memory.made[value], self.identity)
        name = self._param(target, "out")
        index = tuple(
            symbol(f"i{k}") if d != 1 else 0 for k, d in enumerate(self.group.domain))
        computes.append(Compute(Access(name, index), tuple(self.ops), given))
        self.ops = []

    def _param(self, value: Value, role: str) -> str:
        for at, known in enumerate(self.buffers):
            if known == value:
                old = self.params[at]
                if old.role != role and old.role != "inout":
                    self.params[at] = Buffer(old.name, old.dtype, old.dims, "inout", old.layout)
                return old.name
        name = f"p{len(self.params)}"
        layout = self.memory.layouts.get(value, Layout())
        self.params.append(Buffer(
            name, value.dtype, value.dims, "in" if role == "in" else "out", layout))
        self.buffers.append(value)
        return name

    def _reduction(self, root: Node, computes: list[Compute]) -> Buffer:
        inverse = self.memory.inverses[root.result]
        over = tuple(Index(o.name, o.high, o.low) for o in inverse.over)
        for o in inverse.over:
            # Bounds are over earlier indices: the widest range serves proofs.
            self.ranges[o.name] = (o.low, o.high - 1)
        args = [self._operand(v, at, place in inverse.guarded) for place, (v, at) in enumerate(
            zip(root.operands, inverse.reads, strict=True))]
        dtype = root.result.dtype
        kind: CombineKind = {"reduce_max": "max", "argmax": "argmax"}.get(  # type: ignore
            root.op, "sum")
        if kind == "sum":
            args = [self._cast(a, v.dtype, dtype)
                    for a, v in zip(args, root.operands, strict=True)]
        value = args[0]
        for arg in args[1:]:
            value = self._op("mul", (value, arg), dtype)
        combine = Combine(kind, dtype, tree=root.op == "tree_sum")
        if combine.tree:
            self._param(root.operands[0], "out")  # the parts are added up in place
        computes.append(Compute(
            Access("acc"), tuple(self.ops), value, over, inverse.where, combine))
        self.ops = []
        self.known = {(root.result, self.identity): Access("acc")}
        return Buffer("acc", dtype, (), "local")

    def _cast(self, arg: Arg, dtype: DType, to: DType) -> Arg:
        return arg if dtype is to else self._op("cast", (arg,), to, (("to", to),))

    def _op(
        self, op: str, args: tuple[Arg, ...], dtype: DType,
        attrs: tuple[tuple[str, int | DType], ...] = (),
    ) -> str:
        name = f"t{self.count}"
        self.count += 1
        self.ops.append(ScalarOp(name, op, args, dtype, attrs))
        return name

    def _operand(self, value: Value, at: At, guarded: bool) -> Arg:
        """What a reduction reads; 0 outside of a `guarded` operand."""
        before, self.padded = self.padded, guarded or self.padded
        found = self._element(value, at)
        self.padded = before
        return found

    def _element(self, value: Value, at: At) -> Arg:
        """Element `at` of `value`: known already, read from memory, or computed here."""
        at = tuple(simplify(e, self.ranges) for e in at)
        known = self.known.get((value, at))
        if known is None:
            node = self.memory.made.get(value)
            if node is None or value in self.memory.stored:
                known = self._read(value, at)
            else:
                known = self._compute(node, at)
            self.known[value, at] = known
        return known

    def _read(self, value: Value, at: At) -> Access:
        index = tuple(0 if d == 1 else e for e, d in zip(at, value.dims, strict=True))
        safe = not self.padded or all(
            self._inside(e, d) for e, d in zip(index, value.dims, strict=True))
        return Access(self._param(value, "in"), index, None if safe else 0.0)

    def _inside(self, index: Dim, extent: Dim) -> bool:
        return nonnegative(index, self.ranges) and nonnegative(extent - 1 - index, self.ranges)

    def _compute(self, node: Node, at: At) -> Arg:
        if node.op == "constant":
            value = node.attr("value")
            assert isinstance(value, int | float)
            return Number(node.result.dtype, value)
        if node.op in ("dim", "iota"):
            return self._index(node, at)
        if node.op == "pad":
            return self._pad(node, at)
        if node.op == "contract":
            return self._product(node, at)
        if node.op == "gather":
            return self._gather(node, at)
        access = OPS[node.op].access
        if access is not None:
            if node.op == "reshape" and is_unit_reshape(node):
                return self._element(node.operands[0], _unit_reshape(node, at))
            return self._element(node.operands[0], access(node, at).index)
        args = tuple(self._element(v, at) for v in node.operands)
        return self._op(node.op, args, node.result.dtype, node.attrs)  # type: ignore[arg-type]

    def _index(self, node: Node, at: At) -> Arg:
        if node.op == "dim":
            value: object = node.attr("value")
        else:
            axis = node.attr("axis")
            assert isinstance(axis, int)
            value = at[axis]
        return IndexValue(node.result.dtype, value)  # type: ignore[arg-type]

    def _product(self, node: Node, at: At) -> Arg:
        inverse = self.memory.inverses[node.result]
        point = {f"i{k}": e for k, e in enumerate(at)}
        args = [self._element(v, tuple(substitute(e, point) for e in read))
                for v, read in zip(node.operands, inverse.reads, strict=True)]
        args = [self._cast(a, v.dtype, node.result.dtype)
                for a, v in zip(args, node.operands, strict=True)]
        value = args[0]
        for arg in args[1:]:
            value = self._op("mul", (value, arg), node.result.dtype)
        return value

    def _gather(self, node: Node, at: At) -> Access:
        """A read at indices that are in memory; both have a place there (see `fuse`)."""
        table, *ids = node.operands
        first, count = axis_attr(node), len(ids[0].dims)
        inner = at[first:first + count]
        index = (*at[:first], *(self.index(v, inner) for v in ids), *at[first + count:])
        return Access(self._param(table, "in"), tuple(
            0 if d == 1 else e for e, d in zip(index, table.dims, strict=True)))

    def index(self, value: Value, at: At) -> Dim | Access:
        """Element `at` of an index tensor, as an index."""
        arg = self._element(value, at)
        if isinstance(arg, Number):
            return int(arg.value)
        if isinstance(arg, IndexValue):
            return arg.value
        assert isinstance(arg, Access), f"the index {value.name} is not in memory"
        return arg

    def _pad(self, node: Node, at: At) -> Arg:
        (operand,) = node.operands
        inner = tuple(simplify(e - low, self.ranges)
                      for e, low in zip(at, dims_attr(node, "low"), strict=True))
        fill = node.attr("value")
        assert isinstance(fill, int | float)
        kind = operand.dtype  # a float can't hold every i64
        fill = float(fill) if kind.is_float else int(fill != 0 if kind is BOOL else fill)
        if operand in self.memory.stored and not all(map(self._inside, inner, operand.dims)):
            return Access(self._param(operand, "in"), inner, fill)
        before, self.padded = self.padded, True
        value = self._element(operand, inner)
        self.padded = before
        number = Number(node.result.dtype, fill)
        for e, extent in zip(inner, operand.dims, strict=True):
            for side in (e, extent - 1 - e):
                if not nonnegative(side, self.ranges):
                    args = (IndexValue(I64, side), Number(I64, 0))
                    value = self._op(
                        "select", (self._op("ge", args, BOOL), value, number), node.result.dtype)
        return value


def _unit_reshape(node: Node, at: At) -> At:
    wide = iter(e for e, d in zip(at, node.result.dims, strict=True) if d != 1)
    return tuple(0 if d == 1 else next(wide) for d in node.operands[0].dims)

