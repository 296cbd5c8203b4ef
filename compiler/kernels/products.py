"""Contractions seen as products: a sum of a left and a right factor, and what each depends on."""

from __future__ import annotations

from dlc.ir.dataclass import dataclass
from dlc.ir.dims import symbols
from dlc.ir.kernel import Access, Arg, Compute, Kernel, ScalarOp, arg_names


@dataclass(frozen=True, slots=True)
class Factors:
    """The sum of a kernel, and the two factors of what it adds up.

    `rows` are the outer indices of the left factor alone, `columns` those of the right one.
    """

    compute: Compute
    left: Arg
    right: Arg
    rows: tuple[str, ...]
    columns: tuple[str, ...]

    def needed(self, value: Arg) -> list[ScalarOp]:
        """The ops that a factor is made by, in order."""
        return _needed(self.compute, value)

    def reads(self, value: Arg) -> list[Access]:
        """What a factor reads."""
        return [a for a in _args(self.compute, value) if isinstance(a, Access)]


def factors_of(kernel: Kernel) -> Factors | None:
    """The factors of a kernel that is one sum of products with what follows; None for others.

    Bounds of the sum are the same at all places, and no place is left out or loaded.
    """
    first = kernel.body[0]
    outer = [i.name for i in kernel.outer]
    if not isinstance(first, Compute) or not _is_plain_sum(first, outer):
        return None
    rest = kernel.body[1:]
    if kernel.buffer(first.target.buffer).dims or any(
            not isinstance(c, Compute) or c.combine or c.over or c.where for c in rest):
        return None
    last = first.body[-1] if first.body else None
    combine = first.combine
    if last is None or combine is None or last.op != "mul" or last.name != first.value or (
            last.dtype is not combine.dtype or not combine.dtype.is_float):
        return None
    left, right = last.args
    one, two = (_names(first, factor) for factor in (left, right))
    return Factors(first, left, right, tuple(n for n in outer if n in one - two),
                   tuple(n for n in outer if n in two - one))


def _is_plain_sum(compute: Compute, outer: list[str]) -> bool:
    combine = compute.combine
    if combine is None or combine.kind != "sum" or combine.tree or compute.where:
        return False
    varying = {*outer, *(i.name for i in compute.over)}
    if any(isinstance(i.high, Access) or i.low != 0 or symbols(i.high) & varying
           for i in compute.over):
        return False
    return not any(isinstance(e, Access) for a in compute.args if isinstance(a, Access)
                   for e in a.at)


def _needed(compute: Compute, value: Arg) -> list[ScalarOp]:
    names = {value} if isinstance(value, str) else set()
    found: list[ScalarOp] = []
    for op in reversed(compute.body):
        if op.name in names:
            names |= {a for a in op.args if isinstance(a, str)}
            found.append(op)
    return found[::-1]


def _args(compute: Compute, value: Arg) -> list[Arg]:
    return [value, *(a for op in _needed(compute, value) for a in op.args)]


def _names(compute: Compute, value: Arg) -> set[str]:
    return {n for a in _args(compute, value) for n in arg_names(a)}
