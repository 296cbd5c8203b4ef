"""What each compute of a kernel is to a chain of products (`make_chain.py` makes such kernels)."""

from __future__ import annotations

from collections.abc import Container, Iterable

from dlc.compiler.kernels.accesses import uses
from dlc.compiler.kernels.products import reads
from dlc.ir.dataclass import dataclass
from dlc.ir.dims import symbol
from dlc.ir.kernel import Access, Arg, Compute, Index, Kernel


@dataclass(frozen=True, slots=True)
class ChainParts:
    """The computes of a chain.

    row:     the index of the row's elements, which local arrays have.
    inner:   products that make elements.
    along:   what is done for each part of the row, in order: elements, sums and maxima over the
             row, and numbers that these need.
    last:    products of elements: sums along the row.
    after:   what comes after the last part, in order: numbers, and what is written.
    """

    row: Index
    inner: tuple[Compute, ...]
    along: tuple[Compute, ...]
    last: tuple[Compute, ...]
    after: tuple[Compute, ...]

    @property
    def sums(self) -> tuple[Compute, ...]:
        """The sums and maxima over the row that are numbers."""
        return tuple(c for c in self.along if c.combine is not None)

    @property
    def top(self) -> Compute | None:
        """The maximum that parts of the row are put together by."""
        return next((c for c in self.sums if c.combine and c.combine.kind == "max"), None)

    @property
    def shift(self) -> Access | None:
        """The number m of the row in exp (x - m), in which all sums are linear."""
        for compute in self.along:
            made = {op.name: op for op in compute.body}
            for op in compute.body:
                apart = made.get(op.args[0]) if op.op == "exp" and isinstance(
                    op.args[0], str) else None
                if apart is not None and apart.op == "sub" and isinstance(apart.args[1], Access):
                    return apart.args[1]
        return None


@dataclass(frozen=True, slots=True)
class ChainRead:
    """A factor of a product of a chain that is read from memory, not made of elements.

    As a matrix it has the `lines` of the tile's rows, of the row's elements, or of the product's
    own index; the sum goes along `over`.
    """

    compute: Compute
    value: Arg
    lines: Index
    over: Index


def factors(compute: Compute, rows: str, arrays: Container[str]) -> tuple[Arg, Arg]:
    """The factor of a product that is of the rows along an outer index, or is made of the elements
    in local arrays, and the other one."""
    one, two = compute.body[-1].args
    of_rows = any(uses(a, rows) or a.buffer in arrays for a in reads(compute, one))
    return (one, two) if of_rows else (two, one)


def chain_reads(kernel: Kernel, parts: ChainParts, rows: Index) -> list[ChainRead]:
    """What products read: of each inner one the factor of the rows and then that of the elements,
    of each last one the other factor."""
    arrays, found = {b.name for b in kernel.locals if b.dims}, list[ChainRead]()
    for compute in (*parts.inner, *parts.last):
        own = next(i for i in compute.over if i != parts.row)
        left, right = factors(compute, rows.name, arrays)
        if compute in parts.inner:
            found += [ChainRead(compute, left, rows, own),
                      ChainRead(compute, right, parts.row, own)]
        else:
            found.append(ChainRead(compute, right, own, parts.row))
    return found


def chain_parts(kernel: Kernel) -> ChainParts | None:
    """The parts of a kernel that is a chain; None for any other."""
    computes = [c for c in kernel.body if isinstance(c, Compute)]
    arrays = {b.name for b in kernel.locals if b.dims}
    if len(computes) != len(kernel.body) or not arrays:
        return None
    sums = [c for c in computes if c.combine is not None and c.target.buffer in arrays]
    if not sums or not _free(sums[0]):
        return None
    row = _free(sums[0])[0]
    inner = tuple(c for c in sums if uses(c.target, row.name))
    last = tuple(c for c in sums if c not in inner)
    rest = [c for c in computes if c not in sums]
    needed = _needed([c for c in rest if row in c.over], rest)
    along = tuple(c for c in rest if row in c.over or c.target.buffer in needed)
    return ChainParts(row, inner, along, last, tuple(c for c in rest if row not in c.over))


def _free(compute: Compute) -> list[Index]:
    return [i for i in compute.over if compute.target.at == (symbol(i.name),)]


def _needed(wanted: Iterable[Compute], computes: list[Compute]) -> set[str]:
    """The numbers of a row that the computes `wanted` read."""
    found: set[str] = set()
    waiting = list(wanted)
    while waiting:
        for access in (a for a in waiting.pop().args if isinstance(a, Access) and not a.at):
            if access.buffer not in found:
                found.add(access.buffer)
                waiting += [c for c in computes if c.target.buffer == access.buffer]
    return found


