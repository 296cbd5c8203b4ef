"""Models and functions of a `.dl` file in Python's traces."""

from __future__ import annotations

from typing import Any

from dlc.frontend import driver, handles
from dlc.frontend.build import BuiltModel
from dlc.frontend.elaborate.values import Callee
from dlc.frontend.python import places
from dlc.frontend.python.trace import apply, current, current_unit, known, leaf
from dlc.frontend.python.units import part_here
from dlc.frontend.python.values import arguments_of
from dlc.frontend.text import syntax
from dlc.ir.diagnostics import Span


def part_syntax(model: driver.Model, span: Span) -> syntax.Expr:
    """A model as a part of what is traced or built."""
    return leaf(span, lambda frame: part_here(model, frame, span))


class LoadedFunctions:
    """Calls a function of a loaded file, or of a model, in a trace: it is expanded there."""

    def current(self) -> object:
        """The frame of the trace, if one is going on."""
        return current()

    def call(
        self, function: handles.Compiled | handles.Open, positional: tuple[Any, ...],
        named: dict[str, Any],
    ) -> Any:
        """The function's value for traced arguments."""
        span = places.here()
        name = function.__name__.partition("{")[0]
        callee = _shared(function.model, name, span) or _of_model(function.model, name, span)
        return apply(syntax.Call(span, callee, arguments_of(positional, named, span)))


def _shared(model: driver.Model, name: str, span: Span) -> syntax.Expr | None:
    """A function that no model is round."""
    built, unit = model.built, current_unit()
    if not isinstance(built, BuiltModel) or built.name:
        return None
    assert unit is not None
    unit.program.sources.update(built.program.sources)
    main = built.program.main
    definition = main.definitions[name]
    assert isinstance(definition, syntax.Function)
    return known(span, Callee(definition, main))


def _of_model(model: driver.Model, path: str, span: Span) -> syntax.Expr:
    """A function of a model that is a part of what is traced."""
    expr = part_syntax(model, span)
    for word in path.split("."):
        expr = (syntax.Subscript(span, expr, (syntax.Number(span, int(word)),)) if word.isdigit()
                else syntax.Field(span, expr, syntax.Name(span, word)))
    return expr


def install() -> None:
    """From now on loaded functions look whether a trace is going on."""
    handles.traces = LoadedFunctions()
