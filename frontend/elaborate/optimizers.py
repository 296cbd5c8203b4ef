"""Optimizers: written in the language, run once for each param, each a call of one shared graph.

If the body of an optimizer works element by element on a flat f32[P], every param calls that one
graph through reshapes, so that one kernel serves them all. Otherwise each type has its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from dlc.frontend.elaborate.arguments import assign_arguments
from dlc.frontend.elaborate.arithmetic import as_value
from dlc.frontend.elaborate.declared import bind_symbols, fit, resolve
from dlc.frontend.elaborate.frames import Context, Fault, Frame, Silent
from dlc.frontend.elaborate.values import Optimizer, Tensor, Value, Variable
from dlc.frontend.text import syntax
from dlc.ir import graph as ir
from dlc.ir.dataclass import dataclass
from dlc.ir.diagnostics import Diagnostics, Span
from dlc.ir.dims import product, symbol
from dlc.ir.graph import Graph, Node, Param
from dlc.ir.ops import OPS
from dlc.ir.types import F32, F64, TensorType, tensor


@dataclass(frozen=True, slots=True)
class Body:
    """An optimizer as a graph: what it reads and writes, in the order of parameters and results."""

    graph: Graph
    runtime: tuple[str, ...]  # arguments that are known only as the program runs
    kept: tuple[str, ...]  # p, then the states that are read
    written: tuple[str, ...]  # those of them that get new values


def differentiates(function: syntax.Function) -> bool:
    """Whether a `minimize` or a `grad` stands in a function."""
    waiting: list[object] = [function.body]
    while waiting:
        node = waiting.pop()
        if isinstance(node, syntax.Minimize):
            return True
        if isinstance(node, syntax.Host):
            if node.differentiates:
                return True
            continue
        if isinstance(node, syntax.Call) and isinstance(node.function, syntax.Name) and (
                node.function.text == "grad"):
            return True
        if isinstance(node, tuple):
            waiting += node
        elif isinstance(node, syntax.Syntax):
            waiting += [getattr(node, each.name) for each in fields(node)]
    return False


def _statements(function: syntax.Function) -> Iterator[syntax.Minimize]:
    """The `minimize` statements of a function, in the order of the text."""
    blocks: list[syntax.Block] = []
    if isinstance(function.body, syntax.Block):
        blocks = [function.body]
    while blocks:
        block = blocks.pop(0)
        for statement in block.statements:
            if isinstance(statement, syntax.Minimize):
                yield statement
            inner = (getattr(statement, name, None) for name in ("body", "then", "otherwise"))
            blocks += [b for b in inner if isinstance(b, syntax.Block)]


def prepare(frame: Frame, optimizer: Optimizer, statement: syntax.Minimize) -> Run:
    """An optimizer with its arguments, ready to be run on params."""
    definition, span = optimizer.definition, statement.optimizer.span
    name = definition.name.text
    given = assign_arguments(name, definition.parameters, statement.optimizer.arguments, span)
    values = {key: frame.evaluate(argument.value) for key, argument in given.items()}
    inner = Frame(frame.context, optimizer.module, "optimizer", name, caller=frame.loc(span))
    for parameter in definition.parameters:
        key = parameter.name.text
        at = given[key].span if key in given else parameter.span
        value = values[key] if key in given else _default(inner, parameter)
        if optimizer.module.library:
            value = _widened(frame, value, parameter, at)
        inner.locals[key] = fit(inner, parameter.type, value, f"`{key}`", at, parameter.span)
    return Run(frame, optimizer, statement, inner.locals)


def _widened(frame: Frame, value: Value, parameter: syntax.Parameter, span: Span) -> Value:
    """A setting in f32 of an optimizer of the library that takes f64: it is exact there, and a
    program that writes `lr: f32` trains params of either type."""
    if (isinstance(value, Tensor) and value.value.dtype is F32
            and parameter.type.dtype == F64.name):
        return Tensor(frame.place(span).cast(value.value, F64))
    return value


def _default(inner: Frame, parameter: syntax.Parameter) -> Value:
    assert parameter.default is not None
    return inner.evaluate(parameter.default)


class Run:
    """One `minimize` statement's optimizer."""

    def __init__(
        self, frame: Frame, optimizer: Optimizer, statement: syntax.Minimize,
        arguments: dict[str, Value],
    ) -> None:
        self._frame = frame
        self._optimizer = optimizer
        self._statement = statement
        self._arguments = arguments
        self._bodies: dict[TensorType, Body | None] = {}
        self.prefix = _prefix(frame, optimizer, statement)

    def __call__(self, param: Variable, gradient: ir.Value) -> None:
        """Gives `param` and its states their new values."""
        flat = tensor(param.kind.dtype, (symbol("P"),))
        body = self._body(flat, trial=True)
        shared = body is not None
        if body is None:
            body = self._body(param.kind, trial=False)
        if body is None:
            raise Silent
        self._apply(body, param, gradient, shared)

    def _apply(self, body: Body, param: Variable, gradient: ir.Value, shared: bool) -> None:
        context, span = self._frame.context, self._statement.span
        name = self._optimizer.definition.operands[0].name.text
        variables = {name: param, **self._states(body, param)}
        kinds = [v.type for v in body.graph.inputs]
        builder = self._frame.place(span)
        builder.path = f"{self.prefix}.{param.name}"
        with builder.located((), phase="update"):
            values = [as_value(self._frame, self._arguments[n], span) for n in body.runtime]
            values += [gradient, *(context.read(variables[n]) for n in body.kept)]
            flat = [_flat(builder, v, kind) if shared else v
                    for v, kind in zip(values, kinds, strict=True)]
            made = builder.emit("call", *flat, regions=(body.graph,), hint=param.name)
            for key, value in zip(body.written, made, strict=True):
                context.write(variables[key], builder.reshape(value, variables[key].kind.dims))

    def _states(self, body: Body, param: Variable) -> dict[str, Variable]:
        """The states that belong to one param, as variables of the program."""
        definition = self._optimizer.definition
        inner = Frame(self._frame.context, self._optimizer.module, "optimizer", "")
        value = self._frame.context.read(param)
        bind_symbols(inner, definition.operands[0], Tensor(value), self._statement.span)
        found: dict[str, Variable] = {}
        for state in definition.states:
            key = state.name.text
            if key not in body.kept:
                continue
            name = f"{self.prefix}.{param.name}.{key}"
            states = self._frame.context.optimizer_states
            if name not in states:
                states[name] = Variable(
                    name, resolve(inner, state.type), "optimizer", state.name.span, param.owner,
                    self._optimizer.module, state.value)
            found[key] = states[name]
        return found

    def _body(self, kind: TensorType, trial: bool) -> Body | None:
        """The optimizer's graph for params of a type; on trial, None unless it is elementwise."""
        if kind not in self._bodies:
            found = Diagnostics() if trial else self._frame.context.found
            made = _elaborate(self._frame, self._optimizer, self._arguments, kind, found,
                              self._statement.span)
            self._bodies[kind] = made if made is None or not trial or _flat_only(made) else None
        return self._bodies[kind]


