"""From a checked program to graphs: one for each function of a model, and one that makes its
variables' initial values.

    program = read_program(Path("lenet5.dl"))
    model = elaborate(program, "LeNet5")
    model.functions["fit"]         # a Graph with variables as `var` parameters, and updates
    model.init                     # a Graph whose updates are the initial values, by name
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from dlc.frontend.elaborate import builtins, sparse
from dlc.frontend.elaborate.arithmetic import as_value, constant_of, integer_of
from dlc.frontend.elaborate.calls import run_body
from dlc.frontend.elaborate.declared import (
    GENERIC,
    conform,
    declare_symbols,
    fit,
    require_where,
    resolve,
)
from dlc.frontend.elaborate.expressions import evaluate
from dlc.frontend.elaborate.frames import Context, Engine, Fault, Frame, Silent, flatten
from dlc.frontend.elaborate.instances import make_instance
from dlc.frontend.elaborate.modules import Module, Program
from dlc.frontend.elaborate.names import check_new_name
from dlc.frontend.elaborate.statements import execute
from dlc.frontend.elaborate.undecided import left_open
from dlc.frontend.elaborate.values import (
    Instance,
    Maker,
    Number,
    Table,
    Tensor,
    Truth,
    Value,
    Variable,
)
from dlc.frontend.records import INITIALIZER
from dlc.frontend.text import syntax
from dlc.ir import graph as ir
from dlc.ir.dataclass import dataclass
from dlc.ir.diagnostics import Diagnostic, Diagnostics, Span, UserError, did_you_mean
from dlc.ir.dims import Dim, at_least, symbol
from dlc.ir.graph import Graph, Param
from dlc.ir.types import I64, DType, tensor

Argument = int | float | bool
_LIBRARY = builtins  # imported for what it registers
_NO_VALUES: Final = Graph(INITIALIZER, (), (), ())


@dataclass(frozen=True, slots=True)
class ModelProgram:
    """A model, ready to be compiled: its variables, its functions, what makes it."""

    name: str
    variables: tuple[Variable, ...]
    functions: Mapping[str, Graph]
    steps: frozenset[str] = frozenset()
    init: Graph = _NO_VALUES
    instance: Instance | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """What a signature leaves open: how many dims each `*S` is, which types `float` and `integer`
    are."""

    ranks: Mapping[str, int]
    types: Mapping[str, DType]

    def rests(self) -> dict[str, tuple[Dim, ...]]:
        """A symbol for each dim."""
        return {name: (symbol(name),) if rank == 1 else
                tuple(symbol(f"{name}_{place}") for place in range(rank))
                for name, rank in self.ranks.items()}


def constant(context: Context, definition: syntax.Const, module: Module) -> Value:
    """The value of a `const`."""
    frame = Frame(context, module, "const", definition.name.text)
    value = frame.evaluate(definition.value)
    made = fit(frame, definition.type, value, f"`{definition.name.text}`", definition.value.span,
               definition.type.span)
    if not isinstance(made, Number | Table | Truth):
        raise Fault("not-constant", f"`{definition.name.text}` is not known as the file is "
                    "compiled", definition.value.span)
    return made


ENGINE = Engine(evaluate, execute, constant)


def elaborate(
    program: Program, model: str, arguments: Mapping[str, Argument] | None = None
) -> ModelProgram:
    """The graphs of a model, built with `arguments`; `UserError` with all that is wrong."""
    found = Diagnostics(program.sources)
    instance = instantiate(program, model, arguments or {}, found)
    found.raise_if_any()
    return elaborate_instance(program, instance, found)


def elaborate_instance(
    program: Program, instance: Instance, found: Diagnostics
) -> ModelProgram:
    """The graphs of a model that was built."""
    functions: dict[str, Graph] = {}
    states: dict[str, Variable] = {}
    steps = []
    for member in instance.model.members:
        if not isinstance(member, syntax.Function):
            continue
        made = elaborate_function(program, member, instance.module, instance, found, states)
        if made is not None:
            functions[member.name.text] = made
            steps += [member.name.text] if member.kind == "step" else []
    found.raise_if_any()
    variables = (*instance.variables(), *states.values())
    init = elaborate_init(program, instance.name, variables, found)
    found.raise_if_any()
    return ModelProgram(instance.name, variables, functions, frozenset(steps), init, instance)


def elaborate_functions(program: Program) -> dict[str, Graph]:
    """The graphs of the main file's own functions, those whose types are not generic."""
    found = Diagnostics(program.sources)
    made: dict[str, Graph] = {}
    for name, definition in program.main.definitions.items():
        if isinstance(definition, syntax.Function) and is_entry(definition):
            graph = elaborate_function(program, definition, program.main, None, found, {})
            if graph is not None:
                made[name] = graph
    found.raise_if_any()
    return made


