"""A program as the driver sees it: checked, with a record and the Graphs of each model.

This is the only way from the driver into the parser and the elaborator; where what it gives is
found on disk, none of them is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from dlc.frontend.elaborate import tested, train_blocks
from dlc.frontend.elaborate.check import check_program
from dlc.frontend.elaborate.frames import Context
from dlc.frontend.elaborate.models import ENGINE, ModelProgram, elaborate, elaborate_functions
from dlc.frontend.elaborate.modules import Program, read_program
from dlc.frontend.elaborate.open_functions import elaborate_open, open_functions, record
from dlc.frontend.elaborate.train_blocks import Training
from dlc.frontend.elaborate.values import Number, Table, Truth, Value
from dlc.frontend.inputs import SPARSE, Input
from dlc.frontend.records import (
    INITIALIZER,
    SHARED,
    ConstantRecord,
    FunctionRecord,
    ModelRecord,
    ParameterRecord,
    ProgramRecord,
    VariableRecord,
)
from dlc.frontend.stack import on_a_deep_stack
from dlc.frontend.text import syntax
from dlc.frontend.text.syntax import Model, Test
from dlc.ir.diagnostics import Diagnostics, UserError
from dlc.ir.dims import Dim
from dlc.ir.graph import Graph, Param
from dlc.ir.types import DTYPES, sparse

Arguments = Mapping[str, int | float | bool]


class Elaboration:
    """The program in a file; parsed at the first need, each model elaborated once."""

    def __init__(
        self, path: Path, program: Program | None = None, floats: str = "f32", device: str = "cpu"
    ) -> None:
        self._path, self._device = path, device
        self._floats = DTYPES[floats]
        self._read = program
        self._models: dict[str, ElaboratedModel] = {}

    @cached_property
    def program(self) -> Program:
        """The syntax trees; what could not be read is among its faults."""
        found = self._read or read_program(self._path, default_float=self._floats)
        found.device = self._device
        return found

    def syntax(self) -> str:
        """The syntax tree of the main file as text."""
        return syntax.dump(self.program.main.tree)

    @on_a_deep_stack
    def tests(self) -> list[Test]:
        """The `test` blocks of the main file."""
        return tested.blocks(self.program.main)

    def check(self) -> ProgramRecord:
        """Checks every definition, and builds what is trained; UserError with all that is wrong."""
        program = self.program
        check_program(program, self._built)
        models = {
            name: tuple(_parameter(parameter) for parameter in model.parameters)
            for name, (model, _) in program.models().items()
        }
        found = Diagnostics(program.sources)
        trained = {
            name: train_blocks.arguments(program, block, found)
            for name, block in train_blocks.blocks(program, found).items()
        }
        found.raise_if_any()
        for name, arguments in trained.items():
            self.model(name, arguments)
        return ProgramRecord(models, trained, _constants(program))

    def _built(self, model: Model, found: Diagnostics) -> bool:
        """Builds a model that `check` would build in the end, if no caller decides anything of it:
        there is no need to check it with symbols before."""
        name = model.name.text
        if model.parameters or name not in train_blocks.blocks(self.program) or len(found):
            return False
        try:
            self.model(name, {})
        except UserError as error:
            for diagnostic in error.diagnostics:
                found.add(diagnostic)
        return True

    def check_all(self) -> None:
        """As `check`; and builds what can be built: models without arguments, plain functions."""
        for name, arguments in self.check().buildable().items():
            self.model(name, arguments)
        self.model(SHARED, {})

    def model(self, name: str, arguments: Arguments) -> ElaboratedModel:
        """A model built with `arguments`; `SHARED` is the functions with no model round them."""
        key = f"{name}{sorted(arguments.items())}"
        if key not in self._models:
            self._models[key] = self._elaborate(name, arguments)
        return self._models[key]

    @on_a_deep_stack
    def _elaborate(self, name: str, arguments: Arguments) -> ElaboratedModel:
        self.program.faults.raise_if_any()
        if name == SHARED:
            functions = elaborate_functions(self.program)
            return ElaboratedModel(self.program, ModelProgram(SHARED, (), functions), Training())
        if name.startswith(tested.MARK):
            (test,) = (t for t in self.tests() if t.name == name.removeprefix(tested.MARK))
            made_test = tested.elaborate_test(self.program, test)
            return ElaboratedModel(self.program, made_test, Training())
        model = elaborate(self.program, name, arguments)
        block = train_blocks.blocks(self.program).get(name)
        if block is None:
            return ElaboratedModel(self.program, model, Training())
        found = Diagnostics(self.program.sources)
        made = train_blocks.training(self.program, block, model, found)
        found.raise_if_any()
        return ElaboratedModel(self.program, model, made)


class ElaboratedModel:
    """A model's graphs, and the record that is kept of it."""

    def __init__(self, program: Program, model: ModelProgram, training: Training) -> None:
        self._program = program
        self._model = model
        self._open = open_functions(program, model.instance)
        self._training = training
        self._schedules = training.schedules or {}

    def graph(self, function: str) -> Graph:
        """A function of the model, a schedule (`train.lr`), or `init`: all initial values."""
        if function == INITIALIZER:
            return self._model.init
        if function in self._schedules:
            return self._schedules[function]
        if function in self._model.functions:
            return self._model.functions[function]
        return elaborate_open(self._program, self._model.instance, self._open, function)

    def function(self, name: str) -> FunctionRecord:
        """What is kept of a function that is made for a call, such as `c1.forward{S=2}`."""
        kind = self._open[name.partition("{")[0]][0].kind
        return _function(self.graph(name), kind)

    def record(self) -> ModelRecord:
        """What is kept."""
        functions = {
            name: _function(graph, "step" if name in self._model.steps else "fn")
            for name, graph in self._model.functions.items()
        }
        schedules = {name: _function(graph, "schedule") for name, graph in self._schedules.items()}
        variables = tuple(
            VariableRecord(v.name, v.kind.dtype.name, tuple(map(_number, v.kind.dims)), v.role)
            for v in self._model.variables
        )
        made = {path: record(self._program, each[0]) for path, each in self._open.items()}
        return ModelRecord({**functions, **schedules}, variables, self._training.phases, made)


