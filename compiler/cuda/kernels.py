"""Loop functions as kernels of CUDA C: a chunk is a block.

The parameters are the pointers in order, then the symbols, which are 64-bit integers there; before
them, the tensor maps of views, which launches of several functions together can't have. Kernels
of a program with checks have one pointer more, to its state: they do nothing once a check failed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf

from dlc.compiler.cuda.group_statements import GroupEmitter
from dlc.compiler.cuda.text import mangle, stored
from dlc.compiler.loops.names import Name
from dlc.ir.group_loops import SIGNAL, Signals, View
from dlc.ir.loops import Alloc, Copies, For, If, LoopFunction, Statement
from dlc.ir.types import DType

FREELY_SHARED = 48 << 10  # bytes of a block
SHARED_ALIGNMENT = 128  # bytes: of all banks
MAP = "const __grid_constant__ TensorMap"
GUARD = "const Wide *failed"  # whether a check before has failed
LEAVE = "  if (*failed) return;\n"


def emit_kernel(function: LoopFunction, name: str, guarded: bool = False) -> str:
    """The definition of a loop function as a kernel called `name`; `guarded` by the state."""
    pointers, numbers, body = _emit(function)
    parameters = (*pointers, *[GUARD] * guarded, *numbers)
    head = head_of(name, function.threads, parameters, guarded)
    return f"{head}  const Index chunk = blockIdx.x;\n{body}}}\n"


def emit_part(function: LoopFunction, name: str, freely: int = FREELY_SHARED,
              called: bool = False) -> str:
    """The definition of a loop function that blocks of a kernel call, with the number of a chunk.
    `freely` is how much shared memory it has of its own, in bytes: what is more, its kernel has.
    It becomes part of the kernel's code, unless it is to be `called`.
    """
    pointers, numbers, body = _emit(function, freely)
    head = f"static __device__ {'__attribute__((noinline)) ' * called}void {name}("
    return f"{head}{', '.join((*pointers, *numbers, 'const Index chunk'))}) {{\n{body}}}\n"


def emit_together(
    functions: list[LoopFunction], parts: list[str], name: str, guarded: bool = False
) -> str:
    """A kernel whose blocks call functions: as many each as the last parameters say."""
    parameters: list[str] = []
    numbers: list[str] = []
    lines = ["  Index chunk = blockIdx.x;"]
    for k, (function, part) in enumerate(zip(functions, parts, strict=True)):
        own = [f"p{k}_{at}" for at in range(len(function.pointers))]
        parameters += [f"{pointer_text(p.dtype, p.writable)}{n}"
                       for p, n in zip(function.pointers, own, strict=True)]
        dims = [f"n{k}_{at}" for at in range(len(function.symbols))]
        numbers += [f"Wide {n}" for n in dims]
        call = f"{part}({', '.join((*own, *dims, 'chunk'))})"
        lines += [f"  if (chunk < blocks_{k}) return {call};", f"  chunk -= blocks_{k};"]
    counts = [f"Wide blocks_{k}" for k in range(len(functions))]
    each = (*parameters, *[GUARD] * guarded, *numbers, *counts)
    return head_of(name, functions[0].threads, each, guarded) + "\n".join((*lines[:-1], "}\n"))


def head_of(name: str, threads: int, parameters: Sequence[str], guarded: bool) -> str:
    """How a kernel begins, which leaves if a check has failed."""
    # The 1: registers are not to be spilled so that more than one block may have its place.
    head = f'extern "C" __global__ void __launch_bounds__({threads}, 1) {name}('
    return f"{head}{', '.join(parameters)}) {{\n{LEAVE * guarded}"


def pointer_text(dtype: DType, writable: bool) -> str:
    """The C type of a pointer to elements in memory."""
    return f"{'' if writable else 'const '}{stored(dtype)} *"


def _emit(
    function: LoopFunction, freely: int = FREELY_SHARED
) -> tuple[list[str], list[str], str]:
    """The parameters of a function, pointers and numbers, and the lines of its body, which know
    their `chunk`."""
    emitter = GroupEmitter(function.multiples)
    emitter.dynamic, asked = shared_memory(function, freely)
    pointers, numbers = [], []
    for view in views(function):
        found = emitter.views[view.name] = emitter.writer.fresh(view.name)
        pointers.append(f"{MAP} {found}")
    for pointer in function.pointers:
        found = emitter.pointers[pointer.name] = emitter.writer.fresh(pointer.name)
        pointers.append(f"{pointer_text(pointer.dtype, pointer.writable)}{found}")
    known = ["thread = threadIdx.x"]
    for symbol in function.symbols:
        found = emitter.writer.fresh(symbol)
        numbers.append(f"Wide {found}_given")
        known.append(f"{found} = {found}_given")
        emitter.indices.define(symbol, Name(found, 0, (0, inf)))
    emitter.indices.define("chunk", Name("chunk", 0, (0, inf)))
    emitter.indices.define("thread", Name("thread", 0, (0, function.threads - 1)))
    emitter.body(function.body)
    lines = [f"  const Index {', '.join(known)};",
             *["  DYNAMIC_SHARED(unsigned char, all_shared);"] * (asked > 0),
             *emitter.writer.lines]
    return pointers, numbers, "\n".join(lines) + "\n"


def views(function: LoopFunction) -> list[View]:
    """What a function copies boxes of."""
    return [s for s in function.body if isinstance(s, View)]


def copies(body: Iterable[Statement]) -> bool:
    """Whether a body begins copies that it need not wait for."""
    return any(isinstance(s, Copies) or (isinstance(s, For | If) and copies(s.body)) for s in body)


def shared_memory(
    function: LoopFunction, freely: int = FREELY_SHARED
) -> tuple[dict[str, int], int]:
    """Where its pieces of shared memory begin in what a block asks for, and the bytes of all;
    nothing, where they are as few as it may have `freely`, and no box is copied there."""
    starts, end = dict[str, int](), 0
    for statement in function.body:
        size = 0
        if isinstance(statement, Alloc) and statement.shared:
            size = statement.size * statement.dtype.size
        elif isinstance(statement, Signals):
            size = statement.count * SIGNAL
        if size:
            starts[statement.name] = end  # type: ignore[union-attr]
            end += -(-size // SHARED_ALIGNMENT) * SHARED_ALIGNMENT
    return (starts, end) if end > freely or views(function) else ({}, 0)


def kernel_names(functions: tuple[str, ...]) -> dict[str, str]:
    """A name in C for each function; different functions have different ones."""
    found: dict[str, str] = {}
    for function in functions:
        name = mangle(function)
        while name in found.values():
            name += "_"
        found[function] = name
    return found
