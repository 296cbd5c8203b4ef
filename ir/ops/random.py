"""Random draws: Philox4x32-10, element by element, so that they fuse like any other op.

The generator is that of Salmon, Moraes, Dror and Shaw, *Parallel Random Numbers: As Easy as 1, 2,
3* (SC 2011). Its key is the seed (low word, high word); its counter is the element's number (low,
high), the number of the call, and the place of the draw in the program. So a draw depends on
nothing else, and the same element can be drawn again wherever it is needed. In a loop the key is
what `random_seed` makes of the key outside and the number of the turn.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

from dlc.ir.ops.circular import quarter_turns
from dlc.ir.ops.elementwise import INTEGER, same_types
from dlc.ir.ops.exponentials import log_inside
from dlc.ir.ops.op import (
    Array,
    EvalCall,
    Op,
    Sample,
    TypeRuleError,
    not_differentiable,
    register,
)
from dlc.ir.scalar import ScalarBuilder
from dlc.ir.types import F32, I32, I64, TensorType, Type, tensor

if TYPE_CHECKING:
    from dlc.ir.graph import Attr, Graph

T = TypeVar("T")

MULTIPLIERS: Final = (0xD2511F53, 0xCD9E8D57)
INCREMENTS: Final = (0x9E3779B9, 0xBB67AE85)
ROUNDS: Final = 10
_WORD: Final = 0xFFFFFFFF
_OTHER: Final = 1 << 31  # sets new seeds apart from draws


def philox(b: ScalarBuilder[T], key: tuple[T, T], counter: tuple[T, T, T, T]) -> tuple[T, T, T, T]:
    """Four random words of 32 bits, from words of 32 bits; all are held in i64.

    Within, only the lower halves count. They alone are multiplied: a target sees so in the round
    itself that two words are, for which it has an instruction.
    """
    c0, c1, c2, c3, _, _ = b.repeat(
        ROUNDS, lambda values: _round(b, *values), (*counter, *key))
    word = b.const(I64, _WORD)
    return (b.primitive("and", c0, word), b.primitive("and", c1, word),
            b.primitive("and", c2, word), b.primitive("and", c3, word))


def _round(
    b: ScalarBuilder[T], c0: T, c1: T, c2: T, c3: T, k0: T, k1: T
) -> tuple[T, T, T, T, T, T]:
    """The next counter, and the key of the round after it."""
    word, half = b.const(I64, _WORD), b.const(I64, 32)
    first = b.mul(b.primitive("and", c0, word), b.const(I64, MULTIPLIERS[0]))
    second = b.mul(b.primitive("and", c2, word), b.const(I64, MULTIPLIERS[1]))
    return (
        _xor(b, _xor(b, b.primitive("lshr", second, half), c1), k0), second,
        _xor(b, _xor(b, b.primitive("lshr", first, half), c3), k1), first,
        b.add(k0, b.const(I64, INCREMENTS[0])), b.add(k1, b.const(I64, INCREMENTS[1])),
    )


def _xor(b: ScalarBuilder[T], x: T, y: T) -> T:
    return b.primitive("xor", x, y)


def _words(b: ScalarBuilder[T], place: int, seed: T, call: T, element: T) -> tuple[T, T]:
    """The first two words of a draw, 24 bits of each, as i32."""
    word, half = b.const(I64, _WORD), b.const(I64, 32)

    def low(x: T) -> T:
        return b.primitive("and", x, word)

    def high(x: T) -> T:
        return b.primitive("lshr", x, half)

    counter = (low(element), high(element), low(call), b.const(I64, place & _WORD))
    first, second, _, _ = philox(b, (low(seed), high(seed)), counter)
    eight = b.const(I64, 8)
    return (b.cast(b.primitive("lshr", first, eight), I32),
            b.cast(b.primitive("lshr", second, eight), I32))


def _seed(b: ScalarBuilder[T], place: int, seed: T, call: T, turn: T) -> T:
    """Two whole words as one i64. The third word of the counter has its first bit turned over, so
    that no draw at the same place and of the same number has these words."""
    word, half = b.const(I64, _WORD), b.const(I64, 32)
    low = [b.primitive("and", x, word) for x in (seed, call, turn)]
    high = [b.primitive("lshr", x, half) for x in (seed, turn)]
    third = _xor(b, low[1], b.const(I64, _OTHER))
    counter = (low[2], high[1], third, b.const(I64, place & _WORD))
    first, second, _, _ = philox(b, (low[0], high[0]), counter)
    return b.primitive("or", first, b.primitive("shl", second, half))


def _uniform(b: ScalarBuilder[T], place: int, seed: T, call: T, element: T) -> T:
    """24 bits over 2**24."""
    first, _ = _words(b, place, seed, call, element)
    return b.mul(b.cast(first, F32), b.const(F32, 2.0**-24))


def _normal(b: ScalarBuilder[T], place: int, seed: T, call: T, element: T) -> T:
    """sqrt(-2 log u) cos(2 pi v) with u in (0, 1] and v in [0, 1) (Box and Muller 1958)."""
    first, second = _words(b, place, seed, call, element)
    u = b.mul(b.cast(b.add(first, b.const(I32, 1)), F32), b.const(F32, 2.0**-24))
    radius = b.primitive("sqrt", b.mul(log_inside(b, u), b.const(F32, -2)))
    # v is quarters of a turn and a rest of at most an eighth, both exact; the cosine is a sine
    # a quarter later.
    quarters = b.primitive("lshr", b.add(second, b.const(I32, 1 << 21)), b.const(I32, 22))
    rest = b.sub(second, b.primitive("shl", quarters, b.const(I32, 22)))
    angle = b.mul(b.cast(rest, F32), b.const(F32, 2 * math.pi * 2.0**-24))
    return b.mul(radius, quarter_turns(b, angle, b.add(quarters, b.const(I32, 1))))


def _reference_words(
    place: int, other: int, seed: Array, call: Array, element: Array
) -> tuple[Array, Array]:
    """The first two words of a draw in unsigned integers, written after the paper."""
    def halves(x: Array) -> tuple[Array, Array]:
        bits = np.asarray(x).astype(np.int64).view(np.uint64)
        return np.asarray(bits & np.uint64(_WORD)), np.asarray(bits >> np.uint64(32))

    key = list(halves(seed))
    third = halves(call)[0] ^ np.uint64(other)
    counter = [*halves(element), third, np.asarray(place & _WORD, np.uint64)]
    for turn in range(ROUNDS):
        if turn:
            key = [(k + np.uint64(w)) & np.uint64(_WORD)
                   for k, w in zip(key, INCREMENTS, strict=True)]
        (low0, high0), (low1, high1) = (
            _wide_product(counter[2 * i], MULTIPLIERS[i]) for i in (0, 1))
        counter = [high1 ^ counter[1] ^ key[0], low1, high0 ^ counter[3] ^ key[1], low0]
    return np.asarray(counter[0]), np.asarray(counter[1])


def _wide_product(x: Array, multiplier: int) -> tuple[Array, Array]:
    with np.errstate(over="ignore"):
        product = x * np.uint64(multiplier)
    return np.asarray(product & np.uint64(_WORD)), np.asarray(product >> np.uint64(32))


def _uniform_reference(first: Array, second: Array) -> Array:
    return np.asarray(first * 2.0**-24)


def _normal_reference(first: Array, second: Array) -> Array:
    turn = np.cos(second * (2 * math.pi * 2.0**-24))
    return np.asarray(np.sqrt(-2 * np.log((first + 1) * 2.0**-24)) * turn)


def _infer(
    kinds: tuple[Type, ...], attrs: dict[str, Attr], regions: tuple[Graph, ...]
) -> tuple[Type, ...]:
    (kind,) = _infer_seed(kinds, attrs, regions)
    return (tensor(F32, kind.dims),)


def _infer_seed(
    kinds: tuple[Type, ...], attrs: dict[str, Attr], regions: tuple[Graph, ...]
) -> tuple[TensorType, ...]:
    kind = same_types("a draw", kinds, 3, INTEGER)
    if kind.dtype is not I64 or not isinstance(attrs["place"], int):
        raise TypeRuleError(f"a draw takes i64 and an integer place, not {kind}, {attrs['place']}")
    return (kind,)


def _eval_seed(call: EvalCall) -> tuple[Array, ...]:
    place = call.attrs["place"]
    assert isinstance(place, int)
    first, second = _reference_words(place, _OTHER, *call.inputs)
    return (np.asarray(first | (second << np.uint64(32))).view(np.int64),)


_SAMPLES: Final = tuple(
    Sample((f"i64{dims}",) * 3, (("place", place),), 0, 2.0**40)
    for dims, place in (("[3, 5]", 0), ("", 7), ("[17]", 2**31), ("[1]", 1)))


def _draw(
    name: str, doc: str, formula: Callable[..., object], reference: Callable[..., Array],
    cost: float,
) -> Op:
    """Registers a draw; its operands are seed, number of the call and number of the element."""

    def run(call: EvalCall) -> tuple[Array, ...]:
        place = call.attrs["place"]
        assert isinstance(place, int)
        words = (np.asarray(word >> np.uint64(8)).astype(np.float64)
                 for word in _reference_words(place, 0, *call.inputs))
        return (np.asarray(reference(*words)).astype(np.float32),)

    return register(Op(
        name, doc, _infer, run, not_differentiable("a draw does not depend on what it is drawn at"),
        _SAMPLES, attrs=("place",), cost=cost,
        formula=lambda b, attrs, *xs: formula(b, attrs["place"], *xs)))


random_uniform = _draw(
    "random_uniform", "uniform in [0, 1), from seed, call and element numbers", _uniform,
    _uniform_reference, 60)
random_normal = _draw(
    "random_normal", "standard normal, from seed, call and element numbers", _normal,
    _normal_reference, 90)
random_seed = register(Op(
    "random_seed", "a seed of its own for a turn of a loop, from seed, call and turn",
    _infer_seed, _eval_seed, not_differentiable("a seed is an integer"), _SAMPLES,
    attrs=("place",), cost=60,
    formula=lambda b, attrs, *xs: _seed(b, attrs["place"], *xs)))
