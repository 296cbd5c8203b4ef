"""order_steps: launches that do not depend on each other, in an order in which less is alive.

    commit                          commit
    dw = …   dv = …        →        dw = …   w -= dw      # dw's memory serves dv
    w -= dw  v -= dv                dv = …   v -= dv

Steps go in a list schedule: what frees more memory than it takes goes first, else what came first
before, from the front and from the back. The order with the smallest peak at likely sizes is kept,
the given one unless another is better. The commit moves up to the last check, print or loop:
updates can follow their gradients, and loops can still be stopped.

Requires: a program whose steps may run in the given order. Ensures: each step finds in memory what
it found there before, so all bits are the same; checks and prints keep their order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from dlc.compiler.kernels.ranges import inner_indices
from dlc.compiler.options import Options
from dlc.compiler.passes.plan_memory import lifetimes, live_bytes, temp_bytes
from dlc.ir.dataclass import dataclass
from dlc.ir.dims import symbols
from dlc.ir.kernel import Access, Kernel, Opaque, computes
from dlc.ir.program import Branch, Check, Commit, Launch, Loop, Print, Program, Step, each_step

Order = list[int]


def order_steps(program: Program, options: Options) -> Program:
    """The program with its outermost steps in the best order that was found."""
    if len(program.steps) < 3:
        return program
    taken = temp_bytes(program, {name: options.hint(name) for name in program.symbols})
    best, least = program, live_bytes(lifetimes(program), taken)
    for order in _orders(_Ties(program), taken):
        other = replace(program, steps=tuple(program.steps[at] for at in order))
        peak = live_bytes(lifetimes(other), taken)
        if peak < least:
            best, least = other, peak
    return best


def _orders(ties: _Ties, taken: dict[str, int]) -> Iterator[Order]:
    """The orders that are tried."""
    for eager in (True, False):
        yield _Schedule(ties.before, ties.after, ties.temps, taken, False).run(eager)
        yield _Schedule(ties.after, ties.before, ties.temps, taken, True).run(eager)[::-1]


@dataclass(slots=True)
class _Effect:
    """The memory that a step reads and writes, by the names of the buffers that have it."""

    reads: set[str]
    writes: set[str]


class _Ties:
    """Which steps must stand before which; `temps` are the temps that each step touches."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.roots = {b.name: b.alias_of or b.name for b in program.buffers}
        self.buffers = {b.name: b for b in program.buffers}
        self.kernels = {kernel.name: kernel for kernel in program.kernels}
        steps = program.steps
        self.before: list[set[int]] = [set() for _ in steps]
        self.after: list[set[int]] = [set() for _ in steps]
        effects = [self._effect(step) for step in steps]
        self._tie_memory(effects)
        self._tie_effects()
        self._tie_turns()
        temps = {b.name for b in program.buffers if b.kind == "temp"}
        self.temps = [(e.reads | e.writes) & temps for e in effects]

    def _tie(self, first: int, second: int) -> None:
        if first != second:
            self.before[second].add(first)
            self.after[first].add(second)

    def _effect(self, step: Step) -> _Effect:
        """What a step, or what stands in it, does to memory."""
        effect = _Effect(set(), set())
        for each in each_step((step,)):
            match each:
                case Launch():
                    self._launch(each, self.kernels[each.kernel], effect)
                case Print():
                    effect.reads |= {self.roots[name] for name in each.buffers}
                case Check():
                    effect.reads |= {self.roots[n] for n in (each.buffer, each.value) if n}
                case Loop() | Branch():
                    effect.reads |= {self.roots[n] for n in (each.condition,) if n}
                case Commit():
                    pass
        return effect

    def _launch(self, launch: Launch, kernel: Kernel, effect: _Effect) -> None:
        for param, name in zip(kernel.params, launch.buffers, strict=True):
            if param.role in ("in", "inout"):
                effect.reads.add(self.roots[name])
            if param.role != "in":
                effect.writes.add(self.roots[name])

    def _tie_memory(self, effects: list[_Effect]) -> None:
        """Writes keep their places among the reads and writes of the same memory."""
        written: dict[str, int] = {}
        read: dict[str, list[int]] = {}
        for at, effect in enumerate(effects):
            for name in effect.reads | effect.writes:
                if name in written:
                    self._tie(written[name], at)
            for name in effect.writes:
                for reader in read.pop(name, ()):
                    self._tie(reader, at)
                written[name] = at
            for name in effect.reads - effect.writes:
                read.setdefault(name, []).append(at)

    def _tie_effects(self) -> None:
        """Checks, prints and loops keep their order; those before the commit stay there, and all
        writes of variables stay behind it. What goes to places that are data stays behind the check
        that they are inside."""
        variables = {b.name for b in self.program.buffers if b.kind == "var"}
        last, commit = -1, -1
        for at, step in enumerate(self.program.steps):
            match step:
                case Launch():
                    effect = self._effect(step)
                    if commit >= 0 and effect.writes & variables:
                        self._tie(commit, at)
                    if last >= 0 and goes_by_data(self.kernels[step.kernel]):
                        self._tie(last, at)
                    continue
                case Commit():
                    commit = at
                case _:
                    pass
            if last >= 0:
                self._tie(last, at)
            last = at

    def _tie_turns(self) -> None:
        """What is of a size that a loop tells stands behind it."""
        loops = {each.var: at for at, step in enumerate(self.program.steps)
                 for each in each_step((step,)) if isinstance(each, Loop)}
        if not loops:
            return
        for at, step in enumerate(self.program.steps):
            for each in each_step((step,)):
                for name in self._names(each) & loops.keys():
                    if loops[name] < at:
                        self._tie(loops[name], at)

    def _names(self, step: Step) -> frozenset[str]:
        """The symbols and variables of loops in the sizes and places of what a step uses."""
        match step:
            case Launch():
                used = [self.buffers[name] for name in step.buffers]
                dims = [*step.dims, *(d for b in used for d in (b.offset, *b.dims))]
            case Print():
                used = [self.buffers[name] for name in step.buffers]
                dims = [d for b in used for d in (b.offset, *b.dims)]
            case Loop():
                dims = [step.count]
            case _:
                dims = []
        return frozenset[str]().union(*map(symbols, dims))


