"""Makes the Kernel of a chain of products: matrices are local arrays, of one row each.

    outer n<N, h<12, i<T
    s[k]  = sum d<32: q[n, h, i, d] * k[n, h, k, d]         over k<S
    s[k]  = s[k] * 0.176777                                 in place: nothing else reads it
    m     = max k: s[k]
    s[k]  = exp(s[k] - m)
    l     = sum k: s[k]
    a[e]  = sum k: s[k] * v[n, h, k, e]                     over e<32
    y[n, i, h, e] = a[e] / l

How much of a row is there at a time is for the schedule to say.
"""

from __future__ import annotations

from dataclasses import field

from dlc.compiler.kernels.invert import combines
from dlc.compiler.kernels.make_kernel import At
from dlc.compiler.kernels.make_rows import RowMaker
from dlc.ir.dataclass import dataclass
from dlc.ir.dims import Dim, substitute, symbol
from dlc.ir.fused import Row
from dlc.ir.graph import Node, Value
from dlc.ir.kernel import Access, Buffer, Combine, Compute, Index, Kernel


@dataclass(slots=True)
class ChainMaker(RowMaker):
    """Builds the kernel of a group that is a chain.

    `arrays` says in which local array an element is; `last` at which node it is last read;
    `places` where the elements of a product, and of what it is scaled by, lie.
    """

    arrays: dict[Value, str] = field(default_factory=dict)
    last: dict[Value, int] = field(default_factory=dict)
    places: dict[Value, tuple[At, Index]] = field(default_factory=dict)

    def make(self, targets: dict[Value, Value]) -> Kernel:
        """The kernel; `targets` says into whose memory an output goes (itself if absent)."""
        row, nodes = self.group.row, self.group.nodes
        assert row is not None
        outer = tuple(Index(n, d) for n, d in row.axes("i"))
        self.over = tuple(Index(n, d) for n, d in row.axes("k"))
        self.ranges = {i.name: (0, i.high - 1) for i in (*outer, *self.over)}  # type: ignore
        self._plan(row)
        for number, node in enumerate(nodes):
            self._node(number, node, row)
        for value in self.group.outputs:
            if value in self.places:
                self._write(value, targets.get(value, value), self.computes)
            else:
                at = row.place(value)
                assert at is not None
                place = Access(self._param(targets.get(value, value), "out"), at)
                self._add(Compute(place, (), self.lasting[value, at]))
        return self._kernel(outer)

    def _plan(self, row: Row) -> None:
        """Finds the elements that are kept in arrays: what is reduced, and inner products."""
        self.arrays = dict.fromkeys((  # in order: which memory is used again depends on it
            v for node in self.group.nodes if self._is_reduction(node)
            for v in (*node.operands, node.result) if self._is_inside(v, row)), "")
        for at, node in enumerate(self.group.nodes):
            if node.result in self.arrays or self._is_reduction(node):
                for value in self._needed(node):
                    self.last[value] = at

    def _is_inside(self, value: Value, row: Row) -> bool:
        return row.is_element(value) and any(value == n.result for n in self.group.nodes)

    def _is_reduction(self, node: Node) -> bool:
        return combines(node, self.memory.inverses)

    def _needed(self, node: Node) -> set[Value]:
        """The elements in arrays that a node is computed from."""
        inside = {n.result: n for n in self.group.nodes}
        stack, found = list(node.operands), set[Value]()
        while stack:
            value = stack.pop()
            if value in self.arrays:
                found.add(value)
            elif value in inside:
                stack += inside[value].operands
        return found

    def _node(self, at: int, node: Node, row: Row) -> None:
        value = node.result
        if self._is_reduction(node):
            if row.is_element(value):
                self._inner(node, row)
            elif row.place(value) is not None and len(node.operands) == 1:
                self._reduce(node, row)
            else:
                self._last_product(node, row)
        elif value in self.arrays:
            self._keep(at, value, row)
        elif row.is_element(value):
            return  # computed where it is read
        elif any(v in self.places for v in node.operands):
            self.places[value] = next(self.places[v] for v in node.operands if v in self.places)
        else:
            self._for_row(node, row)

    def _inner(self, node: Node, row: Row) -> None:
        """A product that makes elements, over an index of its own."""
        inverse = self.memory.inverses[node.result]
        over = Index(f"d{len(self.computes)}", inverse.over[0].high)
        wide = [k for k, d in enumerate(node.result.dims) if d != 1]
        names: dict[str, Dim] = {
            f"i{k}": symbol(n) for k, n in zip(wide, row.names, strict=True)}
        names[inverse.over[0].name] = symbol(over.name)
        target = self._array(node.result)
        self._sum(node, names, target, (*self.over, over))
        place = row.place(node.result)
        self._lasts(node.result, place, target)

    def _last_product(self, node: Node, row: Row) -> None:
        """A product of a matrix: a sum along the row for each value of an index of its own."""
        inverse = self.memory.inverses[node.result]
        side = next(k for k, v in enumerate(node.operands) if v in self.arrays)
        matrix = node.operands[side]
        read = [str(e) for e, d in zip(inverse.reads[side], matrix.dims, strict=True) if d != 1]
        names: dict[str, Dim] = {
            old: symbol(new) for old, new in zip(read, row.names, strict=True)}
        free = next(f"i{k}" for k, d in enumerate(node.result.dims)
                    if d != 1 and f"i{k}" not in names)
        own = Index(f"e{len(self.computes)}", node.result.dims[int(free[1:])])
        names[free] = symbol(own.name)
        target = Access(f"sums{len(self.locals)}", (symbol(own.name),))
        self.locals.append(Buffer(target.buffer, node.result.dtype, (own.high,), "local"))  # type: ignore[arg-type]
        at = tuple(0 if d == 1 else names[f"i{k}"] for k, d in enumerate(node.result.dims))
        self._sum(node, names, target, (own, *self.over))
        self.places[node.result] = at, own
        self._lasts(node.result, at, target)

    def _sum(
        self, node: Node, names: dict[str, Dim], target: Access, over: tuple[Index, ...]
    ) -> None:
        for index in over:
            self.ranges[index.name] = (0, index.high - 1)  # type: ignore[operator]
        reads = self.memory.inverses[node.result].reads
        dtype = node.result.dtype
        args = [self._cast(self._element(v, tuple(substitute(e, names) for e in at)), v.dtype,
                           dtype) for v, at in zip(node.operands, reads, strict=True)]
        value = self._op("mul", (args[0], args[1]), dtype)
        self._add(Compute(target, tuple(self.ops), value, over, (), Combine("sum", dtype)))

    def _keep(self, at: int, value: Value, row: Row) -> None:
        """Writes elements to an array: over others that are not read after this."""
        place = row.place(value)
        assert place is not None
        given = self._compute(self.memory.made[value], place)
        gone = [v for v, name in self.arrays.items()
                if name and v.dtype is value.dtype and self.last.get(v, at) <= at]
        target = self._array(value, self.arrays[gone[0]] if gone else "")
        for old in gone[:1]:
            self.arrays[old] = ""
            self.lasting = {k: a for k, a in self.lasting.items() if k[0] != old}
        self._add(Compute(target, tuple(self.ops), given, self.over))
        self._lasts(value, place, target)

    def _array(self, value: Value, name: str = "") -> Access:
        if not name:
            name = f"row{len(self.locals)}"
            dims = tuple(i.high for i in self.over)
            self.locals.append(Buffer(name, value.dtype, dims, "local"))  # type: ignore[arg-type]
        self.arrays[value] = name
        return Access(name, tuple(symbol(i.name) for i in self.over))

    def _write(self, value: Value, target: Value, computes: list[Compute]) -> None:
        """What the group gives: a product, scaled by numbers of its row."""
        at, own = self.places[value]
        given = self.lasting.get((value, at))
        if given is None:
            given = self._compute(self.memory.made[value], at)
        place = Access(self._param(target, "out"), at)
        self._add(Compute(place, tuple(self.ops), given, (own,)))
