"""Functions that are made when they are called: of the parts of a model, and of any rank and type.

`net.c1.forward(x)` and a function over `float[*S]` have no graph before a call says how many dims
and which element types there are. Such a graph has a name that says it: `c1.forward{S=2}`.
"""

from __future__ import annotations

from collections.abc import Iterator

from dlc.frontend.elaborate.declared import GENERIC
from dlc.frontend.elaborate.models import Choice, elaborate_function, is_entry
from dlc.frontend.elaborate.modules import Module, Program
from dlc.frontend.elaborate.optimizers import differentiates
from dlc.frontend.elaborate.values import Instance, Listing, Value
from dlc.frontend.records import OpenFunction, OpenParameter
from dlc.frontend.text import syntax
from dlc.ir.diagnostics import Diagnostics
from dlc.ir.graph import Graph
from dlc.ir.types import DTYPES

Open = tuple[syntax.Function, Module, Instance | None]


def open_functions(program: Program, whole: Instance | None) -> dict[str, Open]:
    """By path: functions of a model's parts, or those of a file that are for any rank or type.

    A step of a part that differentiates is none of them: what its optimizers keep would belong to
    the part, and not be among the variables of the whole.
    """
    if whole is None:
        return {name: (definition, program.main, None)
                for name, definition in program.main.definitions.items()
                if isinstance(definition, syntax.Function) and not is_entry(definition)}
    found: dict[str, Open] = {}
    for part in _parts(tuple(whole.members.values())):
        for member in part.model.members:
            if isinstance(member, syntax.Function) and not (
                    member.kind == "step" and differentiates(member)):
                found[f"{part.path}.{member.name.text}"] = member, part.module, part
    return found


def _parts(values: tuple[Value, ...]) -> Iterator[Instance]:
    for value in values:
        if isinstance(value, Instance):
            yield value
            yield from _parts(tuple(value.members.values()))
        elif isinstance(value, Listing):
            yield from _parts(value.items)


def record(program: Program, function: syntax.Function) -> OpenFunction:
    """What is kept of such a function."""
    parameters = tuple(_parameter(program, each) for each in function.parameters)
    names = [name for each in parameters
             for name in (each.rest, each.dtype if each.dtype in GENERIC else "") if name]
    output = "" if function.result is None else _text(program, function.result)
    return OpenFunction(parameters, output, function.kind, tuple(dict.fromkeys(names)))


def _parameter(program: Program, parameter: syntax.Parameter) -> OpenParameter:
    kind = parameter.type
    rests = [dim.name.text for dim in kind.dims if isinstance(dim, syntax.Rest)]
    return OpenParameter(parameter.name.text, kind.dtype, len(kind.dims) - len(rests),
                         "".join(rests), _text(program, kind))


def _text(program: Program, kind: syntax.TypeExpr | syntax.TupleTypeExpr) -> str:
    """A declared type in the user's words."""
    if isinstance(kind, syntax.TupleTypeExpr):
        return f"({', '.join(_text(program, item) for item in kind.items)})"
    dims = ", ".join(_dim_text(program, dim) for dim in kind.dims)
    return f"{kind.dtype}[{dims}]" if kind.dims else kind.dtype


def _dim_text(program: Program, dim: syntax.Expr | syntax.Rest) -> str:
    match dim:
        case syntax.Rest(_, name):
            return f"*{name.text}"
        case syntax.Name(_, text):
            return text
        case syntax.Number(_, number):
            return str(number)
        case syntax.Host():
            return "…"
    return " ".join(program.text_of(dim.span).split())


def elaborate_open(
    program: Program, whole: Instance | None, functions: dict[str, Open], name: str
) -> Graph:
    """The graph of `c1.forward{S=2}`; `UserError` with all that is wrong."""
    path, _, choice = name.rstrip("}").partition("{")
    function, module, owner = functions[path]
    found = Diagnostics(program.sources)
    made = elaborate_function(program, function, module, owner, found, {}, whole=whole,
                              choice=_choice(choice))
    found.raise_if_any()
    assert made is not None
    return made


def _choice(text: str) -> Choice:
    pairs = [each.split("=") for each in text.split(",") if each]
    return Choice({key: int(value) for key, value in pairs if key not in GENERIC},
                  {key: DTYPES[value] for key, value in pairs if key in GENERIC})
