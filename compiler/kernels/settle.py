"""What is beside what: computes that choose by where they are, as concatenations do, in parts of an
index within which the choice is known.

    y[i] = select(i - 128 >= 0, b[i - 128] else 0.0, a[i] else 0.0)    for i < 256
    ->
    y[i] = a[i]           for i < 128
    y[i] = b[i - 128]     for 128 <= i < 256
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

from dlc.compiler.kernels.ranges import Ranges, nonnegative
from dlc.ir.dims import Dim, coefficient, substitute, symbols
from dlc.ir.kernel import Arg, Compute, Index, IndexValue, Number, ScalarOp

MOST_PARTS = 8  # each has code of its own


def parts_of(index: Index, computes: Iterable[Compute], lanes: int) -> list[tuple[int, int]]:
    """The parts of an index of constant extent within which choices by it are known, as the first
    value and that after the last; none if there is one alone, or too many, or one that begins
    within a vector."""
    if index.low != 0 or not isinstance(index.high, int):
        return []
    found = {0, index.high}
    for test in (t for c in computes for t in map(_tested, c.body) if t is not None):
        if symbols(test) == {index.name}:
            step, first = coefficient(test, index.name), substitute(test, {index.name: 0})
            if isinstance(first, int) and step in (1, -1):
                found.add(-first if step == 1 else first + 1)
    edges = sorted(at for at in found if 0 <= at <= index.high)
    if not 3 <= len(edges) <= MOST_PARTS + 1 or any(at % lanes for at in edges[:-1]):
        return []
    return list(pairwise(edges))


def settled(computes: Sequence[Compute], ranges: Ranges) -> list[Compute]:
    """Computes that follow each other without what is not chosen where indices are in these ranges.
    """
    truth: dict[str, bool] = {}
    same: dict[str, Arg] = {}
    made = []
    for compute in computes:
        body = []
        for op in compute.body:
            args = tuple(same.get(a, a) if isinstance(a, str) else a for a in op.args)
            test = _tested(op)
            if test is not None and nonnegative(test, ranges):
                truth[op.name] = True
            elif test is not None and nonnegative(-1 - test, ranges):
                truth[op.name] = False
            if op.op == "select" and isinstance(args[0], str) and args[0] in truth:
                same[op.name] = args[1] if truth[args[0]] else args[2]
            else:
                body.append(replace(op, args=args))
        value = compute.value
        value = same.get(value, value) if isinstance(value, str) else value
        made.append(replace(compute, body=tuple(body), value=value))
    return _needed(made)


def _tested(op: ScalarOp) -> Dim | None:
    """What an op asks to be 0 or more, if it asks that of an index expression."""
    if op.op != "ge" or not isinstance(op.args[0], IndexValue):
        return None
    bound = op.args[1]
    return op.args[0].value if isinstance(bound, Number) and bound.value == 0 else None


def _needed(computes: list[Compute]) -> list[Compute]:
    """The computes without ops that none of their values is made of."""
    wanted = {c.value for c in computes if isinstance(c.value, str)}
    kept: list[Compute] = []
    for compute in reversed(computes):
        body: list[ScalarOp] = []
        for op in reversed(compute.body):
            if op.name in wanted:
                wanted.update(a for a in op.args if isinstance(a, str))
                body.append(op)
        kept.append(replace(compute, body=tuple(reversed(body))))
    return kept[::-1]