def is_entry(function: syntax.Function) -> bool:
    """Whether a function's ranks and element types are known without a call."""
    kinds = [p.type for p in function.parameters]
    return all(k.dtype not in GENERIC and not any(
        isinstance(d, syntax.Rest) for d in k.dims) for k in kinds)


def instantiate(
    program: Program, model: str, arguments: Mapping[str, Argument], found: Diagnostics
) -> Instance:
    """A model of the program, built with `arguments`; `UserError` if it can't be."""
    models = program.models()
    if model not in models:
        raise UserError([Diagnostic(
            "unknown-model", f"{program.main.path.name} has no model `{model}`", None,
            (f"its models are {', '.join(models) or '(none)'}",), did_you_mean(model, models))])
    definition, module = models[model]
    context = Context(program, ENGINE, found, name=model)
    span = definition.name.span
    _check_arguments(definition, arguments)
    values: dict[str, Value] = {
        name: Truth(value) if isinstance(value, bool) else Number(value)
        for name, value in arguments.items()}
    try:
        return make_instance(context, Maker(definition, module), "", values, {}, span)
    except Fault as fault:
        context.report(fault)
    except Silent:
        pass
    found.raise_if_any()
    raise AssertionError("a model could not be built, but no error was found")


def _check_arguments(model: syntax.Model, arguments: Mapping[str, Argument]) -> None:
    names = {p.name.text: p for p in model.parameters}
    wrong = [name for name in arguments if name not in names]
    missing = [n for n, p in names.items() if p.default is None and n not in arguments]
    if not wrong and not missing:
        return
    shown = ", ".join(f"{n}: {p.type.dtype}" for n, p in names.items())
    message = (f"`{model.name.text}` has no parameter `{wrong[0]}`" if wrong
               else f"`{model.name.text}` needs `{missing[0]}`")
    help = did_you_mean(wrong[0], names) if wrong else ""
    raise UserError([Diagnostic("unknown-argument" if wrong else "missing-argument", message, None,
                                (f"its parameters are ({shown})",), help)])


def elaborate_function(
    program: Program, function: syntax.Function, module: Module, owner: Instance | None,
    found: Diagnostics, states: dict[str, Variable], checking: bool = False,
    whole: Instance | None = None, choice: Choice | None = None,
) -> Graph | None:
    """The graph of one function, called from outside; None after an error.

    The states of optimizers that it needs are added to `states`. `whole` is the model that `owner`
    is a part of; `choice` gives the ranks and types that the signature leaves open.
    """
    name = function.name.text
    context = Context(program, ENGINE, found, training=function.kind == "step", checking=checking,
                      optimizer_states=states)
    root, path = whole or owner, name
    if root is not None and owner is not None:
        context.name = root.name
        context.declare(root.variables(), (p.name.text for p in function.parameters))
        path = ".".join(filter(None, (root.name, owner.path, name)))
    frame = Frame(context, module, function.kind, path, owner, function)
    if choice is not None:
        frame.rests, frame.generics = choice.rests(), dict(choice.types)
    context.active.append((function, owner))
    try:
        params = _inputs(frame, function)
        results = _results(frame, function)
        return function_graph(context, name, params, results)
    except Fault as fault:
        frame.report(fault)
    except Silent:
        pass
    return None


def _inputs(frame: Frame, function: syntax.Function) -> list[Param]:
    """The parameters of a function as inputs of its graph; symbols are at least 1."""
    declare_symbols(frame, function.parameters)
    for name, dim in frame.symbols.items():
        frame.context.require(dim, ">=", 1, f"{name} >= 1", frame.loc(function.name.span))
    params = [p for parameter in function.parameters for p in _input(frame, parameter)]
    params += sparse.sizes(frame, function.parameters)
    require_where(frame, function.where)
    return params


