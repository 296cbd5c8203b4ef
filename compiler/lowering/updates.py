"""New values of variables: what is computed after the commit point, what is written in place."""

from __future__ import annotations

from dataclasses import replace

from dlc.compiler.kernels.make_kernel import Memory
from dlc.compiler.kernels.shapes import behind, reads_in_place
from dlc.compiler.passes.eliminate_dead import has_effect
from dlc.ir.fused import FusedGraph, Group
from dlc.ir.graph import Value
from dlc.ir.ops import OPS


class Updates:
    """Which groups come late, and which computed values go over the old ones of variables.

    `late` are the names of the groups that only serve new values of variables, and so can come
    after the commit. `in_place` says which computed value is written over which old value.
    """

    def __init__(self, fused: FusedGraph, memory: Memory) -> None:
        self.fused, self.memory = fused, memory
        self.views = dict(fused.views)
        self._read_late: set[Value] = set()
        self.late = self._late_groups()
        self.in_place = self._in_place()

    def base(self, value: Value) -> Value:
        """The value whose memory `value` is."""
        while value in self.views:
            value = self.views[value]
        return value

    def _late_groups(self) -> set[str]:
        graph = self.fused.graph
        updated = {self.base(v) for _, v in graph.updates}
        early = {self.base(v) for v in graph.results}
        known: dict[int, bool] = {}
        late: set[str] = set()
        for group in reversed(self.fused.groups):
            outputs = {self.base(v) for v in group.outputs}
            effect = group.call is not None and has_effect(group.call, known)
            if not effect and outputs and not outputs & early and (
                    outputs & updated or outputs <= self._read_late):
                late.add(group.name)
                self._read_late |= self.reads(group)
            else:
                early |= self.reads(group)
        return late

    def reads(self, group: Group, operands: tuple[Value, ...] | None = None) -> set[Value]:
        """The values in memory that a group reads (for `operands` alone, if given), views resolved.
        """
        if operands is None:
            nodes = group.nodes or tuple(
                self.memory.made[v] for v in group.outputs if v in self.memory.made)
            operands = tuple(v for node in nodes for v in node.operands)
        own, stored = set(group.outputs), self.memory.stored

        def is_read(value: Value) -> bool:
            return value in stored and value not in own

        return {self.base(v) for v in behind(operands, self.memory.made, is_read) if is_read(v)}

    def _in_place(self) -> dict[Value, Value]:
        groups = self.fused.groups
        owner = {self.base(v): at for at, g in enumerate(groups) for v in g.outputs}
        variables = {p.value.name: p.value for p in self.fused.graph.params}
        chosen: dict[Value, Value] = {}
        last_read = {v: at for at, group in enumerate(groups) for v in self.reads(group)}
        for name, value in self.fused.graph.updates:
            made, old = self.base(value), variables[name]
            at = owner.get(made)
            if at is None or groups[at].name not in self.late or made in chosen:
                continue
            if _has_memory(groups[at]):
                continue
            if made.dims != old.dims and old in self.memory.layouts:
                continue  # other dims are another view of row-major memory alone
            if last_read.get(old, -1) <= at and self._overwrites(groups[at], old, made):
                chosen[made] = old
        return chosen

    def _overwrites(self, group: Group, old: Value, made: Value) -> bool:
        """Whether the group reads `old` only where it writes `made`."""
        if group.call is not None:
            return [self.base(v) for v in group.call.operands].count(old) <= 1
        if made.dims != old.dims or not group.nodes:
            return old not in self.reads(group)
        root = group.root
        if root is not None and root.op == "scatter":
            begins = self.base(root.operands[0]) == old
            return old not in self.reads(group, root.operands[begins:])
        far = tuple(node for node in group.nodes if node is root
                    or not reads_in_place(node, self.memory.inverses))
        if far and old in self.reads(replace(group, nodes=far, outputs=())):
            return False
        read = [v for node in group.nodes if node is not root
                for v in node.operands if v not in group.outputs]
        inside = {v for node in group.nodes for v in node.results}
        for value in behind(read, self.memory.made, self.memory.stored.__contains__):
            if value in self.memory.stored:
                if value != old and self.base(value) == old:
                    return False
            elif value in self.memory.made and value not in inside:
                if old in map(self.base, self.memory.made[value].operands):
                    return False
        return True


def _has_memory(group: Group) -> bool:
    """Whether the outputs of a group have memory of their own: tables, which hold it from the
    start, and loops and branches, whose bodies may read an old value again."""
    return bool(group.nodes) and (
        group.nodes[0].op == "table" or OPS[group.nodes[0].op].kernel == "control")