def check_optimizer(frame: Frame, optimizer: Optimizer) -> None:
    """Reports what is wrong in an optimizer, by elaborating it for a flat param."""
    definition = optimizer.definition
    inner = Frame(frame.context, optimizer.module, "optimizer", definition.name.text)
    for parameter in definition.parameters:
        key = parameter.name.text
        if parameter.default is not None:
            inner.locals[key] = fit(inner, parameter.type, inner.evaluate(parameter.default),
                                    f"`{key}`", parameter.default.span, parameter.span)
            continue
        kind = resolve(inner, parameter.type)
        inner.locals[key] = Tensor(inner.opaque(parameter.span, kind.dtype, kind.dims))
    flat = tensor(frame.default_float, (symbol("P"),))
    found = frame.context.found
    _elaborate(inner, optimizer, inner.locals, flat, found, definition.name.span)


def _prefix(frame: Frame, optimizer: Optimizer, statement: syntax.Minimize) -> str:
    """`fit.adam`, or `fit.adam#2` for the second such statement in the text of a function."""
    name = optimizer.definition.name.text
    assert frame.function is not None
    owner = frame.owner.path if frame.owner is not None else ""
    if isinstance(frame.function.body, syntax.Host):
        spans = frame.minimized.setdefault(name, [])
        spans += [] if statement.span in spans else [statement.span]
        place = spans.index(statement.span) + 1
    else:
        same = [s for s in _statements(frame.function) if _named(s) == _named(statement)]
        place = next(i for i, s in enumerate(same, 1) if s is statement)
    parts = [owner, frame.function.name.text, name + (f"#{place}" if place > 1 else "")]
    return ".".join(filter(None, parts))


