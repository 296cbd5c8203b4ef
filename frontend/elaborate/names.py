"""What a name is, where it is read: locals, members, symbols, definitions, the prelude, ops."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

from dlc.frontend.elaborate.builtin_table import BUILTINS
from dlc.frontend.elaborate.frames import Fault, Frame, Silent
from dlc.frontend.elaborate.library_text import Named
from dlc.frontend.elaborate.modules import Module
from dlc.frontend.elaborate.values import (
    Builtin,
    Callee,
    Instance,
    Listing,
    Maker,
    Number,
    Optimizer,
    Package,
    Poisoned,
    Truth,
    Value,
    Variable,
)
from dlc.frontend.text import syntax
from dlc.frontend.text.habits import CONSTANTS, FUNCTIONS, MODULES
from dlc.ir.diagnostics import Span, did_you_mean

_CONSTANTS: Final = {"inf": math.inf, "nan": math.nan, "pi": math.pi}
_HINTS: Final = {
    "self": "the members of a model are reached by their own names",
    "dtype": "a type is given by a cast: `i32(zeros(N))`",
}


def look_up(frame: Frame, name: syntax.Name) -> Value:
    """What a name stands for; `Fault` with the nearest known name if for nothing."""
    text = name.text
    found = _find(frame, text)
    if isinstance(found, Poisoned):
        raise Silent
    if found is not None:
        return found
    if text in frame.lost:
        raise Fault("maybe-unset", f"`{text}` is not given in both branches of an `if`", name.span,
                    (f"the `if` stands at {frame.lost[text]}",),
                    "give it a value before the `if`, or in the other branch too")
    if text in frame.module.broken or frame.module.partial:
        raise Silent  # what it would be has been told already
    if text in CONSTANTS:
        raise Fault("python-constant", f"there is no `{text}` here", name.span,
                    help=CONSTANTS[text])
    if text in MODULES:
        raise Fault("python-module", f"there is no `{text}` here", name.span,
                    help="the functions of the prelude have no prefix: `sqrt(x)`")
    if text in frame.ended:
        raise Fault("unknown-name", f"there is no `{text}` here: it ended with a loop", name.span,
                    (f"the loop stands at {frame.ended[text]}",),
                    f"`carry {text} = …` keeps the last one, `yield {text} as …` all of them")
    known = [n for n in known_names(frame) if n != text]
    help = _HINTS.get(text) or did_you_mean(text, known)
    if text in FUNCTIONS:
        help = f"write {FUNCTIONS[text]}"
    raise Fault("unknown-name", f"there is no `{text}` here", name.span, help=help)


def _find(frame: Frame, text: str) -> Value | None:
    if text in frame.locals:
        return frame.locals[text]
    if text in frame.assigned:
        return frame.assigned[text]
    found = _member(frame.owner, text) if frame.owner is not None else None
    if found is not None:
        return found
    if text in frame.symbols:
        return Number(frame.symbols[text])
    if text == "training":
        return Truth(frame.context.training)
    return _defined(frame, text)


def _defined(frame: Frame, text: str) -> Value | None:
    if text in frame.module.broken:
        return Poisoned()
    if text in frame.module.packages:
        return Package(frame.module.packages[text])
    for module in (frame.module, frame.context.program.prelude):
        found = module.find(text)
        if found is not None:
            return value_of(frame, *found)
    if text in _CONSTANTS:
        return Number(_CONSTANTS[text])
    return Builtin(text) if text in BUILTINS else None


def _member(owner: Instance, text: str) -> Value | None:
    if text in owner.members:
        return owner.members[text]
    if text in owner.parameters:
        return owner.parameters[text]
    if text in owner.symbols:
        return Number(owner.symbols[text])
    function = owner.function(text)
    return None if function is None else Callee(function, owner.module, owner)


def value_of(frame: Frame, definition: Named, module: Module) -> Value:
    """A definition as a value."""
    if isinstance(definition, syntax.Function):
        return Callee(definition, module)
    if isinstance(definition, syntax.Model):
        return Maker(definition, module)
    if isinstance(definition, syntax.Optimizer):
        return Optimizer(definition, module)
    return frame.context.constant(definition, module)


def member_of(frame: Frame, owner: Instance, name: syntax.Name) -> Value:
    """`owner.name`: a member, a parameter, a function of a model."""
    found = _member(owner, name.text)
    if isinstance(found, Poisoned):
        raise Silent
    if found is None:
        known = [*owner.members, *owner.parameters, *owner.symbols, *function_names(owner)]
        raise Fault("unknown-member", f"`{owner.name}` has no `{name.text}`", name.span,
                    (f"model `{owner.name}` at {owner.model.name.span}",),
                    did_you_mean(name.text, known))
    return found


def definition_of(frame: Frame, package: Module, name: syntax.Name) -> Value:
    """`nn.Dense`: a definition of a module."""
    if name.text in package.broken:
        raise Silent
    if name.text not in package.definitions:
        raise Fault("unknown-member", f"the module `{package.name}` has no `{name.text}`",
                    name.span, help=did_you_mean(name.text, package.definitions))
    return value_of(frame, package.definitions[name.text], package)


def function_names(owner: Instance) -> list[str]:
    """The names of a model's functions."""
    return [m.name.text for m in owner.model.members if isinstance(m, syntax.Function)]


def known_names(frame: Frame) -> Iterator[str]:
    """All names that stand for something in a frame."""
    yield from frame.locals
    yield from frame.assigned
    yield from frame.symbols
    if frame.owner is not None:
        yield from (*frame.owner.members, *frame.owner.parameters, *frame.owner.symbols)
        yield from function_names(frame.owner)
    yield from frame.module.names()
    yield from frame.context.program.prelude.definitions
    yield from (*_CONSTANTS, "training", *BUILTINS)


def check_new_name(frame: Frame, name: str, span: Span, parameter: bool = False) -> None:
    """A local name, or a parameter, may not hide a member, a model's parameter or a symbol."""
    hidden = _hidden(frame, name)
    if not hidden:
        return
    if parameter:
        raise Fault("hides-member", f"the parameter `{name}` would hide {hidden}", span,
                    help="give it another name")
    message = f"`{name} = …` would hide {hidden}"
    member = None if frame.owner is None else frame.owner.members.get(name)
    if name in frame.assigned or isinstance(member, Variable):
        raise Fault("assignment-for-update", message, span,
                    help=f"`{name} := …` updates it, in a `step`")
    raise Fault("hides-member", message, span, help="give it another name")


def _hidden(frame: Frame, name: str) -> str:
    """What a new name would hide, in words; empty if nothing that must not be hidden."""
    if name in frame.assigned:
        return f"the `{name}` of the optimizer"
    if frame.owner is not None and _member(frame.owner, name) is not None:
        return f"the `{name}` of the model"
    return f"the symbol `{name}`" if name in frame.symbols or name in frame.rests else ""


def check_given(frame: Frame, name: str, span: Span) -> None:
    """As `check_new_name`; nor is a name of outside given a value in a loop that does not carry it.
    """
    check_new_name(frame, name, span)
    if name in frame.fixed and name != "_":
        help = f"`carry {name} = {name}` lets it be given new values"
        if isinstance(frame.locals.get(name), Listing):
            help = f"no list is carried: `yield value as {name}` stacks one value a turn"
        raise Fault("not-carried", f"`{name}` stands outside of this loop, which does not carry it",
                    span, help=help)
