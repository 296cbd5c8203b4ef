"""Compiles a Graph as a function is compiled, and holds its results against the meaning."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np

from dlc.compiler.options import Options
from dlc.compiler.passes.differentiate import differentiate
from dlc.compiler.pipeline import compile_graph
from dlc.ir.graph import Graph, Value
from dlc.ir.interpret import run_graph
from dlc.ir.scalar import Array
from dlc.ir.types import BF16
from dlc.runtime import Artifact, Function, Variables
from dlc.runtime.memory import arenas
from dlc.runtime.variables import VariableSpec

ARENA = 1 << 22


class CompiledGraph:
    """A graph as machine code, with variables of its own."""

    def __init__(self, graph: Graph, options: Options | None = None) -> None:
        code, manifest = compile_graph(graph, options or Options(verify=True))
        self.meaning = differentiate(graph)
        self.variables = Variables(seed=0)
        self.variables.require([
            VariableSpec.make(p.value.name, p.value.dtype.name, p.value.dims)
            for p in graph.params if p.role == "var"])
        self.call = Function(Artifact(manifest, code), self.variables)

    def run(self, arrays: Sequence[Array]) -> tuple[Array, ...]:
        """Results, then the new values of variables."""
        given = {}
        for p, array in zip(self.meaning.params, arrays, strict=True):
            if p.role == "var":
                self.variables.set(p.value.name, _stored(p.value, array))
            elif p.role == "random":
                self.variables.random[:] = array
            else:
                given[p.value.name] = (
                    int(array) if p.role == "size" else _stored(p.value, array))
        _poison_arena()
        result = self.call(**given)
        results = result if isinstance(result, tuple) else () if result is None else (result,)
        updated = (np.array(self.variables.get(name)) for name, _ in self.meaning.updates)
        return tuple(
            _meant(value, np.asarray(made))
            for value, made in zip(self.meaning.outputs, (*results, *updated), strict=True))

    def check(self, arrays: Sequence[Array], rtol: float = 0.0, atol: float = 0.0) -> None:
        """Holds a run against the interpreter; integers and bools are equal to the last bit."""
        arrays = [bfloat(array) if p.value.dtype is BF16 else array
                  for p, array in zip(self.meaning.params, arrays, strict=True)]
        before = [array.copy() for array in arrays]
        expected = run_graph(self.meaning, arrays)
        found = self.run(arrays)
        for k, (a, b) in enumerate(zip(found, expected, strict=True)):
            assert a.dtype == b.dtype
            float_ = b.dtype.kind == "f"
            np.testing.assert_allclose(
                a, b, rtol=rtol if float_ else 0, atol=atol if float_ else 0,
                err_msg=f"output {k}, {self.meaning.outputs[k].name}")
        for array, old in zip(arrays, before, strict=True):
            np.testing.assert_array_equal(array, old, "an input was written")


def bfloat(x: Array) -> Array:
    """f32 rounded to bf16, halves to even, by its bits."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32).astype(np.uint64)
    near = ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)
    return np.where(np.isnan(x), np.float32(np.nan), near.reshape(np.shape(x)))


def _stored(value: Value, array: Array) -> Array:
    """What the interpreter holds, as it lies in memory: bf16 is the upper half of an f32."""
    if value.dtype is not BF16 or array.dtype == np.uint16:
        return array
    return (np.ascontiguousarray(array).view(np.uint32) >> 16).astype(np.uint16).reshape(
        array.shape)


def _meant(value: Value, array: Array) -> Array:
    """What lies in memory, as the interpreter holds it."""
    if value.dtype is not BF16:
        return array
    return (array.astype(np.uint32) << 16).view(np.float32)


def _poison_arena() -> None:
    """Fills the arena of the next call: every float in it is nan until it is written."""
    arena = arenas.take(ARENA)
    ctypes.memset(arena.address, 0xFF, ARENA)
    arenas.give(arena)
