"""`dlc doctor`: what was found on this machine."""

from __future__ import annotations

import argparse
import platform
from importlib import metadata

PACKAGES = ("numpy", "lark", "llvmlite", "safetensors", "tqdm")


def run(options: argparse.Namespace) -> int:
    """Prints a line for each thing found."""
    import llvmlite.binding as llvm

    import dlc
    from dlc.runtime import cache, jit
    from dlc.runtime.limits import allowed_threads

    probe = jit.load(jit.compile_text("define void @probe() { ret void }"), ["probe"])
    features = llvm.get_host_cpu_features()
    vectors = [name for name in ("avx512f", "avx2", "sse2", "sve", "neon") if features.get(name)]
    folder = cache.folder()
    rows = {
        "dlc": f"{dlc.__version__}, Python {platform.python_version()}, {platform.platform()}",
        "packages": ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES),
        "LLVM": ".".join(map(str, llvm.llvm_version_info)),
        "CPU": f"{llvm.get_host_cpu_name()}, {', '.join(vectors) or 'no known vector unit'}",
        "linker": probe.linker,
        "threads": str(allowed_threads()),
        "GPU": _gpu_line(),
        "cache": _cache_line() if folder else "off (or its folder can't be used)",
    }
    for name, found in rows.items():
        print(f"{name:9} {found}")
    return 0


def _gpu_line() -> str:
    """The GPU, what it is driven by and who compiles for it, or why there is none."""
    from dlc.compiler.cuda import cubin
    from dlc.runtime.cuda.device import device
    from dlc.runtime.errors import GpuError

    try:
        found = device()
    except GpuError as error:
        return f"none: {error}"
    return f"{found}; CUDA C is compiled by {cubin.compiler_here() or 'nobody: no NVRTC, no nvcc'}"


def _cache_line() -> str:
    from dlc.runtime import cache

    folder = cache.folder()
    assert folder is not None
    files = [file.stat().st_size for file in folder.iterdir() if file.is_file()]
    return f"{folder}, {len(files)} entries, {sum(files) / 1e6:.1f} MB"
