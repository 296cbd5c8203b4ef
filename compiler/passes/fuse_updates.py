"""fuse_updates: the new value of a variable is computed where its gradient is made.

    dw = sum n: x[n, i] * g[n, j]
    w[i, j] = w[i, j] - lr * dw[i, j]        →        w[i, j] -= lr * (sum n: x[n, i] * g[n, j])

The gradient then never lies in memory. The elementwise launch becomes the end of the kernel that
makes what it reads; of a sum in parts, of the kernel that adds these up. Its work is done as the
schedule of that kernel goes, so the gradient has the bits that it had before.

Requires: launches in their last order, with schedules. Ensures: a launch is only moved over others
that touch nothing of what it writes and write nothing of what it reads, to where the variable was
written before: behind the commit, and behind the last read of the old value. A gradient that is
read again (by a norm of all gradients, by a result) stays in memory, and so does one whose vectors
do not lie along the variable: its update is faster by itself. Where a kernel has variants, the
update becomes part of each.
"""

from __future__ import annotations

from dataclasses import field, replace

from dlc.compiler.kernels.accesses import stride
from dlc.compiler.kernels.append import appended
from dlc.compiler.passes.plan_memory import uses
from dlc.compiler.schedules.fetched import fetched
from dlc.ir.dataclass import dataclass
from dlc.ir.dims import Dim, product, substitute, symbol
from dlc.ir.kernel import Access, Buffer, Compute, Kernel
from dlc.ir.program import Commit, Launch, Program, Step, Variant, each_step
from dlc.ir.schedule import Schedule

ELEMENT = "E"  # the size of a kernel that goes over elements in a row (`kernels/flatten.py`)


def fuse_updates(program: Program) -> Program:
    """The program with updates at the end of what makes their gradients; itself if there are none.
    """
    fusing = _Fusing(program)
    for at in range(len(fusing.steps)):
        fusing.update(at)
    return fusing.program() if fusing.gone else program


@dataclass(frozen=True, slots=True)
class _Gradient:
    """What a launch makes for an update alone: by which computes, into which parameter."""

    place: int  # of the launch, among the steps
    name: str  # of the buffer that has the memory
    computes: dict[str, Compute]  # by the names of the kernel and of its variants
    param: Buffer
    operand: int  # the parameter of the update that is read there


