"""The only list of ops. Importing this package registers all of them in `OPS`."""

from __future__ import annotations

from dlc.ir.ops import contract, control, elementwise, loops, math, random, reduce, shape
from dlc.ir.ops.op import (
    OPS,
    EvalCall,
    NotDifferentiable,
    Op,
    Read,
    Sample,
    TypeRuleError,
    array_shape,
    dense,
    not_differentiable,
    register,
)

__all__ = [
    "OPS", "EvalCall", "NotDifferentiable", "Op", "Read", "Sample", "TypeRuleError",
    "array_shape", "contract", "control", "dense", "elementwise", "loops", "math", "not_differentiable",
    "random", "reduce", "register", "shape",
]
