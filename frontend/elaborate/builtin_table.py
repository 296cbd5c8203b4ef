"""The functions that the compiler knows, and how their arguments are read.

A builtin says its parameters as text: `"x, axis?, keepdims?"` (those with `?` may be left out), or
`"*shape, low?, high?"` for a maker of tensors, whose positional arguments are its shape.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from dlc.frontend.elaborate.arithmetic import as_value, constant_of, integer_of
from dlc.frontend.elaborate.frames import Fault, Frame, Silent
from dlc.frontend.elaborate.undecided import left_open
from dlc.frontend.elaborate.values import Listing, Many, Number, Value, describe, dim_help
from dlc.frontend.text import syntax
from dlc.frontend.text.habits import NAMED
from dlc.ir import graph as ir
from dlc.ir.dataclass import dataclass
from dlc.ir.diagnostics import Span, did_you_mean, plural
from dlc.ir.dims import Dim
from dlc.ir.types import DType


@dataclass(slots=True)
class Given:
    """What a builtin was called with."""

    frame: Frame
    name: str
    span: Span
    values: dict[str, Value]
    spans: dict[str, Span]
    shape: tuple[Value, ...] = ()
    exprs: tuple[syntax.Argument, ...] = ()

    def tensor(self, name: str, dtype: DType | None = None) -> ir.Value:
        """An argument as a value of the graph."""
        return as_value(self.frame, self.values[name], self.spans[name], dtype)

    def has(self, name: str) -> bool:
        """Whether an argument was given."""
        return name in self.values

    def fault(
        self, name: str, message: str, code: str = "constant-argument", help: str = ""
    ) -> Fault:
        """An error about one argument."""
        return Fault(code, message, self.spans.get(name, self.span), help=help)

    def integer(self, name: str, default: int) -> int:
        """A constant integer."""
        return self._integer(name, self.values[name]) if name in self.values else default

    def _integer(self, name: str, value: Value) -> int:
        """An argument, or one item of it, as a constant integer."""
        found = integer_of(value)
        if found is None:
            if constant_of(value) is None:
                self._leave_open(value)
            raise self.fault(name, f"`{name}` of `{self.name}` is a constant integer, not "
                             f"{describe(value)}", help=_HINTS.get(self.name, ""))
        return found

    def number(self, name: str, default: float) -> float:
        """A constant number."""
        if name not in self.values:
            return default
        found = constant_of(self.values[name])
        if found is None:
            self._leave_open(self.values[name])
        if found is None or isinstance(found, bool):
            raise self.fault(name, f"`{name}` of `{self.name}` is a constant number, not "
                             f"{describe(self.values[name])}")
        return float(found)

    def _leave_open(self, value: Value) -> None:
        """`Silent` for what may be a constant where a definition is not checked but used."""
        number = isinstance(value, Number) and self.frame.context.checking
        if number or left_open(self.frame, value):
            raise Silent

    def truth(self, name: str, default: bool) -> bool:
        """A constant `true` or `false`."""
        found = constant_of(self.values[name]) if name in self.values else default
        if found is None:
            self._leave_open(self.values[name])
        if not isinstance(found, bool):
            raise self.fault(name, f"`{name}` of `{self.name}` is `true` or `false`, not "
                             f"{describe(self.values[name])}")
        return found

    def axis(self, name: str, rank: int, default: int | None = None) -> int:
        """A constant axis, counted from the front."""
        if name not in self.values and default is None:
            raise Fault("missing-argument", f"`{self.name}` needs `{name}=`", self.span)
        return self._from_front(name, self.integer(name, default or 0), rank)

    def axes(self, name: str, rank: int) -> tuple[int, ...]:
        """Constant axes, counted from the front; all if none are given."""
        if name not in self.values:
            return tuple(range(rank))
        value = self.values[name]
        items = value.items if isinstance(value, Many | Listing) else (value,)
        axes = [self._from_front(name, self._integer(name, item), rank) for item in items]
        if len(set(axes)) < len(axes):
            raise self.fault(name, "an axis is named twice", "axis-twice")
        return tuple(sorted(axes))

    def _from_front(self, name: str, axis: int, rank: int) -> int:
        if not -rank <= axis < rank:
            raise self.fault(name, f"there is no axis {axis} in a tensor of {plural(rank, 'dim')}",
                             "axis-range")
        return axis % rank

    def dim(self, value: Value, span: Span) -> Dim:
        """An integer that may be a dim."""
        if isinstance(value, Number) and not isinstance(value.value, float):
            return value.value
        if left_open(self.frame, value):
            raise Silent
        raise Fault("not-a-dim", f"a dim is an integer, not {describe(value)}", span,
                    help=dim_help(value))

    def dims(self) -> tuple[Dim, ...]:
        """The positional arguments after the named ones, as dims."""
        return tuple(self.dim(value, self.span) for value in self.shape)


Run = Callable[[Given], Value]


@dataclass(frozen=True, slots=True)
class Rule:
    """A builtin: its parameters, how many are needed, whether it takes a shape, what it does."""

    name: str
    parameters: tuple[str, ...]
    needed: tuple[str, ...]
    positional: tuple[str, ...]
    shape: bool
    run: Run
    raw: bool = False  # its arguments are not evaluated before


BUILTINS: Final[dict[str, Rule]] = {}


def builtin(name: str, parameters: str, raw: bool = False) -> Callable[[Run], Run]:
    """Registers the function below as the builtin `name`."""
    words = [word.strip() for word in parameters.split(",") if word.strip()]
    names = tuple(word.rstrip("?") for word in words if not word.startswith("*"))
    needed = tuple(word for word in words if word[-1] != "?" and not word.startswith("*"))
    star = next((i for i, word in enumerate(words) if word.startswith("*")), None)
    positional = names if star is None else names[:star]

    def register(run: Run) -> Run:
        BUILTINS[name] = Rule(name, names, needed, positional, star is not None, run, raw)
        return run

    return register


def call_builtin(
    frame: Frame, name: str, arguments: tuple[syntax.Argument, ...], span: Span
) -> Value:
    """Runs a builtin on the arguments of a call."""
    rule = BUILTINS[name]
    given = Given(frame, name, span, {}, {}, exprs=arguments)
    if rule.raw:
        return rule.run(given)
    places = list(rule.positional)
    keys = [_parameter(rule, argument, places, len(arguments)) for argument in arguments]
    values = frame.evaluate_all(argument.value for argument in arguments)
    for argument, key, value in zip(arguments, keys, values, strict=True):
        if key is None:
            given.shape = (*given.shape, value)
            continue
        if key in given.values:
            raise Fault("argument-twice", f"`{key}` is given twice", argument.span)
        given.values[key] = value
        given.spans[key] = argument.value.span
    for key in rule.needed:
        if key not in given.values:
            raise Fault("missing-argument", f"`{name}` needs `{key}`", span)
    return rule.run(given)


def _parameter(
    rule: Rule, argument: syntax.Argument, places: list[str], count: int
) -> str | None:
    """The parameter that one of `count` arguments is for; None if it is part of a shape."""
    if argument.name is not None:
        key = argument.name.text
        if key not in rule.parameters:
            raise Fault("unknown-argument", f"`{rule.name}` has no parameter `{key}`",
                        argument.name.span,
                        help=did_you_mean(NAMED.get(key, key), rule.parameters))
        if key in places:
            places.remove(key)
        return key
    if places:
        return places.pop(0)
    if rule.shape:
        return None
    raise Fault("too-many-arguments",
                f"`{rule.name}` takes {plural(len(rule.parameters), 'argument')}, not {count}",
                argument.span, help=_HINTS.get(rule.name, ""))


_HINTS: Final = {
    "max": "`maximum(a, b)` takes two; `max(x, axis=…)` reduces one",
    "min": "`minimum(a, b)` takes two; `min(x, axis=…)` reduces one",
}
