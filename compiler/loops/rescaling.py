"""What sums so far of a chain of products are worth, when a later part has a larger maximum."""

from __future__ import annotations

from dlc.compiler.loops.builder import LoopBuilder, Register
from dlc.ir.types import BOOL


def scale_of_sums(out: LoopBuilder, top: Register, before: Register, now: Register) -> Register:
    """exp (m before - m now), by which sums so far are multiplied: 1 where m, the maximum, stays.

    `top` is the maximum so far; where it is -inf there are no sums yet, and it is 0.
    """
    dtype = before.dtype
    scale = out.apply("exp", (out.apply("sub", (before, now), dtype),), dtype)
    for other, known, value in (
            (top, out.constant(dtype, float("-inf")), 0.0), (before, now, 1.0)):
        same = out.apply("eq", (other, known), BOOL)
        scale = out.apply("select", (same, out.constant(dtype, value), scale), dtype)
    return scale
