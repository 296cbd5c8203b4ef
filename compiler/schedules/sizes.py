"""Likely sizes of the symbols of a kernel, at which schedules are compared."""

from __future__ import annotations

from dlc.compiler.options import Options
from dlc.ir.kernel import Kernel
from dlc.ir.program import Launch


def likely_sizes(kernel: Kernel, launch: Launch | None, options: Options) -> dict[str, int]:
    """Likely sizes of a kernel's symbols, from the first launch of it."""
    if launch is None:
        return {name: options.hint(name) for name in kernel.symbols}
    return {name: options.likely(dim)
            for name, dim in zip(kernel.symbols, launch.dims, strict=True)}