def goes_by_data(kernel: Kernel) -> bool:
    """Whether a kernel reads or writes at places, or as often, as numbers in memory say."""
    if any(isinstance(step, Opaque) for step in kernel.body):
        return True
    indices = [*kernel.outer, *inner_indices(kernel.body)]
    told: list[object] = [bound for i in indices for bound in (i.low, i.high)]
    for compute in computes(kernel.body):
        places = [a for a in (*compute.args, compute.target) if isinstance(a, Access)]
        told += [e for access in places for e in access.at]
    return any(isinstance(each, Access) for each in told)


class _Schedule:
    """A list schedule: of the steps that may come next, the one that adds least to what is alive.

    `turned`: from the back to the front, where what was last is first.
    """

    def __init__(
        self, before: list[set[int]], after: list[set[int]], temps: list[set[str]],
        taken: dict[str, int], turned: bool,
    ) -> None:
        self.after, self.temps, self.taken = after, temps, taken
        self.missing = [len(each) for each in before]
        self.rank: Callable[[int], int] = (lambda at: -at) if turned else (lambda at: at)
        self.users: dict[str, set[int]] = {}
        for at, names in enumerate(temps):
            for name in names:
                self.users.setdefault(name, set()).add(at)
        self.alive: set[str] = set()
        self.change: dict[int, int] = {}  # of the bytes alive, for each step that may come next
        for at, count in enumerate(self.missing):
            if not count:
                self.change[at] = self._change(at)

    def run(self, eager: bool) -> Order:
        """All steps in order; if `eager`, only those that free memory leave their places."""
        order: Order = []
        while self.change:
            at = min(self.change, key=self._cost)
            if eager and self.change[at] >= 0:
                at = min(self.change, key=self.rank)
            self._take(at)
            order.append(at)
        return order

    def _cost(self, at: int) -> tuple[int, int]:
        return self.change[at], self.rank(at)

    def _take(self, at: int) -> None:
        """Puts a step next."""
        del self.change[at]
        again: set[int] = set()
        for name in self.temps[at]:
            self.users[name].discard(at)
            if name not in self.alive or len(self.users[name]) == 1:
                again |= self.users[name]
            self.alive.add(name)
        for following in self.after[at]:
            self.missing[following] -= 1
            if not self.missing[following]:
                again.add(following)
        for other in again:
            if not self.missing[other]:
                self.change[other] = self._change(other)

    def _change(self, at: int) -> int:
        """The bytes that begin to live with a step, less those that end with it."""
        begun = sum(self.taken[n] for n in self.temps[at] if n not in self.alive)
        return begun - sum(self.taken[n] for n in self.temps[at] if len(self.users[n]) == 1)
