"""What a name in a text stands for, found in the syntax alone: so it is known while the text is
wrong elsewhere, too. The order in which a name is looked up is that of `elaborate.names`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from dlc.frontend.elaborate.builtins import BUILTINS
from dlc.frontend.elaborate.modules import Module, Program
from dlc.frontend.server.places import Point, start
from dlc.frontend.server.tree import Binding, bindings
from dlc.frontend.text import syntax
from dlc.frontend.text.words import NAMED_CONSTANTS
from dlc.ir.dataclass import dataclass
from dlc.ir.diagnostics import Span

_DEEPEST: Final = 40  # names that lead to names
_CASES: Final = (syntax.Const, syntax.Function, syntax.Model, syntax.Optimizer, syntax.Train,
                 syntax.Test)


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a name stands: a file, the definition and the function in it, a point."""

    module: Module
    point: Point
    outer: syntax.Syntax | None = None
    function: syntax.Function | None = None

    @property
    def body(self) -> syntax.Syntax | None:
        """What the local names belong to."""
        return self.function or self.outer


def scope_of(module: Module, path: tuple[syntax.Syntax, ...], point: Point) -> Scope:
    """The scope at the end of a path."""
    outer = path[1] if len(path) > 1 and isinstance(path[1], _CASES) else None
    inner = next((n for n in path[1:] if isinstance(n, syntax.Function)), None)
    return Scope(module, point, outer, inner)


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a name stands for: its kind, where it is given (nowhere: the compiler knows it), and the
    node that says more. `body` is what a local name belongs to."""

    kind: str
    name: str
    span: Span | None = None
    node: syntax.Syntax | None = None
    module: Module | None = None
    body: Span | None = None
    binding: Binding | None = None
    model: syntax.Model | None = None  # that it is a member of

    @property
    def key(self) -> tuple[str, Span | None]:
        """Equal at all places that mean the same thing: a local name may be given several times.
        """
        return self.name, self.body or self.span


@dataclass(frozen=True, slots=True)
class Made:
    """A model that was built; `many` is a list of it, `depth` how many lists deep."""

    model: syntax.Model
    module: Module
    depth: int = 0


class Names:
    """Looks names of one program up."""

    def __init__(self, program: Program) -> None:
        self.program = program

    # Names

    def look_up(self, scope: Scope, name: str) -> Meaning | None:
        """What a name stands for where it is read."""
        return next((m for m in self._candidates(scope, name)), None)

    def in_reach(self, scope: Scope) -> Iterator[Meaning]:
        """Everything that has a name in a scope, the nearest first."""
        yield from self._candidates(scope, None)

    def _candidates(self, scope: Scope, name: str | None) -> Iterator[Meaning]:
        for each in self._all(scope, name):
            if name is None or each.name == name:
                yield each

    def _all(self, scope: Scope, name: str | None) -> Iterator[Meaning]:
        yield from _locals(scope, name)
        if isinstance(scope.outer, syntax.Model):
            yield from members_of(scope.outer, scope.module)
        elif isinstance(scope.outer, syntax.Train):
            yield from self.functions(scope.outer)
        yield from self._symbols(scope)
        yield from self._defined(scope.module)
        yield from _definitions(self.program.prelude)
        yield from (Meaning("constant", each) for each in NAMED_CONSTANTS)
        yield from (Meaning("builtin", each) for each in BUILTINS)

    def functions(self, block: syntax.Train) -> Iterator[Meaning]:
        """The functions of the model that a block trains."""
        model = self.program.models().get(block.model.text)
        for each in () if model is None else members_of(*model):
            if isinstance(each.node, syntax.Function):
                yield each

    def _symbols(self, scope: Scope) -> Iterator[Meaning]:
        """The sizes that the parameters of a function or of an optimizer bind."""
        body = scope.body
        if isinstance(body, syntax.Function):
            parameters = body.parameters
        elif isinstance(body, syntax.Optimizer):
            parameters = (*body.parameters, *body.operands)
        else:
            return
        for each in _sizes(parameters):
            found = scope.module.find(each.text)
            if found is None or not isinstance(found[0], syntax.Const):
                yield Meaning("size", each.text, each.span, None, scope.module, body.span)

    def _defined(self, module: Module) -> Iterator[Meaning]:
        for name, package in module.packages.items():
            yield _module(name, package)
        for each in (module, *module.imported):
            yield from _definitions(each)

    # Expressions

    def meaning(self, scope: Scope, expr: syntax.Expr, depth: int = 0) -> Meaning | None:
        """What a name, or a member of something, stands for."""
        if depth > _DEEPEST:
            return None
        if isinstance(expr, syntax.Name):
            return self.look_up(replace(scope, point=start(expr.span)), expr.text)
        if isinstance(expr, syntax.Field):
            owner = self.made(scope, expr.value, depth + 1)
            found = (m for m in self.within(owner) if m.name == expr.name.text)
            return next(found, None)
        return None

    def made(self, scope: Scope, expr: syntax.Expr, depth: int = 0) -> Made | Module | None:
        """The module or the model that an expression is; None for all else."""
        if depth > _DEEPEST:
            return None
        match expr:
            case syntax.Name() | syntax.Field():
                return self.value_of(self.meaning(scope, expr, depth + 1), scope, depth + 1)
            case syntax.Call(_, function):
                found = self.meaning(scope, function, depth + 1)
                if found is not None and isinstance(found.node, syntax.Model) and found.module:
                    return Made(found.node, found.module)
            case syntax.List(_, items) if items:
                return _deeper(self.made(scope, items[0], depth + 1), 1)
            case syntax.Comprehension(_, item):
                return _deeper(self.made(scope, item, depth + 1), 1)
            case syntax.Subscript(_, value):
                return _deeper(self.made(scope, value, depth + 1), -1)
            case syntax.Choice(_, _, then):
                return self.made(scope, then, depth + 1)
        return None

    def value_of(
        self, meaning: Meaning | None, scope: Scope, depth: int = 0
    ) -> Made | Module | None:
        """The module or the model that a name stands for."""
        if meaning is None or meaning.module is None:
            return None
        if meaning.kind == "module":
            return meaning.module
        if isinstance(meaning.node, syntax.Member):
            inside = Scope(meaning.module, start(meaning.node.span), meaning.model)
            return self.made(inside, meaning.node.value, depth + 1)
        given = meaning.binding
        if given is None or given.value is None:
            return None
        found = self.made(replace(scope, point=start(given.name.span)), given.value, depth + 1)
        return _deeper(found, -1) if given.item else found

    def within(self, owner: Made | Module | None) -> Iterator[Meaning]:
        """What can be reached by `owner.`."""
        if isinstance(owner, Module):
            yield from _definitions(owner)
        elif owner is not None and not owner.depth:
            yield from members_of(owner.model, owner.module)

    def parameters(self, scope: Scope, function: syntax.Expr) -> tuple[Meaning, ...]:
        """The parameters of what is called: of a function, of a model, of its `forward`."""
        found = self.meaning(scope, function)
        node = found.node if found is not None else None
        module = found.module if found is not None else None
        if not isinstance(node, syntax.Function | syntax.Model | syntax.Optimizer):
            owner = self.made(scope, function)
            if not isinstance(owner, Made):
                return ()
            module = owner.module
            node = next((m for m in owner.model.members if isinstance(m, syntax.Function)
                         and m.name.text == "forward"), None)
        if node is None or module is None:
            return ()
        return tuple(_parameter(p, module, node.span) for p in node.parameters)


def _deeper(made: Made | Module | None, by: int) -> Made | Module | None:
    if not isinstance(made, Made) or made.depth + by < 0:
        return None
    return replace(made, depth=made.depth + by)


def _module(name: str, module: Module) -> Meaning:
    file = module.tree.span.file
    return Meaning("module", name, Span(file, 1, 1, 1, 1), None, module)


def _definitions(module: Module) -> Iterator[Meaning]:
    for name, node in module.definitions.items():
        yield Meaning(_kind(node), name, node.name.span, node, module)


def _kind(node: syntax.Syntax) -> str:
    if isinstance(node, syntax.Function | syntax.Variable):
        return node.kind
    return type(node).__name__.lower()


def members_of(model: syntax.Model, module: Module) -> Iterator[Meaning]:
    """A model's members, parameters, and the sizes that these bind."""
    for member in model.members:
        yield Meaning(_kind(member), member.name.text, member.name.span, member, module,
                      model=model)
    for parameter in model.parameters:
        yield _parameter(parameter, module, model.span)
    for each in _sizes(model.parameters):
        yield Meaning("size", each.text, each.span, None, module, model.span)


