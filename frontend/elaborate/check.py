"""Checks every definition of a program, whether anything calls it or not.

A definition is checked by elaborating it onto a graph that is thrown away, with symbols in place of
what its callers decide: a model's integers, a function's sizes. There is no second set of rules.
What such symbols leave open is checked where the definition is used.
"""

from __future__ import annotations

from collections.abc import Callable

from dlc.frontend.elaborate.declared import declare_symbols, fit, resolve
from dlc.frontend.elaborate.frames import Context, Fault, Frame, Silent
from dlc.frontend.elaborate.instances import make_instance
from dlc.frontend.elaborate.models import ENGINE, elaborate_function, elaborate_init
from dlc.frontend.elaborate.modules import Module, Program
from dlc.frontend.elaborate.optimizers import check_optimizer
from dlc.frontend.elaborate.tested import check_tests
from dlc.frontend.elaborate.values import (
    Instance,
    Maker,
    Number,
    Optimizer,
    Poisoned,
    Tensor,
    Value,
)
from dlc.frontend.stack import on_a_deep_stack
from dlc.frontend.text import syntax
from dlc.ir.diagnostics import Diagnostic, Diagnostics, UserError
from dlc.ir.dims import symbol

Built = Callable[[syntax.Model, Diagnostics], bool]
"""Whether a model was built, and what is wrong with it is among what was found."""


@on_a_deep_stack
def check_program(program: Program, built: Built = lambda model, found: False) -> None:
    """Checks all definitions of all files that are not of the library; `UserError` with all that
    is wrong in them. A model of the main file for which `built` is true needs no check."""
    found = program.faults
    if not program.main.tree.definitions and not len(found):
        raise UserError([Diagnostic("empty", f"{program.main.path.name} is empty: a program has at "
                                    "least one definition")])
    for module in reversed(program.modules):  # imports first: an error is told where it stands
        if not module.library:
            check_module(program, module, found, built)
    found.raise_if_any()


def check_module(
    program: Program, module: Module, found: Diagnostics,
    built: Built = lambda model, found: False,
) -> None:
    """Adds all that is wrong in one file to `found`."""
    for definition in module.definitions.values():
        if definition.name.text in module.broken:
            continue  # told when it was read
        context = Context(program, ENGINE, found, checking=True)
        if any(d.code in ("too-large", "too-deep") for d in found.sorted()):
            return  # each further definition would take as long, to the same end
        try:
            _check_parameters(context, definition)
            if not (module is program.main and isinstance(definition, syntax.Model)
                    and built(definition, found)):
                _definition(context, definition, module)
        except Fault as fault:
            context.report(fault)
        except Silent:
            pass
    if module is program.main:
        check_tests(program, module, found)


def _definition(context: Context, definition: syntax.Definition, module: Module) -> None:
    match definition:
        case syntax.Const():
            context.constant(definition, module)
        case syntax.Function():
            elaborate_function(context.program, definition, module, None, context.found, {},
                               checking=True)
        case syntax.Model():
            _model(context, definition, module)
        case syntax.Optimizer():
            frame = Frame(context, module, "optimizer", definition.name.text)
            check_optimizer(frame, Optimizer(definition, module))


def _check_parameters(context: Context, definition: syntax.Definition) -> None:
    """No two parameters of a definition, or of a function in it, have one name."""
    match definition:
        case syntax.Function():
            parameters = definition.parameters
        case syntax.Optimizer():
            parameters = (*definition.parameters, *definition.operands)
        case syntax.Model():
            parameters = definition.parameters
            for member in definition.members:
                if isinstance(member, syntax.Function):
                    _check_parameters(context, member)
        case _:
            return
    first: dict[str, syntax.Name] = {}
    for each in parameters:
        if first.setdefault(each.name.text, each.name) is not each.name:
            context.report(Fault(
                "defined-twice", f"the parameter `{each.name.text}` is defined twice",
                each.name.span, (f"first at {first[each.name.text].span}",)))


def _model(context: Context, model: syntax.Model, module: Module) -> None:
    """A model built of symbols, and each of its functions."""
    context.name = model.name.text
    values = _symbolic(context, model, module)
    instance = make_instance(context, Maker(model, module), "", values, {}, model.name.span)
    program, found = context.program, context.found
    elaborate_init(program, context.name, tuple(instance.variables()), found, checking=True)
    for member in model.members:
        if isinstance(member, syntax.Function):
            elaborate_function(program, member, module, instance, found, {}, checking=True)


def _symbolic(context: Context, model: syntax.Model, module: Module) -> dict[str, Value]:
    """Each integer as the symbol of its name, each tensor as some value of its declared type."""
    owner = Instance(model, module, "", model.name.span)
    frame = Frame(context, module, "model", model.name.text, owner)
    declare_symbols(frame, model.parameters)
    values: dict[str, Value] = {}
    for parameter in model.parameters:
        name = parameter.name.text
        try:
            values[name] = owner.parameters[name] = _parameter(frame, parameter)
        except Fault as fault:
            frame.report(fault)
            values[name] = Poisoned()
    return values


def _parameter(frame: Frame, parameter: syntax.Parameter) -> Value:
    if parameter.default is not None:
        value = frame.evaluate(parameter.default)
        if not parameter.type.dims:  # the symbols of a tensor are those of what is given
            fit(frame, parameter.type, value, f"`{parameter.name.text}`", parameter.default.span,
                parameter.span)
    if parameter.type.dtype == "int":
        return Number(symbol(parameter.name.text))
    kind = resolve(frame, parameter.type)
    return Tensor(frame.opaque(parameter.span, kind.dtype, kind.dims))


