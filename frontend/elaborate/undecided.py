"""Choices that a model's parameters make, while the model is checked and they are symbols.

Both sides are checked, each as if what the condition says of dims held: in `if a == b { … }` a dim
`a` is a dim `b`. What the sides do not agree on is left open, and checked when a model is built:
then the condition is a constant, and one side is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from dlc.frontend.elaborate.arithmetic import is_untyped
from dlc.frontend.elaborate.frames import Frame, Silent
from dlc.frontend.elaborate.levels import Level
from dlc.frontend.elaborate.values import Instance, Listing, Number, Poisoned, Tensor, Truth, Value
from dlc.ir import graph as ir
from dlc.ir.diagnostics import Span
from dlc.ir.dims import Dim, Poly, symbols
from dlc.ir.types import BOOL, F64

_JOINED: Final = {True: "and", False: "or"}  # of which parts each holds, or none does
_EQUAL: Final = {True: "eq", False: "ne"}


def decided(frame: Frame, value: ir.Value) -> bool:
    """Whether a value is made of a model's parameters alone, as a definition is checked: it is a
    constant when the model is built."""
    known = _left_open(frame)
    made = _makers(frame)
    waiting, seen = [value], set[ir.Value]()
    while waiting:
        each = waiting.pop()
        if each in seen:
            continue
        seen.add(each)
        node = made.get(each)
        if node is None:
            if not each.name.startswith("checked"):
                return False
        elif any(symbols(dim) - known for dim in each.dims):
            return False
        elif node.op == "dim":
            number = dict(node.attrs)["value"]
            if isinstance(number, Poly) and number.symbols - known:
                return False
        else:
            waiting += node.operands
    return True


def _makers(frame: Frame) -> dict[ir.Value, ir.Node]:
    """The node that makes each value of this body and of those round it."""
    return {result: node for level in frame.context.store.level.chain()
            for node in level.nodes for result in node.results}


def _left_open(frame: Frame) -> set[str]:
    """The symbols that stand for parameters of the model that is checked."""
    owner = frame.context.active[0][1] if frame.context.active else frame.owner
    return {*owner.parameters, *owner.symbols} if owner is not None else set()


def left_open(frame: Frame, value: Value) -> bool:
    """Whether a definition is checked, and a value is a constant when its model is built."""
    if not frame.context.checking:
        return False
    if isinstance(value, Number):
        return isinstance(value.value, Poly) and value.value.symbols <= _left_open(frame)
    return isinstance(value, Tensor) and decided(frame, value.value)


# What a condition says


def equations(frame: Frame, condition: ir.Value, holds: bool) -> list[Dim]:
    """The dims that are 0 where a condition holds, or where it does not."""
    return _equations(_makers(frame), condition, holds)


def _equations(
    makers: dict[ir.Value, ir.Node], condition: ir.Value, holds: bool
) -> list[Dim]:
    node = makers.get(condition)
    if node is None:
        return []
    if node.op == "not":
        return _equations(makers, node.operands[0], not holds)
    if node.op == _JOINED[holds]:
        return [dim for part in node.operands for dim in _equations(makers, part, holds)]
    if node.op != _EQUAL[holds]:
        return []
    left, right = (_number(makers.get(operand)) for operand in node.operands)
    return [] if left is None or right is None else [left - right]


def _number(node: ir.Node | None) -> Dim | None:
    """The integer that a node makes, if it is known or a dim."""
    value = None if node is None or node.op not in ("dim", "constant") else (
        dict(node.attrs)["value"])
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int | Poly) else None


@contextmanager
def _assuming(frame: Frame, condition: ir.Value, holds: bool, span: Span) -> Iterator[Level]:
    """A body of its own, in which what the condition says may be relied on."""
    context = frame.context
    before = dict(context.conditions)
    for dim in equations(frame, condition, holds):
        context.require(dim, "==", 0, "", frame.loc(span))
    try:
        with context.store.body() as level:
            yield level
    finally:
        context.conditions = before


# Choices


def unless_built(
    frame: Frame, condition: ir.Value, then: Callable[[], Value | None],
    otherwise: Callable[[], Value | None], span: Span,
) -> Value | None:
    """Both branches of an `if` of which one will be dropped."""
    before, failed = frame.locals, False
    sides = []
    for run, holds in ((then, True), (otherwise, False)):
        frame.locals = dict(before)
        returned = None
        with _assuming(frame, condition, holds, span) as level:
            try:
                returned = run()
            except Silent:
                failed = True
        sides.append((level, frame.locals, returned))
    frame.locals = before
    if failed:
        raise Silent
    (level, names, returned), (other_level, other_names, other_returned) = sides
    frame.locals = {
        name: value if value is other_names.get(name)
        else _open(frame, value, other_names.get(name), span) for name, value in names.items()}
    frame.locals |= {name: Poisoned() for name in other_names if name not in names}
    _forget(frame, level, other_level)
    if returned is None and other_returned is None:
        return None
    raise Silent


def unless_chosen(
    frame: Frame, condition: ir.Value, then: Callable[[], Value],
    otherwise: Callable[[], Value], span: Span,
) -> Value:
    """`then if condition else otherwise`, of which one will be dropped."""
    values: list[Value] = []
    levels = []
    for run, holds in ((then, True), (otherwise, False)):
        with _assuming(frame, condition, holds, span) as level:
            try:
                values.append(run())
            except Silent:
                continue
        levels.append(level)
    if len(values) < 2:
        raise Silent
    _forget(frame, *levels)
    if isinstance(values[0], Instance) and isinstance(values[1], Instance):
        # The one that relies on no equation says more of what is made of either.
        return values[1 if equations(frame, condition, True) else 0]
    return _open(frame, values[0], values[1], span)


def _forget(frame: Frame, first: Level, second: Level) -> None:
    """Variables that a side updated have some value afterwards."""
    store = frame.context.store
    for variable in {**first.written, **second.written}.values():
        store.write(variable, store.builder.fresh("checked", variable.kind))


def _open(frame: Frame, a: Value, b: Value | None, span: Span) -> Value:
    """A value of the type that both sides give; poison if they do not give one type."""
    if b is not None and type(a) is type(b) and a == b:
        return a
    if isinstance(a, Truth) and isinstance(b, Truth):
        return Tensor(frame.opaque(span, BOOL, ()))
    if b is not None and _is_fraction(a) and _is_fraction(b):
        return Tensor(frame.opaque(span, F64, ()), untyped=True)
    if isinstance(a, Tensor) and isinstance(b, Tensor) and a.value.type is b.value.type:
        return Tensor(frame.place(span).fresh("checked", a.value.type), a.untyped and b.untyped)
    if isinstance(a, Listing) and isinstance(b, Listing):
        return Listing((a if a.items else b).items[:1], known=False, alike=False)
    return Poisoned()


def _is_fraction(value: Value) -> bool:
    """Whether a value is a number without a type that can't stand for an integer."""
    if isinstance(value, Number):
        return isinstance(value.value, float)
    return is_untyped(value) and isinstance(value, Tensor) and not value.value.dims
