"""What Python made, as the driver takes it: traced as a whole, compiled function by function."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from dlc.frontend import driver, keys
from dlc.frontend.build import Built, BuiltModel
from dlc.frontend.elaborate.elaboration import ElaboratedModel
from dlc.frontend.elaborate.frames import Context, Fault, Frame, Silent
from dlc.frontend.elaborate.instances import make_instance
from dlc.frontend.elaborate.models import ModelProgram, elaborate_functions, elaborate_instance
from dlc.frontend.elaborate.train_blocks import Training
from dlc.frontend.elaborate.values import Instance, Maker, Number, Truth, Value
from dlc.frontend.python.library import ENGINE, python_module, python_program
from dlc.frontend.python.trace import building, current_unit
from dlc.frontend.records import SHARED, FunctionRecord, ModelRecord
from dlc.frontend.text import syntax
from dlc.ir.diagnostics import Diagnostics, Span
from dlc.ir.graph import Graph
from dlc.ir.text import print_graph

if TYPE_CHECKING:
    from dlc.frontend.python.functions import Function


class Defined(ABC):
    """A model that a class defines."""

    span: Span

    @abstractmethod
    def definition(self) -> syntax.Model:
        """It as a model of the language."""


class Unit:
    """One elaboration: a model with all its parts, or a function alone."""

    def __init__(self, definitions: Mapping[str, syntax.Function] | None = None) -> None:
        self.program = python_program(definitions or {})
        self.found = Diagnostics(self.program.sources)
        self._instances: dict[int, Instance] = {}
        self.parts: list[tuple[driver.Model, str]] = []  # with their paths

    def part(self, model: driver.Model, frame: Frame, span: Span) -> Instance:
        """What stands for a part in this elaboration; built where it is met first."""
        if id(model) in self._instances:
            return self._instances[id(model)]
        if frame.new_model is None:
            raise Fault("misplaced", f"this {title(model)} is no part of the model that is traced",
                        span, help="a submodel is an attribute, set in `__init__`")
        return self._build(frame.context, model, frame.new_model, span)

    def _build(self, context: Context, model: driver.Model, path: str, span: Span) -> Instance:
        maker, values = self._maker(model)
        made = make_instance(context, maker, path, values, {}, span)
        self._instances[id(model)] = made
        self.parts.append((model, path))
        return made

    def _maker(self, model: driver.Model) -> tuple[Maker, dict[str, Value]]:
        """The definition of a model, and what it was built with."""
        if isinstance(model, Defined):
            return Maker(model.definition(), python_module()), {}
        built = model.built
        assert isinstance(built, BuiltModel)
        self.program.sources.update(built.program.sources)
        values: dict[str, Value] = {
            name: Truth(value) if isinstance(value, bool) else Number(value)
            for name, value in built.arguments.items()
        }
        return Maker(*built.program.models()[built.name]), values

    def model(self, model: driver.Model, span: Span) -> ModelProgram:
        """The graphs of a model; `UserError` with all that is wrong."""
        context = Context(self.program, ENGINE, self.found, name=title(model))
        with building(self):
            try:
                instance = self._build(context, model, "", span)
            except Fault as fault:
                context.report(fault)
            except Silent:
                pass
            self.found.raise_if_any()
            return elaborate_instance(self.program, instance, self.found)


def title(model: driver.Model) -> str:
    """The name of a model's class or definition."""
    return type(model).__name__ if isinstance(model, Defined) else model.name


def part_here(model: driver.Model, frame: Frame, span: Span) -> Instance:
    """What stands for a part in the elaboration that is going on."""
    unit = current_unit()
    assert unit is not None, "a frame is part of an elaboration"
    return unit.part(model, frame, span)


class Traced(Built):
    """A model or function that was made in Python."""

    def __init__(
        self, name: str, unit: Unit, made: ModelProgram, device: str = "cpu"
    ) -> None:
        self.name, self.device = name, device
        self._unit = unit
        self._made = ElaboratedModel(unit.program, made, Training())

    @cached_property
    def record(self) -> ModelRecord:
        return self._made.record()

    def graph(self, function: str) -> Graph:
        with building(self._unit):
            return self._made.graph(function)

    def function(self, name: str) -> FunctionRecord:
        with building(self._unit):
            return self._made.function(name)

    def code_key(self, function: str) -> str:
        return keys.graph_key(print_graph(self.graph(function)), function)


def function_model(function: Function, device: str) -> driver.Model:
    """A function alone on a device, as the model without name whose functions the driver calls."""
    unit = Unit({function.__name__: function.alone})
    with building(unit):
        functions = elaborate_functions(unit.program)
    made = ModelProgram(SHARED, (), functions)
    return driver.Model(Traced(SHARED, unit, made, device), 0)
