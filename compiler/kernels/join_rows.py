"""Joins groups whose nodes go along the same rows, so that each row is gone over by one kernel.

    g0 [M]     %m = reduce_max %x
    g1 [M, N]  %e = exp (%x - %m)          ->     g0 [M; N]  %m, %e, %s, %y
    g2 [M]     %s = sum %e
    g3 [M, N]  %y = %e / %s
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import field
from heapq import heapify, heappop, heappush

from dlc.compiler.kernels.grouping import Grouping
from dlc.compiler.kernels.rows import Reads, RowPlan, enough_rows, row_of
from dlc.compiler.kernels.shapes import SEQUENCES, behind, stands_alone
from dlc.compiler.options import Options
from dlc.ir.dataclass import dataclass
from dlc.ir.fused import Row
from dlc.ir.graph import Node, Value


def join_rows(
    grouping: Grouping, options: Options, others: Container[int] = ()
) -> dict[int, Row]:
    """Joins what it can; the groups that now go along rows, by number. `others` stay as they are.
    """
    joining = _Joining(grouping, options)
    for group in range(len(grouping.nodes)):
        if group not in others:
            joining.add(group)
    return {g: row for g, row in joining.rows.items() if len(grouping.nodes[g]) > 1
            and len(joining.parts[g]) > 1}


@dataclass(slots=True)
class _Joining:
    """Groups with rows; later ones are joined to them one by one."""

    grouping: Grouping
    options: Options
    rows: dict[int, Row] = field(default_factory=dict)
    parts: dict[int, list[int]] = field(default_factory=dict)  # what a group was joined from
    alone: set[int] = field(default_factory=set)  # elementwise groups so far
    near: dict[Value, set[int]] = field(default_factory=dict)  # groups that make or read a value
    touched: dict[int, set[Value]] = field(default_factory=dict)  # what a group makes or reads
    reads: Reads = field(init=False)
    place: dict[Value, int] = field(init=False)
    fitting: dict[tuple[int, Row], bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shapes = self.grouping.shapes
        self.reads = Reads(shapes.made, shapes.inverses, self.grouping.of)
        self.place = {value: k for k, value in enumerate(shapes.made)}

    def add(self, group: int) -> None:
        """Joins a group to one with the same rows, or makes it the first of its rows."""
        nodes = self.grouping.nodes[group]
        if not nodes or any(not self._is_plain(n) for n in nodes):
            return
        self._touch(group, nodes)
        for first in sorted(self._neighbours(group) & self.rows.keys()):
            if self._joins(first, group):
                self._join(first, group)
                self._gather_up(first)
                return
        root = self.grouping.roots[group]
        if root is None:
            self.alone.add(group)
            return
        row = row_of(root, self.grouping.shapes.inverses[root.result])
        if row is not None and enough_rows(row, self.options) and self._fits(row, nodes):
            self.rows[group], self.parts[group] = row, [group]
            self._gather_up(group)

    def _touch(self, group: int, nodes: list[Node]) -> None:
        """Finds what a group makes, and what it reads that another makes or that is given."""
        made, of = self.grouping.shapes.made, self.grouping.of
        operands = (v for node in nodes for v in node.operands)
        found = {v for v in behind(operands, made, of.__contains__)
                 if v in of or (v.dims and v not in made)}
        self.touched[group] = found | {v for node in nodes for v in node.results}
        for value in self.touched[group]:
            self.near.setdefault(value, set()).add(group)

    def _neighbours(self, group: int) -> set[int]:
        """The groups that make or read what a group makes or reads: only they may share it."""
        return set[int]().union(*(self.near[v] for v in self.touched[group]))

    def _gather_up(self, first: int) -> None:
        """Joins the elementwise groups that come before or beside, later ones first."""
        waiting = [-other for other in self._neighbours(first) & self.alone]
        seen = set(waiting)
        heapify(waiting)
        while waiting:
            other = -heappop(waiting)
            if not self._joins(first, other):
                continue
            self.alone.remove(other)
            more = {-g for g in self._neighbours(other) & self.alone if g < other} - seen
            self._join(first, other)
            seen |= more
            for each in more:
                heappush(waiting, each)

    def _is_plain(self, node: Node) -> bool:
        shapes = self.grouping.shapes
        return len(node.results) == 1 and not stands_alone(node) and (
            node.op not in SEQUENCES and node.op not in ("table", "pad", "pack")
            and (shapes.is_reduction(node) or shapes.is_map(node)))

    def _joins(self, first: int, group: int) -> bool:
        row = self.rows[first]
        key = (group, row)
        if key not in self.fitting:
            self.fitting[key] = self._fits(row, self.grouping.nodes[group])
        if not self.fitting[key] or not self._shares(first, group):
            return False
        if self.grouping.between(first, group):
            return False
        return self._in_place(row, [*self.grouping.nodes[first], *self.grouping.nodes[group]])

    def _fits(self, row: Row, nodes: list[Node]) -> bool:
        """Whether all nodes have the dims of elements or of rows, and reduce along the row."""
        shapes = self.grouping.shapes
        for node in nodes:
            if row.place(node.result) is None:
                return False
            if shapes.is_reduction(node) and row_of(
                    node, shapes.inverses[node.result]) != row:
                return False
        return self._in_place(row, nodes)

    def _in_place(self, row: Row, nodes: list[Node]) -> bool:
        """Whether what nodes read of each other lies at their own place in the row."""
        inside = {v for node in nodes for v in node.results}
        return all(value not in inside or at == row.place(value)
                   for node in nodes for value, at in self.reads.of(node, row))

    def _shares(self, first: int, group: int) -> bool:
        """Whether one reads what the other makes, or both read elements of the same value."""
        row, of = self.rows[first], self.grouping.of
        ours = {v for node in self.grouping.nodes[first] for v, _ in self.reads.of(node, row)}
        for node in self.grouping.nodes[group]:
            if node.result in ours:
                return True
            for value, at in self.reads.of(node, row):
                if of.get(value) == first or (
                        value in ours and row.is_element(value) and at == row.place(value)):
                    return True
        return False

    def _join(self, first: int, group: int) -> None:
        self.grouping.merge(first, group)
        self.grouping.nodes[first].sort(key=lambda n: self.place[n.result])
        self.parts[first] += [group]
        for value in self.touched[group]:
            self.near[value].discard(group)
            self.near[value].add(first)
        self.touched[first] |= self.touched.pop(group)


def rows_alone(grouping: Grouping, rows: dict[int, Row]) -> set[Value]:
    """The values that no one reads but the nodes of their own row."""
    return {v for g in rows for node in grouping.nodes[g] for v in node.results
            if _stays_inside(v, g, grouping)}


def _stays_inside(value: Value, group: int, grouping: Grouping) -> bool:
    shapes, of = grouping.shapes, grouping.of
    stack, seen = [value], {value}
    while stack:
        one = stack.pop()
        if one in shapes.kept:
            return False
        for user in shapes.users.get(one, ()):
            if not user.results or shapes.is_view(user) or one in shapes.in_memory(user):
                return False
            owners = {of.get(v) for v in user.results}
            if owners == {None}:
                stack += [v for v in user.results if v not in seen]
                seen.update(user.results)
            elif owners != {group}:
                return False
    return True


def with_stored(
    grouping: Grouping, row: Row, nodes: list[Node], outputs: tuple[Value, ...]
) -> tuple[Value, ...]:
    """The outputs, and what is dear and needed in several sweeps."""
    shapes = grouping.shapes
    plan = RowPlan(row, nodes, Reads(shapes.made, shapes.inverses, grouping.of), outputs)
    return (*outputs, *plan.stored)
