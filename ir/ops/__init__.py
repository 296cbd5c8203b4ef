"""The only list of ops. Importing this package registers all of them in `OPS`."""

from __future__ import annotations

from dlc.ir.ops import (
    contract,
    control,
    elementwise,
    indices,
    loops,
    math,
    random,
    reduce,
    shape,
    sort,
    windows,
)
from dlc.ir.ops.op import (
    OPS,
    EvalCall,
    NotDifferentiable,
    Op,
    Read,
    Sample,
    Structured,
    TypeRuleError,
    array_shape,
    dense,
    not_differentiable,
    register,
)

__all__ = [
    "OPS", "EvalCall", "NotDifferentiable", "Op", "Read", "Sample", "Structured",
    "TypeRuleError", "array_shape", "contract", "control", "dense", "elementwise", "indices",
    "loops", "math", "not_differentiable", "random", "reduce", "register", "shape", "sort",
    "windows",
]
