"""Loop functions as kernels of CUDA C: a chunk is a block.

The parameters are the pointers in order, then the symbols, which are 64-bit integers there. Kernels
of a program with checks have one pointer more, to its state: they do nothing once a check failed.
"""

from __future__ import annotations

from math import inf

from dlc.compiler.cuda.statements import StatementEmitter
from dlc.compiler.cuda.text import mangle, stored
from dlc.compiler.loops.names import Name
from dlc.ir.loops import Alloc, LoopFunction

FREELY_SHARED = 48 << 10  # bytes of a block
SHARED_ALIGNMENT = 128  # bytes: of all banks


def emit_kernel(function: LoopFunction, name: str, guarded: bool = False) -> str:
    """The definition of a loop function as a kernel called `name`; `guarded` by the state."""
    emitter = StatementEmitter()
    emitter.dynamic, asked = shared_memory(function)
    parameters = []
    for pointer in function.pointers:
        found = emitter.pointers[pointer.name] = emitter.writer.fresh(pointer.name)
        const = "" if pointer.writable else "const "
        parameters.append(f"{const}{stored(pointer.dtype)} *{found}")
    if guarded:
        parameters.append("const Wide *failed")
    known = ["chunk = blockIdx.x", "thread = threadIdx.x"]
    for symbol in function.symbols:
        found = emitter.writer.fresh(symbol)
        parameters.append(f"Wide {found}_given")
        known.append(f"{found} = {found}_given")
        emitter.indices.define(symbol, Name(found, 0, (0, inf)))
    emitter.indices.define("chunk", Name("chunk", 0, (0, inf)))
    emitter.indices.define("thread", Name("thread", 0, (0, function.threads - 1)))
    emitter.body(function.body)
    # The 1: registers are not to be spilled so that more than one block may have its place.
    head = f'extern "C" __global__ void __launch_bounds__({function.threads}, 1) {name}('
    lines = [head + ", ".join(parameters) + ") {", *["  if (*failed) return;"] * guarded,
             f"  const Index {', '.join(known)};",
             *["  DYNAMIC_SHARED(unsigned char, all_shared);"] * (asked > 0),
             *emitter.writer.lines, "}"]
    return "\n".join(lines) + "\n"


def shared_memory(function: LoopFunction) -> tuple[dict[str, int], int]:
    """Where its pieces of shared memory begin in what a block asks for, and the bytes of all;
    nothing, where they are as few as every kernel may have."""
    starts, end = dict[str, int](), 0
    for statement in function.body:
        if isinstance(statement, Alloc) and statement.shared:
            starts[statement.name] = end
            end += -(-statement.size * statement.dtype.size // SHARED_ALIGNMENT) * SHARED_ALIGNMENT
    return (starts, end) if end > FREELY_SHARED else ({}, 0)


def kernel_names(functions: tuple[LoopFunction, ...]) -> dict[str, str]:
    """A name in C for each function; different functions have different ones."""
    found: dict[str, str] = {}
    for function in functions:
        name = mangle(function.name)
        while name in found.values():
            name += "_"
        found[function.name] = name
    return found
