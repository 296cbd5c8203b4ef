"""What calls need and what is made before them: once per set of sizes, once per call at a time."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from math import prod
from time import perf_counter_ns
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from dlc.runtime import pool
from dlc.runtime.artifact import Manifest, TensorSpec
from dlc.runtime.callbacks import Callback, Watch
from dlc.runtime.dims import evaluate
from dlc.runtime.memory import NO_ARENA, Array, Recycler, address_of
from dlc.runtime.printing import Printer

if TYPE_CHECKING:
    from dlc.runtime.function import Function

__all__ = ["Binding", "Context", "Entries", "Frame"]

CONTEXT_VERSION = 4
BRIEF_NS = 20_000  # a call as short as that keeps the interpreter's lock
TRIALS = 8  # calls that are timed before one is taken to be long

Enter: TypeAlias = Callable[[ctypes.c_void_p], None]
ResultPlan: TypeAlias = tuple[int, tuple[int, ...], "np.dtype[np.generic]", Recycler | None]


class Context(ctypes.Structure):
    """The block that compiled code gets, of 8-byte fields. `pool`, `print`, `watch` may be null;
    `times` is for code that takes times."""

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
        ("times", ctypes.c_void_p),
    )


class Entries:
    """The functions of the code of an artifact, as Python calls them.

    `long` lets other threads of Python run meanwhile; to take the interpreter's lock again costs
    0.1 µs, and up to 5 ms where another thread is busy. `brief` keeps it.
    """

    __slots__ = ("address", "brief", "layout", "long")

    def __init__(self, entry: int, layout: int) -> None:
        self.address = entry
        self.long: Enter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(entry)
        self.brief: Enter = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(entry)
        self.layout = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(layout)


class Binding:
    """What follows from the sizes of the symbols: result shapes, arena size, idle frames.

    `enter` runs the code. The first calls are timed, and the first that is brief settles that the
    others are; what has loops or prints may take any time, so it never counts as brief.
    """

    __slots__ = ("_trials", "arena_size", "brief", "code", "dims", "enter", "frames", "offsets",
                 "results", "sizes")  # fmt: skip

    def __init__(
        self, code: Function, sizes: dict[str, int], entries: Entries, recyclers: list[Recycler]
    ) -> None:
        manifest = code.manifest
        self.code = code  # the function that runs calls of these sizes
        self.sizes = sizes
        self.dims = (ctypes.c_int64 * max(len(sizes), 1))(*sizes.values())
        self.offsets = (ctypes.c_int64 * max(manifest.offsets, 1))()
        entries.layout(ctypes.addressof(self.dims), ctypes.addressof(self.offsets))
        self.arena_size = int(self.offsets[0])
        first = len(manifest.inputs)
        self.results = [
            _plan(first + at, spec, sizes, recyclers[at])
            for at, spec in enumerate(manifest.outputs)
            if spec.dims
        ]
        self.frames: list[Frame] = []
        self.brief = False
        self._trials = 0 if manifest.watched or manifest.prints else TRIALS
        self.enter = self._timed(entries) if self._trials else entries.long

    def _timed(self, entries: Entries) -> Enter:
        """Runs the code and settles how it is run from now on."""

        def enter(block: ctypes.c_void_p) -> None:
            begun = perf_counter_ns()
            entries.long(block)
            self._trials -= 1
            if perf_counter_ns() - begun <= BRIEF_NS:
                self.enter, self.brief = entries.brief, True
            elif self._trials <= 0:
                self.enter = entries.long

        return enter


def _plan(place: int, spec: TensorSpec, sizes: dict[str, int], recycler: Recycler) -> ResultPlan:
    """How a result is made: its place among the pointers, shape, type; who keeps it if large."""
    shape = tuple(evaluate(dim, sizes) for dim in spec.dims)
    large = prod(shape) * spec.numpy.itemsize >= Recycler.LARGE
    return place, shape, spec.numpy, recycler if large else None


class Frame:
    """The block of one call: pointers, scalar arguments and results, status.

    `cells` has a place of fixed address for each scalar, by its number among the pointers.
    """

    __slots__ = ("address", "callbacks", "cells", "context", "pointers", "status", "version")

    def __init__(
        self, manifest: Manifest, binding: Binding, random: Array, times: int | None = None
    ) -> None:
        count = len(manifest.inputs) + len(manifest.outputs) + len(manifest.variables)
        self.pointers = (ctypes.c_void_p * max(count, 1))()
        self.status = (ctypes.c_int64 * 2)()
        specs = (*manifest.inputs, *manifest.outputs)
        self.cells = {at: np.zeros((), s.numpy) for at, s in enumerate(specs) if not s.dims}
        for at, cell in self.cells.items():
            self.pointers[at] = address_of(cell)
        self.version = -1
        printer = Printer(manifest.prints) if manifest.prints else None
        watch = Watch() if manifest.watched else None
        self.callbacks: tuple[Callback, ...] = tuple(each for each in (printer, watch) if each)
        self.context = Context(
            version=CONTEXT_VERSION,
            dims=ctypes.addressof(binding.dims),
            pointers=ctypes.addressof(self.pointers),
            arena=NO_ARENA.address,
            pool=pool.address(),
            random=address_of(random),
            status=ctypes.addressof(self.status),
            offsets=ctypes.addressof(binding.offsets),
            print=printer.address if printer else None,
            watch=watch.place if watch else None,
            times=times,
        )
        self.address = ctypes.c_void_p(ctypes.addressof(self.context))

    def raised(self) -> list[BaseException]:
        """What was raised while compiled code called back."""
        return [error for each in self.callbacks for error in each.raised]
