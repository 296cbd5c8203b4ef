"""Whether the batch lies in the lanes of vectors: what the products of a program cost either way.

With the batch in the lanes every step of every product and convolution is a full vector operation,
whatever the other sizes; but a sum over the batch is added up over the lanes at its end, and an
input is copied first. In rows, vectors run along the last axis of a result, where a product's other
sizes are large enough. Costs are cycles at the likely sizes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from math import ceil, inf

from dlc.compiler.kernels.maps import PADDED, TURNED_SUM
from dlc.compiler.options import Options
from dlc.ir.dims import Dim, coefficient, product, symbol, symbols
from dlc.ir.graph import Node
from dlc.ir.ops.contract import extents_of, map_of, maps_of

ADDED_LANES = 3.0  # cycles for the sum over the lanes of one result
TURNED = 0.5  # cycles to store an element where it is no neighbour of the one before it
SLID = 1.2  # for vectors at all places of an axis: most lie across two cache lines
PRODUCTS_PER_CYCLE = 2.0
GAINED = 0.95  # of the cycles in rows: a batch that does not fill its last vector has less to gain
SPREAD = 2.0  # for results that are spread over windows: loops over these differ from lane to lane
APART = 1.5  # cycles to load an element that is no neighbour of the one before it


def batch_in_lanes(nodes: Sequence[Node], options: Options) -> str | None:
    """The symbol whose values are best stored in the lanes, if there is one.

    It is the whole extent of some index, and at least half of all multiplications run over it.
    """
    work: dict[str, float] = {}
    gained: dict[str, float] = {}
    whole: set[str] = set()
    slid: set[str] = set()
    total = 0.0
    for node in nodes:
        if node.op != "contract" or len(node.operands) < 2:
            continue
        costs = _Costs(node, options)
        total += costs.count
        rows = costs.rows()
        for name in frozenset[str]().union(*map(symbols, costs.extents.values())):
            work[name] = work.get(name, 0) + costs.count
            part = GAINED if options.hint(name) >= options.lanes else 1.0
            gained[name] = gained.get(name, 0) + part * rows - costs.lanes(name)
        whole |= {str(e) for e in costs.extents.values() if str(e) in symbols(e)}
        slid |= costs.slid()
    best = max(whole - slid, key=lambda name: (work[name], name), default=None)
    if best is None or 2 * work[best] < total or gained[best] <= _copies(nodes, best, options):
        return None
    return best


def _copies(nodes: Sequence[Node], batch: str, options: Options) -> float:
    """What it costs to bring what products read of arguments into the lanes, and results out."""
    made = {v for node in nodes for v in node.results}
    read = {v for node in nodes if node.op == "contract" and len(node.operands) > 1
            for v in node.operands if v not in made and symbol(batch) in v.dims}
    known = {v for node in nodes for v in node.operands}
    given = {v for node in nodes if node.op == "contract" and len(node.operands) > 1
             for v in node.results if v not in known and symbol(batch) in v.dims}
    return sum(cost * options.likely(product(v.dims))
               for values, cost in ((read, TURNED), (given, APART)) for v in values)


def is_convolution(node: Node) -> bool:
    """Whether a contraction slides one operand over another."""
    return node.op == "contract" and bool(_together(node))


def _together(node: Node) -> list[frozenset[str]]:
    """The indices of a contraction that share an axis, for each such axis."""
    axes = [symbols(e) for at in (*maps_of(node), map_of(node.attr("out"))) for e in at]
    return [names for names in axes if len(names) > 1]


def _has(at: tuple[Dim, ...], name: str) -> bool:
    return any(name in symbols(e) for e in at)


class _Costs:
    """What one contraction costs."""

    def __init__(self, node: Node, options: Options) -> None:
        self.node, self.options = node, options
        self.extents = extents_of(node)
        self.sizes = {name: max(1, options.likely(extent)) for name, extent in self.extents.items()}
        self.maps = maps_of(node)
        self.out = map_of(node.attr("out"))
        self.count = 1.0
        for size in self.sizes.values():
            self.count *= size
        self.results = max(1, options.likely(product(node.result.dims)))

    def slid(self) -> set[str]:
        """The sizes of axes over which another index slides: their elements are neighbours."""
        return {str(self.extents[n]) for names in _together(self.node) for n in names
                if n in self.extents}

    def lanes(self, batch: str) -> float:
        """With the batch in the lanes."""
        index = next((n for n, e in self.extents.items() if e is symbol(batch)), None)
        if index is None:
            return self.rows()
        if self._in_parts():
            return self.count
        cycles = self._vectors(index)
        kept = any(index in symbols(e) for e in self.out)
        return cycles if kept else cycles + self.results * ADDED_LANES

    def _in_parts(self) -> bool:
        """Whether one of its three tensors is a matrix that grows in two directions, of each of
        which one other tensor knows: such matrices are gone through in parts (`chains.py`), which
        are to lie side by side."""
        grow = {n for n, e in self.extents.items() if symbols(e)}
        known = [frozenset[str]().union(*map(symbols, at)) & grow for at in (*self.maps, self.out)]
        pairs = (frozenset(pair) for pair in combinations(sorted(grow), 2))
        return any(sorted(len(names & pair) for names in known) == [1, 1, 2] for pair in pairs)

    def rows(self) -> float:
        """With all in row-major order."""
        along = (self._along(index, summed) for index, summed in self._candidates())
        return min((*along, *self._along_maps()), default=self.count)

    def _vectors(self, index: str) -> float:
        """Cycles with an index in the lanes, all loads being whole vectors."""
        lanes, size = self.options.lanes, self.sizes[index]
        wasted = ceil(size / lanes) * lanes / size
        return self.count * wasted / (lanes * PRODUCTS_PER_CYCLE)

    def _candidates(self) -> Iterator[tuple[str, bool]]:
        """The indices that may lie in the lanes, and whether each is summed over."""
        longest = self._longest()
        for name in self.extents:
            if name == longest:
                yield name, False
            elif all(name not in symbols(e) for e in self.out):
                yield name, True

    def _along(self, index: str, summed: bool) -> float:
        cycles = self._vectors(index)
        if not summed and any(self.sizes.get(n, 0) > self.sizes[index]
                              for n in symbols(self.out[-1])):
            cycles *= SPREAD
        for at in self.maps:
            used = [k for k, e in enumerate(at) if index in symbols(e)]
            if not used or (used == [len(at) - 1] and coefficient(at[-1], index) == 1):
                cycles *= SLID if used and len(symbols(at[-1])) > 1 else 1
                continue
            cycles += self._turned(at, index) if not summed else inf
        return cycles + self.results * ADDED_LANES if summed else cycles

    def _along_maps(self) -> Iterator[float]:
        """With lanes along an index of one operand alone, while rows of results are of the other:
        sums are transposed, and what the other one reads of rows is copied (`maps.py`)."""
        last = self._longest()
        if len(self.maps) != 2 or last is None or not self._slides_along(last):
            return
        for at, picture in enumerate(self.maps):
            if _has(picture, last) and not _has(self.maps[1 - at], last):
                copied = self.options.likely(product(self.node.operands[at].dims))
                yield from (
                    self._vectors(name) + self.results * TURNED_SUM + copied * PADDED
                    for name in self.extents if symbol(name) in self.out and not _has(
                        picture, name))

    def _slides_along(self, name: str) -> bool:
        """Whether shorter indices, and no others, share an axis with one along which results lie;
        and each index of an axis of the result is solved for without divisions."""
        together = frozenset[str]().union(*(n for n in _together(self.node) if name in n))
        plain = all(coefficient(e, n) in (1, -1) for e in self.out for n in symbols(e))
        return plain and bool(together) and all(
            self.sizes[n] < self.sizes[name] for n in together - {name})

    def _longest(self) -> str | None:
        """The index along which results lie, that is solved for (`invert.py`)."""
        last = self.out[-1] if self.out else 0
        along = [name for name in self.extents if coefficient(last, name) == 1]
        return max(along, key=self.sizes.__getitem__, default=None)

    def _turned(self, at: tuple[Dim, ...], index: str) -> float:
        """What it costs that an operand has an index in the lanes that is not its last axis."""
        across = [n for n in self.extents if at[-1] is symbol(n)]
        read = 1.0
        for name, size in self.sizes.items():
            read *= size if any(name in symbols(e) for e in at) else 1
        # Copied into panels it is turned once; else each load goes from lane to lane.
        panels = bool(across) and all(
            e is symbol(index) or index not in symbols(e) for e in at)
        return read * TURNED if panels else self.count * APART
