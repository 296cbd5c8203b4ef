"""Many calls in one: for each step the next part of some arguments, and all results as arrays.

Python is crossed once per slice of 50 ms, or a step if that takes longer: signals are handled and
other threads run then. The bits are those of as many calls one after another.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from dlc.runtime import pool
from dlc.runtime.artifact import TensorSpec
from dlc.runtime.errors import CheckFailed
from dlc.runtime.frames import Binding
from dlc.runtime.memory import NO_ARENA, Array, address_of, arenas

if TYPE_CHECKING:
    from dlc.runtime.function import Function

__all__ = ["SLICE_NS", "Feed", "admitted_rows", "run_steps", "told_step"]

SLICE_NS = 50_000_000


class _Block(ctypes.Structure):
    """What `dlc_steps` gets; see `steps_code.py`."""

    left: int
    until: int
    turn: int
    period: int
    _fields_ = (
        ("entry", ctypes.c_void_p),
        ("context", ctypes.c_void_p),
        ("random", ctypes.c_void_p),
        ("status", ctypes.c_void_p),
        ("moves", ctypes.c_int64),
        ("table", ctypes.c_void_p),
        ("left", ctypes.c_int64),
        ("until", ctypes.c_int64),
        ("turn", ctypes.c_int64),
        ("period", ctypes.c_int64),
    )


@dataclass(frozen=True, slots=True)
class Feed:
    """What steps are given: `fixed` is the same in all, `each` has a row for each step, of `cycle`
    step i gets row `start + i`, and the first one again after the last one."""

    fixed: Mapping[str, object]
    each: Mapping[str, object]
    cycle: Mapping[str, object] = field(default_factory=dict)
    start: int = 0


def run_steps(function: Function, steps: int, feed: Feed) -> Any:
    """The results of `steps` calls, each an array with the steps along its first axis.

    Results are as those of a call: one alone, several as a tuple, none as None. Raises what a call
    raises; the steps before it count.
    """
    values, rows = admitted_rows(function, steps, feed)
    period = min((len(rows[name]) for name in feed.cycle), default=0)
    run = _Run(function, function._binding_of(values), steps, values)
    for at, spec in enumerate(function.manifest.inputs):
        if spec.name in rows:
            start = feed.start if spec.name in feed.cycle else 0
            run.feed(at, rows[spec.name], start, cycles=spec.name in feed.cycle)
    return run.run(feed.start, period)


def admitted_rows(
    function: Function, steps: int, feed: Feed
) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of the first step, and the rows that all steps take, as code reads them."""
    rows = _rows_of(function, steps, feed)
    first = {name: value[0] for name, value in rows.items()}
    values = function._arguments.gather((), {**feed.fixed, **first})
    for at, spec in enumerate(function.manifest.inputs):
        if spec.name in rows:
            rows[spec.name] = _admitted(function, at, spec, rows[spec.name])
            values[at] = rows[spec.name][0]
        elif spec.dims:
            values[at] = function._arguments.admit(at, values[at])
        else:
            values[at] = function._check(at)(values[at])
    return values, rows


def _rows_of(function: Function, steps: int, feed: Feed) -> dict[str, Any]:
    """The rows that steps take, by argument; those of `cycle` have one length."""
    rows = {name: _rows(function, name, value, steps) for name, value in feed.each.items()}
    cycle = {name: function.array_of(value) for name, value in feed.cycle.items()}
    period = min((len(array) for array in cycle.values()), default=0)
    return rows | {name: array[:period] for name, array in cycle.items()}


@contextmanager
def told_step(step: int, steps: int) -> Iterator[None]:
    """A check that fails inside says at which step, counted from 0."""
    try:
        yield
    except CheckFailed as error:
        error.add_note(f"This was step {step + 1} of {steps}; those before it count.")
        raise


def _rows(function: Function, name: str, value: object, steps: int) -> Any:
    """An array whose first axis is the steps."""
    array = function.array_of(value)
    if array.ndim == 0 or len(array) != steps:
        found = f"{len(array)} rows" if array.ndim else "no rows"
        raise function._arguments.fail(f"`{name}` has {found}, but there are {steps} steps")
    return array


def _admitted(function: Function, at: int, spec: TensorSpec, rows: Any) -> Any:
    """The rows as compiled code reads them, one after another."""
    if spec.dims:
        return function._arguments.admit(at, rows, rows=True)
    if rows.ndim != 1:
        raise function._arguments.mismatch(spec, rows[0])
    rows = np.asarray(rows)
    if rows.dtype == spec.numpy:
        return np.ascontiguousarray(rows)
    check = function._check(at)
    return np.array([check(each) for each in rows.tolist()], spec.numpy)


