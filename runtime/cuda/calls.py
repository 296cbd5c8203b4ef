"""What calls on a GPU need: made once for sizes, for who lies where, and for addresses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dlc.runtime.cuda.arrays import GpuArray
from dlc.runtime.cuda.copies import Outgoing, copy_in
from dlc.runtime.cuda.device import PIECE, Lease
from dlc.runtime.cuda.driver import Event
from dlc.runtime.cuda.plan import STATE_BYTES, Layout, Places, Step, of_kind, size_of
from dlc.runtime.cuda.steps import FLAG_BYTES, Walk
from dlc.runtime.dims import evaluate
from dlc.runtime.memory import DTYPES, Array
from dlc.runtime.printing import text_of

if TYPE_CHECKING:
    from dlc.runtime.cuda.function import CudaFunction

__all__ = ["Bound", "Placed"]

MOST_WALKS = 8  # that are kept for the addresses of arrays which others own


class Bound:
    """What follows from the sizes of the symbols."""

    callbacks = ()

    def __init__(self, code: CudaFunction, sizes: dict[str, int]) -> None:
        self.code, self.sizes = code, sizes
        self.frames: list[Bound] = []
        self.shapes = [tuple(evaluate(dim, sizes) for dim in spec.dims)
                       for spec in code.manifest.outputs]
        self._placed: dict[tuple[str, ...], Placed] = {}

    def placed(self, away: tuple[str, ...]) -> Placed:
        """For calls in which these buffers do not lie in the arena."""
        found = self._placed.get(away)
        if found is None:
            found = self._placed[away] = Placed(self, away)
        return found

    def leases(self, names: tuple[str, ...]) -> dict[str, Lease]:
        """Memory for results that stay on the GPU: those that are arrays."""
        code = self.code
        return {name: Lease(code.on, size_of(spec.dims, spec.dtype, self.sizes), f"{code.name}: "
                            "a result") for name, spec in zip(
                                names, code.manifest.outputs, strict=True) if spec.dims}


class Placed:
    """Where all lies, and the steps, packed: for some addresses of what is not in the arena.

    They are packed anew where the arena or the variables have moved since. What is copied in and
    out is a part of them if it is little; else it goes in pieces.
    """

    def __init__(self, bound: Bound, away: tuple[str, ...]) -> None:
        self.bound, self.code, self.sizes = bound, bound.code, bound.sizes
        self.layout = Layout(self.code.manifest, self.code.plan, bound.sizes, away)
        self.low, self.high = self.layout.outside
        self._small_in = self.layout.inside <= PIECE
        self._small_out = self.high - self.low <= PIECE
        self.state = next(of_kind(self.code.plan["buffers"], "state"), "")
        self.random = tuple(of_kind(self.code.plan["buffers"], "random"))
        self._rest = (*self.random, *[self.state] * bool(self.state))
        self.waits = self.high > self.low  # for what the host reads
        self._moved: tuple[object, ...] = ()
        self._walks: dict[tuple[int, ...], Walk] = {}
        self._staging: Array

    def walk(self, given: Mapping[str, int]) -> Walk:
        """The steps with these addresses; for who holds the device."""
        self.settle()
        key = tuple(given.values())
        found = self._walks.pop(key, None) or self._make(given)
        self._walks[key] = found
        if len(self._walks) > MOST_WALKS:
            del self._walks[next(iter(self._walks))]
        return found

    def settle(self) -> None:
        """The memory of a call is there; walks of other places are forgotten."""
        code, layout = self.code, self.layout
        variables = code.variables.places()
        self.arena = code.on.scratch(layout.size, f"{code.name}: a call of these sizes")
        staging = code.on.staging(layout.flag + FLAG_BYTES)
        moved = (self.arena, id(staging), id(variables))
        if moved != self._moved:
            self._walks.clear()
            self._staging, self._variables = staging, variables  # kept, so that ids are theirs
            self._moved = moved

    def bare_walk(self, given: Mapping[str, int], at_once: bool = False) -> Walk:
        """No steps yet; graphs are recorded `at_once` or at the second run."""
        code, layout = self.code, self.layout
        constants = {name: block.address for name, block in code.constants.items()}
        starts = {name: self.arena + start for name, start in layout.starts.items()}
        places = Places(code.plan, {**starts, **self._variables, **constants, **given},
                        code.stream.room)
        flag = self._staging[layout.flag : layout.flag + FLAG_BYTES]
        return Walk(code.stream, places, self.sizes, flag, self._print, self.state, at_once)

    def _make(self, given: Mapping[str, int]) -> Walk:
        walk, layout = self.bare_walk(given), self.layout
        stream, staging, arena = self.code.stream, self._staging, self.arena
        if layout.inside and self._small_in:
            walk.add(lambda: stream.to_gpu(arena, staging[: layout.inside]))
        walk.add_steps(self.code.plan["steps"])
        if self.waits and self._small_out:
            walk.add(lambda: stream.to_host(staging[self.low : self.high], arena + self.low))
        return walk

    def _view(self, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
        """A buffer in the staging memory."""
        return np.ndarray(shape, dtype, self._staging, self.layout.starts[name])

    def fill(self, values: list[Any], at_once: bool = False) -> None:
        """Lays the arguments down, and sends them unless the walk does; `at_once` in any case."""
        code = self.code
        code.on.staging_is_read()
        sends = at_once or not self._small_in
        for spec, value in zip(code.manifest.inputs, values, strict=False):
            start = self.layout.starts.get(spec.name)
            if start is None:
                continue
            if sends and spec.dims:
                copy_in(value, self._staging[start:], lambda low, high, start=start: self._send(
                    start + low, start + high))  # type: ignore[misc]
                continue
            self._view(spec.name, spec.numpy, np.shape(value))[...] = value
            if sends:
                self._send(start, start + spec.numpy.itemsize)
        self._fill_rest(sends)

    def _fill_rest(self, sends: bool) -> None:
        """The random state, and that no check has failed."""
        for name in self._rest:
            view = self._view(name, DTYPES["i64"], (2,))
            view[...] = 0 if name == self.state else self.code.variables.random
            if sends:
                start = self.layout.starts[name]
                self._send(start, start + view.nbytes)

    def _send(self, start: int, end: int) -> None:
        self.code.stream.to_gpu(self.arena + start, self._staging[start:end])

    def finish(self, leases: Mapping[str, Lease], waits: bool) -> list[Any]:
        """The results, once all is on the stream; those that stay need nobody to wait."""
        outgoing = None
        if self.waits and not self._small_out:
            outgoing = Outgoing(self.code.on, self._staging, self.arena, self.low, self.high)
            outgoing.wait(self.low + STATE_BYTES)
        elif self.waits or waits:
            self.code.stream.wait()
        elif self.layout.inside:
            self.code.on.reads_staging(Event())
        if self.state:
            Walk.judge(self._view(self.state, DTYPES["i64"], (2,)).tobytes())
        return [self._result(at, name, leases, outgoing)
                for at, name in enumerate(self.layout.outputs)]

    def _result(
        self, at: int, name: str, leases: Mapping[str, Lease], outgoing: Outgoing | None
    ) -> Any:
        """A result that stays, or a copy of one; scalars as NumPy's scalars."""
        spec, shape = self.code.manifest.outputs[at], self.bound.shapes[at]
        if name in leases:
            lease = leases[name]
            return GpuArray(self.code.on, lease.address, spec.dtype, shape, lease)
        if outgoing is None:
            view = self._view(name, spec.numpy, shape)
            return view.copy() if shape else view[()]
        made = np.empty(shape, spec.numpy)
        outgoing.copy_out(made, self._staging, self.layout.starts[name])
        return made if shape else made[()]

    def _print(self, step: Step, walk: Walk, sizes: Mapping[str, int]) -> None:
        """Prints what a step says of its buffers."""
        spec = self.code.manifest.prints[step["code"] - 1]
        values = []
        for name, dtype, dims in zip(step["buffers"], spec.dtypes, step["shapes"], strict=True):
            array = np.empty([evaluate(dim, sizes) for dim in dims], DTYPES[dtype])
            self.code.on.fetch(array, walk.places.of(name, sizes))
            values.append(array)
        print(text_of(spec, values))
