"""lower: makes a Program of Kernels from the groups of a fused Graph.

Launches that only serve the new values of variables come after the commit point, and write a
variable in place where nothing reads its old value afterwards. A call of a graph that was kept
whole (an optimizer) is lowered once, and its launches are repeated with other buffers and sizes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from dlc.compiler.kernels.flatten import flatten
from dlc.compiler.kernels.invert import inverses
from dlc.compiler.kernels.make_kernel import KernelMaker, Memory
from dlc.compiler.options import Options
from dlc.compiler.passes.fuse import fuse, reads_in_place
from dlc.compiler.passes.pack_inputs import pack_inputs
from dlc.ir.canonical import Key, kernel_key
from dlc.ir.dims import Dim, substitute, symbol
from dlc.ir.fused import FusedGraph, Group
from dlc.ir.graph import Graph, Node, Role, Value, producers
from dlc.ir.kernel import Kernel, Layout
from dlc.ir.ops.control import bind_symbols
from dlc.ir.program import (
    BufferKind,
    Check,
    Commit,
    Launch,
    Program,
    ProgramBuffer,
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
    callees: dict[tuple[int, tuple[tuple[int, int], ...]], Program] = field(default_factory=dict)

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
        self.views = dict(fused.views)
        stored = {v for group in fused.groups for v in group.outputs}
        stored |= set(graph.inputs) | set(self.views)
        made = producers(graph.nodes)
        self.memory = Memory(made, stored, dict(fused.layouts), inverses(graph, options))
        self.buffers: dict[str, ProgramBuffer] = {}
        self.place: dict[Value, str] = {}  # the buffer in which a value lies
        self.early: list[Step] = []
        self.late: list[Step] = []
        self.checks = 0
        self.read_late: set[Value] = set()

    def program(self) -> Program:
        """Places the values, then lowers each group."""
        graph = self.fused.graph
        late = self._late_groups()
        in_place = self._in_place(late)
        self._declare(in_place)
        for group in self.fused.groups:
            steps = self.late if group.name in late else self.early
            steps += self._lower(group, in_place)
        self._copy_results(in_place)
        self._copy_updates(in_place)
        steps = [*self.early, Commit(), *self.late] if graph.updates else self.early
        symbols = sorted({s for p in graph.params for s in type_symbols(p.value.type)})
        return Program(
            graph.name, tuple(symbols), tuple(self.buffers.values()), tuple(steps),
            tuple(self.kernels.made.values()), conditions=graph.conditions)

    def _base(self, value: Value) -> Value:
        while value in self.views:
            value = self.views[value]
        return value

    def _late_groups(self) -> set[str]:
        """Groups that only serve new values of variables, and so can come after the commit."""
        graph = self.fused.graph
        updated = {self._base(v) for _, v in graph.updates}
        early = {self._base(v) for v in graph.results}
        late: set[str] = set()
        for group in reversed(self.fused.groups):
            outputs = {self._base(v) for v in group.outputs}
            check = group.call is not None and group.call.op == "check"
            if not check and outputs and not outputs & early and (
                    outputs & updated or outputs <= self.read_late):
                late.add(group.name)
                self.read_late |= self._reads(group)
            else:
                early |= self._reads(group)
        return late

    def _reads(self, group: Group) -> set[Value]:
        """The values in memory that a group reads, views resolved."""
        found: set[Value] = set()
        nodes = group.nodes or tuple(
            self.memory.made[v] for v in group.outputs if v in self.memory.made)
        stack = [v for node in nodes for v in node.operands]
        own = set(group.outputs)
        while stack:
            value = stack.pop()
            if value in self.memory.stored and value not in own:
                found.add(self._base(value))
            elif value in self.memory.made:
                stack += self.memory.made[value].operands
        return found

    def _in_place(self, late: set[str]) -> dict[Value, Value]:
        """Which computed value is written over which variable's old value."""
        groups = self.fused.groups
        owner = {self._base(v): at for at, g in enumerate(groups) for v in g.outputs}
        variables = {p.value.name: p.value for p in self.fused.graph.params}
        chosen: dict[Value, Value] = {}
        last_read = {v: at for at, group in enumerate(groups) for v in self._reads(group)}
        for name, value in self.fused.graph.updates:
            made, old = self._base(value), variables[name]
            at = owner.get(made)
            if at is None or groups[at].name not in late or made in chosen:
                continue
            if groups[at].nodes and groups[at].nodes[0].op == "table":
                continue  # has memory of its own, which holds it from the start
            if made.dims != old.dims and old in self.memory.layouts:
                continue  # other dims are another view of row-major memory alone
            if last_read.get(old, -1) <= at and self._overwrites(groups[at], old, made):
                chosen[made] = old
        return chosen

    def _overwrites(self, group: Group, old: Value, made: Value) -> bool:
        """Whether the group reads `old` only where it writes `made`."""
        if group.call is not None:
            return [self._base(v) for v in group.call.operands].count(old) <= 1
        if made.dims != old.dims or not group.nodes:
            return old not in self._reads(group)
        root = group.root
        far = tuple(node for node in group.nodes if node is root
                    or not reads_in_place(node, self.memory.inverses))
        if far and old in self._reads(replace(group, nodes=far, outputs=())):
            return False
        stack = [v for node in group.nodes if node is not root
                 for v in node.operands if v not in group.outputs]
        while stack:
            value = stack.pop()
            if value in self.memory.stored:
                if value != old and self._base(value) == old:
                    return False
            elif value in self.memory.made:
                node = self.memory.made[value]
                if node not in group.nodes and old in map(self._base, node.operands):
                    return False
                stack += node.operands
        return True

    def _declare(self, in_place: dict[Value, Value]) -> None:
        graph = self.fused.graph
        outs: dict[Value, str] = {}
        for value in graph.results:
            node = self.memory.made.get(value)
            if node and node.op != "table" and value not in self.views and value not in in_place:
                outs.setdefault(value, f"{value.name}")
        self._declare_params("in")
        for k, value in enumerate(graph.results):
            self._declare_result(k, value, outs)
        self._declare_params("var")
        self._declare_params("random")
        for group in self.fused.groups:
            for value in group.outputs:
                if value in in_place:
                    if in_place[value] in self.memory.layouts:
                        self.memory.layouts[value] = self.memory.layouts[in_place[value]]
                    self._alias(value, self.place[in_place[value]])
                elif value not in self.place:
                    self._add(value, "temp")
        for value in self.views:
            self._alias(value, self.place[self._base(value)])

    def _declare_params(self, role: Role) -> None:
        for param in self.fused.graph.params:
            if param.role == role:
                self._add(param.value, role)
                name = param.value.name
                self.buffers[name] = replace(self.buffers[name], default=param.default)

    def _declare_result(self, k: int, value: Value, outs: dict[Value, str]) -> None:
        if value in outs and value not in self.place:
            self._add(value, "out")
        else:
            name = f"result.{k}"
            self.buffers[name] = ProgramBuffer(name, value.dtype, value.dims, "out", Layout())

    def _add(self, value: Value, kind: BufferKind) -> None:
        node = self.memory.made.get(value)
        values: tuple[float, ...] = ()
        if node is not None and node.op == "table":
            kind, values = "const", node.attr("values")  # type: ignore[assignment]
        layout = self.memory.layouts.get(value, Layout())
        self.buffers[value.name] = ProgramBuffer(
            value.name, value.dtype, value.dims, kind, layout, path=node.path if node else "",
            values=values)
        self.place[value] = value.name

    def _alias(self, value: Value, of: str) -> None:
        layout = self.memory.layouts.get(value, Layout())
        self.buffers[value.name] = ProgramBuffer(
            value.name, value.dtype, value.dims, self.buffers[of].kind, layout,
            alias_of=self.buffers[of].alias_of or of)
        self.place[value] = value.name

    def _lower(self, group: Group, in_place: dict[Value, Value]) -> list[Step]:
        call = group.call
        if call is not None and call.op == "check":
            self.checks += 1
            return [Check(self.place[call.operands[0]], self.checks, str(call.attr("text")),
                          call.locs)]
        if call is not None:
            return self._call(call, in_place)
        if len(group.nodes) == 1 and group.nodes[0].op == "table":
            return []
        maker = KernelMaker(group, self.memory)
        # Under other dims it is a view of the variable, which the group then does not read.
        kernel = maker.make({v: in_place[v] for v in group.outputs
                             if v in in_place and in_place[v].dims == v.dims})
        nodes = group.nodes or tuple(
            self.memory.made[v] for v in group.outputs if v in self.memory.made)
        return [self._launch(kernel, maker.buffers, nodes, _hint(group))]

    def _launch(
        self, kernel: Kernel, values: list[Value], nodes: tuple[Node, ...], hint: str
    ) -> Launch:
        dims: tuple[Dim, ...] = tuple(map(symbol, kernel.symbols))
        flat = flatten(kernel)
        if flat is not None:
            kernel, dims = flat
        locs = tuple(dict.fromkeys(loc for node in nodes for loc in node.locs))
        path = nodes[-1].path if nodes else ""
        return Launch(self.kernels.name(kernel, hint), tuple(self.place[v] for v in values), dims,
                      path, locs)

    def _call(self, call: Node, in_place: dict[Value, Value]) -> list[Step]:
        (callee,) = call.regions
        olds = {self._base(v): k for k, v in enumerate(call.operands)}
        over = tuple((k, olds[in_place[r]]) for k, r in enumerate(call.results)
                     if r in in_place and in_place[r] in olds)
        lowered = self._callee(callee, over)
        names = {v.name: self.place[operand]
                 for v, operand in zip(callee.inputs, call.operands, strict=True)}
        bound = bind_symbols(tuple(v.type for v in callee.inputs),
                             tuple(v.type for v in call.operands))
        replaced = dict(over)
        given = [(inner, outer) for k, (inner, outer) in enumerate(
            zip(callee.results, call.results, strict=True)) if k not in replaced]
        for k, (inner, outer) in enumerate(given):
            names[_result_name(lowered, k, inner)] = self.place[outer]
        for buffer in lowered.buffers:
            if buffer.name not in names:
                names[buffer.name] = self._local(buffer, call, bound, names)
        return [replace(step, buffers=tuple(names[b] for b in step.buffers),
                        dims=tuple(substitute(d, bound) for d in step.dims),
                        locs=call.locs or step.locs, path=call.path or step.path)
                for step in lowered.steps if isinstance(step, Launch)]

    def _local(
        self, buffer: ProgramBuffer, call: Node, bound: dict[str, Dim], names: dict[str, str]
    ) -> str:
        if buffer.alias_of and buffer.alias_of in names:
            return names[buffer.alias_of]
        name = f"{call.results[0].name}.{buffer.name}"
        dims = tuple(substitute(d, bound) for d in buffer.dims)
        kind: BufferKind = "const" if buffer.kind == "const" else "temp"
        self.buffers[name] = replace(buffer, name=name, dims=dims, kind=kind, alias_of="")
        return name

    def _callee(self, callee: Graph, over: tuple[tuple[int, int], ...]) -> Program:
        """The program of a called graph; result k goes over parameter p for (k, p) in `over`."""
        key = (id(callee), over)
        found = self.kernels.callees.get(key)
        if found is None:
            names = [v.name for v in callee.inputs]
            replaced = dict(over)
            params = tuple(replace(p, role="var" if k in replaced.values() else "in")
                           for k, p in enumerate(callee.params))
            graph = replace(
                callee, params=params,
                results=tuple(r for k, r in enumerate(callee.results) if k not in replaced),
                updates=tuple((names[p], callee.results[k]) for k, p in over))
            fused = fuse(pack_inputs(graph), self.options)
            found = Lowering(fused, self.options, self.kernels).program()
            self.kernels.callees[key] = found
        return found

    def _copy(self, source: Value, target: str, steps: list[Step]) -> None:
        """Copies a stored value into a buffer of its own type."""
        fresh = Value(f"copy of {target}", source.type)
        self.place[fresh] = target
        group = Group("copy", source.dims, (), (fresh,))
        maker = KernelMaker(group, self.memory)
        kernel = maker.make_copy(source)
        steps.append(self._launch(kernel, maker.buffers, (), "copy"))

    def _copy_results(self, in_place: dict[Value, Value]) -> None:
        for k, value in enumerate(self.fused.graph.results):
            if f"result.{k}" in self.buffers:
                # What is written after the commit (a variable's new value) is copied after it.
                late = self._base(value) in in_place
                self._copy(value, f"result.{k}", self.late if late else self.early)

    def _copy_updates(self, in_place: dict[Value, Value]) -> None:
        variables = {p.value.name: p.value for p in self.fused.graph.params}
        for name, value in self.fused.graph.updates:
            kept = self._base(value) == variables[name]
            if not kept and in_place.get(self._base(value)) != variables[name]:
                self._copy(value, name, self.late)


def _result_name(lowered: Program, k: int, inner: Value) -> str:
    name = f"result.{k}"
    return name if any(b.name == name for b in lowered.buffers) else inner.name


def _hint(group: Group) -> str:
    """A name that tells what a kernel does: its ops, the root's first."""
    ops = [group.root.op] if group.root else []
    ops += [n.op for n in group.nodes if n is not group.root and n.op not in ops]
    return "_".join(ops[:3]) or "copy"