def _named(statement: syntax.Minimize) -> str:
    function = statement.optimizer.function
    match function:
        case syntax.Name(_, text):
            return text
        case syntax.Field(_, _, name):
            return name.text
    return ""


def _flat(builder: ir.Builder, value: ir.Value, kind: object) -> ir.Value:
    """`value` as the flat tensor that a shared graph takes; its scalars stay."""
    assert isinstance(kind, TensorType)
    return builder.reshape(value, (product(value.dims),)) if kind.dims else value


def _elaborate(
    frame: Frame, optimizer: Optimizer, arguments: dict[str, Value], kind: TensorType,
    found: Diagnostics, span: Span,
) -> Body | None:
    """The body for params of type `kind`; None after an error."""
    definition, outer = optimizer.definition, frame.context
    context = Context(outer.program, outer.engine, found, training=True, cut=False,
                      checking=outer.checking)
    builder = context.builder
    builder.phase = "update"
    inner = Frame(context, optimizer.module, "optimizer", definition.name.text,
                  caller=frame.loc(span))
    runtime = [n for n, v in arguments.items() if isinstance(v, Tensor)]
    values = {n: builder.fresh(n, as_value(frame, arguments[n], span).type) for n in runtime}
    inner.locals = {n: Tensor(values[n]) if n in values else v for n, v in arguments.items()}
    try:
        gradient = _operands(inner, optimizer, kind)
        context.engine.execute(inner, syntax.Block(definition.span, None, definition.statements))
    except Fault as fault:
        inner.report(fault)
        return None
    except Silent:
        return None
    return _make(inner, definition, [*values.values(), gradient], tuple(runtime))


def _operands(inner: Frame, optimizer: Optimizer, kind: TensorType) -> ir.Value:
    """Makes p a variable, g a local and the states variables; gives the value of g."""
    definition = optimizer.definition
    if len(definition.operands) != 2:
        raise Fault("optimizer-form", "an optimizer is `for p: …, g: …`", definition.name.span)
    p, g = definition.operands
    context = inner.context
    gradient = context.builder.fresh(g.name.text, kind)
    for operand in (p, g):
        bind_symbols(inner, operand, Tensor(gradient), operand.span)
    inner.locals[g.name.text] = Tensor(gradient)
    variable = Variable(p.name.text, kind, "param", p.span, None, optimizer.module, _ZERO)
    inner.assigned[p.name.text] = variable
    context.read(variable)
    for state in definition.states:
        name = state.name.text
        inner.assigned[name] = Variable(name, resolve(inner, state.type), "state",
                                        state.name.span, None, optimizer.module, state.value)
    return gradient


def _make(
    inner: Frame, definition: syntax.Optimizer, first: list[ir.Value], runtime: tuple[str, ...]
) -> Body:
    context = inner.context
    variables, updated = context.store.variables, context.updated
    read = [v for v, _ in variables.values()]
    written = [v for v in read if v.name in updated]
    params = [*first, *(variables[v.name][1] for v in read)]
    graph = Graph(
        definition.name.text, tuple(Param(value) for value in params),
        tuple(context.builder.nodes), tuple(updated[v.name] for v in written))
    return Body(graph, runtime, tuple(v.name for v in read), tuple(v.name for v in written))


def _flat_only(body: Body) -> bool:
    """Whether a body works element by element, so that it may be run on a flat param."""
    return all(_elementwise(node) for node in body.graph.nodes)


def _elementwise(node: Node) -> bool:
    if node.op in ("constant", "stop_gradient"):
        return True
    if node.op == "broadcast":
        return not node.operands[0].dims
    return OPS[node.op].formula is not None


_NOWHERE = Span("", 1, 1, 1, 1)
_ZERO = syntax.Number(_NOWHERE, 0)