@dataclass(slots=True)
class _Fusing:
    """One program; a step that became part of another is None."""

    before: Program
    steps: list[Step | None] = field(init=False)
    kernels: dict[str, Kernel] = field(init=False)
    schedules: dict[str, Schedule] = field(init=False)
    roots: dict[str, str] = field(init=False)
    readers: dict[str, int] = field(init=False)  # how many steps use a buffer
    variables: set[str] = field(init=False)
    temporary: set[str] = field(init=False)  # what no caller sees
    variants: list[Variant] = field(init=False)
    gone: set[str] = field(default_factory=set)  # buffers that nothing uses any more
    made: dict[tuple[str, str, str, int], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        program = self.before
        self.steps = list(program.steps)
        self.kernels = {k.name: k for k in program.kernels}
        self.schedules = dict(program.schedules)
        self.variants = list(program.variants)
        self.roots = {b.name: b.alias_of or b.name for b in program.buffers}
        self.readers = {name: len(found) for name, found in uses(program).items()}
        self.variables = {b.name for b in program.buffers if b.kind == "var" and not b.alias_of}
        self.temporary = {b.name for b in program.buffers if b.kind == "temp"}

    def program(self) -> Program:
        """What it is now, without what nothing uses any more."""
        steps = tuple(step for step in self.steps if step is not None)
        launched = {step.kernel for step in each_step(steps) if isinstance(step, Launch)}
        variants = tuple(v for v in self.variants if v.of in launched)
        used = launched | {v.kernel for v in variants}
        return replace(
            self.before, steps=steps, variants=variants,
            buffers=tuple(b for b in self.before.buffers if self.roots[b.name] not in self.gone),
            kernels=tuple(k for k in self.kernels.values() if k.name in used),
            schedules=tuple((k, s) for k, s in self.schedules.items() if k in used))

    def update(self, at: int) -> None:
        """Makes the launch at `at` a part of the one before it that makes its gradient."""
        launch = self.steps[at]
        if not isinstance(launch, Launch) or not self._is_update(launch):
            return
        for operand in range(len(launch.buffers)):
            found = self._gradient(launch, at, operand)
            if found is not None and self._may_move(found.place, at, launch):
                self._join(found, at, launch)
                return

    def _is_update(self, launch: Launch) -> bool:
        """Whether it goes over elements one by one, and writes a variable."""
        kernel = self.kernels[launch.kernel]
        element: set[tuple[Dim | Access, ...]] = {(), (symbol(kernel.outer[0].name),)} if (
            kernel.outer) else set()
        plain = kernel.symbols == (ELEMENT,) and len(kernel.outer) == 1 and all(
            isinstance(c, Compute) and not c.over and not c.where and all(
                a.at in element for a in (*c.args, c.target) if isinstance(a, Access))
            for c in kernel.body)
        return plain and not self._written(launch).isdisjoint(self.variables)

    def _written(self, launch: Launch) -> set[str]:
        """The memory that a launch writes."""
        params = self.kernels[launch.kernel].params
        return {self.roots[n] for p, n in zip(params, launch.buffers, strict=True)
                if p.role != "in"}

    def _gradient(self, update: Launch, at: int, operand: int) -> _Gradient | None:
        """The launch that makes an operand of an update, if nothing else reads that."""
        param, name = self.kernels[update.kernel].params[operand], update.buffers[operand]
        root = self.roots[name]
        if param.role != "in" or not param.dims or root not in self.temporary or (
                self.readers.get(root) != 2 or update.buffers.count(name) != 1):
            return None
        for place in range(at - 1, -1, -1):
            launch = self.steps[place]
            if isinstance(launch, Launch) and root in map(self.roots.get, launch.buffers):
                return self._made(launch, place, root, operand, update)
        return None

    def _made(
        self, launch: Launch, place: int, root: str, operand: int, update: Launch
    ) -> _Gradient | None:
        """By which computes a launch makes all of `root`, in vectors along it."""
        kernel = self.kernels[launch.kernel]
        names = [self.roots[n] for n in launch.buffers]
        param = kernel.params[names.index(root)]
        size = substitute(
            product(param.dims), dict(zip(kernel.symbols, launch.dims, strict=True)))
        if names.count(root) != 1 or param.role != "out" or size != update.dims[0] or (
                not param.layout.is_row_major):
            return None
        found: dict[str, Compute] = {}
        for name in (kernel.name, *(v.kernel for v in self.variants if v.of == kernel.name)):
            compute = written_along(self.kernels[name], self.schedules[name], param.name)
            if compute is None:
                return None
            found[name] = compute
        return _Gradient(place, root, found, param, operand)

    def _may_move(self, place: int, at: int, update: Launch) -> bool:
        """Whether the launch at `place` may stand at `at`, and end with the update there."""
        launch = self.steps[place]
        assert isinstance(launch, Launch)
        written, all_of = self._written(launch), {self.roots[n] for n in launch.buffers}
        if all_of & self._written(update):
            return False
        for step in self.steps[place + 1:at]:
            if step is None or isinstance(step, Commit):
                continue
            if not isinstance(step, Launch) or all_of & self._written(step) or (
                    written & {self.roots[n] for n in step.buffers}):
                return False
        return True

    def _join(self, found: _Gradient, at: int, update: Launch) -> None:
        launch = self.steps[found.place]
        assert isinstance(launch, Launch)
        key = launch.kernel, update.kernel, found.param.name, found.operand
        if key not in self.made:
            made = {name: self._kernel(name, compute, update, found)
                    for name, compute in found.computes.items()}
            self.made[key] = made[launch.kernel]
            self.variants += [replace(v, kernel=made[v.kernel], of=made[v.of])
                              for v in self.variants if v.of == launch.kernel]
        kept = [n for p, n in zip(self.kernels[launch.kernel].params, launch.buffers, strict=True)
                if p.name != found.param.name]
        more = [n for k, n in enumerate(update.buffers) if k != found.operand]
        locs = tuple(dict.fromkeys((*launch.locs, *update.locs)))
        self.steps[at] = Launch(self.made[key], (*kept, *more), launch.dims, launch.path, locs)
        self.steps[found.place] = None
        self.gone.add(found.name)

    def _kernel(
        self, kernel: str, compute: Compute, update: Launch, found: _Gradient
    ) -> str:
        """Makes the kernel of both, with the schedule of the first."""
        first, second = self.kernels[kernel], self.kernels[update.kernel]
        name = f"{first.name}_{second.name}"
        while name in self.kernels:
            name += "_again"
        self.kernels[name] = replace(
            appended(first, compute, second, found.operand), name=name)
        schedule, other = self.schedules[first.name], self.schedules[second.name]
        size = {ELEMENT: product(found.param.dims)}
        made = self.kernels[name]
        self.schedules[name] = replace(
            schedule, cost=schedule.cost + substitute(other.cost, size),
            fetch=fetched(made, schedule))
        return name


def written_along(kernel: Kernel, schedule: Schedule, name: str) -> Compute | None:
    """The only compute that writes a result, if it does so in vectors along that; on a GPU, if
    threads write elements one by one, which neighbours do along memory anyhow."""
    index = next((i for i in kernel.outer if i.name == schedule.vector), None)
    here = tuple(0 if i.high == 1 else symbol(i.name) for i in kernel.outer)
    found = [c for c in kernel.body if isinstance(c, Compute) and c.target.buffer == name]
    if len(found) != 1 or schedule.turn:
        return None
    (compute,) = found
    plain = compute.combine is None and not compute.over and not compute.where
    if not plain or compute.target.at != here:
        return None
    if index is None:
        return compute if schedule.threads and not schedule.part else None
    wide = schedule.threads == 0 and stride(
        kernel, compute.target, index, schedule.lanes) == 1
    return compute if wide else None
