"""Calling compiled code: arguments in, results out, a few µs a call.

What a call needs is made once per set of argument shapes (`Binding`) and once per call that runs
at the same time as another (`Frame`: the block that compiled code is given one pointer to); a call
then fills in the addresses that differ.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from dlc.runtime import jit, pool
from dlc.runtime.arguments import Arguments, scalar_check
from dlc.runtime.artifact import Artifact, Manifest, TensorSpec
from dlc.runtime.callbacks import Watch
from dlc.runtime.dims import evaluate
from dlc.runtime.errors import CheckFailed
from dlc.runtime.memory import Arena, Array, Recycler, address_of, arenas
from dlc.runtime.printing import Printer
from dlc.runtime.variables import Variables

__all__ = ["Function"]

CONTEXT_VERSION = 3
KEPT_BINDINGS = 256
_ENTRY = ctypes.CFUNCTYPE(None, ctypes.c_void_p)  # releases the GIL while it runs
_LAYOUT = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)


_NO_ARENA = Arena(0)  # where nothing is needed: a place all the same, never null


class Context(ctypes.Structure):
    """The block that compiled code gets, of 8-byte fields. `pool`, `print`, `watch` may be null."""

    version: int
    arena: int | None
    _fields_ = (
        ("version", ctypes.c_int64),
        ("dims", ctypes.c_void_p),
        ("pointers", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("arena", ctypes.c_void_p),
        ("pool", ctypes.c_void_p),
        ("random", ctypes.c_void_p),
        ("status", ctypes.c_void_p),
        ("offsets", ctypes.c_void_p),
        ("print", ctypes.c_void_p),
        ("watch", ctypes.c_void_p),
    )


class Binding:
    """What follows from the sizes of the symbols: result shapes, arena size, idle frames."""

    __slots__ = ("arena_size", "dims", "frames", "offsets", "results", "sizes")

    def __init__(self, function: Function, sizes: dict[str, int]) -> None:
        manifest = function.manifest
        self.sizes = sizes
        self.dims = (ctypes.c_int64 * max(len(sizes), 1))(*sizes.values())
        self.offsets = (ctypes.c_int64 * max(manifest.offsets, 1))()
        function._layout(ctypes.addressof(self.dims), ctypes.addressof(self.offsets))
        self.arena_size = int(self.offsets[0])
        self.results = [_result(spec, sizes) for spec in manifest.outputs]
        self.frames: list[Frame] = []


class Frame:
    """The block of one call: pointers, scalar arguments and results, status."""

    __slots__ = ("address", "cells", "context", "pointers", "printer", "status", "version", "watch")

    def __init__(self, function: Function, binding: Binding) -> None:
        manifest = function.manifest
        count = len(manifest.inputs) + len(manifest.outputs) + len(manifest.variables)
        self.pointers = (ctypes.c_void_p * max(count, 1))()
        self.status = (ctypes.c_int64 * 2)()
        self.cells = self._make_cells((*manifest.inputs, *manifest.outputs))
        self.version = -1
        self.printer = Printer(manifest.prints) if manifest.prints else None
        self.watch = Watch() if manifest.watched else None
        self.context = Context(
            version=CONTEXT_VERSION,
            dims=ctypes.addressof(binding.dims),
            pointers=ctypes.addressof(self.pointers),
            pool=pool.address(),
            random=address_of(function.variables.random),
            status=ctypes.addressof(self.status),
            offsets=ctypes.addressof(binding.offsets),
            print=self.printer.address if self.printer else None,
            watch=self.watch.place if self.watch else None,
        )
        self.address = ctypes.c_void_p(ctypes.addressof(self.context))

    @property
    def raised(self) -> list[BaseException]:
        """What was raised while compiled code called back."""
        return [error for each in (self.printer, self.watch) if each for error in each.raised]

    def _make_cells(self, specs: tuple[TensorSpec, ...]) -> dict[int, Array]:
        """A place of fixed address for each scalar, by its number among the pointers."""
        cells = {at: np.zeros((), spec.numpy) for at, spec in enumerate(specs) if not spec.dims}
        for at, cell in cells.items():
            self.pointers[at] = address_of(cell)
        return cells


class Function:
    """A compiled function over `variables`, called with NumPy arrays and numbers.

    Arguments are positional or named. One result comes alone, several as a tuple, none as None;
    scalars come as NumPy scalars. Raises `ArgumentError` before anything runs and `CheckFailed`
    when a check of the program fails; no variable has changed in either case. Any number of threads
    may call: functions that write variables (or draw random numbers) run one at a time for each set
    of variables, all others at once.
    """

    def __init__(self, artifact: Artifact, variables: Variables | None = None) -> None:
        self.artifact = artifact
        self.manifest: Manifest = artifact.read
        self.variables = Variables() if variables is None else variables
        self.variables.require(self.manifest.variables)
        names = (self.manifest.entry, self.manifest.layout)
        self._code = jit.load(artifact.object_bytes, names)
        self._entry = _ENTRY(self._code.address(self.manifest.entry))
        self._layout = _LAYOUT(self._code.address(self.manifest.layout))
        self._arguments = Arguments(self.manifest)
        self._names = [spec.name for spec in self.manifest.inputs]
        self._names += [spec.name for spec in self.manifest.sizes]
        self._arrays = [
            (at, spec.numpy) for at, spec in enumerate(self.manifest.inputs) if spec.dims
        ]
        self._scalars: list[tuple[int, Callable[[object], object]]] = [
            (at, scalar_check(self._arguments, spec))
            for at, spec in enumerate(self.manifest.inputs)
            if not spec.dims
        ]
        self._first_result = len(self.manifest.inputs)
        outputs = list(enumerate(self.manifest.outputs))
        self._recyclers = [(at, Recycler(spec.numpy)) for at, spec in outputs if spec.dims]
        self._scalar_results = [
            (at, self._first_result + at) for at, spec in outputs if not spec.dims
        ]
        self._sizes = bool(self.manifest.sizes)
        self._writes, self._random = self.manifest.writes, self.manifest.random
        self._bindings: dict[tuple[tuple[int, ...], ...], Binding] = {}
        self._lock = self._choose_lock()

    def _choose_lock(self) -> contextlib.AbstractContextManager[bool | None]:
        """What a call holds while it runs."""
        if self.manifest.writes or self.manifest.random:
            return self.variables.lock.writing
        return self.variables.lock.reading if self.manifest.variables else contextlib.nullcontext()

    @property
    def name(self) -> str:
        """The function's name in the program."""
        return self.manifest.name

    def __repr__(self) -> str:
        outputs = ", ".join(spec.text for spec in self.manifest.outputs)
        return f"<function {self.name}({self._arguments.signature()}) -> ({outputs})>"

    def __call__(self, *positional: object, **named: object) -> Any:
        values = self._gather(positional, named)
        shapes = []
        for at, dtype in self._arrays:
            value = values[at]
            # `carray` asks for C-contiguous, aligned and writeable at once; others go the long way
            if type(value) is not np.ndarray or value.dtype is not dtype or not value.flags.carray:
                values[at] = value = self._arguments.admit(at, value)
            shapes.append(value.shape)
        if self._sizes:
            given = values[self._first_result:]
            shapes.append(tuple(self._arguments.size(at, n) for at, n in enumerate(given)))
        binding = self._bindings.get(key := tuple(shapes)) or self._bind(key, values)
        try:
            frame = binding.frames.pop()
        except IndexError:
            frame = Frame(self, binding)
        try:
            return self._run(frame, binding, values)
        finally:
            if not frame.raised:  # its callbacks have had their day
                binding.frames.append(frame)

    def _gather(self, positional: tuple[object, ...], named: dict[str, object]) -> list[Any]:
        """The values in order."""
        if not positional and len(named) == len(self._names):
            try:
                return [named[name] for name in self._names]
            except KeyError:
                pass  # the long way says what is wrong
        return self._arguments.gather(positional, named)

    def _bind(self, key: tuple[tuple[int, ...], ...], values: list[Any]) -> Binding:
        """A binding for shapes that are new here."""
        sizes = self._arguments.bind(values)
        if len(self._bindings) >= KEPT_BINDINGS:
            self._bindings.clear()
        binding = self._bindings[key] = Binding(self, sizes)
        return binding

    def arena_size(self, **sizes: int) -> int:
        """Bytes of scratch memory of a call in which the symbols have these sizes."""
        ordered = {name: sizes[name] for name in self.manifest.symbols}
        return Binding(self, ordered).arena_size

    def _run(self, frame: Frame, binding: Binding, values: list[Any]) -> Any:
        """Fill in the frame, run, and collect the results. `values` keeps the inputs alive."""
        for at, check in self._scalars:
            frame.cells[at][()] = check(values[at])
        results = self._make_results(frame, binding) if self._recyclers else []
        while not self._step(frame, binding, values):
            self.variables.require(self.manifest.variables)
        for at, cell in self._scalar_results:
            results.insert(at, frame.cells[cell][()])
        if len(results) == 1:
            return results[0]
        return tuple(results) if results else None

    def _make_results(self, frame: Frame, binding: Binding) -> list[Any]:
        """Arrays for the results that are no scalars."""
        results = []
        for at, recycler in self._recyclers:
            result = recycler.take(*binding.results[at])
            frame.pointers[self._first_result + at] = address_of(result)
            results.append(result)
        return results

    def _step(self, frame: Frame, binding: Binding, values: list[Any]) -> bool:
        """Run with the lock held; False (nothing has run) if variables lie in other layouts."""
        with self._lock:
            if frame.version != self.variables.version and not self._point_at_variables(frame):
                return False
            for at, _ in self._arrays:
                frame.pointers[at] = address = address_of(values[at])
                if self._writes and self.variables.overlaps(address, values[at].nbytes):
                    values[at] = values[at].copy()
                    frame.pointers[at] = address_of(values[at])
            self._enter(frame, binding)
            if frame.raised:
                raise frame.raised[0]
            if frame.status[0]:
                self._raise_status(frame)
        return True

    def _enter(self, frame: Frame, binding: Binding) -> None:
        """Call the compiled code, with an arena if it wants one.

        A signal (Ctrl-C) may end it in a loop, with nothing changed. If it does not, its exception
        is raised right after the call: the step is done by then, so it must count, or a model saved
        afterwards would not go on the same way.
        """
        frame.status[0] = 0
        size = binding.arena_size
        arena = arenas.take(size) if size else _NO_ARENA
        frame.context.arena = arena.address
        try:
            self._entry(frame.address)
        finally:
            if size:
                arenas.give(arena)
            if self._random and not frame.status[0]:
                self.variables.random[1] += 1

    def _point_at_variables(self, frame: Frame) -> bool:
        """Take the addresses of the variables; False if some lie in a layout that is not ours."""
        start = self._first_result + len(self.manifest.outputs)
        for at, spec in enumerate(self.manifest.variables, start):
            if self.variables.spec(spec.name) != spec:
                return False
            frame.pointers[at] = address_of(self.variables.storage(spec.name))
        frame.version = self.variables.version
        return True

    def _raise_status(self, frame: Frame) -> None:
        """Turn the status of a failed call into an error."""
        code, value = int(frame.status[0]), int(frame.status[1])
        text, location = self.manifest.checks[code - 1]
        raise CheckFailed(self.name, text, location, value)


def _result(spec: TensorSpec, sizes: dict[str, int]) -> tuple[tuple[int, ...], int]:
    """The shape of a result, and its size in bytes."""
    shape = tuple(evaluate(dim, sizes) for dim in spec.dims)
    return shape, prod(shape) * spec.numpy.itemsize
