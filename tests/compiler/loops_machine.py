"""A slow machine that runs Loops one statement after another: what emitters are held against."""

from __future__ import annotations

import numpy as np

from dlc.ir.dims import Dim, evaluate
from dlc.ir.kernel import digit_extents, storage_size
from dlc.ir.loops import (
    Alloc,
    Apply,
    AsIndex,
    Const,
    Exchange,
    Fetch,
    For,
    If,
    IndexOf,
    LaneReduce,
    Let,
    Load,
    LoadIndex,
    LoopFunction,
    Mask,
    Splat,
    Statement,
    Store,
)
from dlc.ir.ops import OPS
from dlc.ir.program import Branch, Check, Launch, Loop, Parallel, Program, ProgramBuffer, Step
from dlc.ir.scalar import PRIMITIVES, Array, NumpyBuilder


class Machine:
    """Runs the chunks of one function on flat arrays, in any order of chunks."""

    def __init__(self, function: LoopFunction, memory: dict[str, Array], dims: dict[str, int]):
        self.function, self.memory = function, dict(memory)
        self.names: dict[str, int] = dict(dims)
        self.registers: dict[str, Array] = {}
        self.builder = NumpyBuilder()

    def run(self, backwards: bool = False) -> None:
        """Every chunk once; forwards as many as one as may be."""
        count = evaluate(self.function.chunks, self.names)
        group = 1 if backwards else self.function.together
        for chunk in reversed(range(count)) if backwards else range(0, count, group):
            self.names |= {"chunk": chunk, "chunk.after": min(chunk + group, count)}
            self.block(self.function.body)

    def number(self, dim: Dim) -> int:
        return evaluate(dim, self.names)

    def block(self, body: tuple[Statement, ...]) -> None:
        for statement in body:
            self.step(statement)

    def step(self, s: Statement) -> None:
        match s:
            case Alloc():
                fill = 0 if s.zeroed or s.dtype.kind != "float" else np.nan
                self.memory[s.name] = np.full(s.size, fill, s.dtype.numpy)
            case Let():
                self.names[s.name] = self.number(s.value)
            case LoadIndex():
                self.names[s.name] = int(self.memory[s.buffer][self.number(s.offset)])
            case AsIndex():
                self.names[s.name] = int(self.registers[s.value])
            case For():
                self.loop(s)
            case If():
                if all(self.number(c) >= 0 for c in s.conditions):
                    self.block(s.body)
            case Store():
                self.store(s)
            case Fetch():
                assert self.memory[s.buffer].dtype == s.dtype.numpy
                self.number(s.offset)
            case _:
                self.registers[s.name] = self.value(s)

    def loop(self, s: For) -> None:
        state = [self.registers[first] for _, first, _, _ in s.carried]
        at, high = self.number(s.low), self.number(s.high)
        while at < high:
            self.names[s.var] = at
            for (name, _, _, _), value in zip(s.carried, state, strict=True):
                self.registers[name] = value
            self.block(s.body)
            state = [self.registers[name] for name in s.next]
            at = at * 2 if s.step == 0 else at + self.number(s.step)
        for name, value in zip(s.after, state, strict=True):
            self.registers[name] = value

    def store(self, s: Store) -> None:
        at = self.number(s.offset)
        value = np.broadcast_to(self.registers[s.value], (s.lanes,) if s.lanes > 1 else ())
        keep = self.registers[s.mask] if s.mask else np.ones(s.lanes, bool)
        for lane in np.flatnonzero(keep) if s.lanes > 1 else [0]:
            assert 0 <= at + lane < len(self.memory[s.buffer]), s
            self.memory[s.buffer][at + lane] = value[lane] if s.lanes > 1 else value

    def value(self, s: Statement) -> Array:
        r = self.registers
        match s:
            case Mask():
                at = self.number(s.base) + s.step * np.arange(s.lanes)
                low = at.min() if s.low is None else self.number(s.low)
                return (low <= at) & (at < self.number(s.bound))
            case Const():
                return np.full((s.lanes,) if s.lanes > 1 else (), s.value, s.dtype.numpy)
            case IndexOf():
                lanes = np.arange(s.lanes) if s.lanes > 1 else np.asarray(0)
                return (self.number(s.value) + s.step * lanes).astype(s.dtype.numpy)
            case Splat():
                assert r[s.value].shape == ()
                return np.full(s.lanes, r[s.value])
            case Load():
                return self.load(s)
            case LaneReduce():
                return self.reduce(s)
            case Exchange():
                return self.exchange(s)
            case Apply():
                args = [r[a] for a in s.args]
                shapes = {a.shape for a in args}
                assert shapes == {(s.lanes,) if s.lanes > 1 else ()}, (s, shapes)
                if s.op in PRIMITIVES:
                    return self.builder.primitive(s.op, *args)
                formula = OPS[s.op].formula
                assert formula is not None
                return np.asarray(formula(self.builder, dict(s.attrs), *args))
        raise AssertionError(s)

    def load(self, s: Load) -> Array:
        at, memory = self.number(s.offset), self.memory[s.buffer]
        keep = self.registers[s.mask] if s.mask else np.ones(max(s.lanes, 1), bool)
        out = np.zeros(s.lanes, memory.dtype)
        for lane in np.flatnonzero(keep):
            assert 0 <= at + lane < len(memory), (s, at, len(memory))
            out[lane] = memory[at + lane]
        return out if s.lanes > 1 else out[0:1].reshape(())

    def exchange(self, s: Exchange) -> Array:
        first, second = self.registers[s.first], self.registers[s.second]
        on = (np.arange(s.lanes) & s.distance) != 0
        if s.upper:
            return np.where(on, second, np.roll(first, -s.distance))
        return np.where(on, np.roll(second, s.distance), first)

    def reduce(self, s: LaneReduce) -> Array:
        value = self.registers[s.value]
        while len(value) > 1:
            half = len(value) // 2
            value = self.builder.primitive(s.op, value[:half], value[half:])
        return value.reshape(())


