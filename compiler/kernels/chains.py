"""Chains of products: a product of matrices whose operand is made, element by element, of products.

    s = contract q, k            [i, k]    scores
    p = exp (s - max s)          [i, k]    weights
    y = contract p, v            [i, e]    what is wanted

One kernel goes over such matrices part by part, so that they never lie in memory as a whole. `Row`
says which axis the last product sums over: the row's. Numbers of a row that depend on all of it
(its maximum, its sum) may be among what is computed, if parts can be put together when a larger
maximum is found: the sums must be linear in one exp (x - m) (Milakov and Gimelshein 2018, Online
normalizer calculation for softmax; Dao et al. 2022, FlashAttention).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from dlc.compiler.kernels.cones import Cone, Linear
from dlc.compiler.kernels.rows import row_of
from dlc.compiler.kernels.shapes import Shapes
from dlc.compiler.options import Options
from dlc.ir.dataclass import dataclass
from dlc.ir.dims import Dim, symbol, symbols
from dlc.ir.dims import product as product_of
from dlc.ir.fused import Row
from dlc.ir.graph import Graph, Node, Value
from dlc.ir.ops import OPS
from dlc.ir.ops.shape import ints_attr

MOST_INSIDE = 256  # values of an index that is no axis of the matrices
LEAST = 16  # likely values of both axes
LARGE = 1 << 20  # elements that no near cache holds
PICKED = ("gather", "pad", "concat")  # operands that do not lie in memory as they are


@dataclass(frozen=True, slots=True)
class Chain:
    """Products of one matrix, or of several of the same dims, along its rows.

    `nodes` are in order: inner products, elements, numbers of rows, then the `products`, and what
    they are scaled by in the end.
    """

    row: Row
    nodes: tuple[Node, ...]
    products: tuple[Node, ...]


def products_of_matrices(graph: Graph, options: Options) -> list[Node]:
    """The products of what is made in a graph and may be a large matrix."""
    made = {v for node in graph.nodes for v in node.results}

    def is_matrix(value: Value) -> bool:
        grows = sum(not isinstance(d, int) for d in value.dims) > 1
        return value in made and (grows or options.likely(product_of(value.dims)) >= LARGE)

    return [n for n in graph.nodes if _is_pair(n) and any(map(is_matrix, n.operands))]


def chains(shapes: Shapes, options: Options) -> list[Chain]:
    """The chains whose matrices nothing else reads."""
    finder = Finder(shapes, options)
    found = []
    for cones in finder.groups([c for c in finder.cones() if not c.factors], lambda cone: True):
        products = tuple(c.product for c in cones)
        nodes = {v: n for c in cones for v, n in c.nodes.items()}
        nodes |= {n.result: n for n in products}
        nodes |= {n.result: n for n in finder.scaled(products, nodes)}
        found.append(Chain(cones[0].row, tuple(
            n for n in shapes.graph.nodes if n.results and n.results[0] in nodes
            and n.op != "broadcast"), products))
    return found


class Finder:
    """Looks for products of matrices that are made of products."""

    def __init__(self, shapes: Shapes, options: Options) -> None:
        self.shapes, self.options = shapes, options
        self.made, self.users = shapes.made, shapes.users

    def cones(self) -> list[Cone]:
        """One for each product that is the end of a chain, in order."""
        found = []
        for node in products_of_matrices(self.shapes.graph, self.options):
            sides = (self._cone(node, side) for side in (0, 1))
            found += [cone for cone in sides if cone is not None][:1]
        return found

    def groups(
        self, cones: Sequence[Cone], alone: Callable[[Cone], bool]
    ) -> list[list[Cone]]:
        """Closed cones, those together that share elements. None that is to be `alone` shares a
        node with one of another group that is to be."""
        left = self.closed(cones)
        while True:
            groups = self._together(left)
            owners: dict[Value, set[int]] = {}
            for k, group in enumerate(groups):
                for value in (v for c in group if alone(c) for v in c.nodes):
                    owners.setdefault(value, set()).add(k)
            clash = {k for found in owners.values() if len(found) > 1 for k in found}
            if not clash:
                return groups
            left = self.closed([c for k, g in enumerate(groups) if k not in clash for c in g])

    def _together(self, cones: Sequence[Cone]) -> list[list[Cone]]:
        """Cones of the same rows that share elements, if none waits for another."""
        groups: list[list[Cone]] = []
        for cone in cones:
            for group in groups:
                first = group[0]
                if (cone.row == first.row and cone.lanes == first.lanes
                        and cone.product.phase == first.product.phase
                        and any(not set(cone.elements()).isdisjoint(c.elements()) for c in group)
                        and not any(self.waits(cone, other) for other in group)):
                    group.append(cone)
                    break
            else:
                groups.append([cone])
        return groups

    def closed(self, cones: Sequence[Cone]) -> list[Cone]:
        """Those of whose matrices no one knows but they themselves."""
        left, count = list(cones), -1
        while count != len(left):
            count = len(left)
            inside = {v for cone in left for v in cone.nodes}
            inside |= {cone.product.result for cone in left}
            left = [cone for cone in left if not any(
                v in self.shapes.kept or any(not u.results or u.results[0] not in inside
                                      for u in self.users.get(v, ())) for v in cone.elements())]
        return left

    def waits(self, one: Cone, other: Cone) -> bool:
        """Whether one needs the product of the other."""
        return any(self._depends(a, b) for a, b in ((one, other), (other, one)))

    def _depends(self, one: Cone, other: Cone) -> bool:
        stack, seen = list(one.product.operands), set[Value]()
        while stack:
            value = stack.pop()
            if value == other.product.result:
                return True
            if value not in seen and value in self.made:
                seen.add(value)
                stack += self.made[value].operands
        return False

    def scaled(self, products: Iterable[Node], inside: Mapping[Value, Node]) -> list[Node]:
        """Where products are scaled in the end: by numbers of rows that the chain computes, or by
        one for all."""
        found, waiting = [], [p.result for p in products]
        while waiting:
            value = waiting.pop()
            users = self.users.get(value, ())
            if value in self.shapes.kept or len(users) != 1 or users[0].op not in ("mul", "div"):
                continue
            factors = [v for v in users[0].operands if v != value]
            number = self._moved(factors[0]) if factors else value
            if number in inside or not number.dims:
                found.append(users[0])
                waiting.append(users[0].result)
        return found

    def _cone(self, product: Node, side: int) -> Cone | None:
        """The cone of one operand of a product."""
        matrix, other = product.operands[side], product.operands[1 - side]
        inverse = self.shapes.inverses[product.result]
        if inverse.where or inverse.guarded or len(inverse.over) != 1 or self._is_picked(other):
            return None
        (over,) = inverse.over
        at, there = inverse.reads[side], _names(inverse.reads[1 - side])
        names = _plain(at, matrix.dims)
        if names is None or over.low != 0 or over.name not in names or over.name not in there:
            return None
        wide = tuple(d for d in matrix.dims if d != 1)
        row = Row(wide, tuple(n == over.name for n in names))
        free = there - set(names)
        extents = {f"i{k}": d for k, d in enumerate(inverse.domain)}
        alone = [n for n in names if n not in there and n in extents]
        if len(free) != 1 or not all(self._is_few(extents.get(n, 0)) for n in free) or not alone:
            return None
        lanes = max(alone, key=lambda n: self.options.likely(extents[n]))
        if not self._is_large(wide, (extents[lanes], over.high)):
            return None
        place = names.index(lanes)
        nodes = self._nodes(product, matrix, row, place)
        if nodes is None or not self._is_worth_it(nodes, row, [extents[n] for n in free]):
            return None
        cone = Cone(row, product, matrix, row.names[place], nodes, matrix)
        numbers = [n for n in nodes.values() if not row.is_element(n.result)
                   and self.shapes.is_reduction(n)]
        return cone if Linear(self.made, cone, numbers).fits() else None

    def _is_worth_it(self, nodes: Mapping[Value, Node], row: Row, few: list[Dim]) -> bool:
        """Whether the indices of products beside the matrix's have few values; where these are
        symbols, only weights of attention are likely to go with them."""
        inner = [self.shapes.inverses[n.result].over[0].high for n in nodes.values()
                 if self.shapes.is_reduction(n) and row.is_element(n.result)]
        return all(isinstance(d, int) for d in (*inner, *few)) or any(
            n.op == "exp" for n in nodes.values())

    def _is_large(self, dims: tuple[Dim, ...], axes: tuple[Dim, Dim]) -> bool:
        """Whether a matrix is better not written to memory: it is large, or for all that is known
        it may be, growing in two directions."""
        likely = [self.options.likely(d) for d in axes]
        grows = not any(isinstance(d, int) for d in axes)
        return min(likely) >= LEAST and (grows or self.options.likely(product_of(dims)) >= LARGE)

    def _nodes(
        self, product: Node, matrix: Value, row: Row, lanes: int
    ) -> dict[Value, Node] | None:
        """The nodes of a cone; None if no product is among them, or one that does not fit."""
        found: dict[Value, Node] = {}
        stack, inner = [matrix], False
        while stack:
            value = stack.pop()
            node = self.made.get(value)
            if node is None or value in found:
                continue
            if not row.is_element(value):
                if self._is_number(node, row, product):
                    found[value] = node
                    stack += node.operands
            elif self.shapes.is_reduction(node):
                if not self._is_inner(node, row, lanes):
                    return None
                found[value], inner = node, True
            elif OPS[node.op].formula is not None:
                found[value] = node
                stack += node.operands
            elif node.op == "broadcast" and _is_of_rows(node, row) and self._is_number(
                    self.made.get(node.operands[0]), row, product):
                found[value] = node
                stack += node.operands
        if inner:
            self._add_numbers(found, row, product)
        return found if inner else None

    def _add_numbers(self, found: dict[Value, Node], row: Row, product: Node) -> None:
        """Adds what else is computed of the rows: the sum that comes after the product, and the
        elements in another type that it adds up."""
        waiting = list(found)
        while waiting:
            for node in self.users.get(waiting.pop(), ()):
                if len(node.results) == 1 and node.result not in found and (
                        self._is_number(node, row, product)
                        or self._is_summed(node, row, product)) and all(
                        self._is_at_hand(v, found) for v in node.operands):
                    found[node.result] = node
                    waiting.append(node.result)

    def _is_summed(self, node: Node, row: Row, product: Node) -> bool:
        """Whether it is a cast of elements that nothing but numbers of the rows are made of."""
        value = node.results[0]
        users = self.users.get(value, ())
        return (node.op == "cast" and node.phase == product.phase and row.is_element(value)
                and value not in self.shapes.kept and len(users) > 0
                and all(self._is_number(user, row, product) for user in users))

    def _moved(self, value: Value) -> Value:
        """What a broadcast, or a transpose, is of."""
        while value in self.made and self.made[value].op in ("broadcast", "transpose"):
            value = self.made[value].operands[0]
        return value

    def _is_at_hand(self, value: Value, found: Mapping[Value, Node]) -> bool:
        """Whether a value is in the cone, or a number that is the same everywhere."""
        value = self._moved(value)
        return value in found or (value in self.made and self.made[value].op == "constant")

    def _is_number(self, node: Node | None, row: Row, product: Node) -> bool:
        """Whether a number of a row comes, in this phase, from the elements of the row."""
        if node is None or len(node.results) != 1 or row.is_element(node.result):
            return False
        stack, seen = [node], set[Value]()
        while stack:
            one = stack.pop()
            if (len(one.results) != 1 or one.result in seen or one.phase != product.phase
                    or row.place(one.result) is None):
                continue
            seen.add(one.result)
            if self.shapes.is_reduction(one):
                if row_of(one, self.shapes.inverses[one.result]) == row:
                    return one is node or OPS[node.op].formula is not None
            elif OPS[one.op].formula is not None:
                stack += [self.made[v] for v in one.operands if v in self.made]
        return False

    def _is_inner(self, node: Node, row: Row, lanes: int) -> bool:
        """Whether each operand of a product depends either on the lanes' axis or on the row's."""
        inverse = self.shapes.inverses[node.result]
        if not _is_pair(node) or inverse.where or inverse.guarded or len(inverse.over) != 1:
            return False
        over = inverse.over[0]
        axes = [f"i{k}" for k, d in enumerate(node.result.dims) if d != 1]
        along, across = axes[row.reduced.index(True)], axes[lanes]
        reads = [_names(at) for at in inverse.reads]
        return over.low == 0 and self._is_few(over.high) and not any(
            self._is_picked(v) for v in node.operands) and all(
            over.name in names and (along in names) != (across in names) for names in reads) and (
            (along in reads[0]) != (along in reads[1]))

    def _is_few(self, extent: Dim) -> bool:
        """Whether an index of a product beside the matrix's has few values, as far as is known."""
        if isinstance(extent, int):
            return 1 < extent <= MOST_INSIDE
        return not self.options.is_gpu and self.options.likely(extent) <= MOST_INSIDE

    def _is_picked(self, value: Value) -> bool:
        return value in self.made and self.made[value].op in PICKED


def _is_pair(node: Node) -> bool:
    """Whether it is a product of two tensors of floats."""
    return node.op == "contract" and len(node.operands) == 2 and node.result.dtype.is_float


def _is_of_rows(node: Node, row: Row) -> bool:
    """Whether a broadcast along the rows gives each row a number of its own."""
    operand, dims = node.operands[0], node.result.dims
    axes = [a for a, d in zip(ints_attr(node, "axes"), operand.dims, strict=True) if d != 1]
    wide = [a for a, d in enumerate(dims) if d != 1]
    return axes == [a for a, r in zip(wide, row.reduced, strict=True) if not r]


def _plain(at: tuple[Dim, ...], dims: tuple[Dim, ...]) -> list[str] | None:
    """The index at each axis of an extent besides 1; None if the place is not so simple."""
    found = [(str(e), e) for e, d in zip(at, dims, strict=True) if d != 1]
    names = [n for n, _ in found]
    plain = all(not isinstance(e, int) and e is symbol(n) for n, e in found)
    return names if plain and len(set(names)) == len(names) else None


def _names(at: tuple[Dim, ...]) -> set[str]:
    return set[str]().union(*map(symbols, at))
