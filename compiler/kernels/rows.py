"""Rows: reductions along the same axes, and what is computed for each row and each element of it.

    m = max k: x[i, k]      e[i, k] = exp(x[i, k] - m[i])      s = sum k: e[i, k]      e / s

are one kernel: a row stays in the nearest cache over all of it. What is carried out in one pass
over the row is a sweep; a number that a sweep needs of the row is known after an earlier one.

Sums over a batch of any size are cut into chunks (`passes/split_reductions.py`). Then each chunk
has rows of its own: the sums of a batch norm's gradient, and what they are of, are one kernel.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import field

from dlc.compiler.kernels.invert import Inverse, combines
from dlc.compiler.kernels.shapes import is_unit_reshape
from dlc.compiler.options import Options
from dlc.ir.dataclass import dataclass
from dlc.ir.dims import Dim, coefficient, minimum, product, substitute, symbol, symbols
from dlc.ir.fused import At, Cut, Row
from dlc.ir.graph import Node, Value
from dlc.ir.ops import OPS

FEW = 8  # rows (or vectors of rows) that do not keep a few threads busy
SMALL = 16384  # elements that need no threads
UNKNOWN: At = (-1, -1, -1, -1, -1, -1, -1, -1, -1)  # more axes than any value has
DEAR = 6.0  # an element that costs more is kept, not computed again in a later sweep


def row_of(node: Node, inverse: Inverse) -> Row | None:
    """The row that a reduction combines; None if it is no plain one."""
    if node.op == "tree_sum" or inverse.where or inverse.guarded or not inverse.over:
        return None
    if any(o.low != 0 for o in inverse.over):
        return None
    over = {o.name: o.high for o in inverse.over}
    found = (_row(operand, at, over, inverse.domain)
             for operand, at in zip(node.operands, inverse.reads, strict=True))
    return next((row for row in found if row is not None), None)


def _row(
    operand: Value, at: At, over: Mapping[str, Dim], domain: tuple[Dim, ...]
) -> Row | None:
    """The row, if `operand` has each of its elements once."""
    axes = [(d, e) for d, e in zip(operand.dims, at, strict=True) if d != 1]
    names: list[str] = []
    cut: Cut | None = None
    for axis, (extent, e) in enumerate(axes):
        name = str(e)
        if e is not symbol(name):
            (name, cut), before = _chunk(axis, extent, e, over, domain), cut
            if not name or before is not None:
                return None
        elif over.get(name, extent) != extent:
            return None
        names.append(name)
    if len(set(names)) != len(names) or over.keys() - set(names):
        return None
    row = Row(tuple(d for d, _ in axes), tuple(n in over for n in names), cut)
    outer = [n for n in names if n not in over]
    in_order = outer == sorted(outer, key=lambda n: int(n[1:]))
    return row if in_order and row.kept == tuple(d for d in domain if d != 1) else None


def _chunk(
    axis: int, extent: Dim, e: Dim, over: Mapping[str, Dim], domain: tuple[Dim, ...]
) -> tuple[str, Cut | None]:
    """The reduced index, and the cut, of an axis that is read in chunks; "" if it is not."""
    first = symbol("i0")
    size, others = coefficient(e, "i0"), symbols(e) - {"i0"}
    name = next(iter(others), "")
    if len(others) != 1 or name not in over or not isinstance(size, int) or size < 2:
        return "", None
    if e != symbol(name) + first * size or over[name] != minimum(size, extent - first * size):
        return "", None
    return name, Cut(axis, size, domain[0])


def enough_rows(row: Row, options: Options) -> bool:
    """Whether there are rows enough for a few threads, or so few elements that none help.

    Of an axis that is cut into chunks, the elements of one count: if there are more, there are rows
    enough.
    """
    dims, rows = list(row.dims), options.likely(product(row.kept))
    if row.cut is not None:
        dims[row.cut.axis] = row.cut.size
    elements = product(tuple(dims))
    if row.reduced and not row.reduced[-1]:
        if not isinstance(row.kept[-1], int):
            return True  # rows side by side, of which there may be any number
        last = options.likely(row.kept[-1])
        rows = rows // last * -(-last // options.lanes)
    return rows >= FEW or (isinstance(elements, int) and elements <= SMALL)


def renamed(node: Node, inverse: Inverse, row: Row) -> dict[str, Dim]:
    """The indices of a reduction by the names that the row has for them."""
    chunk = {"i0"} if row.cut is not None else set()
    for operand, at in zip(node.operands, inverse.reads, strict=True):
        axes = [symbols(e) - chunk for d, e in zip(operand.dims, at, strict=True) if d != 1]
        names = [next(iter(names)) for names in axes if len(names) == 1]
        if row.is_element(operand) and len(set(names)) == len(row.dims):
            return {n: symbol(m) for n, m in zip(names, row.names, strict=True)}
    raise AssertionError("a reduction without a row")


class Reads:
    """Which elements of the values in `ends` a node reads at its own place in a row."""

    def __init__(
        self, made: Mapping[Value, Node], inverses: Mapping[Value, Inverse],
        ends: Container[Value],
    ) -> None:
        self.made, self.inverses, self.ends = made, inverses, ends
        self.known: dict[tuple[Value, Row], tuple[tuple[Value, At], ...]] = {}

    def of(self, node: Node, row: Row) -> tuple[tuple[Value, At], ...]:
        """Each value that is in `ends` or not computed by a node, and where it is read.

        A place with more indices than the value has axes is one that can't be told.
        """
        key = (node.result, row)
        if key not in self.known:
            self.known[key] = tuple(self._of(node, row))
        return self.known[key]

    def _of(self, node: Node, row: Row) -> Iterator[tuple[Value, At]]:
        inverse = self.inverses.get(node.result)
        if inverse is not None and not inverse.is_read:
            names = renamed(node, inverse, row)
            stack = [(value, tuple(substitute(e, names) for e in at))
                     for value, at in zip(node.operands, inverse.reads, strict=True)]
        else:
            place = row.place(node.result)
            assert place is not None
            stack = list(self._behind(node, place))
        seen: set[tuple[Value, At]] = set()
        while stack:
            value, at = stack.pop()
            if len(at) == len(value.dims):
                at = tuple(0 if d == 1 else e for e, d in zip(at, value.dims, strict=True))
            if (value, at) in seen:
                continue
            seen.add((value, at))
            made = self.made.get(value)
            if made is None or value in self.ends or len(at) != len(value.dims):
                yield value, at
            else:
                stack += self._behind(made, at)

    def _behind(self, node: Node, at: At) -> Iterator[tuple[Value, At]]:
        """The operands of a node, and where they are read for its element `at`."""
        access = OPS[node.op].access
        if node.op in ("constant", "dim", "iota"):
            return
        if node.op == "contract":
            point = {f"i{k}": e for k, e in enumerate(at)}
            for value, read in zip(node.operands, self.inverses[node.result].reads, strict=True):
                yield value, tuple(substitute(e, point) for e in read)
        elif node.op == "reshape" and is_unit_reshape(node):
            wide = iter(e for e, d in zip(at, node.result.dims, strict=True) if d != 1)
            (operand,) = node.operands
            yield operand, tuple(0 if d == 1 else next(wide) for d in operand.dims)
        elif access is not None and node.op not in ("pad", "reshape"):
            yield node.operands[0], access(node, at).index
        else:
            plain = OPS[node.op].formula is not None
            yield from ((value, at if plain else UNKNOWN) for value in node.operands)


@dataclass(slots=True)
class RowPlan:
    """In which sweep each node of a row kernel is computed, and what is kept between sweeps.

    `level` is the sweep in which an element is computed or a reduction carried out; a number of a
    row is known after the sweep of its level (-1: before the first). `homes` are elements that are
    kept in the memory of a result until that is written; `stored` those that need memory of their
    own.
    """

    row: Row
    nodes: Sequence[Node]
    reads: Reads
    outputs: tuple[Value, ...]
    level: dict[Value, int] = field(default_factory=dict)
    homes: dict[Value, Value] = field(default_factory=dict)
    stored: list[Value] = field(default_factory=list)

    def __post_init__(self) -> None:
        inside = {v for node in self.nodes for v in node.results}
        read = {n.result: [v for v, _ in self.reads.of(n, self.row) if v in inside]
                for n in self.nodes}
        for node in self.nodes:
            self.level[node.result] = self._level(node, read[node.result])
        self._keep(read)

    def _level(self, node: Node, read: list[Value]) -> int:
        element = self.row.is_element(node.result) or self.is_reduction(node)
        level = 0 if element else -1
        for value in read:
            later = element and not self.row.is_element(value)
            level = max(level, self.level[value] + later)
        return level

    def is_reduction(self, node: Node) -> bool:
        """Whether a node combines the elements of a row."""
        return combines(node, self.reads.inverses)

    def _keep(self, read: dict[Value, list[Value]]) -> None:
        """Finds elements that are dear and needed in several sweeps, and where to keep them."""
        sweeps: dict[Value, set[int]] = {}
        for node in reversed(self.nodes):
            value = node.result
            own = {self.level[value]} if self._is_written(node) else sweeps.get(value, set())
            if self.row.is_element(value) or self.is_reduction(node):
                for operand in read[value]:
                    sweeps.setdefault(operand, set()).update(own)
        cost: dict[Value, float] = {}
        for node in self.nodes:
            value = node.result
            if not self.row.is_element(value):
                continue
            cost[value] = OPS[node.op].cost + sum(cost.get(v, 0) for v in set(read[value]))
            if value in self.outputs:
                cost[value] = 0
            elif cost[value] >= DEAR and len(sweeps.get(value, ())) > 1:
                self._home(value, max(sweeps[value]))
                cost[value] = 0

    def _is_written(self, node: Node) -> bool:
        return node.result in self.outputs or self.is_reduction(node)

    def _home(self, value: Value, last: int) -> None:
        for output in self.outputs:
            if (output.type == value.type and output not in self.homes.values()
                    and self.level[output] >= last):
                self.homes[value] = output
                return
        self.stored.append(value)
