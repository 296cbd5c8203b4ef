"""lower: makes a Program of Kernels from the groups of a fused Graph.

Launches that only serve the new values of variables come after the commit point, and write a
variable in place where nothing reads its old value afterwards. A call of a graph that was kept
whole (an optimizer) is lowered once, and its launches are repeated with other buffers and sizes.
Bodies of loops and branches are lowered like graphs that are called.
"""

from __future__ import annotations

from dataclasses import field, replace
from typing import Literal

from dlc.compiler.kernels.collapse import collapse
from dlc.compiler.kernels.flatten import flatten
from dlc.compiler.kernels.invert import inverses
from dlc.compiler.kernels.make_chain import ChainMaker
from dlc.compiler.kernels.make_kernel import KernelMaker, Memory
from dlc.compiler.kernels.make_rows import RowMaker
from dlc.compiler.kernels.make_sequence import SequenceMaker
from dlc.compiler.kernels.shapes import SEQUENCES
from dlc.compiler.lowering.control import Control
from dlc.compiler.lowering.runs import Runs, goes_in_runs
from dlc.compiler.lowering.scatters import scattered_over
from dlc.compiler.lowering.splice import interface, splice
from dlc.compiler.lowering.storage import Storage
from dlc.compiler.lowering.updates import Updates
from dlc.compiler.options import Options
from dlc.compiler.passes.fuse import fuse
from dlc.compiler.passes.pack_inputs import pack_in_body
from dlc.ir.canonical import Key, kernel_key
from dlc.ir.dataclass import dataclass
from dlc.ir.dims import Dim, symbol
from dlc.ir.fused import FusedGraph, Group
from dlc.ir.graph import Graph, Node, Value, names, producers, use_counts
from dlc.ir.kernel import Kernel, Layout
from dlc.ir.ops import OPS
from dlc.ir.ops.control import bind_symbols
from dlc.ir.ops.loops import carried_of
from dlc.ir.program import (
    BufferKind,
    Check,
    Commit,
    Launch,
    Print,
    Program,
    ProgramBuffer,
    Size,
    Step,
)
from dlc.ir.types import type_symbols


def lower(fused: FusedGraph, options: Options) -> Program:
    """The program of a whole graph."""
    return Lowering(fused, options, Kernels()).program()


@dataclass(slots=True)
class Kernels:
    """The kernels made so far: equal ones are made once. Lowered callees are kept here too."""

    made: dict[Key, Kernel] = field(default_factory=dict)
    callees: dict[tuple[int, tuple[tuple[int, int], ...]], tuple[Graph, Program]] = field(
        default_factory=dict)  # by identity: a graph stays as long as what was made of it

    def name(self, kernel: Kernel, hint: str) -> str:
        """The name of a kernel, which is made now or was made before under other names."""
        key = kernel_key(kernel)
        if key not in self.made:
            self.made[key] = replace(kernel, name=f"{hint}_{len(self.made)}")
        return self.made[key].name


