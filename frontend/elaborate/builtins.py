"""All that the compiler knows by name: importing this registers it."""

from __future__ import annotations

from dlc.frontend.elaborate import (
    builtins_contract,
    builtins_make,
    builtins_math,
    builtins_order,
    builtins_random,
    builtins_reduce,
    builtins_shape,
)
from dlc.frontend.elaborate.builtin_table import BUILTINS

__all__ = [
    "BUILTINS", "builtins_contract", "builtins_make", "builtins_math", "builtins_order",
    "builtins_random", "builtins_reduce", "builtins_shape",
]
