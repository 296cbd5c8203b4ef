"""Runs a program as machine code, through `dlc_entry` and `dlc_layout`, as the runtime does."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from dlc.compiler.llvm.entry import pointer_buffers
from dlc.compiler.llvm.target import compile_module, host
from dlc.compiler.options import Options
from dlc.compiler.passes.emit import emit
from dlc.compiler.passes.plan_memory import plan_memory, planned
from dlc.ir.dims import evaluate
from dlc.ir.kernel import storage_size
from dlc.ir.program import Program
from tests.compiler.loop_runner import load
from tests.compiler.loops_machine import to_storage

Array = np.ndarray[Any, Any]
Entry = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
Layouter = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)
Task = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)
Parallel = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p,
                            ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
Release = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Pool:
    """Runs chunks backwards, and remembers how many there were, at what cost; and whether who has
    taken it has it still."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []
        self.takes, self.owned = 0, False
        self._functions = Parallel(self._parallel), Release(self._release)
        self.memory = (ctypes.c_void_p * 2)(
            *(ctypes.cast(each, ctypes.c_void_p) for each in self._functions))

    def _parallel(self, pool: int, owned: int, task: int, args: int, chunks: int,
                  cost: int) -> int:
        assert bool(owned) == self.owned
        self.takes += not owned
        self.owned = True
        self.seen.append((chunks, cost))
        for at in reversed(range(chunks)):
            Task(task)(args, at)
        return 1

    def _release(self, pool: int) -> None:
        assert self.owned
        self.owned = False


class CompiledProgram:
    """A program in this process. `hints` are the likely sizes for the plan of its memory."""

    def __init__(self, program: Program, **hints: int) -> None:
        options = Options(hints=hints)
        self.program = plan_memory(program, options)
        self.module = emit(self.program, options)
        entry, layout = load(compile_module(self.module.text, host()), "dlc_entry", "dlc_layout")
        self.entry, self.layout = Entry(entry), Layouter(layout)
        self.status = np.zeros(2, np.int64)

    def offsets(self, *dims: int) -> Array:
        """What `dlc_layout` writes."""
        found = np.full(1 + len(planned(self.program)), -1, np.int64)
        sizes = np.array([*dims, 0], np.int64)
        self.layout(sizes.ctypes.data, found.ctypes.data)
        return found

    def __call__(self, *arrays: Array, dims: tuple[int, ...] = (), pool: Pool | None = None,
                 random: tuple[int, int] = (0, 0)) -> None:
        """Runs it on flat memory: inputs, results, variables."""
        sizes, places = np.array([*dims, 0], np.int64), self.offsets(*dims)
        arena = np.full(places[0] + 64, 0xFF, np.uint8)
        start = -arena.ctypes.data % 64
        pointers = (ctypes.c_void_p * max(1, len(arrays)))(*(a.ctypes.data for a in arrays))
        state = np.array(random, np.int64)
        context = (ctypes.c_void_p * 11)(
            4, sizes.ctypes.data, ctypes.addressof(pointers), None, arena.ctypes.data + start,
            ctypes.addressof(pool.memory) if pool else None, state.ctypes.data,
            self.status.ctypes.data, places.ctypes.data, None, None)
        self.entry(ctypes.addressof(context))

    def run(self, inputs: dict[str, Array], pool: Pool | None = None) -> dict[str, Array]:
        """Runs it on arrays by name; gives results and variables in their storage's order."""
        sizes: dict[str, int] = {}
        for buffer in self.program.buffers:
            for dim, size in zip(buffer.dims, inputs.get(buffer.name, np.zeros(())).shape,
                                 strict=False):
                sizes |= {str(dim): size} if str(dim) in self.program.symbols else {}
        memory: dict[str, Array] = {}
        for buffer in pointer_buffers(self.program):
            if buffer.name in inputs:
                memory[buffer.name] = to_storage(inputs[buffer.name], buffer).copy()
            else:
                count = evaluate(storage_size(buffer.layout, buffer.dims), sizes)
                memory[buffer.name] = np.zeros(count, buffer.dtype.numpy)
        self(*memory.values(), dims=tuple(sizes[s] for s in self.program.symbols), pool=pool)
        return {b.name: memory[b.name].reshape([evaluate(d, sizes) for d in b.dims])
                for b in pointer_buffers(self.program) if b.kind in ("out", "var")}