def _input(frame: Frame, parameter: syntax.Parameter) -> list[Param]:
    name, builder = parameter.name.text, frame.context.builder
    check_new_name(frame, name, parameter.name.span, parameter=True)
    if parameter.type.dtype == "int":
        return [_size(frame, parameter)]
    kind = resolve(frame, parameter.type)
    if parameter.type.sparse:
        frame.locals[name], params = sparse.declare(frame, parameter, kind)
        return params
    value = builder.fresh(name, kind)
    default: float | None = None
    if parameter.default is not None:
        made = fit(frame, parameter.type, frame.evaluate(parameter.default), f"`{name}`",
                   parameter.default.span, parameter.type.span)
        default = constant_of(made)
        if default is None and not kind.dims and not left_open(frame, made):
            # a tensor's is for calls inside the program
            raise Fault("not-constant", f"the default of `{name}` is a constant number",
                        parameter.default.span)
    frame.locals[name] = Tensor(value)
    return [Param(value, "in", default)]


def _size(frame: Frame, parameter: syntax.Parameter) -> Param:
    """An `int` that is given at the call: the symbol of its name, which may be 0."""
    name = parameter.name.text
    default: int | None = None
    if parameter.default is not None:
        value = frame.evaluate(parameter.default)
        found = 0 if left_open(frame, value) else integer_of(value)
        if found is None or found < 0:
            raise Fault("not-constant", f"the default of `{name}` is a constant integer that is at "
                        "least 0", parameter.default.span)
        default = found
    frame.locals[name] = Number(symbol(name))
    return Param(frame.context.builder.fresh(name, tensor(I64)), "size", default)


def _results(frame: Frame, function: syntax.Function) -> tuple[ir.Value, ...]:
    value = run_body(frame, function)
    at = function.name.span
    return tuple(as_value(frame, item, at) for item in flatten(value))


def function_graph(
    context: Context, name: str, params: list[Param], results: tuple[ir.Value, ...]
) -> Graph:
    """The graph that was made in a context."""
    rank = {variable: place for place, variable in enumerate(context.order)}
    updated = context.updated
    used = sorted(context.store.variables.values(), key=lambda v: rank.get(v[0].name, len(rank)))
    params = [*params, *(Param(value, "var") for _, value in used)]
    if context.random is not None:
        params.append(Param(context.random, "random"))
    updates = tuple((v.name, updated[v.name]) for v, _ in used if v.name in updated)
    conditions = tuple(c for c in context.conditions.values()
                       if c.relation != ">=" or not _follows(c, context))
    return Graph(name, tuple(params), tuple(context.builder.nodes), results, updates, conditions)


def _follows(condition: ir.Condition, context: Context) -> bool:
    """Whether a condition says nothing beyond that sizes are at least 1."""
    if isinstance(condition.left, int) or str(condition.left) in condition.left.symbols:
        return False
    return not isinstance(condition.right, int) or at_least(condition.left, condition.right)


def elaborate_init(
    program: Program, name: str, variables: tuple[Variable, ...], found: Diagnostics,
    checking: bool = False,
) -> Graph:
    """The graph that makes all initial values: it updates each variable, and reads none."""
    context = Context(program, ENGINE, found, name=name, checking=checking)
    context.builder.reserve(frozenset(v.name for v in variables))
    updates = []
    for variable in variables:
        value = _initial(context, variable)
        for other, _ in context.store.variables.values():
            found.error("initial-value-reads", f"the initial value of `{variable.name}` depends on "
                        f"`{other.name}`", variable.initial.span, (f"`{other.name}` is a "
                        f"{other.role}, declared at {other.span}",),
                        "initial values see the constants of the model alone")
        context.store.forget()
        if value is not None:
            updates.append((variable.name, value))
    params = [] if context.random is None else [Param(context.random, "random")]
    params += [Param(ir.Value(v.name, v.kind), "var") for v in variables]
    return Graph(INITIALIZER, tuple(params), tuple(context.builder.nodes), (), tuple(updates))


def _initial(context: Context, variable: Variable) -> ir.Value | None:
    owner = None if variable.role == "optimizer" else variable.owner
    frame = Frame(context, variable.module, "model", variable.name, owner,
                  declared=variable.kind)
    span: Span = variable.initial.span
    try:
        made = as_value(frame, frame.evaluate(variable.initial), span, variable.kind.dtype)
        return conform(frame, made, variable.kind, f"the initial value of `{variable.name}`", span,
                       variable.span)
    except Fault as fault:
        frame.report(fault)
    except Silent:
        pass
    return None
