"""Makes the Kernel of a group whose nodes go along rows: sweep after sweep over each row."""

from __future__ import annotations

from dataclasses import field

from dlc.compiler.kernels.make_kernel import At, KernelMaker
from dlc.compiler.kernels.rows import Reads, RowPlan, renamed
from dlc.ir.dataclass import dataclass
from dlc.ir.dims import substitute, symbols
from dlc.ir.fused import Row
from dlc.ir.graph import Node, Value
from dlc.ir.kernel import Access, Arg, Buffer, Combine, CombineKind, Compute, Index, Kernel
from dlc.ir.types import DType

KINDS: dict[str, CombineKind] = {"reduce_max": "max", "argmax": "argmax"}


@dataclass(slots=True)
class RowMaker(KernelMaker):
    """Builds the kernel of a group with a row. `lasting` is what is known from compute to compute.
    """

    lasting: dict[tuple[Value, At], Arg] = field(default_factory=dict)
    locals: list[Buffer] = field(default_factory=list)
    computes: list[Compute] = field(default_factory=list)
    over: tuple[Index, ...] = ()

    def make(self, targets: dict[Value, Value]) -> Kernel:
        """The kernel; `targets` says into whose memory an output goes (itself if absent)."""
        row = self.group.row
        assert row is not None
        nodes = [n for n in self.group.nodes if n.results]
        ends = self.memory.stored | {n.result for n in nodes}
        plan = RowPlan(row, nodes, Reads(self.memory.made, self.memory.inverses, ends),
                       self.group.outputs)
        outer = tuple(Index(n, d) for n, d in row.axes("i"))
        self.over = tuple(Index(n, d) for n, d in row.axes("k"))
        self.ranges = {i.name: (0, i.high - 1) for i in (*outer, *self.over)}  # type: ignore
        for sweep in range(-1, max(plan.level.values()) + 1):
            for node in nodes:
                if plan.level[node.result] == sweep and (
                        plan.is_reduction(node) or row.is_element(node.result)):
                    self._along(node, row, plan, targets)
            for node in nodes:
                if plan.level[node.result] == sweep and not (
                        plan.is_reduction(node) or row.is_element(node.result)):
                    self._for_row(node, row)
            self._write_rows(plan, sweep, row, targets)
        return self._kernel(outer)

    def _kernel(self, outer: tuple[Index, ...]) -> Kernel:
        used = {s for b in self.params for d in b.dims for s in symbols(d)}
        used |= {s for i in (*outer, *self.over) for s in symbols(i.high)}  # type: ignore[arg-type]
        for compute in self.computes:
            used |= compute.names
        used -= {i.name for i in (*outer, *(i for c in self.computes for i in c.over))}
        return Kernel("", tuple(sorted(used)), tuple(self.params), tuple(self.locals), outer,
                      tuple(self.computes))

    def _along(self, node: Node, row: Row, plan: RowPlan, targets: dict[Value, Value]) -> None:
        """A node of a sweep: a reduction, or an element that is written or kept."""
        value = node.result
        if plan.is_reduction(node):
            self._reduce(node, row)
            return
        home = plan.homes.get(value)
        if value in self.group.outputs:
            self._store(value, targets.get(value, value), row)
            for kept, other in plan.homes.items():
                if other == value:
                    self._forget(kept, row)
        elif home is not None and home not in targets:
            self._store(value, home, row)

    def _forget(self, value: Value, row: Row) -> None:
        """From here on an element that was kept is no longer where it was."""
        at = row.place(value)
        assert at is not None
        self.lasting.pop((value, at), None)
        self.known = dict(self.lasting)

    def _store(self, value: Value, target: Value, row: Row) -> None:
        at = row.place(value)
        assert at is not None
        given = self._compute(self.memory.made[value], at)
        place = Access(self._param(target, "out"), at)
        self._add(Compute(place, tuple(self.ops), given, self.over))
        self._lasts(value, at, place)

    def _reduce(self, node: Node, row: Row) -> None:
        inverse = self.memory.inverses[node.result]
        names = renamed(node, inverse, row)
        args = [self._element(v, tuple(substitute(e, names) for e in at))
                for v, at in zip(node.operands, inverse.reads, strict=True)]
        dtype, kind = node.result.dtype, KINDS.get(node.op, "sum")
        if kind == "sum":
            args = [self._cast(a, v.dtype, dtype)
                    for a, v in zip(args, node.operands, strict=True)]
        value = args[0]
        for arg in args[1:]:
            value = self._op("mul", (value, arg), dtype)
        target = self._local("acc", dtype)
        self._add(Compute(target, tuple(self.ops), value, self.over, (), Combine(kind, dtype)))
        self._lasts(node.result, row.place(node.result), target)

    def _for_row(self, node: Node, row: Row) -> None:
        """A number of a row, in a register."""
        at = row.place(node.result)
        assert at is not None
        given = self._compute(node, at)
        target = self._local("r", node.result.dtype)
        self._add(Compute(target, tuple(self.ops), given))
        self._lasts(node.result, at, target)

    def _write_rows(
        self, plan: RowPlan, sweep: int, row: Row, targets: dict[Value, Value]
    ) -> None:
        """The numbers of the row that others read in memory."""
        for value in self.group.outputs:
            at = row.place(value)
            if plan.level[value] == sweep and not row.is_element(value) and at is not None:
                place = Access(self._param(targets.get(value, value), "out"), at)
                self._add(Compute(place, (), self.lasting[value, at]))

    def _add(self, compute: Compute) -> None:
        self.computes.append(compute)
        self.ops = []
        self.known = dict(self.lasting)

    def _lasts(self, value: Value, at: At | None, arg: Arg) -> None:
        assert at is not None
        self.lasting[value, at] = self.known[value, at] = arg

    def _local(self, hint: str, dtype: DType) -> Access:
        name = f"{hint}{len(self.locals) or ''}"
        self.locals.append(Buffer(name, dtype, (), "local"))
        return Access(name)

    def _element(self, value: Value, at: At) -> Arg:
        """As that of other kernels; the only place along an axis of extent 1 is 0."""
        return KernelMaker._element(
            self, value, tuple(0 if d == 1 else e for e, d in zip(at, value.dims, strict=True)))
