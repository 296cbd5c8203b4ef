"""pack_operands: convolutions whose sums lie along maps get copies of what they read.

    launch contract_0<…>(x, w, y)    →    launch padded_0<…>(x, x.padded)
                                          launch turned_0<…>(w, w.turned)
                                          launch contract_0<…>(y, x.padded, w.turned)

Where a row is not as long as some vectors are, or a tap reads vectors that begin anywhere, maps
fill vectors better (`kernels/maps.py`). Whether that pays for the copies, and for results that
are transposed, `schedules/maps.py` decides.

If the sizes of a call decide, it asks for them first:

    launch along_maps_1<…>(y.along_maps)
    if y.along_maps { launch padded_0<…>(x, x.padded) … } else { launch contract_0<…>(x, w, y) }

Requires: schedules, for what else would be done. Ensures: results are as before but for the last
bits; what is copied lies in memory of the program's own.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import field, replace

from dlc.compiler.kernels.maps import Packed, maps_of
from dlc.compiler.options import Options
from dlc.compiler.passes.choose_schedules import Chooser
from dlc.compiler.schedules.maps import MapSearch
from dlc.compiler.schedules.sizes import likely_sizes
from dlc.ir.dataclass import dataclass
from dlc.ir.dims import Dim, substitute, symbols
from dlc.ir.kernel import Access, Buffer, Compute, IndexValue, Kernel, Number, ScalarOp
from dlc.ir.program import (
    Branch,
    Launch,
    Loop,
    Parallel,
    Program,
    ProgramBuffer,
    Step,
    each_step,
)
from dlc.ir.schedule import Schedule
from dlc.ir.types import BOOL, I64


def pack_operands(program: Program, options: Options) -> Program:
    """The program in which such convolutions read copies; itself if there are none."""
    packing = _Packing(program, options)
    for kernel in program.kernels:
        packing.kernel(kernel)
    return packing.program() if packing.packed else program


@dataclass(slots=True)
class _Packing:
    """One program."""

    before: Program
    options: Options
    launches: dict[str, list[Launch]] = field(init=False)
    kernels: dict[str, Kernel] = field(init=False)
    schedules: dict[str, Schedule] = field(init=False)
    packed: dict[str, Packed] = field(default_factory=dict)
    asking: dict[str, str] = field(default_factory=dict)  # the kernels that say whether it pays
    buffers: dict[str, ProgramBuffer] = field(init=False)

    def __post_init__(self) -> None:
        self.kernels = {k.name: k for k in self.before.kernels}
        self.schedules = dict(self.before.schedules)
        self.buffers = {b.name: b for b in self.before.buffers}
        self.launches = {}
        for step in each_step(self.before.steps):
            if isinstance(step, Launch):
                self.launches.setdefault(step.kernel, []).append(step)

    def program(self) -> Program:
        """What it is now."""
        steps = self._steps(self.before.steps)
        return replace(
            self.before, steps=steps, buffers=tuple(self.buffers.values()),
            kernels=tuple(self.kernels.values()), schedules=tuple(
                (name, self.schedules[name]) for name in self.kernels))

    def kernel(self, kernel: Kernel) -> None:
        """Packs a kernel's operands, if that pays."""
        launches = self.launches.get(kernel.name, [])
        known = set(self.before.symbols)
        if not launches or any(symbols(d) - known for launch in launches for d in launch.dims):
            return  # memory is as large as symbols of the program say
        maps = maps_of(kernel, self.options.lanes)
        if maps is None:
            return
        sizes = likely_sizes(kernel, launches[0], self.options)
        found = MapSearch(
            maps, kernel, self.schedules[kernel.name], self.options, sizes,
            Chooser(maps.kernel, sizes, self.options).extent).choose()
        if found is None:
            return
        made, schedule, gain = found
        copies = tuple(replace(copy, kernel=self._known(copy.kernel, "pack", sizes))
                       for copy in made.copies)
        name = kernel.name
        if not isinstance(gain, int):
            self.asking[name] = self._known(_asks(gain), "along_maps", sizes).name
            name = self._fresh(f"{name}.along_maps", self.kernels)
        packed = replace(made.kernel, name=name)
        self.packed[kernel.name] = replace(made, kernel=packed, copies=copies)
        self.kernels[name], self.schedules[name] = packed, schedule

    def _known(self, made: Kernel, hint: str, sizes: dict[str, int]) -> Kernel:
        """A kernel with a name and a schedule: an equal one, if there is one."""
        for kernel in self.kernels.values():
            if replace(kernel, name="") == made:
                return kernel
        name = self._fresh(f"{hint}_{len(self.kernels)}", self.kernels)
        kernel = self.kernels[name] = replace(made, name=name)
        self.schedules[name] = Chooser(
            kernel, {n: sizes[n] for n in kernel.symbols}, self.options).choose()
        return kernel

    def _fresh(self, name: str, taken: Container[str]) -> str:
        while name in taken:
            name += "_"
        return name

    def _steps(self, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        return tuple(made for step in steps for made in self._step(step))

    def _step(self, step: Step) -> tuple[Step, ...]:
        match step:
            case Launch() if step.kernel in self.packed:
                return self._packed(step)
            case Loop():
                return (replace(step, body=self._steps(step.body), test=self._steps(step.test)),)
            case Branch():
                return (replace(step, then=self._steps(step.then),
                                otherwise=self._steps(step.otherwise)),)
            case Parallel():
                return (replace(step, body=self._steps(step.body)),)
        return (step,)

    def _packed(self, launch: Launch) -> tuple[Step, ...]:
        """A launch that reads copies; where sizes decide, one that asks first."""
        steps = self._launches(launch, self.packed[launch.kernel])
        if launch.kernel not in self.asking:
            return steps
        flag = self._buffer(f"{launch.kernel}.along_maps", Buffer("", BOOL, (), "out"), launch)
        asks = self.kernels[self.asking[launch.kernel]]
        sizes = self._sizes(launch)
        ask = replace(launch, kernel=asks.name, buffers=(flag,), dims=tuple(
            sizes[n] for n in asks.symbols))
        return (ask, Branch(flag, steps, (launch,)))

    def _launches(self, launch: Launch, packed: Packed) -> tuple[Launch, ...]:
        """The copies of a launch, and what reads them."""
        before = next(k for k in self.before.kernels if k.name == launch.kernel)
        given = dict(zip((b.name for b in before.params), launch.buffers, strict=True))
        sizes = self._sizes(launch)
        copies = [replace(
            launch, kernel=copy.kernel.name, dims=tuple(sizes[n] for n in copy.kernel.symbols),
            buffers=(given[copy.source], self._buffer(
                f"{given[copy.source]}.packed", copy.kernel.params[-1], launch)))
            for copy in packed.copies]
        kept = tuple(given[name] for name in packed.kept)
        return (*copies, replace(launch, kernel=packed.kernel.name, buffers=(
            *kept, *(c.buffers[1] for c in copies))))

    def _sizes(self, launch: Launch) -> dict[str, Dim]:
        """What the symbols of a kernel are at a launch."""
        kernel = next(k for k in self.before.kernels if k.name == launch.kernel)
        return dict(zip(kernel.symbols, launch.dims, strict=True))

    def _buffer(self, name: str, like: Buffer, launch: Launch) -> str:
        """Memory for what a parameter of a kernel is like, at a launch."""
        name, sizes = self._fresh(name, self.buffers), self._sizes(launch)
        self.buffers[name] = ProgramBuffer(
            name, like.dtype, tuple(substitute(d, sizes) for d in like.dims), "temp", like.layout,
            path=launch.path)
        return name


def _asks(gain: Dim) -> Kernel:
    """A kernel that says whether a size is not negative."""
    op = ScalarOp("t0", "ge", (IndexValue(I64, gain), Number(I64, 0)), BOOL)
    return Kernel("", tuple(sorted(symbols(gain))), (Buffer("p0", BOOL, (), "out"),), (), (),
                  (Compute(Access("p0"), (op,), "t0"),))
