"""What this machine is to code that is kept, told without LLVM: importing that takes 20 ms."""

from __future__ import annotations

import os
import sys
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path

__all__ = ["cpu", "llvm_version"]

# What /proc/cpuinfo says of a CPU that decides which instructions it has; of x86, then of ARM.
_FIELDS = ("vendor_id", "cpu family", "model", "stepping", "flags",
           "CPU implementer", "CPU architecture", "CPU variant", "CPU part", "CPU revision",
           "Features")  # fmt: skip
_CPUINFO = Path("/proc/cpuinfo")


@cache
def cpu() -> str:
    """The CPU, its stepping and its instructions: code for one is not for another.

    As Linux says it of the first CPU; elsewhere as LLVM says it.
    """
    found = _of_linux() if sys.platform == "linux" else ""
    if found:
        return f"{os.uname().machine}\n{found}"
    import llvmlite.binding as llvm

    return f"{llvm.get_host_cpu_name()}\n{llvm.get_host_cpu_features().flatten()}"


def _of_linux() -> str:
    """The fields of the first CPU that count; nothing where there are none of them."""
    lines: list[str] = []
    try:
        with _CPUINFO.open() as file:
            for line in file:
                name = line.partition(":")[0].strip()
                if not name and lines:
                    break
                if name in _FIELDS:
                    lines.append(line)
    except OSError:
        return ""
    return "".join(lines)


@cache
def llvm_version() -> str:
    """What stands for the LLVM that makes code: the file in which its package says its version."""
    spec = PathFinder.find_spec("llvmlite")
    if spec is not None and spec.origin is not None:
        try:
            return Path(spec.origin).with_name("_version.py").read_text()
        except OSError:
            pass
    import llvmlite

    return str(llvmlite.__version__)
