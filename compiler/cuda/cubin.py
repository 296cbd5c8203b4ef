"""CUDA C to the machine code of a GPU: by NVRTC, or else by nvcc of a toolkit."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from dlc.compiler.cuda import nvrtc
from dlc.ir.diagnostics import Diagnostic, InternalError, UserError

MOVES: Final = Path(__file__).with_name("moves.cu")  # what the runtime launches beside kernels
_OF_NVRTC: Final = ("--ptxas-options=-v",)


def compile_cubin(text: str, arch: str) -> bytes:
    """The code of a translation unit for an architecture (`sm_80`, `sm_90a`); UserError where
    neither compiler is here, or it does not know the architecture."""
    if nvrtc.is_here():
        return nvrtc.compile_cubin(text, arch)[0]
    compiler = shutil.which("nvcc")
    if compiler is None:
        raise UserError((Diagnostic(
            "no-gpu-compiler", "CUDA C is compiled by NVRTC or by nvcc, and neither is here",
            help="install NVRTC with `pip install 'dlc[cuda]'`"),))
    return by_nvcc(compiler, text, arch)


def compiler_here() -> str:
    """Who compiles: NVRTC, the path of nvcc, or nobody ("")."""
    return "NVRTC" if nvrtc.is_here() else shutil.which("nvcc") or ""


def by_nvcc(compiler: str, text: str, arch: str) -> bytes:
    """As `compile_cubin`, by the nvcc at a path."""
    options = [option for option in nvrtc.OPTIONS if option not in _OF_NVRTC]
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder, "kernels.cu"), Path(folder, "kernels.cubin")
        source.write_text(text)
        run = subprocess.run([compiler, "-cubin", f"-arch={arch}", *options, "-o", made, source],
                             capture_output=True, text=True, check=False)
        if run.returncode:
            raise _failure(run.stderr, arch, text)
        return made.read_bytes()


def _failure(said: str, arch: str, text: str) -> Exception:
    if "gpu-architecture" in said or "Unsupported gpu architecture" in said:
        return UserError((Diagnostic(
            "bad-setting", f"nvcc knows no GPU architecture called {arch}",
            help="a newer toolkit may, or NVRTC: `pip install 'dlc[cuda]'`"),))
    return InternalError(said, "nvcc", text)
