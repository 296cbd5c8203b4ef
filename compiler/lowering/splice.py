"""Puts the steps of a program that was lowered by itself among those of another one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from dlc.compiler.lowering.storage import Storage
from dlc.ir.dims import Dim, substitute, symbol
from dlc.ir.graph import Graph, Node
from dlc.ir.program import (
    Branch,
    BufferKind,
    Check,
    Commit,
    Launch,
    Loop,
    Parallel,
    Print,
    Program,
    ProgramBuffer,
    Step,
    each_step,
)


def interface(
    lowered: Program, graph: Graph, inputs: tuple[str, ...], results: tuple[str, ...]
) -> dict[str, str]:
    """Buffers that stand for the parameters and results of `graph`, by their names in `lowered`.

    `results` are those that `lowered` gives, in order.
    """
    names = {v.name: name for v, name in zip(graph.inputs, inputs, strict=True)}
    outs = [b.name for b in lowered.buffers if b.kind == "out" and not b.alias_of]
    return names | dict(zip(outs, results, strict=True))


def splice(
    lowered: Program, into: Storage, names: dict[str, str], hint: str,
    bound: Mapping[str, Dim] | None = None, call: Node | None = None,
) -> tuple[Step, ...]:
    """The steps of `lowered`, on buffers of `into`.

    `names` says which buffer of `into` stands for one of `lowered`; all others are added, called
    after `hint`. `bound` are dims for symbols. Launches take the place and path of `call`.
    """
    return _Splicing(lowered, into, names, hint, dict(bound or {}), call).steps(lowered.steps)


class _Splicing:
    """One program on its way into another."""

    def __init__(
        self, lowered: Program, into: Storage, names: dict[str, str], hint: str,
        bound: dict[str, Dim], call: Node | None,
    ) -> None:
        self.into, self.names, self.hint, self.bound, self.call = into, names, hint, bound, call
        self.vars = {step.var: into.turn() for step in each_step(lowered.steps)
                     if isinstance(step, Loop)}
        self.bound |= {old: symbol(new) for old, new in self.vars.items()}
        for buffer in lowered.buffers:
            if buffer.name not in names:
                self._add(buffer)

    def _add(self, buffer: ProgramBuffer) -> None:
        dims = tuple(substitute(d, self.bound) for d in buffer.dims)
        root, offset = "", substitute(buffer.offset, self.bound)
        kind: BufferKind = "const" if buffer.kind == "const" else "temp"
        if buffer.alias_of:
            outer = self.into.buffers[self.names[buffer.alias_of]]
            if offset == 0 and outer.dims == dims:
                self.names[buffer.name] = outer.name
                return
            root, offset, kind = outer.alias_of or outer.name, outer.offset + offset, outer.kind
        name = self.into.fresh(f"{self.hint}.{buffer.name}")
        self.into.buffers[name] = replace(
            buffer, name=name, dims=dims, kind=kind, alias_of=root, offset=offset)
        self.names[buffer.name] = name

    def steps(self, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        """Steps on other buffers."""
        return tuple(map(self._step, steps))

    def _step(self, step: Step) -> Step:
        names = self.names
        match step:
            case Launch():
                return self._launch(step)
            case Check():
                self.into.checks += 1
                return replace(step, buffer=names[step.buffer], code=self.into.checks,
                               value=names[step.value] if step.value else "")
            case Print():
                self.into.prints += 1
                return replace(step, buffers=tuple(names[b] for b in step.buffers),
                               code=self.into.prints)
            case Loop():
                return Loop(
                    self.vars[step.var], substitute(step.count, self.bound),
                    self.steps(step.body), self.steps(step.test),
                    names[step.condition] if step.condition else "")
            case Branch():
                return Branch(names[step.condition], self.steps(step.then),
                              self.steps(step.otherwise))
            case Commit():
                return step
            case Parallel():
                raise ValueError(f"{step.var}: loops are interchanged after all is in one program")

    def _launch(self, launch: Launch) -> Launch:
        path, locs = launch.path, launch.locs
        if self.call is not None:
            path, locs = self.call.path or path, self.call.locs or locs
        return replace(
            launch, buffers=tuple(self.names[b] for b in launch.buffers),
            dims=tuple(substitute(d, self.bound) for d in launch.dims), path=path, locs=locs)
