"""A Graph as CUDA C, run on a CPU by nothing but its text and its manifest."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dlc.compiler.levels import Compiled
from dlc.compiler.options import Options
from dlc.compiler.passes.differentiate import differentiate
from dlc.compiler.pipeline import compile_cuda
from dlc.ir import dims
from dlc.ir.graph import Graph
from dlc.ir.program import Program
from dlc.ir.scalar import Array
from dlc.runtime.cuda.plan import chosen, resident
from dlc.runtime.cuda.tensor_maps import tensor_map
from dlc.runtime.dims import evaluate, holds, solve
from tests.compiler.compiled import CompiledGraph, _meant, _stored
from tests.cuda.on_cpu import KernelFault, Memory, Module
from tests.cuda.on_device import ON_GPU, DeviceGraph, WideDeviceGraph

ALIGNMENT = 64
MOST_RESIDENT = 8192  # threads, as cuda_on_cpu.h has them
ARCH = "sm_80"
HEADERS = ("cuda_on_cpu.h", "groups.h")
Json = dict[str, Any]


class CheckFailed(Exception):
    """A check of the program failed; its code."""


class Run:
    """One call: the memory of all buffers, and the steps.

    Forwards, temps lie in the arena as they were planned; backwards, each has memory of its own,
    with pages round it that can't be touched. Loops are launched turn by turn if they are to be
    `apart`.
    """

    def __init__(
        self, module: Module, manifest: Json, memory: dict[str, Memory], sizes: dict[str, int],
        backwards: bool, apart: bool = False,
    ) -> None:
        self.module, self.plan, self.backwards = module, manifest["cuda"], backwards
        self.apart = apart
        narrow = self.plan["narrow"]
        assert all(evaluate(n, sizes) < narrow["below"] for n in narrow["counts"])
        self.memory, self.sizes = memory, dict(sizes)
        self.places = {name: m.address for name, m in memory.items()}
        self.printed: list[int] = []
        ends: dict[str, int] = {}
        for temp in self.plan["arena"]:
            start = max((ends[name] for name in temp["above"]), default=0)
            size = evaluate(temp["bytes"], self.sizes)
            ends[temp["name"]] = start + -(-size // ALIGNMENT) * ALIGNMENT
            self.places[temp["name"]] = start
            if backwards:
                self.memory[temp["name"]] = Memory(size)
                self.places[temp["name"]] = self.memory[temp["name"]].address
        if not backwards:
            self.arena = Memory(max(ends.values(), default=0))
            for name in ends:
                self.places[name] += self.arena.address

    def run(self) -> None:
        """All steps in order."""
        self._steps(self.plan["steps"])
        for memory in self.memory.values():
            memory.check()

    def _place(self, name: str) -> int:
        buffer = self.plan["buffers"][name]
        if "part_of" not in buffer:
            return self.places[name]
        size = {"bool": 1, "bf16": 2}.get(buffer["dtype"]) or int(buffer["dtype"][1:]) // 8
        return self.places[buffer["part_of"]] + size * evaluate(buffer["offset"], self.sizes)

    def _is_true(self, name: str) -> bool:
        return ctypes.c_uint8.from_address(self._place(name)).value != 0

    def _steps(self, steps: list[Json]) -> None:
        for step in steps:
            getattr(self, f"_{step['step']}")(step)

    def _launch(self, step: Json) -> None:
        run = chosen(step, self.sizes)
        self._put(run, step, evaluate(run["blocks"], self.sizes))

    def _put(self, run: Json, step: Json, blocks: int, resident: bool = False) -> None:
        given: list[Any] = [self._map(view) for view in run.get("maps", ())]
        given += [ctypes.c_void_p(self._place(name)) for name in step["buffers"]]
        given += [ctypes.c_longlong(evaluate(dim, self.sizes)) for dim in step["dims"]]
        if blocks:
            self.module.launch(run["kernel"], blocks, run["threads"], *given,
                               shared=run.get("shared", 0), backwards=self.backwards,
                               resident=resident)

    def _map(self, view: Json) -> bytes:
        start, *numbers = (evaluate(n, self.sizes) for n in (
            view["offset"], *view["sizes"], *view["steps"]))
        rank = len(view["sizes"])
        return tensor_map(self._place(view["buffer"]) + 2 * start, view["dtype"], numbers[:rank],
                          numbers[rank:], view["box"], self.module.tensor_map)

    def _check(self, step: Json) -> None:
        if not self._is_true(step["buffer"]):
            raise CheckFailed(step["code"])

    def _print(self, step: Json) -> None:
        self.printed.append(step["code"])

    def _commit(self, step: Json) -> None:
        pass

    def _branch(self, step: Json) -> None:
        self._steps(step["then" if self._is_true(step["condition"]) else "otherwise"])

    def _loop(self, step: Json) -> None:
        at_once = None if self.apart else resident(step, self.sizes)
        blocks = evaluate(at_once["blocks"], self.sizes) if at_once else 0
        if at_once and blocks * at_once["threads"] <= MOST_RESIDENT:
            self._put(at_once, at_once, blocks, resident=True)
            self.sizes[step["var"]] = evaluate(step["count"], self.sizes)
            return
        self.sizes[step["var"]] = 0
        while self._goes_on(step):
            self._steps(step["body"])
            self.sizes[step["var"]] += 1

    def _goes_on(self, step: Json) -> bool:
        self._steps(step["test"])
        if step["condition"]:
            return self._is_true(step["condition"])
        return self.sizes[step["var"]] < evaluate(step["count"], self.sizes)


def runs(program: Program, kernel: str, sizes: dict[str, int]) -> str:
    """The variant of a kernel that runs at these sizes of its symbols."""
    return next((v.kernel for v in program.variants if v.of == kernel and all(
        holds(dims.evaluate(c.left, sizes), c.relation, dims.evaluate(c.right, sizes), {})
        for c in v.where)), kernel)


class CudaGraph(CompiledGraph):
    """A graph as CUDA C, which may have been made before. A run goes forwards and backwards, which
    must give the same bits; and with all loops launched turn by turn, if there is one that need not
    be."""

    arch, defined = ARCH, tuple[str, ...]()

    def __init__(
        self, graph: Graph, options: Options | None = None, made: Compiled | None = None
    ) -> None:
        options = options or Options()
        assert not options.target
        self.meaning = differentiate(graph)
        self.made: Compiled = made or compile_cuda(
            graph, replace(options, target=f"cuda:{self.arch}", verify=True))
        self.module = Module(self.made.text, HEADERS, *self.defined)

    def run(self, arrays: Sequence[Array]) -> tuple[Array, ...]:
        """Results, then the new values of variables."""
        forwards, backwards = (self._run(arrays, b) for b in (False, True))
        for a, b in zip(forwards, backwards, strict=True):
            np.testing.assert_array_equal(a, b, "the order of threads changes the result")
        if "meet_all_blocks();" in self.made.text:
            for a, b in zip(forwards, self._run(arrays, False, apart=True), strict=True):
                np.testing.assert_array_equal(a, b, "turns at once are not those one by one")
        return forwards

    def _run(
        self, arrays: Sequence[Array], backwards: bool, apart: bool = False
    ) -> tuple[Array, ...]:
        manifest, memory = self.made.manifest, {}
        sizes: dict[str, int] = {}
        for param, array in zip(self.meaning.params, arrays, strict=True):
            if param.role == "size":
                sizes[param.value.name] = int(array)
                continue
            kept = np.asarray(array) if param.role == "random" else _stored(param.value, array)
            memory[param.value.name] = Memory.of(np.ascontiguousarray(kept))
            if param.role == "in":
                specs: list[Json] = manifest["inputs"]  # type: ignore[assignment]
                spec = next(s for s in specs if s["name"] == param.value.name)
                for dim, size in zip(spec["dims"], kept.shape, strict=True):
                    known = solve(dim, size, sizes)
                    sizes |= [known] if known else []
        results = []
        outputs: list[Json] = manifest["outputs"]  # type: ignore[assignment]
        buffers: Json = manifest["cuda"]["buffers"]  # type: ignore[index]
        names = [n for n, b in buffers.items() if b["kind"] == "out" and "part_of" not in b]
        for name, spec in zip(names, outputs, strict=True):
            shape = [evaluate(dim, sizes) for dim in spec["dims"]]
            dtype = "uint16" if spec["dtype"] == "bf16" else _numpy(spec["dtype"])
            memory[name] = Memory(int(np.prod(shape, dtype=int)), dtype)
            results.append((memory[name], shape))
        for name, buffer in buffers.items():
            values = [0, 0] if buffer["kind"] == "state" else buffer.get("values")
            if values is not None:
                memory[name] = Memory.of(np.asarray(values, _numpy(buffer["dtype"])))
        run = Run(self.module, manifest, memory, sizes, backwards, apart)
        before = {p.value.name: memory[p.value.name].array.copy() for p in self.meaning.params
                  if p.role in ("in", "random")}
        run.run()
        for name, old in before.items():
            np.testing.assert_array_equal(memory[name].array, old, "an input was written")
        found = [m.array.reshape(shape).copy() for m, shape in results]
        for name, value in self.meaning.updates:
            shape = [dims.evaluate(d, sizes) for d in value.dims]
            found.append(memory[name].array.reshape(shape).copy())
        return tuple(_meant(v, a) for v, a in zip(self.meaning.outputs, found, strict=True))


def _numpy(dtype: str) -> str:
    kinds = {"f": "float", "i": "int", "u": "uint", "b": "bool"}
    return "bool" if dtype == "bool" else f"{kinds[dtype[0]]}{dtype[1:]}"


class WideGraph(CudaGraph):
    """A graph as CUDA C with indices of 64 bits."""

    defined = ("WIDE_INDICES",)


if ON_GPU:
    CudaGraph, WideGraph = DeviceGraph, WideDeviceGraph  # type: ignore[assignment, misc]


__all__ = ["ARCH", "CheckFailed", "CudaGraph", "KernelFault", "Run", "WideGraph", "runs"]
