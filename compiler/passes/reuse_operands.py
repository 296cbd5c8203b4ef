"""reuse_operands: an elementwise kernel writes its result over an operand that nothing reads again.

    y = tanh(x)  in a buffer of its own        →        y = tanh(x)  over x

Less memory is alive, and less of it passes through the caches. The kernel becomes one that changes
its operand (`inout`); kernels that are equal then are one.

Requires: launches in their last order. Ensures: a result lies in its own buffer or in that of an
operand of the same launch, of the same type, dims and layout, whose every element is read where it
is written, before it is written, and last in this launch. What reductions, sequences and other
launches in loops read stays apart.
"""

from __future__ import annotations

from dataclasses import field, replace

from dlc.compiler.passes.plan_memory import Use, uses
from dlc.ir.canonical import Key, kernel_key
from dlc.ir.dataclass import dataclass
from dlc.ir.dims import Dim, symbol
from dlc.ir.kernel import Access, Arg, Buffer, Compute, Kernel
from dlc.ir.program import Branch, Launch, Loop, Program, ProgramBuffer, Step, each_step

Pair = tuple[int, int]  # parameters of a kernel: the operand, and the result that goes over it


def reuse_operands(program: Program) -> Program:
    """The program with results over operands; itself if there is no such result."""
    reuse = _Reuse(program)
    steps = reuse.steps(program.steps)
    if not reuse.over:
        return program
    used = {step.kernel for step in each_step(steps) if isinstance(step, Launch)}
    kernels = (*program.kernels, *(k for k, _ in reuse.made.values()))
    return replace(
        program, steps=steps, buffers=tuple(map(reuse.buffer, program.buffers)),
        kernels=tuple({k.name: k for k in kernels if k.name in used}.values()))


