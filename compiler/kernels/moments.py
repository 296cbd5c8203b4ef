"""Mean and variance of a row, seen in a kernel that goes along it.

    s = sum k: x[i, k]              r = s / n              q = sum k: (x[i, k] - r) * (x[i, k] - r)

Both sums can be had in one sweep, chunk by chunk: those of a chunk, about its own mean, are put to
those of all chunks before (Chan, Golub and LeVeque 1979, Updating formulae and a pairwise algorithm
for computing sample variances).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from dlc.ir.dataclass import dataclass
from dlc.ir.dims import Dim, product
from dlc.ir.kernel import Access, Arg, Compute, IndexValue, Number, ScalarOp


@dataclass(frozen=True, slots=True)
class Moments:
    """The computes of a mean and of the sum of squares about it."""

    sum: Compute
    mean: Compute
    squares: Compute


def moments_of(runs: Sequence[Sequence[Compute]]) -> Moments | None:
    """The first mean whose squares are all that the next sweep is for; None if there is none.

    `runs` are the computes of a kernel, those of one sweep together.
    """
    along = [run for run in runs if run[0].over]
    for run, after in pairwise(along):
        if len(after) != 1:
            continue
        numbers = [c for other in runs for c in other if not c.over]
        for one in run:
            mean = next((c for c in numbers if _is_mean(c, one)), None)
            if mean is not None and _is_squares(after[0], one, mean):
                return Moments(one, mean, after[0])
    return None


def _is_mean(compute: Compute, total: Compute) -> bool:
    """Whether a number of the row is a sum divided by how many elements were added up."""
    combine = total.combine
    if combine is None or combine.kind != "sum" or combine.tree or not combine.dtype.is_float or (
            total.where or total.target.at or compute.target.at or len(compute.body) != 1):
        return False
    (op,) = compute.body
    if compute.value != op.name or len(op.args) != 2 or op.args[0] != total.target or (
            op.dtype is not combine.dtype):
        return False
    count: Dim = product(tuple(i.high - i.low for i in total.over
                               if not isinstance(i.high, Access) and not isinstance(i.low, Access)))
    divisor = op.args[1]
    if op.op == "mul":
        return isinstance(divisor, Number) and isinstance(count, int) and (
            divisor.value * count == 1)
    if op.op != "div":
        return False
    return (isinstance(divisor, Number) and divisor.value == count) or (
        isinstance(divisor, IndexValue) and divisor.value == count)


def _is_squares(compute: Compute, total: Compute, mean: Compute) -> bool:
    """Whether it adds up the squares of what the mean is of, less the mean."""
    if compute.combine != total.combine or compute.over != total.over or compute.where or (
            len(compute.body) != len(total.body) + 2):
        return False
    *before, apart, square = compute.body
    names: dict[str, str] = {}
    for ours, theirs in zip(before, total.body, strict=True):
        if not _same(ours, theirs, names):
            return False
        names[ours.name] = theirs.name
    return apart.op == "sub" and square.op == "mul" and square.name == compute.value and (
        square.args == (apart.name, apart.name)) and apart.args[1] == mean.target and (
        _renamed(apart.args[0], names) == total.value)


def _same(ours: ScalarOp, theirs: ScalarOp, names: dict[str, str]) -> bool:
    return (ours.op, ours.dtype, ours.attrs) == (theirs.op, theirs.dtype, theirs.attrs) and (
        tuple(_renamed(a, names) for a in ours.args) == theirs.args)


def _renamed(arg: Arg, names: dict[str, str]) -> Arg:
    return names.get(arg, arg) if isinstance(arg, str) else arg
