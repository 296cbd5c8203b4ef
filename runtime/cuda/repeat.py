"""Many calls in one, on a GPU: for each step the next part of some arguments.

The arrays lie on the GPU, or come there in parts while the steps of the part before run. A step is
one CUDA graph: it takes its rows by a book on the GPU, which it carries on itself, so that the host
does nothing between steps but launch the next, and waits once, at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dlc.runtime.cuda.arrays import GpuArray
from dlc.runtime.cuda.calls import Bound, Placed
from dlc.runtime.cuda.copies import download, on_gpu, upload
from dlc.runtime.cuda.device import Lease
from dlc.runtime.cuda.driver import Event
from dlc.runtime.cuda.plan import Launch, size_of
from dlc.runtime.cuda.steps import Failed, Walk
from dlc.runtime.errors import CheckFailed
from dlc.runtime.memory import Array
from dlc.runtime.steps import Feed, admitted_rows, told_step

if TYPE_CHECKING:
    from dlc.runtime.cuda.function import CudaFunction

__all__ = ["placed_rows", "repeat"]

DONE, NEVER, TURN, FIRST = range(4)  # of the book: steps done, 0, the row, then addresses of rows
PART_BYTES = 64 << 20  # of rows that come while steps run
THREADS, MOST_BLOCKS = 256, 512


def repeat(function: CudaFunction, steps: int, feed: Feed) -> Any:
    """The results of `steps` calls, each an array with the steps along its first axis."""
    values, rows = admitted_rows(function, steps, feed)
    bound = function._binding_of(values)
    run = _Run(bound, values, steps, rows, feed)  # type: ignore[arg-type]
    with function.holding():
        try:
            results = run.run()
        except function.on.cuda.Error as error:
            raise function.on.fault(function.name, error) from error
        except Failed as failed:
            text, location = function.manifest.checks[failed.code - 1]
            with told_step(run.done(), steps):
                raise CheckFailed(function.name, text, location, failed.value) from None
    if len(results) == 1:
        return results[0]
    return tuple(results) if results else None


def placed_rows(function: CudaFunction, rows: Mapping[str, Any]) -> dict[str, Any]:
    """Rows on the GPU, if all of them have room there; those of the host as they are, if not."""
    host = sum(array.nbytes for array in rows.values() if not isinstance(array, GpuArray))
    with function.on as on:
        unused, _ = on.cuda.mem_get_info()
    if host > unused // 2:
        return dict(rows)
    return {name: array if isinstance(array, GpuArray) else on_gpu(array, function.on)
            for name, array in rows.items()}


class _Run:
    """One run, for who holds the device from `run` on."""

    def __init__(
        self, bound: Bound, values: list[Any], steps: int, rows: Mapping[str, Any], feed: Feed
    ) -> None:
        self.bound, self.code, self.on = bound, bound.code, bound.code.on
        self.values, self.steps, self.feed = values, steps, feed
        self.rows = placed_rows(self.code, rows)
        self.ours = {name: array for name, array in self.rows.items()
                     if not isinstance(array, GpuArray)}  # that come in parts
        self.kernels = self.code.moves()

    def done(self) -> int:
        """How many steps count."""
        found = np.zeros(1, np.int64)
        self.on.fetch(found, self.book.address)
        return int(found[0])

    def run(self) -> list[Array]:
        """All steps; the results."""
        placed = self._place()
        walk = self._walk(placed)
        try:
            for number, (start, count) in enumerate(self._parts()):
                self._turn_to(number, start, count)
                for _ in range(count):
                    walk.again()
                self.used[number % 2].record(self.on.stream.handle)
            self.on.stream.synchronize()
            if placed.state:
                walk.judge(walk.read(placed.state, 16, self.bound.sizes))
        finally:
            if self.code._random:
                self.code.variables.random[1] += self.done()
        return [self._result(at) for at in range(len(self.kept))]

    def _place(self) -> Placed:
        """All that the steps need: their memory, the book, the rows of results."""
        code, on = self.code, self.on
        fixed = {spec.name: value for spec, value in zip(
            code.manifest.inputs, self.values, strict=False)
            if isinstance(value, GpuArray) and spec.name not in self.rows}
        self.given = {name: value.address for name, value in fixed.items()}
        placed = self.bound.placed(tuple(fixed))
        placed.settle()
        values = [np.asarray(value) if spec.name in self.rows else value
                  for spec, value in zip(code.manifest.inputs, self.values, strict=False)]
        placed.fill(values, at_once=True)
        self.kept = [Lease(on, self.steps * size_of(spec.dims, spec.dtype, self.bound.sizes),
                           f"{code.name}: the results of {self.steps} steps")
                     for spec in code.manifest.outputs]
        self.buffers = [{name: Lease(on, self._most() * self._row(name), f"{code.name}: a part of "
                                     f"`{name}`") for name in self.ours} for _ in (0, 1)]
        self.used = Event(), Event()
        numbers = [0, 0, 0, *[0] * len(self.rows), *(lease.address for lease in self.kept)]
        self.book = Lease(on, 8 * len(numbers), "the book of a run")
        upload(on, np.array(numbers, np.int64), self.book.address)
        if code._writes:
            code.variables.written()
        return placed

    def _row(self, name: str) -> int:
        array = self.rows[name]
        return int(array.nbytes // max(len(array), 1))

    def _most(self) -> int:
        """Steps of a part that comes while others run."""
        each = sum(map(self._row, self.ours))
        return max(1, min(PART_BYTES // max(each, 1), self.steps))

    def _walk(self, placed: Placed) -> Walk:
        """A step: rows to where it reads them, its launches, results to their rows."""
        walk, book, code = placed.bare_walk(self.given, at_once=True), self.book, self.code
        places = placed.layout.starts
        for at, name in enumerate(self.rows, FIRST):
            self._add(walk, "feed_row", placed.arena + places[name], at, self._row(name))
        walk.add_steps(code.plan["steps"])
        for at, (name, spec) in enumerate(zip(
                placed.layout.outputs, code.manifest.outputs, strict=True), FIRST + len(self.rows)):
            size = size_of(spec.dims, spec.dtype, self.bound.sizes)
            self._add(walk, "keep_row", placed.arena + places[name], at, size)
        state = placed.arena + places[placed.state] if placed.state else book.address + 8 * NEVER
        draws = next((placed.arena + places[n] for n in placed.random), book.address)
        end = Launch.make("end_step", 1, 1, [book.address, state, draws], [bool(placed.random)])
        walk.add(lambda: self.kernels.launch(end))
        return walk

    def _add(self, walk: Walk, kernel: str, place: int, at: int, size: int) -> None:
        blocks = max(1, min(size // (16 * THREADS), MOST_BLOCKS))
        made = Launch.make(kernel, blocks, THREADS, [self.book.address, place], [at, size])
        if size:
            walk.add(lambda: self.kernels.launch(made))

    def _parts(self) -> Iterator[tuple[int, int]]:
        """(first step, steps) of parts whose rows follow each other in memory."""
        periods = [len(self.rows[name]) for name in self.feed.cycle]
        done = 0
        while done < self.steps:
            count = min([self.steps - done, *(n - (self.feed.start + done) % n for n in periods)])
            count = min(count, self._most()) if self.ours else count
            yield done, count
            done += count

    def _turn_to(self, number: int, start: int, count: int) -> None:
        """The book says where the rows of a part are, and they are there; for what comes next."""
        self.used[number % 2].wait()
        bases = [0]  # the turn
        for name, array in self.rows.items():
            cycles = name in self.feed.cycle
            first = (self.feed.start + start) % len(array) if cycles else start
            if name not in self.ours:
                bases.append(array.address + first * self._row(name))
                continue
            lease = self.buffers[number % 2][name]
            upload(self.on, array[first : first + count], lease.address)
            bases.append(lease.address)
        note = self.on.notes()[number % 2, : len(bases)]
        note[:] = bases
        self.code.stream.to_gpu(self.book.address + 8 * TURN, note)

    def _result(self, at: int) -> Array:
        spec, shape = self.code.manifest.outputs[at], self.bound.shapes[at]
        made = np.empty((self.steps, *shape), spec.numpy)
        download(self.on, made, self.kept[at].address)
        return made