class Lowering:
    """Lowers one graph."""

    def __init__(self, fused: FusedGraph, options: Options, kernels: Kernels) -> None:
        self.fused, self.options, self.kernels = fused, options, kernels
        graph = fused.graph
        stored = {v for group in fused.groups for v in group.outputs}
        stored |= set(graph.inputs) | {v for v, _ in fused.views}
        made = producers(graph.nodes)
        self.memory = Memory(made, stored, dict(fused.layouts), inverses(graph, options))
        self.updates = Updates(fused, self.memory)
        self.storage = Storage(self.memory.layouts, set(names(graph)))
        self.control = Control(self.storage, self._callee, self._copy)
        self.copied: dict[int, str] = {}  # the buffers of results that lie elsewhere
        self.early: list[Step] = []
        self.late: list[Step] = []

    def program(self) -> Program:
        """Places the values, then lowers each group."""
        graph = self.fused.graph
        self._declare()
        for group in self.fused.groups:
            steps = self.late if group.name in self.updates.late else self.early
            steps += self._lower(group)
        self._copy_results()
        self._copy_updates()
        steps = [*self.early, Commit(), *self.late] if graph.updates else self.early
        symbols = {s for p in graph.params for s in type_symbols(p.value.type)}
        symbols |= {p.value.name for p in graph.params if p.role == "size"}
        return Program(
            graph.name, tuple(sorted(symbols)), tuple(self.storage.buffers.values()),
            tuple(steps), tuple(self.kernels.made.values()), conditions=graph.conditions,
            sizes=_sizes(graph))

    def _declare(self) -> None:
        in_place, place = self.updates.in_place, self.storage.place
        self._declare_params("in")
        self._declare_results()
        self._declare_params("var")
        self._declare_params("random")
        self._declare_loops()
        over = scattered_over(self.fused, self.updates)
        for group in self.fused.groups:
            for value in group.outputs:
                if value in in_place:
                    if in_place[value] in self.memory.layouts:
                        self.memory.layouts[value] = self.memory.layouts[in_place[value]]
                    self.storage.alias_value(value, place[in_place[value]])
                elif value in over and value not in place:
                    self.storage.alias_value(value, place[over[value]])
                elif value not in place:
                    self._add(value, "temp")
        for value, _ in self.fused.views:
            self.storage.alias_value(value, place[self.updates.base(value)])

    def _declare_loops(self) -> None:
        """The memory of carried values, in which their initial values are made where they can."""
        counts = use_counts(self.fused.graph)
        made = {v for g in self.fused.groups for v in g.outputs
                if g.call is None and v not in self.updates.in_place and not _is_table(g)}
        viewed = {self.updates.base(source) for _, source in self.fused.views}
        for group in self.fused.groups:
            if group.call is None or OPS[group.call.op].kernel != "control":
                continue
            self.control.declare(group.call)
            if group.call.op == "if":
                continue
            for at, value in enumerate(group.call.operands[:carried_of(group.call)]):
                if counts[value] == 1 and value in made and value not in viewed:
                    self.control.begin_in(group.call, at)

    def _declare_params(self, role: Literal["in", "var", "random"]) -> None:
        for param in self.fused.graph.params:
            if param.role == role:
                self._add(param.value, role)
                name = param.value.name
                buffers = self.storage.buffers
                buffers[name] = replace(buffers[name], default=param.default)

    def _declare_results(self) -> None:
        """Results are written where the caller wants them; what lies elsewhere is copied there."""
        views = {v for v, _ in self.fused.views}
        elsewhere = {v for g in self.fused.groups for v in g.outputs if _is_table(g)}
        elsewhere |= views | self.updates.in_place.keys() | set(self.fused.graph.inputs)
        elsewhere |= {v for g in self.fused.groups if g.call is not None
                      for v in self.control.kept(g.call)}
        for k, value in enumerate(self.fused.graph.results):
            if value not in elsewhere and value not in self.storage.place:
                self._add(value, "out")
            else:
                name = self.copied[k] = self.storage.fresh(f"result.{k}")
                self.storage.buffers[name] = ProgramBuffer(
                    name, value.dtype, value.dims, "out", Layout())

    def _add(self, value: Value, kind: BufferKind) -> None:
        node = self.memory.made.get(value)
        values: tuple[float, ...] = ()
        if node is not None and node.op == "table":
            kind, values = "const", node.attr("values")  # type: ignore[assignment]
        layout = self.memory.layouts.get(value, Layout())
        self.storage.buffers[value.name] = ProgramBuffer(
            value.name, value.dtype, value.dims, kind, layout, path=node.path if node else "",
            values=values)
        self.storage.place[value] = value.name

    def _lower(self, group: Group) -> list[Step]:
        if group.call is not None:
            return self._lower_alone(group.call)
        if _is_table(group):
            return []
        if group.root is not None and group.root.op in SEQUENCES:
            return self._sequence(group, group.root)
        make = ChainMaker if group.chain else KernelMaker if group.row is None else RowMaker
        maker = make(group, self.memory)
        # Under other dims it is a view of the variable, which the group then does not read.
        in_place = self.updates.in_place
        kernel = maker.make({v: in_place[v] for v in group.outputs
                             if v in in_place and in_place[v].dims == v.dims})
        nodes = group.nodes or tuple(
            self.memory.made[v] for v in group.outputs if v in self.memory.made)
        return [self._launch(kernel, maker.buffers, nodes, _hint(group))]

    def _sequence(self, group: Group, node: Node) -> list[Step]:
        """A kernel that goes in order; a scatter's base is first put where its result will be."""
        steps: list[Step] = []
        result = self.storage.place[node.result]
        if node.op == "scatter" and not self.storage.together(node.operands[0], node.result):
            steps.append(self._copy(node.operands[0], result, (node,)))
        if goes_in_runs(node, self.options):
            runs = Runs(node, self.memory, self.storage, self._launch, self._copy)
            return [*steps, *runs.steps()]
        maker = SequenceMaker(group, self.memory)
        kernel = maker.make_sequence()
        return [*steps, self._launch(kernel, maker.buffers, group.nodes, node.op)]

    def _lower_alone(self, node: Node) -> list[Step]:
        """A node that is no kernel."""
        places = [self.storage.place[v] for v in node.operands]
        if node.op == "check":
            self.storage.checks += 1
            value = places[1] if len(places) > 1 else ""
            return [Check(places[0], self.storage.checks, str(node.attr("text")), node.locs,
                          value)]
        if node.op == "print":
            self.storage.prints += 1
            parts = node.attr("parts")
            assert isinstance(parts, tuple)
            return [Print(tuple(places), self.storage.prints, tuple(map(str, parts)), node.locs)]
        if OPS[node.op].kernel == "control":
            return self.control.steps(node)
        return self._call(node)

    def _launch(
        self, kernel: Kernel, values: list[Value], nodes: tuple[Node, ...], hint: str
    ) -> Launch:
        dims: tuple[Dim, ...] = tuple(map(symbol, kernel.symbols))
        flat = flatten(kernel)
        if flat is None:
            kernel = collapse(kernel)
        if flat is not None:
            kernel, dims = flat
        locs = tuple(dict.fromkeys(loc for node in nodes for loc in node.locs))
        path = nodes[-1].path if nodes else ""
        buffers = tuple(self.storage.place[v] for v in values)
        return Launch(self.kernels.name(kernel, hint), buffers, dims, path, locs)

    def _call(self, call: Node) -> list[Step]:
        (callee,) = call.regions
        in_place, base, place = self.updates.in_place, self.updates.base, self.storage.place
        olds = {base(v): k for k, v in enumerate(call.operands)}
        over = {k: olds[in_place[r]] for k, r in enumerate(call.results)
                if r in in_place and in_place[r] in olds}
        lowered = self._callee(callee, tuple(over.items()))
        names = interface(
            lowered, callee, tuple(place[v] for v in call.operands),
            tuple(place[r] for k, r in enumerate(call.results) if k not in over))
        bound = bind_symbols(tuple(v.type for v in callee.inputs),
                             tuple(v.type for v in call.operands))
        steps = splice(lowered, self.storage, names, call.results[0].name, bound, call)
        return [step for step in steps if not isinstance(step, Commit)]

    def _callee(self, callee: Graph, over: tuple[tuple[int, int], ...] = ()) -> Program:
        """The program of a called graph, or of the body of a loop or a branch.

        Result k goes over parameter p for (k, p) in `over`.
        """
        key = (id(callee), over)
        if key not in self.kernels.callees:
            names = [v.name for v in callee.inputs]
            replaced = dict(over)
            params = tuple(replace(p, role="var" if k in replaced.values() else "in")
                           for k, p in enumerate(callee.params))
            graph = replace(
                callee, params=params,
                results=tuple(r for k, r in enumerate(callee.results) if k not in replaced),
                updates=tuple((names[p], callee.results[k]) for k, p in over))
            fused = fuse(pack_in_body(graph), self.options)
            self.kernels.callees[key] = (
                callee, Lowering(fused, self.options, self.kernels).program())
        return self.kernels.callees[key][1]

    def _copy(self, source: Value, target: str, nodes: tuple[Node, ...] = ()) -> Launch:
        """Writes a value, stored or not, into a buffer of its own type; `nodes` say for what."""
        fresh = Value(f"copy of {target}", source.type)
        self.storage.place[fresh] = target
        group = Group("copy", source.dims, (), (fresh,))
        if not nodes and source in self.memory.made:
            nodes = (self.memory.made[source],)
        maker = KernelMaker(group, self.memory)
        kernel = maker.make_copy(source)
        return self._launch(kernel, maker.buffers, nodes, "copy")

    def _copy_results(self) -> None:
        for k, name in self.copied.items():
            value = self.fused.graph.results[k]
            # What is written after the commit (a variable's new value) is copied after it.
            late = self.updates.base(value) in self.updates.in_place
            (self.late if late else self.early).append(self._copy(value, name))

    def _copy_updates(self) -> None:
        base, in_place = self.updates.base, self.updates.in_place
        variables = {p.value.name: p.value for p in self.fused.graph.params}
        for name, value in self.fused.graph.updates:
            kept = base(value) == variables[name]
            if not kept and in_place.get(base(value)) != variables[name]:
                self.late.append(self._copy(value, name))


def _sizes(graph: Graph) -> tuple[Size, ...]:
    """The sizes that are arguments; variables and random state are none."""
    arguments = [p for p in graph.params if p.role in ("in", "size")]
    return tuple(Size(p.value.name, at, p.default) for at, p in enumerate(arguments)
                 if p.role == "size")


def _is_table(group: Group) -> bool:
    """Whether a group is a constant, whose numbers are part of the code."""
    return len(group.nodes) == 1 and group.nodes[0].op == "table"


def _hint(group: Group) -> str:
    """A name that tells what a kernel does: its ops, the root's first."""
    ops = [group.root.op] if group.root else []
    ops += [n.op for n in group.nodes if n is not group.root and n.op not in ops]
    return "_".join(ops[:3]) or "copy"
