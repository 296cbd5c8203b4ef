"""What formulas want of registers, counted on the formulas themselves, as they go in order.

    exp of f32: 11 constants, and 5 values at a time, of 4 bytes an element each

Nothing is emitted for it: a builder that keeps only what is made of what runs a formula once for
each type of its operands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from math import ceil

from dlc.ir.dataclass import dataclass
from dlc.ir.kernel import Access, Compute, Kernel
from dlc.ir.ops import OPS
from dlc.ir.scalar import COMPARISONS, ScalarBuilder
from dlc.ir.types import BOOL, F32, DType

Constant = tuple[str, float]  # a type and a value
_COMBINED = ("add", "sub", "mul", "and", "or", "xor")  # of integers: constants fill a register
_SIGNED = ("abs", "neg", "ldexp")  # of floats: bits of the exponent or the sign are one


@dataclass(frozen=True, slots=True)
class Need:
    """What a formula wants.

    uses:   its floats, and how often it uses each.
    fixed:  what else fills a register from the first to the last element.
    values: the bytes an element of the values that it holds at a time.
    kept:   the same without its operands, where these are needed later, too.
    """

    uses: tuple[tuple[Constant, int], ...] = ()
    fixed: frozenset[Constant] = frozenset()
    values: int = 0
    kept: int = 0


@dataclass(frozen=True, slots=True)
class _Value:
    """A constant, or what was made by the step of a number."""

    dtype: DType
    step: int = -1
    number: float = 0.0


class _Steps(ScalarBuilder[_Value]):
    """Keeps the bytes of each value that a formula makes, and the values that it is made of."""

    def __init__(self, operands: tuple[DType, ...]) -> None:
        self.uses: dict[Constant, int] = {}
        self.fixed: set[Constant] = set()
        self.bytes: list[int] = []
        self.reads: list[tuple[int, ...]] = []
        self.operands = [self._made(dtype, ()) for dtype in operands]

    def _made(self, dtype: DType, args: tuple[_Value, ...], size: int = 0) -> _Value:
        self.bytes.append(size or dtype.size)
        self.reads.append(tuple(a.step for a in args if a.step >= 0))
        return _Value(dtype, len(self.bytes) - 1)

    def primitive(self, op: str, *args: _Value) -> _Value:
        first = args[0].dtype
        if first.is_float and op in _SIGNED:
            self.fixed.add((f"{op} {first}", 0.0))
        elif first.is_integer and op in _COMBINED:
            self.fixed.update((a.dtype.name, a.number) for a in args if a.step < 0)
        if op in COMPARISONS:  # lanes of a mask are as wide as what is compared
            return self._made(BOOL, args, first.size)
        made = args[1].dtype if op == "select" else first
        size = max((self.bytes[a.step] for a in args if a.step >= 0), default=0)
        return self._made(made, args, size if made is BOOL else 0)

    def rarely(
        self, where: _Value, compute: Callable[[], tuple[_Value, ...]], usual: tuple[_Value, ...]
    ) -> tuple[_Value, ...]:
        return usual

    def const(self, dtype: DType, value: float) -> _Value:
        if dtype.is_float and value != 0:
            constant = (dtype.name, value)
            self.uses[constant] = self.uses.get(constant, 0) + 1
        return _Value(dtype, number=value)

    def cast(self, x: _Value, to: DType) -> _Value:
        return x if x.dtype is to else self._made(to, (x,))

    def bitcast(self, x: _Value, to: DType) -> _Value:
        return _Value(to, x.step, x.number)

    def dtype(self, x: _Value) -> DType:
        return x.dtype


@lru_cache(1 << 10)
def need(
    op: str, operands: tuple[DType, ...], attrs: tuple[tuple[str, int | DType], ...] = ()
) -> Need:
    """That of an op of the registry; a primitive is an instruction or a few."""
    found = OPS.get(op)
    if found is None or found.formula is None:
        return Need()
    steps = _Steps(operands)
    result = found.formula(steps, dict(attrs), *steps.operands)
    assert isinstance(result, _Value)
    return Need(tuple(steps.uses.items()), frozenset(steps.fixed), _most(steps, result.step, ()),
                _most(steps, result.step, range(len(operands))))


def _most(steps: _Steps, result: int, kept: Sequence[int]) -> int:
    """The most bytes of values at a time, but for those that are kept: from the result back."""
    size = [0 if k in kept else n for k, n in enumerate(steps.bytes)]
    live = {result} - {-1}
    now = most = sum(size[step] for step in live)
    for step in range(result, -1, -1):
        if step not in live:
            continue  # nothing reads it
        live.remove(step)
        now -= size[step]
        for read in steps.reads[step]:
            if read not in live:
                live.add(read)
                now += size[read]
        most = max(most, now)
    return most


def needs(kernel: Kernel, computes: Iterable[Compute]) -> Iterator[Need]:
    """Those of all ops of some computes."""
    known = {b.name: b.dtype for b in (*kernel.params, *kernel.locals)}
    for compute in computes:
        for op in compute.body:
            operands = tuple(
                known[a.buffer] if isinstance(a, Access)
                else known.get(a, F32) if isinstance(a, str) else a.dtype for a in op.args)
            known[op.name] = op.dtype
            yield need(op.op, operands, op.attrs)


def places_at_a_time(found: Iterable[Need], registers: int, size: int, sums: int = 0) -> int:
    """How many vectors go through formulas at a time in so many registers, each with its sums, if
    one of a byte an element takes 1 / `size` of a register; 0 if registers do not do for one."""
    wanted = list(found)
    free = registers - len(frozenset[Constant]().union(*(each.fixed for each in wanted)))
    most = max((each.values for each in wanted), default=0)
    return max(free, 0) // (ceil(most / size) + sums) if most else registers
