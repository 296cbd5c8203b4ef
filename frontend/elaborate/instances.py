"""Building models: parameters bound, symbols found, members made."""

from __future__ import annotations

from dlc.frontend.elaborate.arguments import assign_arguments
from dlc.frontend.elaborate.declared import (
    bind_symbols,
    fit,
    require_bound,
    require_where,
    resolve,
)
from dlc.frontend.elaborate.frames import Context, Fault, Frame, Silent
from dlc.frontend.elaborate.values import (
    Instance,
    Listing,
    Maker,
    Number,
    Poisoned,
    Table,
    Truth,
    Value,
    Variable,
    describe,
)
from dlc.frontend.text import syntax
from dlc.ir.diagnostics import Span
from dlc.ir.dims import Poly


def build(
    frame: Frame, maker: Maker, arguments: tuple[syntax.Argument, ...], span: Span
) -> Instance:
    """`Model(arguments)` as a member of another model."""
    name = maker.model.name.text
    if frame.new_model is None:
        raise Fault("misplaced-model", f"the model `{name}` is built as a member of a model, not "
                    "here", span, help=f"`name = {name}(…)` in the body of a model")
    given = assign_arguments(name, maker.model.parameters, arguments, span)
    values = {key: frame.evaluate(argument.value) for key, argument in given.items()}
    places = {key: argument.span for key, argument in given.items()}
    made = make_instance(frame.context, maker, frame.new_model, values, places, span, frame)
    if frame.lexical == "test":
        frame.context.built[made.path] = made
    return made


def make_instance(
    context: Context, maker: Maker, path: str, values: dict[str, Value],
    places: dict[str, Span], span: Span, caller: Frame | None = None,
) -> Instance:
    """A model with the values of its parameters."""
    model = maker.model
    if any(active is model for active, _ in context.active):
        raise Fault("recursion", f"the model `{model.name.text}` contains itself", span)
    instance = Instance(model, maker.module, path, span)
    inner = Frame(context, maker.module, "model", model.name.text, instance,
                  caller=caller.loc(span) if caller is not None else None)
    for parameter in model.parameters:
        name = parameter.name.text
        if name in values:
            bind_symbols(inner, parameter, values[name], places.get(name, span))
    instance.symbols = inner.symbols
    for parameter in model.parameters:
        name = parameter.name.text
        value, at = values.get(name), places.get(name, span)
        if value is None:
            assert parameter.default is not None
            value = inner.evaluate(parameter.default)
            bind_symbols(inner, parameter, value, at)
        require_bound(inner, parameter, at)
        value = fit(inner, parameter.type, value, f"`{name}`", at, parameter.span)
        _check_constant(context, name, value, at)
        instance.parameters[name] = value
    require_where(inner, model.where)
    context.active.append((model, instance))
    try:
        _members(inner, instance)
    finally:
        context.active.pop()
    return instance


def _check_constant(context: Context, name: str, value: Value, at: Span) -> None:
    if context.checking or isinstance(value, Table | Truth):
        return
    if not isinstance(value, Number) or isinstance(value.value, Poly):
        raise Fault("not-constant", f"`{name}` of a model is a constant, not {describe(value)}",
                    at)


def _members(frame: Frame, instance: Instance) -> None:
    """The variables and submodels, in the order of the text; functions stay in the syntax."""
    seen: dict[str, syntax.Name] = {}
    for member in instance.model.members:
        name = member.name
        first = seen.setdefault(name.text, name)
        try:
            if first is not name:
                raise Fault("defined-twice", f"`{name.text}` is defined twice", name.span,
                            (f"first at {first.span}",))
            if name.text in instance.parameters or name.text in instance.symbols:
                raise Fault("defined-twice", f"`{name.text}` is a parameter of the model too",
                            name.span)
            if isinstance(member, syntax.Variable):
                instance.members[name.text] = _variable(frame, instance, member)
            elif isinstance(member, syntax.Member):
                instance.members[name.text] = _submodel(frame, instance, member)
        except Fault as fault:
            frame.report(fault)
            instance.members[name.text] = Poisoned()
        except Silent:
            instance.members[name.text] = Poisoned()


def _variable(frame: Frame, instance: Instance, member: syntax.Variable) -> Variable:
    kind = resolve(frame, member.type)
    if member.kind == "param" and not kind.dtype.is_float:
        raise Fault("param-type", f"a param is of floats, not of {kind.dtype}",
                    member.type.span, help="`state` keeps other types")
    for dim in kind.dims:
        frame.at_least(dim, 1, f"{dim} >= 1, for it is a size of `{member.name.text}`",
                       member.type.span, f"a size of `{member.name.text}` is {dim}, but must be "
                       "at least 1", "zero-size")
    return Variable(instance.within(member.name.text), kind, member.kind, member.name.span,
                    instance, instance.module, member.value)


def _submodel(frame: Frame, instance: Instance, member: syntax.Member) -> Value:
    frame.new_model = instance.within(member.name.text)
    try:
        value = frame.evaluate(member.value)
    finally:
        frame.new_model = None
    if isinstance(value, Instance | Listing | Number | Table | Truth):
        return value
    raise Fault("member-kind", f"a member is a model, a list or a constant, not "
                f"{describe(value)}", member.value.span,
                help="`param name: f32[N] = zeros()` and `state …` declare tensors")