def to_storage(array: Array, buffer: ProgramBuffer) -> Array:
    """The flat memory of a logical array; padding holds nan."""
    full = buffer.layout.full(len(buffer.dims))
    extents = [int(e) for e in digit_extents(buffer.layout, array.shape)]
    index = np.indices(extents).reshape(len(extents), -1) if extents else np.zeros((0, 1), int)
    logical = [np.zeros(index.shape[1], int) for _ in array.shape]
    for (axis, divisor), digit in zip(full, index, strict=True):
        logical[axis] = logical[axis] + digit * divisor
    inside = np.ones(index.shape[1], bool)
    for at, size in zip(logical, array.shape, strict=True):
        inside &= at < size
    flat = np.full(index.shape[1], np.nan if array.dtype.kind == "f" else 0, array.dtype)
    flat[inside] = array[tuple(at[inside] for at in logical)]
    return flat


def bind(program: Program, inputs: dict[str, Array]) -> dict[str, int]:
    """The sizes of symbols, from the shapes of inputs."""
    env: dict[str, int] = {}
    for buffer in program.buffers:
        if buffer.name in inputs:
            for dim, size in zip(buffer.dims, inputs[buffer.name].shape, strict=True):
                if not isinstance(dim, int) and str(dim) in dim.symbols:
                    env[str(dim)] = size
    return env


def fresh(buffer: ProgramBuffer, inputs: dict[str, Array], env: dict[str, int]) -> Array:
    """The memory of a buffer: an input's numbers, a constant's, or nan."""
    if buffer.name in inputs:
        return to_storage(inputs[buffer.name], buffer)
    if buffer.kind == "const":
        return np.asarray(buffer.values, buffer.dtype.numpy)
    size = evaluate(storage_size(buffer.layout, buffer.dims), env)
    return np.full(size, np.nan if buffer.dtype.is_float else 0, buffer.dtype.numpy)


def run_program(
    program: Program, inputs: dict[str, Array], backwards: bool = False, **sizes: int
) -> dict[str, Array]:
    """Runs a scheduled program; gives its out and var buffers as logical (row-major) arrays."""
    env = bind(program, inputs) | sizes
    memory = {b.name: fresh(b, inputs, env) for b in program.buffers if not b.alias_of}
    Steps(program, memory, env, backwards).run(program.steps)
    return {b.name: memory[b.name].reshape([evaluate(d, env) for d in b.dims])
            for b in program.buffers if b.kind in ("out", "var") and not b.alias_of}


class Steps:
    """The steps of a program, on the memory of its buffers."""

    def __init__(self, program: Program, memory: dict[str, Array], env: dict[str, int],
                 backwards: bool) -> None:
        self.program, self.memory, self.env, self.backwards = program, memory, env, backwards
        self.loops = {f.name: f for f in program.loops}

    def view(self, name: str) -> Array:
        """The memory of a buffer, which may be a part of another one's."""
        buffer = self.program.buffer(name)
        if not buffer.alias_of:
            return self.memory[name]
        start = evaluate(buffer.offset, self.env)
        size = evaluate(storage_size(buffer.layout, buffer.dims), self.env)
        whole = self.memory[buffer.alias_of]
        assert 0 <= start <= start + size <= len(whole), buffer
        return whole[start:start + size]

    def run(self, steps: tuple[Step, ...]) -> None:
        for step in steps:
            match step:
                case Check():
                    assert self.view(step.buffer).all(), step.text
                case Branch():
                    self.run(step.then if self.view(step.condition)[0] else step.otherwise)
                case Loop():
                    self.loop(step)
                case Parallel():
                    self.parallel(step)
                case Launch():
                    self.launch(step)

    def parallel(self, step: Parallel) -> None:
        pieces = range(evaluate(step.count, self.env))
        for piece in reversed(pieces) if self.backwards else pieces:
            self.env[step.var] = piece
            self.run(step.body)

    def loop(self, loop: Loop) -> None:
        self.env[loop.var] = 0
        while self.goes_on(loop):
            self.run(loop.body)
            self.env[loop.var] += 1

    def goes_on(self, loop: Loop) -> bool:
        self.run(loop.test)
        if loop.condition:
            return bool(self.view(loop.condition)[0])
        return self.env[loop.var] < evaluate(loop.count, self.env)

    def launch(self, launch: Launch) -> None:
        function = self.loops[launch.kernel]
        dims = {n: evaluate(d, self.env)
                for n, d in zip(function.symbols, launch.dims, strict=True)}
        pointers = {p.name: self.view(b)
                    for p, b in zip(function.pointers, launch.buffers, strict=True)}
        Machine(function, pointers, dims).run(self.backwards)
