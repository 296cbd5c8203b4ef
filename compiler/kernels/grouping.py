"""Groups of nodes in the making: which one kernel computes, and which wait for which."""

from __future__ import annotations

from dlc.compiler.kernels.shapes import Shapes, behind, reads_in_place
from dlc.ir.dims import Dim
from dlc.ir.graph import Node, Value


class Grouping:
    """Groups in the making; which depend on which is kept as bit sets.

    `far` are the groups whose values a group reads at other places than those it writes: they must
    be finished before it starts.
    """

    def __init__(self, shapes: Shapes) -> None:
        self.shapes = shapes
        self.domains: list[tuple[Dim, ...]] = []
        self.nodes: list[list[Node]] = []
        self.roots: list[Node | None] = []
        self.before: list[int] = []
        self.far: list[int] = []
        self.read = 0  # the groups that another one comes after
        self.of: dict[Value, int] = {}
        self.guards: dict[Value, frozenset[int]] = {}  # what comes before whoever reads a value

    def open(self, domain: tuple[Dim, ...], root: Node | None) -> int:
        """A new group."""
        self.domains.append(domain)
        self.nodes.append([])
        self.roots.append(root)
        self.before.append(0)
        self.far.append(0)
        return len(self.nodes) - 1

    def put(self, node: Node, group: int) -> None:
        """Adds `node`; the group now depends on the groups that make its operands."""
        self.nodes[group].append(node)
        for value in node.results:
            self.of[value] = group
        self.depend(group, self.sources(node))
        self.far[group] |= sum(1 << source for source in self.far_sources(node))

    def far_sources(self, node: Node) -> set[int]:
        """The groups that `node` reads at other places than its own."""
        if not reads_in_place(node, self.shapes.inverses):
            return self.sources(node)
        return self.sources(node, tuple(v for v in node.operands if v not in self.of))

    def sources(self, node: Node, operands: tuple[Value, ...] | None = None) -> set[int]:
        """The groups that `node` reads, through what is computed where it is read."""
        found: set[int] = set()
        values = node.operands if operands is None else operands
        for value in behind(values, self.shapes.made, self.of.__contains__):
            found |= self.guards.get(value, frozenset())
            if value in self.of:
                found.add(self.of[value])
        return found

    def depend(self, group: int, sources: set[int]) -> None:
        """From now on `group` runs after all of `sources`."""
        added = 0
        for source in sources - {group}:
            added |= self.before[source] | 1 << source
        if not added & ~self.before[group]:
            return  # then what comes after the group comes after all of them too
        self.before[group] |= added
        self.read |= added
        if self.read >> group & 1:
            for other in range(len(self.before)):
                if self.before[other] >> group & 1:
                    self.before[other] |= added

    def join(self, node: Node, candidates: list[int]) -> int | None:
        """The group among `candidates` that `node` can join without a circle; others are merged."""
        near = set(candidates) - self.far_sources(node)
        best: int | None = None
        for group in sorted(near, key=lambda g: (self.roots[g] is None, -g)):
            if not self._after(node, {group}):
                best = group
                break
        if best is None:
            return None
        for other in near - {best}:
            apart = (self.far[best] >> other | self.far[other] >> best) & 1
            if (self.roots[other] is None and not apart and not self.between(best, other)
                    and not self._after(node, {best, other})):
                self.merge(best, other)
        return best

    def _after(self, node: Node, groups: set[int]) -> bool:
        """Whether `node` also reads a group that comes after one of `groups`."""
        bits = sum(1 << group for group in groups)
        return any(self.before[s] & bits for s in self.sources(node) - groups)

    def between(self, a: int, b: int) -> bool:
        """Whether a third group stands between two on a path from one to the other."""
        for x in range(len(self.before)):
            if x in (a, b) or not self.nodes[x]:
                continue
            if self.before[x] >> a & 1 and self.before[b] >> x & 1:
                return True
            if self.before[x] >> b & 1 and self.before[a] >> x & 1:
                return True
        return False

    def merge(self, into: int, other: int) -> None:
        """Moves all of `other` into `into`; nothing may stand between the two."""
        moved = self.nodes[other]
        self.nodes[other] = []
        for node in moved:
            for value in node.results:
                self.of[value] = into
        self.nodes[into] += moved
        self.before[into] |= self.before[other] & ~(1 << into)
        self.far[into] |= self.far[other]
        self.read |= (self.read >> other & 1) << into | self.before[into]
        for x in range(len(self.far)):
            self.far[x] |= (self.far[x] >> other & 1) << into
        for x in range(len(self.before)):
            if self.before[x] >> other & 1:
                self.before[x] = self.before[x] & ~(1 << other)
                if x != into:
                    self.before[x] |= 1 << into | self.before[into]
        self.before[into] &= ~(1 << into | 1 << other)
        for x in range(len(self.before)):
            if self.before[x] >> into & 1:
                self.before[x] |= self.before[into]
