"""`if` on what is known only as the program runs: two bodies, of which one is run.

Branches open no scope. After them a name is known if it was before, or if both give it a value, and
then it has one type; params and states that one of them updates keep their values in the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dlc.frontend.elaborate.arithmetic import as_value, element_type, is_untyped
from dlc.frontend.elaborate.frames import Fault, Frame, Silent
from dlc.frontend.elaborate.levels import Level, body_graph, captured
from dlc.frontend.elaborate.values import (
    Listing,
    Many,
    Number,
    Poisoned,
    Table,
    Tensor,
    Truth,
    Value,
    Variable,
    describe,
)
from dlc.ir import graph as ir
from dlc.ir.dataclass import dataclass
from dlc.ir.diagnostics import Span
from dlc.ir.types import I32, DType

_DATA = Number | Truth | Table | Tensor | Variable
Rebuild = Callable[[Sequence[ir.Value]], Value]  # from the results of the `if`


@dataclass(slots=True)
class _Side:
    """One branch: its body, what it left of the names, what it returned."""

    level: Level
    names: dict[str, Value]
    returned: Value | None


def either(
    frame: Frame, condition: ir.Value, then: Callable[[], Value | None],
    otherwise: Callable[[], Value | None], span: Span,
) -> Value | None:
    """Elaborates both branches in `frame`; what both of them return, if they do."""
    before = frame.locals
    first, second = (_side(frame, run, before) for run in (then, otherwise))
    frame.locals = before
    if first is None or second is None:
        raise Silent
    return _Merge(frame, span, first, second).run(condition)


def _side(
    frame: Frame, run: Callable[[], Value | None], before: dict[str, Value]
) -> _Side | None:
    """One branch, with the names as they were before; None after an error in it."""
    frame.locals = dict(before)
    with frame.context.store.body() as level:
        try:
            returned = run()
        except Silent:
            return None
    return _Side(level, frame.locals, returned)


class _Merge:
    """Two branches becoming one node."""

    def __init__(self, frame: Frame, span: Span, first: _Side, second: _Side) -> None:
        self._frame = frame
        self._span = span
        self._sides = first, second
        self._pairs: list[tuple[ir.Value, ir.Value]] = []

    def run(self, condition: ir.Value) -> Value | None:
        """Makes the node, and gives names and variables what it gives; what is returned."""
        first, second = self._sides
        returned = self._returned()
        names = self._names()
        variables = self._variables()
        levels = first.level, second.level
        results = [[pair[side] for pair in self._pairs] for side in (0, 1)]
        outside = list(dict.fromkeys(
            value for level, given in zip(levels, results, strict=True)
            for value in captured(level.whole(), given, ())))
        regions = tuple(
            body_graph(name, level.whole(), outside, given)
            for name, level, given in zip(("then", "otherwise"), levels, results, strict=True))
        made = self._frame.place(self._span).emit(
            "if", condition, *outside, regions=regions, hint="if")
        for name, rebuild in names.items():
            self._frame.locals[name] = rebuild(made)
        store = self._frame.context.store
        for variable, at in variables:
            store.set(store.level, variable, made[at])
        return None if returned is None else returned(made)

    def _returned(self) -> Rebuild | None:
        a, b = (side.returned for side in self._sides)
        if a is None and b is None:
            return None
        if a is None or b is None:
            raise Fault("misplaced-return", "`return` stands in one branch of an `if`, and not in "
                        "the other", self._span, help="`return` is the last statement of a body, "
                        "or of both branches of an `if` that is")
        return self._join(a, b, "what is returned")

    def _names(self) -> dict[str, Rebuild]:
        """The names that a branch gave a value, and how their values are made of the results."""
        before, (first, second) = self._frame.locals, self._sides
        found: dict[str, Rebuild] = {}
        for name in dict.fromkeys((*first.names, *second.names)):
            a, b = first.names.get(name), second.names.get(name)
            if a is b and a is before.get(name):
                continue
            if a is None or b is None:
                self._frame.lost[name] = self._span
                continue
            self._frame.lost.pop(name, None)
            found[name] = self._join(a, b, f"`{name}`")
        return found

    def _variables(self) -> list[tuple[Variable, int]]:
        """The variables that a branch updated, and which result each is."""
        store, (first, second) = self._frame.context.store, self._sides
        found = []
        for variable in {**first.level.written, **second.level.written}.values():
            found.append((variable, len(self._pairs)))
            self._pairs.append((store.at(first.level, variable), store.at(second.level, variable)))
        return found

    def _join(self, a: Value, b: Value, what: str) -> Rebuild:
        """One value for what is `a` after one branch and `b` after the other."""
        if isinstance(a, Poisoned) or isinstance(b, Poisoned):
            return lambda made: Poisoned()
        if type(a) is type(b) and a == b and not _mixed(a, b):
            return lambda made: a
        if isinstance(a, Listing | Many) and type(a) is type(b):
            return self._join_items(a, b, what)
        if not isinstance(a, _DATA) or not isinstance(b, _DATA):
            raise self._differ(a, b, what)
        dtype = self._dtype(a, b)
        values = []
        for side, value in zip(self._sides, (a, b), strict=True):
            with self._frame.context.store.within(side.level):
                values.append(as_value(self._frame, value, self._span, dtype))
        if values[0].type is not values[1].type:
            raise self._differ(Tensor(values[0]), Tensor(values[1]), what)
        place = len(self._pairs)
        self._pairs.append((values[0], values[1]))
        return lambda made: Tensor(made[place])

    def _join_items(self, a: Value, b: Value, what: str) -> Rebuild:
        assert isinstance(a, Listing | Many)
        assert isinstance(b, Listing | Many)
        if len(a.items) != len(b.items):
            raise self._differ(a, b, what)
        parts = [self._join(x, y, f"a part of {what}")
                 for x, y in zip(a.items, b.items, strict=True)]
        if isinstance(a, Many):
            return lambda made: Many(tuple(part(made) for part in parts))
        return lambda made: Listing(tuple(part(made) for part in parts))

    def _dtype(self, a: Value, b: Value) -> DType:
        """The element type of the one that has one; `frame.default_float`, or i32 of two integers,
        if none has."""
        for side, value in zip(self._sides, (a, b), strict=True):
            if not is_untyped(value):
                with self._frame.context.store.within(side.level):
                    return element_type(self._frame, value, self._span)
        whole = all(isinstance(v, Number) and not isinstance(v.value, float) for v in (a, b))
        return I32 if whole else self._frame.default_float

    def _differ(self, a: Value, b: Value, what: str) -> Fault:
        return Fault("branch-types", f"{what} is not of one type after this `if`", self._span,
                     (f"in the first branch:  {describe(a)}",
                      f"in the second branch: {describe(b)}"))


def _mixed(a: Value, b: Value) -> bool:
    """Whether two equal numbers are an integer and a float."""
    return isinstance(a, Number) and isinstance(b, Number) and (
        type(a.value) is not type(b.value))

