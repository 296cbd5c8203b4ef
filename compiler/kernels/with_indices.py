"""Computes with other expressions in the place of their indices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from dlc.compiler.kernels.ranges import Ranges, bind
from dlc.ir.dims import Dim
from dlc.ir.kernel import Access, Arg, Compute, Index, IndexValue


def with_indices(compute: Compute, point: Mapping[str, Dim], ranges: Ranges) -> Compute:
    """A compute at a point, with what the ranges decide decided."""

    def at(given: Dim | Access) -> Dim | Access:
        return access(given) if isinstance(given, Access) else bind(given, point, ranges)

    def access(given: Access) -> Access:
        return replace(given, at=tuple(map(at, given.at)))

    def arg(given: Arg) -> Arg:
        if isinstance(given, IndexValue):
            return replace(given, value=bind(given.value, point, ranges))
        return access(given) if isinstance(given, Access) else given

    return replace(
        with_reads(compute, arg), target=access(compute.target),
        over=tuple(Index(i.name, at(i.high), at(i.low)) for i in compute.over),
        where=tuple(bind(e, point, ranges) for e in compute.where))


def with_reads(compute: Compute, arg: Callable[[Arg], Arg]) -> Compute:
    """A compute with other operands."""
    body = tuple(replace(op, args=tuple(map(arg, op.args))) for op in compute.body)
    return replace(compute, body=body, value=arg(compute.value))
