"""Contractions seen as products: a sum of a left and a right factor, and what each depends on."""

from __future__ import annotations

from dlc.ir.dataclass import dataclass
from dlc.ir.dims import Dim, symbols
from dlc.ir.kernel import Access, Arg, Compute, Kernel, ScalarOp, arg_names


@dataclass(frozen=True, slots=True)
class Factors:
    """The sum of a kernel, and the two factors of what it adds up.

    `rows` are the outer indices of the left factor alone, `columns` those of the right one, but for
    those that bounds of the sum depend on; of what must hold of a place of the sum, `left_where`
    goes with the left factor, which is 0 elsewhere.
    """

    compute: Compute
    left: Arg
    right: Arg
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    left_where: tuple[Dim, ...] = ()
    right_where: tuple[Dim, ...] = ()

    def reads(self, value: Arg) -> list[Access]:
        """What a factor reads."""
        return reads(self.compute, value)


def factors_of(kernel: Kernel) -> Factors | None:
    """The factors of a kernel that is one sum of products with what follows; None for others.

    Bounds of the sum are by outer indices alone, and no place is loaded.
    """
    first = kernel.body[0]
    outer = [i.name for i in kernel.outer]
    if not isinstance(first, Compute) or not _is_plain_sum(first):
        return None
    rest = kernel.body[1:]
    if kernel.buffer(first.target.buffer).dims or any(
            not isinstance(c, Compute) or c.combine or c.over for c in rest):
        return None
    last = first.body[-1] if first.body else None
    combine = first.combine
    if last is None or combine is None or last.op != "mul" or last.name != first.value or (
            last.dtype is not combine.dtype or not combine.dtype.is_float):
        return None
    left, right = last.args
    one, two = (_names(first, factor) for factor in (left, right))
    bounds = frozenset[str]().union(*(symbols(i.high) for i in first.over
                                      if not isinstance(i.high, Access)))
    outer = [n for n in outer if n not in bounds]
    return _with_places(Factors(
        first, left, right, tuple(n for n in outer if n in one - two),
        tuple(n for n in outer if n in two - one)))


def _with_places(found: Factors) -> Factors | None:
    """With each condition at the factor whose indices it is about; None if it is about both's."""
    rows, columns, sum_of = set(found.rows), set(found.columns), found.compute
    over = {i.name for i in sum_of.over}
    for index in sum_of.over:
        assert not isinstance(index.high, Access)
        if symbols(index.high) & over:
            return None
    if any(symbols(e) & rows and symbols(e) & columns for e in sum_of.where):
        return None
    right = tuple(e for e in sum_of.where if symbols(e) & columns)
    left = tuple(e for e in sum_of.where if e not in right)
    return Factors(sum_of, found.left, found.right, found.rows, found.columns, left, right)


def _is_plain_sum(compute: Compute) -> bool:
    combine = compute.combine
    if combine is None or combine.kind != "sum" or combine.tree:
        return False
    if any(isinstance(i.high, Access) or i.low != 0 for i in compute.over):
        return False
    return not any(isinstance(e, Access) for a in compute.args if isinstance(a, Access)
                   for e in a.at)


def needed(compute: Compute, value: Arg) -> list[ScalarOp]:
    """The ops that a factor is made by, in order."""
    names = {value} if isinstance(value, str) else set[str]()
    found: list[ScalarOp] = []
    for op in reversed(compute.body):
        if op.name in names:
            names |= {a for a in op.args if isinstance(a, str)}
            found.append(op)
    return found[::-1]


def reads(compute: Compute, value: Arg) -> list[Access]:
    """What a factor reads."""
    return [a for a in _args(compute, value) if isinstance(a, Access)]


def is_read(compute: Compute, value: Arg) -> bool:
    """Whether a factor is one element as it is read, in another type perhaps."""
    return len(reads(compute, value)) == 1 and all(
        op.op == "cast" for op in needed(compute, value))


def _args(compute: Compute, value: Arg) -> list[Arg]:
    return [value, *(a for op in needed(compute, value) for a in op.args)]


def _names(compute: Compute, value: Arg) -> set[str]:
    return {n for a in _args(compute, value) for n in arg_names(a)}
