"""A Graph whose nodes are gathered in groups, each of which becomes one kernel."""

from __future__ import annotations

from dlc.ir.dataclass import dataclass
from dlc.ir.dims import Dim, minimum, symbol
from dlc.ir.graph import Graph, Node, Value
from dlc.ir.kernel import Layout

At = tuple[Dim, ...]


@dataclass(frozen=True, slots=True)
class Cut:
    """An axis along rows that is cut into `count` chunks of `size`, each with rows of its own."""

    axis: int
    size: int
    count: Dim


@dataclass(frozen=True, slots=True)
class Row:
    """The extents of the elements' axes (those of 1 left out), and which of them are reduced.

    Of a `cut` axis a row has one chunk; numbers of rows then have the number of the chunk in front.
    """

    dims: tuple[Dim, ...]
    reduced: tuple[bool, ...]
    cut: Cut | None = None

    @property
    def kept(self) -> tuple[Dim, ...]:
        """The extents of the axes that tell rows apart."""
        kept = tuple(d for d, r in zip(self.dims, self.reduced, strict=True) if not r)
        return kept if self.cut is None else (self.cut.count, *kept)

    @property
    def over(self) -> tuple[Dim, ...]:
        """The extents of the axes along a row."""
        return tuple(d for _, d in self.axes("k"))

    @property
    def names(self) -> tuple[str, ...]:
        """The index of each axis: i0, i1, … of the rows, k0, k1, … along them; i0 is that of chunks
        if an axis is cut."""
        out, counts = [], {True: 0, False: int(self.cut is not None)}
        for reduced in self.reduced:
            out.append(f"{'k' if reduced else 'i'}{counts[reduced]}")
            counts[reduced] += 1
        return tuple(out)

    @property
    def places(self) -> At:
        """Where an element lies along each axis."""
        found: list[Dim] = list(map(symbol, self.names))
        if self.cut is not None:
            found[self.cut.axis] += symbol("i0") * self.cut.size
        return tuple(found)

    def axes(self, kind: str) -> tuple[tuple[str, Dim], ...]:
        """The indices of the rows (i) or along them (k), with their extents."""
        dims, cut = list(self.dims), self.cut
        front: tuple[tuple[str, Dim], ...] = ()
        if cut is not None:
            dims[cut.axis] = minimum(cut.size, dims[cut.axis] - symbol("i0") * cut.size)
            front = (("i0", cut.count),) if kind == "i" else ()
        return (*front, *((n, d) for n, d in zip(self.names, dims, strict=True) if n[0] == kind))

    def place(self, value: Value) -> At | None:
        """Where the element (or the row's number) of `value` lies; None if it has other dims."""
        wide = tuple(d for d in value.dims if d != 1)
        if wide == self.dims:
            found = iter(self.places)
        elif wide == self.kept:
            found = iter(symbol(n) for n, _ in self.axes("i"))
        else:
            return None
        return tuple(0 if d == 1 else next(found) for d in value.dims)

    def is_element(self, value: Value) -> bool:
        """Whether `value` has a number for each element of a row."""
        return tuple(d for d in value.dims if d != 1) == self.dims


@dataclass(frozen=True, slots=True)
class Group:
    """Nodes that one kernel computes, for every index of `domain`.

    `root` is the reduction (a contraction, a maximum, …) whose epilogue the other nodes are, if
    there is one. `outputs` are the values that are written to memory. A group with no nodes copies.
    With a `row`, there may be several reductions, all along it, and what they read. In a `chain`
    the elements of rows are made of products, and products of them are what is wanted.
    """

    name: str
    domain: tuple[Dim, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[Value, ...]
    root: Node | None = None
    call: Node | None = None
    row: Row | None = None
    chain: bool = False


@dataclass(frozen=True, slots=True)
class FusedGraph:
    """Groups in the order in which they run.

    Nodes that are in no group are computed where they are read (`inlined`), or are other names of
    the same memory (`views`: a value, and the value whose memory it shares). `layouts` names the
    values that are not stored in row-major order.
    """

    graph: Graph
    groups: tuple[Group, ...]
    views: tuple[tuple[Value, Value], ...]
    layouts: tuple[tuple[Value, Layout], ...] = ()

    def print(self) -> str:
        """The groups as text, a node a line."""
        lines = [f"fused {self.graph.name} {{"]
        for value, source in self.views:
            lines.append(f"  view %{value.name}: {value.type} of %{source.name}: {source.type}")
        for value, layout in self.layouts:
            lines.append(f"  layout %{value.name}: {value.type} {layout.digits}")
        for group in self.groups:
            dims = ", ".join(map(str, group.domain))
            if group.row is not None:
                dims += "; " + ", ".join(map(str, group.row.over))
            out = ", ".join(f"%{v.name}" for v in group.outputs)
            lines.append(f"  group {group.name} [{dims}] -> {out} {{")
            for node in ((group.call,) if group.call else group.nodes):
                results = ", ".join(f"%{v.name}" for v in node.results)
                operands = ", ".join(f"%{v.name}" for v in node.operands)
                kinds = ", ".join(str(v.type) for v in node.results)
                root = "  # root" if node is group.root else ""
                lines.append(f"    {results} = {node.op} {operands} : {kinds}{root}")
            lines.append("  }")
        return "\n".join([*lines, "}"]) + "\n"
