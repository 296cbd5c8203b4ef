"""Calling compiled code on a GPU: as `runtime/function.py`, whose arguments and results are these.

All that a call needs lies in the one arena of the device. What is copied in goes through staging
memory of the host, in one copy; so do the results.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np

from dlc.runtime.artifact import Artifact
from dlc.runtime.cuda.device import Block, Device, device
from dlc.runtime.cuda.plan import Layout, Places, Step, is_narrow
from dlc.runtime.cuda.repeat import repeat
from dlc.runtime.cuda.steps import FLAG_BYTES, Failed, Stream, Walk
from dlc.runtime.cuda.variables import CudaVariables
from dlc.runtime.dims import evaluate
from dlc.runtime.errors import CheckFailed, GpuError
from dlc.runtime.frames import Binding, Frame
from dlc.runtime.function import Function
from dlc.runtime.memory import DTYPES, Array
from dlc.runtime.printing import text_of
from dlc.runtime.steps import Feed

__all__ = ["CudaFunction"]


class CudaFunction(Function):
    """A function compiled for a GPU, called as one for a CPU is.

    The artifact holds a cubin, made with indices of 32 bits; `wide` gives the one with indices of
    64 bits, and is asked once, when arrays come that are as large. GpuError if there is no GPU that
    can run it, GpuMemoryError if a call does not fit.
    """

    variables: CudaVariables

    def __init__(
        self, artifact: Artifact, variables: CudaVariables | None = None,
        wide: Callable[[], Artifact] | None = None,
    ) -> None:
        self._wide, self._for_wide = wide, cast(CudaFunction | None, None)
        super().__init__(artifact, CudaVariables() if variables is None else variables)

    def _load(self) -> None:
        self.plan: Step = self.artifact.manifest["cuda"]
        self.on: Device = device()
        with self.on:
            self.module = _load(self.on, self.artifact, self.manifest.name)
            self.constants = self._copy_constants()
        self.stream = Stream(self.on.cuda, self.on.stream, self.module)

    def _copy_constants(self) -> dict[str, Block]:
        found = {}
        for name, buffer in self.plan["buffers"].items():
            if buffer["kind"] == "const":
                values = np.asarray(buffer["values"], DTYPES[buffer["dtype"]])
                found[name] = Block(self.on, values.nbytes, f"{self.name}: what it is made with")
                if values.nbytes:
                    self.on.cuda.memcpy_htod(found[name].address, values)
        self.on.finish_copies()
        return found

    def _binding(self, sizes: dict[str, int]) -> Binding:
        code = self if is_narrow(self.plan, sizes) else self._wide_code()
        return cast(Binding, Bound(code, sizes))

    def _wide_code(self) -> CudaFunction:
        with self._making:
            if self._for_wide is None:
                if self._wide is None:
                    raise GpuError(f"{self.name}: these arrays are too large for code that was "
                                   "made with indices of 32 bits")
                self._for_wide = CudaFunction(self._wide(), self.variables)
        return self._for_wide

    def frame(self, binding: Binding) -> Frame:
        """Calls run one after another, so that all share what their sizes settle."""
        return cast(Frame, binding)

    def run_steps(self, steps: int, feed: Feed) -> Any:
        """The results of many calls, each an array with the steps along its first axis."""
        return repeat(self, steps, feed)

    def arena_size(self, **sizes: int) -> int:
        """Bytes of the arena of a call in which the symbols have these sizes."""
        known = {name: sizes[name] for name in self.manifest.symbols}
        return Layout(self.manifest, self.plan, known).size

    def _run(self, frame: Frame, binding: Binding, values: list[Any]) -> Any:
        """Copies the arguments in, runs, and copies the results out."""
        bound = cast(Bound, binding)
        lock = self.variables.lock
        with lock.writing if self._alone else lock.reading, self.on:
            try:
                results = self._call(bound, values)
            except self.on.cuda.Error as error:
                raise self.on.fault(self.name, error) from error
            except Failed as failed:
                text, location = self.manifest.checks[failed.code - 1]
                raise CheckFailed(self.name, text, location, failed.value) from None
        if len(results) == 1:
            return results[0]
        return tuple(results) if results else None

    def _call(self, bound: Bound, values: list[Any]) -> list[Any]:
        bound.prepare()
        for at, _, check in self._scalars:
            values[at] = check(values[at])
        bound.fill(values)
        if self._writes:  # even by what a signal ends
            self.variables.written()
        try:
            bound.walk.run()
        except BaseException:
            with contextlib.suppress(self.on.cuda.Error):  # nothing of it goes on
                self.stream.wait()
            raise
        if self._random:
            self.variables.random[1] += 1
        return bound.results()


class Bound:
    """What follows from the sizes of the symbols: where all lies, and the steps, packed.

    They are packed anew where the arena or the variables have moved since.
    """

    callbacks = ()

    def __init__(self, code: CudaFunction, sizes: dict[str, int]) -> None:
        self.code, self.sizes = code, sizes
        self.frames: list[Bound] = []
        self.layout = Layout(code.manifest, code.plan, sizes)
        self._moved: tuple[object, ...] = ()
        self.walk: Walk

    def prepare(self) -> None:
        """Makes all that depends on addresses, if one has changed; for who holds the device."""
        code, layout = self.code, self.layout
        variables = code.variables.places()
        arena = code.on.scratch(layout.size, f"{code.name}: a call of these sizes")
        staging = code.on.staging(layout.flag + FLAG_BYTES)
        moved = (arena, id(staging), id(variables))
        if moved == self._moved:
            return
        self._staging, self._variables = staging, variables  # kept, so that their ids are theirs
        constants = {name: block.address for name, block in code.constants.items()}
        starts = {name: arena + start for name, start in layout.starts.items()}
        places = Places(code.plan, starts | variables | constants)
        flag = staging[layout.flag : layout.flag + FLAG_BYTES]
        self.walk = Walk(code.stream, places, self.sizes, flag, self._print)
        self._add_steps(arena)
        self._moved = moved

    def _add_steps(self, arena: int) -> None:
        inside, outside = self.layout.inside, self.layout.outside
        stream, staging = self.code.stream, self._staging
        if inside:
            self.walk.add(lambda: stream.to_gpu(arena, staging[:inside]))
        self.walk.add_steps(self.code.plan["steps"])
        if outside > inside:
            self.walk.add(lambda: stream.to_host(staging[inside:outside], arena + inside))

    def _view(self, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
        """A buffer in the staging memory."""
        return np.ndarray(shape, dtype, self._staging, self.layout.starts[name])

    def fill(self, values: list[Any]) -> None:
        """Lays the arguments down."""
        for spec, value in zip(self.code.manifest.inputs, values, strict=False):
            self._view(spec.name, spec.numpy, np.shape(value))[...] = value
        for name, buffer in self.code.plan["buffers"].items():
            if buffer["kind"] == "random":
                self._view(name, DTYPES["i64"], (2,))[...] = self.code.variables.random

    def results(self) -> list[Any]:
        """Copies of the results; scalars as NumPy's scalars."""
        found: list[Any] = []
        for name, spec in zip(self.layout.outputs, self.code.manifest.outputs, strict=True):
            shape = tuple(evaluate(dim, self.sizes) for dim in spec.dims)
            view = self._view(name, spec.numpy, shape)
            found.append(view.copy() if shape else view[()])
        return found

    def _print(self, step: Step, walk: Walk, sizes: Mapping[str, int]) -> None:
        """Prints what a step says of its buffers."""
        spec = self.code.manifest.prints[step["code"] - 1]
        values = []
        for name, dtype, dims in zip(step["buffers"], spec.dtypes, step["shapes"], strict=True):
            array = np.empty([evaluate(dim, sizes) for dim in dims], DTYPES[dtype])
            if array.nbytes:
                self.code.stream.wait()
                self.code.on.cuda.memcpy_dtoh(array, walk.places.of(name, sizes))
            values.append(array)
        print(text_of(spec, values))


def _load(on: Device, artifact: Artifact, name: str) -> Any:
    """The module of a cubin."""
    arch = artifact.manifest["cuda"]["arch"]
    number = arch.removeprefix("sm_")
    made_for = int(number.rstrip("af")[:-1]), int(number.rstrip("af")[-1])
    alone = number.endswith("a") and made_for != on.capability
    if alone or made_for > on.capability or made_for[0] != on.capability[0]:
        raise GpuError(f"{name} was compiled for {arch}, but the GPU is {on.name} ({on.arch})")
    try:
        return on.cuda.module_from_buffer(artifact.object_bytes)
    except on.cuda.Error as error:
        raise GpuError(f"the GPU's driver does not take the code of {name}, for {arch}: {error}; "
                       "the driver may be too old") from error
