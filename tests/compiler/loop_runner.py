"""Compiles hand-written loop functions and runs them on arrays."""

from __future__ import annotations

import ctypes
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from dlc.compiler.llvm.loops import emit_function, function_name
from dlc.compiler.llvm.target import Target, compile_module, host
from dlc.ir.loops import LoopFunction, Pointer, Statement
from dlc.ir.types import F32, DType

Array = np.ndarray[Any, Any]
_alive: list[Any] = []


def load(object_bytes: bytes, *symbols: str) -> list[int]:
    """Links object code; the addresses of its symbols."""
    if not _alive:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        _alive.append(llvm.create_lljit_compiler(use_jit_link=True))
    builder = llvm.JITLibraryBuilder().add_object_img(object_bytes).add_current_process()
    for symbol in symbols:
        builder.export_symbol(symbol)
    tracker = builder.link(_alive[0], f"test_{len(_alive)}")
    _alive.append(tracker)
    return [tracker[symbol] for symbol in symbols]


def module_text(function: LoopFunction, target: Target) -> str:
    """A module that exports the loop function as `run`."""
    call = (f"define void @run(ptr %args, i64 %chunk) #0 {{\n  call void "
            f"{function_name(function)}(ptr %args, i64 %chunk)\n  ret void\n}}\n")
    attributes = f"attributes #0 = {{ {target.attributes} }}\n"
    return emit_function(function, target) + call + attributes


def function(
    body: tuple[Statement, ...], pointers: dict[str, DType] | str, symbols: tuple[str, ...] = (),
) -> LoopFunction:
    """A loop function of one chunk; `pointers` as letters are f32 buffers."""
    if isinstance(pointers, str):
        pointers = dict.fromkeys(pointers, F32)
    made = tuple(Pointer(name, dtype, True) for name, dtype in pointers.items())
    return LoopFunction("test", symbols, made, 1, body)


def run(
    function: LoopFunction, *arrays: Array, chunk: int = 0, target: Target | None = None,
    **sizes: int,
) -> None:
    """Runs one chunk of a loop function on arrays, in place."""
    kind = target or host()
    (address,) = load(compile_module(module_text(function, kind), kind), "run")
    slots = [array.ctypes.data for array in arrays] + [sizes[name] for name in function.symbols]
    slots += [1] if function.together > 1 else []
    block = (ctypes.c_int64 * max(1, len(slots)))(*slots)
    ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(address)(ctypes.addressof(block), chunk)