@dataclass(slots=True)
class _Reuse:
    """One program: `over` says for each result that has no memory of its own whose it has."""

    program: Program
    over: dict[str, str] = field(default_factory=dict)
    made: dict[Key, tuple[Kernel, str]] = field(default_factory=dict)
    at: int = -1
    buffers: dict[str, ProgramBuffer] = field(init=False)
    kernels: dict[str, Kernel] = field(init=False)
    uses: dict[str, list[Use]] = field(init=False)
    pairs: dict[str, list[Pair]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.buffers = {b.name: b for b in self.program.buffers}
        self.kernels = {k.name: k for k in self.program.kernels}
        self.uses = uses(self.program)

    def steps(self, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        """Steps, numbered as `uses` numbers them."""
        return tuple(map(self._step, steps))

    def _step(self, step: Step) -> Step:
        self.at += 1
        match step:
            case Launch():
                return self._launch(step)
            case Branch():
                then = self.steps(step.then)
                return replace(step, then=then, otherwise=self.steps(step.otherwise))
            case Loop():
                test = self.steps(step.test)
                return replace(step, test=test, body=self.steps(step.body))
            case _:
                return step

    def _launch(self, launch: Launch) -> Launch:
        kernel = self.kernels[launch.kernel]
        if kernel.name not in self.pairs:
            self.pairs[kernel.name] = list(pairs(kernel))
        chosen: dict[int, int] = {}
        for operand, result in self.pairs[kernel.name]:
            free = operand not in chosen and result not in chosen.values()
            if free and self._may(launch, launch.buffers[operand], launch.buffers[result]):
                chosen[operand] = result
        if not chosen:
            return launch
        for operand, result in chosen.items():
            name = launch.buffers[operand]
            self.over[launch.buffers[result]] = self.over.get(name, name)
        left = tuple(b for at, b in enumerate(launch.buffers) if at not in chosen)
        return replace(launch, kernel=self._over(kernel, chosen), buffers=left)

    def _may(self, launch: Launch, operand: str, result: str) -> bool:
        """Whether the operand dies here, and the result begins here, in memory of one kind."""
        old, new = self.buffers[operand], self.buffers[result]
        alike = (old.dtype, old.dims, old.layout) == (new.dtype, new.dims, new.layout)
        own = old.kind == new.kind == "temp" and not old.alias_of and not new.alias_of
        if not (alike and own and launch.buffers.count(operand) == 1):
            return False
        before, after = self.uses[operand], self.uses[result]
        loops = {use.loops for use in (*before, *after)}
        # What is used in one loop alone is of one turn: a carried value has a beginning outside.
        return (len(loops) == 1 and len(before) > 1
                and before[-1].at == self.at == after[0].at)

    def _over(self, kernel: Kernel, chosen: dict[int, int]) -> str:
        """The name of the kernel with these results over these operands."""
        made = overwriting(kernel, chosen)
        key = kernel_key(made)
        if key not in self.made:
            taken = {*self.kernels, *(name for _, name in self.made.values())}
            name = f"{kernel.name}_over"
            while name in taken:
                name += "_over"
            self.made[key] = replace(made, name=name), name
        return self.made[key][1]

    def buffer(self, buffer: ProgramBuffer) -> ProgramBuffer:
        """A buffer in the memory that it has now."""
        root = self.over.get(buffer.alias_of or buffer.name)
        return buffer if root is None else replace(buffer, alias_of=root)


def pairs(kernel: Kernel) -> list[Pair]:
    """Which results of a kernel may go over which operands; none if it is not elementwise."""
    identity = tuple(0 if i.high == 1 else symbol(i.name) for i in kernel.outer)
    computes = [c for c in kernel.body if isinstance(c, Compute) and not c.combine and not c.over]
    if len(computes) < len(kernel.body) or kernel.locals or not _from_zero(kernel):
        return []
    read = {p.name: [-1] for p in kernel.params}  # by which computes
    for number, compute in enumerate(computes):
        for access in (a for arg in compute.args for a in _accesses(arg)):
            read[access.buffer].append(number if access.at == identity else len(computes))
    written = {c.target.buffer: (number, c.target.at) for number, c in enumerate(computes)}
    found = []
    for at, result in enumerate(kernel.params):
        number, where = written.get(result.name, (-1, ()))
        if result.role == "out" and where == identity and len(read[result.name]) == 1:
            found += [(k, at) for k, operand in enumerate(kernel.params)
                      if _alike(operand, result) and max(read[operand.name]) <= number]
    return found


def _from_zero(kernel: Kernel) -> bool:
    return all(i.low == 0 and not isinstance(i.high, Access) for i in kernel.outer)


def _alike(operand: Buffer, result: Buffer) -> bool:
    """Whether an operand lies as a result does, with dims of which none is spread out."""
    return operand.role == "in" and (operand.dtype, operand.dims, operand.layout) == (
        result.dtype, result.dims, result.layout)


def _accesses(arg: Arg) -> list[Access]:
    """The reads of an operand, those that give an index too."""
    if not isinstance(arg, Access):
        return []
    return [arg, *(a for e in arg.at if isinstance(e, Access) for a in _accesses(e))]


def overwriting(kernel: Kernel, chosen: dict[int, int]) -> Kernel:
    """The kernel with results over operands, by the numbers of parameters."""
    names = {kernel.params[old].name: kernel.params[new].name for old, new in chosen.items()}

    def moved(arg: Arg) -> Arg:
        return _moved(arg, names) if isinstance(arg, Access) else arg

    body = tuple(
        replace(c, body=tuple(replace(op, args=tuple(map(moved, op.args))) for op in c.body),
                value=moved(c.value))
        for c in kernel.body if isinstance(c, Compute))
    params = tuple(replace(p, role="inout") if p.name in names.values() else p
                   for p in kernel.params if p.name not in names)
    return replace(kernel, params=params, body=body)


def _moved(access: Access, names: dict[str, str]) -> Access:
    at: tuple[Dim | Access, ...] = tuple(
        _moved(e, names) if isinstance(e, Access) else e for e in access.at)
    return Access(names.get(access.buffer, access.buffer), at, access.fill)
