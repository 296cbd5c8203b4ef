"""Sweeps along a part of a chain's rows, and what sums so far are worth after them.

Where a row has a maximum m by which x is shifted in exp (x - m), each part may raise it. All sums
so far are then multiplied by exp (m before - m now).
"""

from __future__ import annotations

from abc import abstractmethod

from dlc.compiler.kernels.chain_parts import ChainParts
from dlc.compiler.kernels.sweeps import sweeps
from dlc.compiler.loops.builder import Register
from dlc.compiler.loops.sequence import Sequencing
from dlc.ir.kernel import Compute
from dlc.ir.types import BOOL


class Rescaling(Sequencing):
    """Carries out what goes along the rows of a chain, for one part of them."""

    parts: ChainParts

    def along_part(self) -> None:
        """Elements, maxima and sums of the part, at the rows where all indices are."""
        top, shift = self.parts.top, self.parts.shift
        before: tuple[Register, Register] | None = None
        if top is not None and shift is not None:
            self.numbers_so_far()
            before = self.locals[top.target.buffer], self.locals[shift.buffer]
        for run in sweeps(list(self.parts.along)):
            if run[0].over:
                self.sweep_part(run)
            else:
                self.compute(run[0])
            if before is not None and any(c.target == shift for c in run):
                self.scale_sums(self._scale_since(*before))

    @abstractmethod
    def numbers_so_far(self) -> None:
        """Makes known what the sums and maxima of the rows were before this part."""

    @abstractmethod
    def sweep_part(self, run: list[Compute]) -> None:
        """Computes along the rows, for the elements of the part."""

    @abstractmethod
    def scale_sums(self, scale: Register) -> None:
        """Multiplies all sums so far, but not the maximum."""

    def _scale_since(self, top: Register, before: Register) -> Register:
        """exp (m before - m now): 1 where m, the maximum, stays.

        `top` is the maximum so far; where it is -inf there are no sums yet, and it is 0.
        """
        assert self.parts.shift is not None
        made = self.parts.last[0].combine
        assert made is not None
        dtype, out = made.dtype, self.out  # that of the sums: elements may be of 16 bits
        now, before, top = (
            value if value.dtype is dtype else out.apply("cast", (value,), dtype, (("to", dtype),))
            for value in (self.locals[self.parts.shift.buffer], before, top))
        scale = out.apply("exp", (out.apply("sub", (before, now), dtype),), dtype)
        for other, known, value in (
                (top, out.constant(dtype, float("-inf")), 0.0), (before, now, 1.0)):
            same = out.apply("eq", (other, known), BOOL)
            scale = out.apply("select", (same, out.constant(dtype, value), scale), dtype)
        return scale
