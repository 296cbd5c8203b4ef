"""What a launch runs at which sizes: variants of its kernel, as far as they are not known before.

    launch dense<N, 4>(x, w, y)                    variant dense.1 of dense where M*K >= 4096
    -> at sizes of which 4*N >= 4096: dense.1; at others: dense
"""

from __future__ import annotations

from typing import NamedTuple

from dlc.ir.dims import Dim, at_least, substitute
from dlc.ir.program import Comparison, Launch, Program


class Case(NamedTuple):
    """A kernel, and of which sizes of the call it is the one that runs."""

    kernel: str
    where: tuple[Comparison, ...]


def cases(program: Program, launch: Launch) -> list[Case]:
    """The kernels of a launch: the first runs of whose sizes all that is said holds. The last one
    has no conditions."""
    kernel = next(k for k in program.kernels if k.name == launch.kernel)
    dims = dict(zip(kernel.symbols, launch.dims, strict=True))
    found: list[Case] = []
    for variant in program.variants:
        if variant.of != launch.kernel:
            continue
        where = [Comparison(substitute(c.left, dims), c.relation, substitute(c.right, dims))
                 for c in variant.where]
        known = [_known(c) for c in where]
        if False not in known:
            left = tuple(c for c, held in zip(where, known, strict=True) if held is None)
            found.append(Case(variant.kernel, left))
            if not left:
                return found
    return [*found, Case(launch.kernel, ())]


def _known(told: Comparison) -> bool | None:
    """Whether it holds at all sizes, or at none; None where that depends on them."""
    difference: Dim = told.left - told.right
    if isinstance(difference, int):
        return told.holds({})
    if told.relation == ">=":
        return True if at_least(difference, 0) else False if at_least(-1 - difference, 0) else None
    return None
