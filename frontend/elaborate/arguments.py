"""Which argument each parameter of a function, a model or an optimizer gets."""

from __future__ import annotations

from collections.abc import Sequence

from dlc.frontend.elaborate.frames import Fault
from dlc.frontend.text import syntax
from dlc.ir.diagnostics import Span, did_you_mean, plural


def assign_arguments(
    name: str, parameters: Sequence[syntax.Parameter], arguments: tuple[syntax.Argument, ...],
    span: Span,
) -> dict[str, syntax.Argument]:
    """Which argument each parameter gets; `Fault` if one is missing, unknown or given twice."""
    names = [p.name.text for p in parameters]
    given: dict[str, syntax.Argument] = {}
    for place, argument in enumerate(arguments):
        if argument.name is not None:
            key = argument.name.text
            if key not in names:
                raise Fault("unknown-argument", f"`{name}` has no parameter `{key}`",
                            argument.name.span, _signature(name, parameters),
                            did_you_mean(key, names))
        elif place >= len(names):
            raise Fault("too-many-arguments", f"`{name}` takes {plural(len(names), 'argument')}, "
                        f"not {len(arguments)}", argument.span, _signature(name, parameters))
        else:
            key = names[place]
        if key in given:
            raise Fault("argument-twice", f"`{key}` is given twice", argument.span)
        given[key] = argument
    missing = [p.name.text for p in parameters if p.default is None and p.name.text not in given]
    if missing:
        raise Fault("missing-argument", f"`{name}` needs `{missing[0]}`", span,
                    _signature(name, parameters))
    return given


def _signature(name: str, parameters: Sequence[syntax.Parameter]) -> tuple[str, ...]:
    if not parameters:
        return (f"`{name}` takes nothing",)
    shown = ", ".join(p.name.text for p in parameters)
    return (f"{name}({shown}) is declared at {parameters[0].span}",)
