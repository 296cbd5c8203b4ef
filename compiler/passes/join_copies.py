"""join_copies: what a loop keeps of each turn is written by the kernel that went over it anyhow.

    launch cell<N>(gates, c, h)                  h[i, j] = …
    launch copy<128*N>(h, hs.part)               hs[e] = h[e]
    ->
    launch cell_copy<N>(gates, c, h, hs.part)    h[i, j] = …    hs[i, j] = the same

A launch of a GPU takes some microseconds however little it does, and a turn of a scan has few that
do more. A copy joins an elementwise kernel of as many places, whether that has to do with what is
copied or not; or one that is elementwise after a sum at each place, as products are. Outside of
loops a copy is one of many launches, and stays.

Requires: launches in their last order, without schedules. Ensures: a copy is only moved up over
launches that neither touch what it writes nor write what it reads.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import field, replace

from dlc.ir.dataclass import dataclass
from dlc.ir.dims import Dim, at_least, product, substitute, symbol, symbols
from dlc.ir.kernel import Access, Buffer, Compute, Kernel
from dlc.ir.program import Branch, Launch, Loop, Program, ProgramBuffer, Step, each_step


def join_copies(program: Program) -> Program:
    """The program with fewer copies; itself if none joins another kernel."""
    joining = _Joining(program)
    steps = joining.each(program.steps)
    if not joining.made:
        return program
    used = {step.kernel for step in each_step(steps) if isinstance(step, Launch)}
    kernels = tuple(k for k in joining.kernels.values() if k.name in used)
    return replace(program, steps=steps, kernels=kernels)


@dataclass(slots=True)
class _Joining:
    """One program, and the kernels made so far, by what they are made of."""

    before: Program
    kernels: dict[str, Kernel] = field(init=False)
    buffers: dict[str, ProgramBuffer] = field(init=False)
    made: dict[tuple[str, str, str], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.kernels = {k.name: k for k in self.before.kernels}
        self.buffers = {b.name: b for b in self.before.buffers}

    def each(self, steps: tuple[Step, ...], turn: bool = False) -> tuple[Step, ...]:
        """Steps with what is inside them; those of a turn as few as there can be."""
        found: list[Step] = []
        for step in steps:
            if isinstance(step, Loop):
                step = replace(step, body=self.each(step.body, True), test=self.each(step.test))
            elif isinstance(step, Branch):
                step = replace(step, then=self.each(step.then, turn),
                               otherwise=self.each(step.otherwise, turn))
            elif turn and isinstance(step, Launch) and self._is_copy(step) and (
                    self._joined(step, found)):
                continue
            found.append(step)
        return tuple(found)

    def _is_copy(self, launch: Launch) -> bool:
        """Whether a launch copies elements that lie in a row, and does no more."""
        kernel = self.kernels[launch.kernel]
        if len(kernel.body) != 1 or len(kernel.outer) != 1 or len(kernel.params) != 2:
            return False
        (compute,) = kernel.body
        here = (symbol(kernel.outer[0].name),)
        return (isinstance(compute, Compute) and not compute.body and not compute.over
                and isinstance(compute.value, Access) and compute.value == Access(
                    kernel.params[0].name, here)
                and compute.target == Access(kernel.params[1].name, here)
                and all(b.dims == (kernel.outer[0].high,) for b in kernel.params))

    def _joined(self, copy: Launch, before: list[Step]) -> bool:
        """Makes the copy a part of a launch before it, if there is one."""
        source, target = copy.buffers
        for at in range(len(before) - 1, -1, -1):
            step = before[at]
            if not isinstance(step, Launch):
                return False
            name = self._with_copy(step, copy)
            if name is not None:
                kept = len(self.kernels[name].params) - len(step.buffers)
                locs = tuple(dict.fromkeys((*step.locs, *copy.locs)))
                before[at] = replace(step, kernel=name, locs=locs,
                                     buffers=(*step.buffers, *copy.buffers[2 - kept:]))
                return True
            if self._meets(target, step.buffers) or self._meets(source, self._written(step)):
                return False
        return False

    def _meets(self, name: str, others: Iterable[str]) -> bool:
        """Whether a buffer may lie where one of some others does."""
        one = self.buffers[name]
        each = (self.buffers[other] for other in others)
        return any(_root(one) == _root(other) and not self._are_apart(one, other)
                   for other in each)

    def _are_apart(self, one: ProgramBuffer, other: ProgramBuffer) -> bool:
        """Whether parts of one memory are known not to overlap: those of even and odd turns."""
        apart = one.offset - other.offset
        turns = symbols(apart) - set(self.before.symbols)
        return one.dims == other.dims and len(turns) < 2 and all(
            self._reaches(apart, product(one.dims), {t: symbol(t) * 2 + odd for t in turns})
            for odd in (0, 1))

    def _reaches(self, apart: Dim, size: Dim, turn: dict[str, Dim]) -> bool:
        distance = substitute(apart, turn)
        return at_least(distance - size, 0) or at_least(0 - distance - size, 0)

    def _written(self, launch: Launch) -> list[str]:
        params = self.kernels[launch.kernel].params
        return [n for p, n in zip(params, launch.buffers, strict=True) if p.role != "in"]

    def _with_copy(self, launch: Launch, copy: Launch) -> str | None:
        """The name of the kernel that does both; None if one kernel can't."""
        kernel, (source, target) = self.kernels[launch.kernel], copy.buffers
        if not _takes_copies(kernel) or self._meets(target, launch.buffers):
            return None
        dims = tuple(i.high for i in kernel.outer if not isinstance(i.high, Access))
        sizes = dict(zip(kernel.symbols, launch.dims, strict=True))
        if substitute(product(dims), sizes) != substitute(
                product(self.kernels[copy.kernel].params[0].dims),
                dict(zip(self.kernels[copy.kernel].symbols, copy.dims, strict=True))):
            return None
        read = ""  # the parameter that is copied, if the kernel has it
        if self._meets(source, self._written(launch)):
            read = self._made_here(kernel, launch, source, dims)
            if not read:
                return None
        key = kernel.name, copy.kernel, read
        if key not in self.made:
            self.made[key] = self._kernel(kernel, self.kernels[copy.kernel], read, dims)
        return self.made[key]

    def _made_here(
        self, kernel: Kernel, launch: Launch, source: str, dims: tuple[Dim, ...]
    ) -> str:
        """The result that is copied, if each place of the kernel makes its element of it."""
        met = [n for n in self._written(launch) if self._meets(source, [n])]
        if met != [source] or launch.buffers.count(source) > 1:
            return ""
        param = kernel.params[launch.buffers.index(source)]
        written = [c.target for c in kernel.body
                   if isinstance(c, Compute) and c.target.buffer == param.name]
        here = Access(param.name, _here(kernel))
        return param.name if written == [here] and param.dims == dims else ""

    def _kernel(self, kernel: Kernel, copy: Kernel, read: str, dims: tuple[Dim, ...]) -> str:
        name = f"{kernel.name}_copy"
        while name in self.kernels:
            name += "_more"
        taken = {b.name for b in (*kernel.params, *kernel.locals)}
        names = []
        for hint in ("from", "to"):
            while hint in taken:
                hint += "_"
            names.append(hint)
        source, target = (Buffer(n, b.dtype, dims, b.role)
                          for n, b in zip(names, copy.params, strict=True))
        here = _here(kernel)
        body = list(kernel.body)
        if read:  # what was computed there is taken from where it was computed
            at, value = next((k, c.value) for k, c in enumerate(body)
                             if isinstance(c, Compute) and c.target.buffer == read)
            body.insert(at + 1, Compute(Access(target.name, here), (), value))
        else:
            body.append(Compute(Access(target.name, here), (), Access(source.name, here)))
        params = (*kernel.params, *(() if read else (source,)), target)
        self.kernels[name] = replace(kernel, name=name, params=params, body=tuple(body))
        return name


def _root(buffer: ProgramBuffer) -> str:
    return buffer.alias_of or buffer.name


def _here(kernel: Kernel) -> tuple[Dim, ...]:
    return tuple(0 if i.high == 1 else symbol(i.name) for i in kernel.outer)


def _takes_copies(kernel: Kernel) -> bool:
    """Whether it has places, at each of which it computes what it writes there; perhaps after one
    sum, which is a number at each of them."""
    after = kernel.body[1:] if _begins_with_sum(kernel) else kernel.body
    numbers = [b for b in kernel.locals if not b.dims]
    return bool(kernel.outer) and numbers == list(kernel.locals) and len(numbers) == len(
        kernel.body) - len(after) and all(
        isinstance(c, Compute) and not c.over and not c.where and c.combine is None
        and kernel.buffer(c.target.buffer).role != "local" for c in after) and all(
            i.low == 0 and not isinstance(i.high, Access) for i in kernel.outer)


def _begins_with_sum(kernel: Kernel) -> bool:
    first = kernel.body[0]
    return isinstance(first, Compute) and first.combine is not None and (
        first.combine.kind == "sum" and not first.combine.tree) and (
            kernel.buffer(first.target.buffer).role == "local")