class _Run:
    """One run: a frame of its own, whose pointers move on from step to step."""

    def __init__(
        self, function: Function, binding: Binding, steps: int, values: list[Any]
    ) -> None:
        self.function, self.binding, self.steps = binding.code, binding, steps
        self.frame = binding.code.frame(binding)
        lock = function.variables.lock
        self._lock = lock.writing if function._alone else lock.reading
        self._kept: list[object] = []  # what the frame points into
        self._moves: list[tuple[int, int, int]] = []  # pointer, bytes on, bytes back
        for at, spec in enumerate(function.manifest.inputs):
            if spec.dims:
                self.frame.pointers[at] = address_of(self._apart(values[at]))
            else:
                self.frame.cells[at][()] = values[at]
        self.results = self._make_results()

    def _apart(self, array: Array) -> Array:
        """An argument that shares no memory with a variable: that may change in each step."""
        variables = self.function.variables
        if self.function._writes and variables.overlaps(address_of(array), array.nbytes):
            array = array.copy()
        self._kept.append(array)
        return array

    def feed(self, at: int, rows: Array, start: int = 0, cycles: bool = False) -> None:
        """Pointer number `at` goes through the rows, from `start` on."""
        row = rows.nbytes // len(rows)
        self.frame.pointers[at] = address_of(self._apart(rows)) + start * row
        self._moves.append((at, row, row * (1 - len(rows)) if cycles else row))

    def _make_results(self) -> list[Array]:
        shapes = {place: shape for place, shape, _, _ in self.binding.results}
        results = []
        for at, spec in enumerate(self.function.manifest.outputs, self.function._first_result):
            results.append(np.empty((self.steps, *shapes.get(at, ())), spec.numpy))
            self.feed(at, results[-1])
        return results

    def run(self, turn: int, period: int) -> Any:
        """All steps, from a turn of a period on (0: nothing comes again); the results."""
        block = self._block(period)
        block.turn = turn
        done = 0
        while done < self.steps:
            # What the code calls back may have to end the run after any step.
            asked = block.left = 1 if self.frame.callbacks else self.steps - done
            self._slice(block)
            done += asked - block.left
            if raised := self.frame.raised():
                raise raised[0]
            if self.frame.status[0]:
                self._fail(done)
        if len(self.results) == 1:
            return self.results[0]
        return tuple(self.results) if self.results else None

    def _block(self, period: int) -> _Block:
        """The block, and what it points at."""
        frame, function = self.frame, self.function
        start, word = ctypes.addressof(frame.pointers), ctypes.sizeof(ctypes.c_void_p)
        numbers = [n for at, on, back in self._moves for n in (start + word * at, on, back)]
        table = (ctypes.c_int64 * max(len(numbers), 1))(*numbers)
        self._kept.append(table)
        random = address_of(function.variables.random[1:]) if function._random else None
        return _Block(
            entry=function._entries.address, context=frame.address.value, random=random,
            status=ctypes.addressof(frame.status), moves=len(self._moves),
            table=ctypes.addressof(table), period=period,
        )  # fmt: skip

    def _slice(self, block: _Block) -> None:
        """Steps until it is time for others, with the lock of the variables held."""
        function, variables = self.function, self.function.variables
        while True:
            with self._lock:
                if self.frame.version == variables.version or function._point_at_variables(
                        self.frame):
                    return self._enter(block)
            variables.require(function.manifest.variables)

    def _enter(self, block: _Block) -> None:
        size = self.binding.arena_size
        arena = arenas.take(size) if size else NO_ARENA
        self.frame.context.arena = arena.address
        try:
            block.until = time.monotonic_ns() + SLICE_NS
            if not pool.run_steps(ctypes.addressof(block)):
                self._step_by_step(block)
        finally:
            if size:
                arenas.give(arena)

    def _step_by_step(self, block: _Block) -> None:
        """What `dlc_steps` does, where that is not to be had."""
        while block.left and not self.frame.status[0]:
            try:
                self.function._entries.long(self.frame.address)
            finally:  # a signal is handled right after the call: the step is done by then
                if not self.frame.status[0]:
                    self._go_on(block)
            if time.monotonic_ns() >= block.until:
                return

    def _go_on(self, block: _Block) -> None:
        """After a step."""
        block.left -= 1
        if self.function._random:
            self.function.variables.random[1] += 1
        block.turn = (block.turn + 1) % block.period if block.period else 0
        for at, on, back in self._moves:
            wraps = block.period and not block.turn
            self.frame.pointers[at] = (self.frame.pointers[at] or 0) + (back if wraps else on)

    def _fail(self, done: int) -> None:
        with told_step(done, self.steps):
            self.function._raise_status(self.frame)
