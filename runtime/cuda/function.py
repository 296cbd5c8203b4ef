"""Calling compiled code on a GPU: as `runtime/function.py`, whose arguments and results are these.

All that a call needs lies in the one arena of the device. What is copied in goes through staging
memory of the host, in one copy; so do the results.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np

from dlc.runtime.arguments import Arguments
from dlc.runtime.artifact import Artifact
from dlc.runtime.cuda.arguments import CudaArguments, packed
from dlc.runtime.cuda.arrays import GpuArray, find, is_on_gpu
from dlc.runtime.cuda.calls import Bound
from dlc.runtime.cuda.copies import upload
from dlc.runtime.cuda.device import Block, Device, Lease, device
from dlc.runtime.cuda.plan import Layout, Step, is_narrow, of_kind
from dlc.runtime.cuda.repeat import placed_rows, repeat
from dlc.runtime.cuda.steps import Failed, Stream
from dlc.runtime.cuda.variables import CudaVariables
from dlc.runtime.errors import CheckFailed, GpuError
from dlc.runtime.frames import Binding, Frame
from dlc.runtime.function import Function
from dlc.runtime.memory import DTYPES
from dlc.runtime.steps import Feed

__all__ = ["CudaFunction"]


class CudaFunction(Function):
    """A function compiled for a GPU, called as one for a CPU is.

    The artifact holds a cubin, made with indices of 32 bits; `wide` gives the one with indices of
    64 bits, and is asked once, when arrays come that are as large; `moves` gives that of `moves.cu`
    of the compiler. If an argument lies on the GPU, results that are arrays stay there, as
    `GpuArray`, and nobody waits for them unless the host has to know something. `stream` is what
    kernels are put on. GpuError if there is no GPU that can run it, GpuMemoryError if a call does
    not fit.
    """

    variables: CudaVariables

    def __init__(
        self, artifact: Artifact, variables: CudaVariables | None = None,
        wide: Callable[[], Artifact] | None = None, moves: Callable[[], bytes] | None = None,
        stream: type[Stream] = Stream,
    ) -> None:
        self._code_of_moves, self._kind = moves, stream
        self._wide, self._for_wide = wide, cast(CudaFunction | None, None)
        super().__init__(artifact, CudaVariables() if variables is None else variables)

    def _load(self) -> None:
        self.plan: Step = self.artifact.manifest["cuda"]
        self.on: Device = device()
        with self.on:
            self.module = _load(self.on, self.artifact, self.manifest.name)
            self.constants = self._copy_constants()
        self.stream = self._kind(
            self.on.cuda, self.on.stream, self.module, self.artifact.object_bytes)
        self._outputs = tuple(of_kind(self.plan["buffers"], "out"))

    def _door(self) -> Arguments:
        return CudaArguments(self.manifest, self.on, self.moves)

    def moves(self) -> Stream:
        """What moves arrays between places of the GPU."""
        if self._code_of_moves is None:
            raise GpuError(f"{self.name} was made without the code that moves arrays on a GPU")
        return self.on.moves(self._code_of_moves)

    def array_of(self, value: object) -> Any:
        """As of `Function`; what lies on the GPU stays there."""
        if is_on_gpu(value):
            found = value if isinstance(value, GpuArray) else find(value, self.on)
            return packed(found, self.on, self.moves)
        return super().array_of(value)

    def _copy_constants(self) -> dict[str, Block]:
        found = {}
        for name, buffer in self.plan["buffers"].items():
            if buffer["kind"] == "const":
                values = np.asarray(buffer["values"], DTYPES[buffer["dtype"]])
                found[name] = Block(self.on, values.nbytes, f"{self.name}: what it is made with")
                upload(self.on, values, found[name].address)
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
                self._for_wide = CudaFunction(
                    self._wide(), self.variables, moves=self._code_of_moves)
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

    def placed(self, rows: dict[str, Any]) -> dict[str, Any]:
        """As of `Function`: on the GPU, if all of them have room there."""
        return placed_rows(self, rows)

    @contextlib.contextmanager
    def holding(self) -> Iterator[None]:
        """Holds the variables and the device, as a call does."""
        lock = self.variables.lock
        with lock.writing if self._alone else lock.reading, self.on:
            yield

    def _run(self, frame: Frame, binding: Binding, values: list[Any]) -> Any:
        """Copies the arguments in, runs, and copies the results out."""
        bound, lock = cast(Bound, binding), self.variables.lock
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
        for at, _, check in self._scalars:
            values[at] = check(values[at])
        given = {spec.name: value for spec, value in zip(self.manifest.inputs, values, strict=False)
                 if isinstance(value, GpuArray)}
        leases = bound.leases(self._outputs) if given else {}
        placed = bound.placed((*given, *leases))
        walk = placed.walk({name: value.address for name, value in given.items()}
                           | {name: lease.address for name, lease in leases.items()})
        placed.fill(values)
        if self._writes:  # even by what a signal ends
            self.variables.written()
        counts = False
        try:
            walk.put()
            results = placed.finish(leases, any(map(is_shared, given.values())))
            counts = True
        except BaseException:
            with contextlib.suppress(self.on.cuda.Error):  # nothing of it goes on
                counts = walk.counts()
            raise
        finally:
            if self._random and counts:
                self.variables.random[1] += 1
        return results


def is_shared(array: GpuArray) -> bool:
    """Whether others may write the memory of an array, or use it again, once a call is over."""
    return not isinstance(array.keeper, Lease) or array.keeper.shared


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
