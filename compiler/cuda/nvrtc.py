"""NVRTC, NVIDIA's compiler of CUDA C: text in, machine code of a GPU out. It needs no GPU.

It comes in the package nvidia-cuda-nvrtc (`pip install 'dlc[cuda]'`), or with a CUDA toolkit.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from dlc.ir.dataclass import dataclass
from dlc.ir.diagnostics import Diagnostic, InternalError, UserError

OPTIONS: Final = ("--std=c++17", "--fmad=false", "--ftz=true", "--prec-div=true",
                  "--prec-sqrt=true", "--ptxas-options=-v")
"""Nothing is contracted, so that bits are a CPU's; denormals of f32 are flushed, as there."""
_KERNEL = re.compile(r"Compiling entry function '(\w+)'")
_STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_REGISTERS = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")


@dataclass(frozen=True, slots=True)
class Resources:
    """What a kernel takes: registers of a thread, bytes of its stack and that it spills, and bytes
    of shared memory of a block."""

    kernel: str
    registers: int
    stack: int
    spilled: int
    shared: int


def compile_cubin(text: str, arch: str) -> tuple[bytes, tuple[Resources, ...]]:
    """The code of a translation unit for an architecture (`sm_80`, `sm_90a`), and what each kernel
    takes. UserError where there is no NVRTC, or it does not know the architecture."""
    library = _library()
    program = ctypes.c_void_p()
    _must(library.nvrtcCreateProgram(
        ctypes.byref(program), text.encode(), b"kernels.cu", 0, None, None), "create a program")
    try:
        given = [option.encode() for option in (f"-arch={arch}", *OPTIONS)]
        status = library.nvrtcCompileProgram(
            program, len(given), (ctypes.c_char_p * len(given))(*given))
        log = _read(library, "ProgramLog", program).decode(errors="replace")
        if status:
            raise _failure(log, arch, text)
        return _read(library, "CUBIN", program), tuple(_resources(log))
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def told_resources(text: str, arch: str) -> str:
    """What each kernel of a translation unit takes, a row each."""
    code, found = compile_cubin(text, arch)
    width = max((len(each.kernel) for each in found), default=0)
    rows = [f"{len(code)} bytes for {arch}",
            f"{'kernel':{width}}  registers  stack  spilled  shared"]
    rows += [f"{r.kernel:{width}}  {r.registers:9}  {r.stack:5}  {r.spilled:7}  {r.shared:6}"
             for r in found]
    return "\n".join(rows) + "\n"


def _failure(log: str, arch: str, text: str) -> Exception:
    if "invalid value for --gpu-architecture" in log:
        return UserError((Diagnostic(
            "bad-setting", f"there is no GPU architecture called {arch}",
            help="architectures are called sm_80, sm_90a and so on"),))
    return InternalError(log, "nvrtc", text)


def _must(status: int, what: str) -> None:
    if status:
        raise InternalError(f"NVRTC could not {what}: status {status}", "nvrtc", "")


def _read(library: Any, what: str, program: ctypes.c_void_p) -> bytes:
    size = ctypes.c_size_t()
    _must(getattr(library, f"nvrtcGet{what}Size")(program, ctypes.byref(size)), f"give {what}")
    block = ctypes.create_string_buffer(size.value)
    _must(getattr(library, f"nvrtcGet{what}")(program, block), f"give {what}")
    return block.raw if what == "CUBIN" else block.value


def _resources(log: str) -> Iterator[Resources]:
    """What the assembler says of each kernel."""
    for part in re.split(r"(?=Compiling entry function)", log):
        name, stack, used = _KERNEL.search(part), _STACK.search(part), _REGISTERS.search(part)
        if name and stack and used:
            shared = _SHARED.search(part)
            yield Resources(name[1], int(used[1]), int(stack[1]), int(stack[2]) + int(stack[3]),
                            int(shared[1]) if shared else 0)


def is_here() -> bool:
    """Whether NVRTC is found."""
    return next(_places(), None) is not None


@cache
def _library() -> Any:
    for library, builtins in _places():
        if builtins:  # the library looks for it, but not beside itself
            ctypes.CDLL(builtins, mode=ctypes.RTLD_GLOBAL)
        return ctypes.CDLL(library)
    raise UserError((Diagnostic(
        "no-gpu-compiler", "CUDA C is compiled by NVRTC, which is not here",
        help="install it with `pip install 'dlc[cuda]'`"),))


def _places() -> Iterator[tuple[str, str]]:
    """Where NVRTC is, and what it needs: in the package, or where a loader finds it."""
    spec = find_spec("nvidia")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for library in sorted(Path(folder).glob("*/lib/libnvrtc.so.*"), reverse=True):
            builtins = sorted(library.parent.glob("libnvrtc-builtins.so.*"), reverse=True)
            yield str(library), str(builtins[0]) if builtins else ""
    for name in ("libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"):
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        yield name, ""