def _constants(program: Program) -> dict[str, ConstantRecord]:
    """The values of all `const`s of the main file and of the files that it imports."""
    context = Context(program, ENGINE, Diagnostics(program.sources))
    made: dict[str, ConstantRecord] = {}
    for module in (program.main, *program.main.imported):
        for name, definition in module.definitions.items():
            if isinstance(definition, syntax.Const):
                made[name] = _constant(context.constant(definition, module))
    return made


def _constant(value: Value) -> ConstantRecord:
    match value:
        case Table(kind, numbers):
            return ConstantRecord(kind.dtype.name, tuple(map(_number, kind.dims)), numbers)
        case Number(number) if isinstance(number, int | float):
            return ConstantRecord("int", (), (number,))
        case Truth(truth):
            return ConstantRecord("bool", (), (truth,))
    raise AssertionError("a const is known as the file is compiled")


def _parameter(parameter: syntax.Parameter) -> ParameterRecord:
    kind = parameter.type
    return ParameterRecord(parameter.name.text, kind.dtype, parameter.default is not None)


def _function(graph: Graph, kind: str) -> FunctionRecord:
    return FunctionRecord(_inputs(graph), tuple(str(value.type) for value in graph.results), kind)


def _inputs(graph: Graph) -> tuple[Input, ...]:
    """The parameters; a sparse matrix is one, whose parts have names with a dot in the graph."""
    params = [param for param in graph.params if param.role in ("in", "size")]
    matrices = [_matrix(graph, param) for param in params if param.value.name.endswith(".values")]
    by_name = {matrix.name: matrix for matrix in matrices}
    told = {name for matrix in matrices for name in matrix.sizes}
    found = dict.fromkeys(
        by_name.get(param.value.name.partition(".")[0]) or _input(param)
        for param in params if param.value.name not in told)
    return tuple(found)


def _matrix(graph: Graph, values: Param) -> Input:
    """A sparse matrix, from the param that its values are, and the conditions on its sizes."""
    name = values.value.name.removesuffix(".values")
    sides = {str(c.right): c.left for c in graph.conditions if c.relation == "=="}
    dims = tuple(sides[f"{name}.{side}"] for side in ("height", "width"))
    kind = sparse(values.value.dtype, dims)
    given = {param.value.name for param in graph.params if param.role == "size"}
    shown = tuple(dim if isinstance(dim, int) else str(dim) for dim in dims)
    return Input(name, f"{SPARSE}{kind.dtype}", shown, None, str(kind),
                 tuple(str(dim) for dim in dims if str(dim) in given))


def _input(param: Param) -> Input:
    value = param.value
    if param.role == "size":
        return Input(value.name, "int", (), param.default, "int")
    dims = tuple(dim if isinstance(dim, int) else str(dim) for dim in value.dims)
    return Input(value.name, value.dtype.name, dims, param.default, str(value.type))


def _number(dim: Dim) -> int:
    assert isinstance(dim, int), "the dims of a variable are known when its model is built"
    return dim
