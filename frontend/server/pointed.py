"""What an editor points at: the meaning of the name at a place, and all places that mean it."""

from __future__ import annotations

from collections.abc import Iterator

from dlc.frontend.elaborate.modules import Module, Program
from dlc.frontend.inputs import KEYS
from dlc.frontend.server.names import Meaning, Names, Scope, members_of, scope_of
from dlc.frontend.server.places import Point, start
from dlc.frontend.server.tree import nodes, path_to
from dlc.frontend.text import syntax
from dlc.ir.dataclass import dataclass
from dlc.ir.diagnostics import Span


@dataclass(frozen=True, slots=True)
class Pointed:
    """The nodes at a place, from the file to the innermost, and what a name there stands for."""

    path: tuple[syntax.Syntax, ...]
    scope: Scope
    meaning: Meaning | None

    @property
    def leaf(self) -> syntax.Syntax:
        """The innermost node."""
        return self.path[-1]


def pointed_at(names: Names, module: Module, point: Point) -> Pointed:
    """What stands at a point of a file."""
    return _pointed(names, module, path_to(module.tree, point))


def _pointed(names: Names, module: Module, path: tuple[syntax.Syntax, ...]) -> Pointed:
    scope = scope_of(module, path, start(path[-1].span))
    leaf = path[-1]
    if isinstance(leaf, syntax.Import):
        return Pointed(path, scope, _imported(module, leaf))
    if not isinstance(leaf, syntax.Name):
        return Pointed(path, scope, None)
    return Pointed(path, scope, _meaning(names, scope, path, leaf))


def _imported(module: Module, statement: syntax.Import) -> Meaning | None:
    """The file that an import names."""
    path = module.path.parent / statement.name
    found = module.packages.get(statement.name) if not statement.quoted else next(
        (m for m in module.imported if m.path == path), None)
    if found is None:
        return None
    return Meaning("module", statement.name, Span(found.tree.span.file, 1, 1, 1, 1), None, found)


def _meaning(
    names: Names, scope: Scope, path: tuple[syntax.Syntax, ...], leaf: syntax.Name
) -> Meaning | None:
    parent = path[-2]
    match parent:
        case syntax.Field(_, _, name) if name is leaf:
            return names.meaning(scope, parent)
        case syntax.Argument(_, name) if name is leaf:
            return _parameter(names, scope, path[-3], leaf.text)
        case syntax.Setting(_, name) if name is leaf:
            return _setting(names, scope, leaf)
        case syntax.Function() if parent.name is leaf and isinstance(scope.outer, syntax.Model):
            inside = members_of(scope.outer, scope.module)
            return next((m for m in inside if m.node is parent), None)
        case syntax.Const() | syntax.Function() | syntax.Model() | syntax.Optimizer() if (
                parent.name is leaf):
            return names.look_up(Scope(scope.module, scope.point), leaf.text)
    return names.look_up(scope, leaf.text)


def _parameter(names: Names, scope: Scope, call: syntax.Syntax, name: str) -> Meaning | None:
    """What an argument by name is for."""
    function: syntax.Expr | None = None
    if isinstance(call, syntax.Call):
        function = call.function
    elif isinstance(call, syntax.Train):
        function = call.model
    if function is None:
        return None
    called = names.meaning(scope, function)
    if called is not None and called.kind == "builtin":
        return called  # its signature tells what the argument is
    return next((m for m in names.parameters(scope, function) if m.name == name), None)


def _setting(names: Names, scope: Scope, leaf: syntax.Name) -> Meaning | None:
    """A setting of a `train` block: one of its own, or a parameter of a function that is run."""
    if leaf.text in KEYS:
        return Meaning("setting", leaf.text)
    return next((m for m in settable(names, scope) if m.name == leaf.text), None)


def settable(names: Names, scope: Scope) -> Iterator[Meaning]:
    """The parameters with a default of the model that a `train` block is about."""
    if isinstance(scope.outer, syntax.Train):
        for function in names.functions(scope.outer):
            assert isinstance(function.node, syntax.Function)
            for each in function.node.parameters:
                if each.default is not None:
                    yield Meaning("parameter", each.name.text, each.name.span, each,
                                  function.module, function.node.span)


def references(program: Program, wanted: Meaning) -> Iterator[Span]:
    """All places of a program that mean one thing, where it is given too. Of the library, only the
    file that defines it is searched."""
    names = Names(program)
    for module in program.modules:
        if not module.library or wanted.module is module:
            yield from _places(names, module, wanted)


def _places(names: Names, module: Module, wanted: Meaning) -> Iterator[Span]:
    for path in nodes(module.tree):
        leaf = path[-1]
        if isinstance(leaf, syntax.Name) and leaf.text == wanted.name:
            found = _pointed(names, module, path).meaning
            if found is not None and found.key == wanted.key:
                yield leaf.span
