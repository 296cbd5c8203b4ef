"""A Graph whose nodes are gathered in groups, each of which becomes one kernel."""

from __future__ import annotations

from dlc.ir.dataclass import dataclass
from dlc.ir.dims import Dim
from dlc.ir.graph import Graph, Node, Value
from dlc.ir.kernel import Layout


@dataclass(frozen=True, slots=True)
class Group:
    """Nodes that one kernel computes, for every index of `domain`.

    `root` is the reduction (a contraction, a maximum, …) whose epilogue the other nodes are, if
    there is one. `outputs` are the values that are written to memory. A group with no nodes copies.
    """

    name: str
    domain: tuple[Dim, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[Value, ...]
    root: Node | None = None
    call: Node | None = None


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
