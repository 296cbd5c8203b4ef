"""What Python made, as the driver takes it: traced as a whole, compiled function by function."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from dlc.frontend import driver, keys
from dlc.frontend.build import Built
from dlc.frontend.elaborate.elaboration import ElaboratedModel
from dlc.frontend.elaborate.frames import Context, Fault, Frame, Silent
from dlc.frontend.elaborate.instances import make_instance
from dlc.frontend.elaborate.models import ModelProgram, elaborate_function, elaborate_instance
from dlc.frontend.elaborate.train_blocks import Training
from dlc.frontend.elaborate.values import Instance, Maker
from dlc.frontend.python.library import ENGINE, python_module, python_program
from dlc.frontend.python.trace import building, current_unit
from dlc.frontend.records import ModelRecord
from dlc.ir.diagnostics import Diagnostics, Span
from dlc.ir.graph import Graph
from dlc.ir.text import print_graph

if TYPE_CHECKING:
    from dlc.frontend.python.functions import Function
    from dlc.frontend.python.models import Model


class Unit:
    """One elaboration: a model with all its parts, or a function alone."""

    def __init__(self) -> None:
        self.program = python_program()
        self.found = Diagnostics(self.program.sources)
        self._instances: dict[int, Instance] = {}

    def part(self, model: Model, frame: Frame, span: Span) -> Instance:
        """What stands for a part in this elaboration; built where it is met first."""
        if id(model) in self._instances:
            return self._instances[id(model)]
        if frame.new_model is None:
            raise Fault("misplaced", f"this {type(model).__name__} is no part of the model that is "
                        "traced", span, help="a submodel is an attribute, set in `__init__`")
        return self._build(frame.context, model, frame.new_model, span)

    def _build(self, context: Context, model: Model, path: str, span: Span) -> Instance:
        maker = Maker(model.definition(), python_module())
        made = make_instance(context, maker, path, {}, {}, span)
        self._instances[id(model)] = made
        return made

    def model(self, model: Model) -> ModelProgram:
        """The graphs of a model; `UserError` with all that is wrong."""
        context = Context(self.program, ENGINE, self.found, name=type(model).__name__)
        with building(self):
            try:
                instance = self._build(context, model, "", model.span)
            except Fault as fault:
                context.report(fault)
            except Silent:
                pass
            self.found.raise_if_any()
            return elaborate_instance(self.program, instance, self.found)

    def function(self, function: Function) -> Graph:
        """The graph of a function; `UserError` with all that is wrong."""
        with building(self):
            made = elaborate_function(
                self.program, function.alone, python_module(), None, self.found, {})
        self.found.raise_if_any()
        assert made is not None
        return made


def part_here(model: Model, frame: Frame, span: Span) -> Instance:
    """What stands for a part in the elaboration that is going on."""
    unit = current_unit()
    assert unit is not None, "a frame is part of an elaboration"
    return unit.part(model, frame, span)


class Traced(Built):
    """A model or function that was made in Python."""

    def __init__(self, name: str, made: ModelProgram) -> None:
        self.name = name
        self._made = ElaboratedModel(made, Training())

    @cached_property
    def record(self) -> ModelRecord:
        return self._made.record()

    def graph(self, function: str) -> Graph:
        return self._made.graph(function)

    def code_key(self, function: str) -> str:
        return keys.graph_key(print_graph(self.graph(function)), function)


def function_model(function: Function) -> driver.Model:
    """A function alone, as the model without name that the driver calls functions of."""
    graph = Unit().function(function)
    nothing = Graph("init", (), (), ())
    made = ModelProgram("", (), {function.__name__: graph}, frozenset(), nothing)
    return driver.Model(Traced("", made), 0)
