"""An elementwise op as machine code, called on arrays: in vectors, then one by one at the end."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from dlc.compiler.llvm.target import Target, compile_module, host
from dlc.ir.dims import symbol
from dlc.ir.loops import Apply, For, Load, Store
from dlc.ir.types import DType
from tests.compiler.loop_runner import function, load, module_text

Array = np.ndarray[Any, Any]
N, i = symbol("N"), symbol("i")
LANES = 16


class Compiled:
    """An op of floats of one dtype; denormals are kept."""

    def __init__(self, name: str, dtype: DType, operands: int = 0, lanes: int = LANES,
                 target: Target | None = None) -> None:
        self._count = operands or (2 if name == "pow" else 1)
        self._numpy = dtype.numpy
        names = [f"x{k}" for k in range(self._count)]
        values = tuple(f"v{k}" for k in range(self._count))

        def one(lanes: int) -> tuple[Any, ...]:
            loads = [Load(v, x, i, dtype, lanes) for v, x in zip(values, names, strict=True)]
            return (*loads, Apply("r", name, values, dtype, dtype, lanes),
                    Store("out", i, "r", dtype, lanes))

        whole = N // lanes * lanes
        loops = (For("i", 0, whole, one(lanes), lanes), For("i", whole, N, one(1)))
        kind = target or host()
        code = function(loops, dict.fromkeys([*names, "out"], dtype), ("N",))
        (address,) = load(compile_module(module_text(code, kind), kind), "run")
        self._call = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(address)

    def __call__(self, *xs: Array) -> Array:
        """The op on arrays of one dimension and of one size."""
        arrays = [np.ascontiguousarray(x, self._numpy) for x in xs]
        out = np.empty_like(arrays[0])
        slots = [a.ctypes.data for a in (*arrays, out)] + [out.size]
        block = (ctypes.c_int64 * len(slots))(*slots)
        self._call(ctypes.addressof(block), 0)
        return out