def _parameter(node: syntax.Parameter, module: Module, body: Span) -> Meaning:
    return Meaning("parameter", node.name.text, node.name.span, node, module, body)


def _sizes(parameters: tuple[syntax.Parameter, ...]) -> Iterator[syntax.Name]:
    for parameter in parameters:
        for dim in parameter.type.dims:
            if isinstance(dim, syntax.Rest):
                yield dim.name
            elif isinstance(dim, syntax.Name) and dim.text[0].isupper():
                yield dim


def _locals(scope: Scope, name: str | None) -> Iterator[Meaning]:
    """The local names, those given last first; one that is given later only if there is none."""
    body = scope.body
    if body is None or isinstance(body, syntax.Model | syntax.Train | syntax.Const):
        return
    found = [b for b in bindings(body) if name is None or b.name.text == name]
    at = [b for b in found if name is not None and start(b.name.span) == scope.point]
    now = at or [b for b in found if b.first <= scope.point and b.reaches(scope.point)]
    found = now or [b for b in found if b.last is None]
    found.sort(key=lambda b: b.first, reverse=True)
    for each in found:
        yield Meaning("local", each.name.text, each.name.span, None, scope.module, body.span,
                      each)
    yield from _given(scope, body)


def _given(scope: Scope, body: syntax.Syntax) -> Iterator[Meaning]:
    if isinstance(body, syntax.Function):
        yield from (_parameter(p, scope.module, body.span) for p in body.parameters)
    elif isinstance(body, syntax.Optimizer):
        for each in (*body.parameters, *body.operands):
            yield _parameter(each, scope.module, body.span)
        for state in body.states:
            yield Meaning("state", state.name.text, state.name.span, state, scope.module,
                          body.span)

