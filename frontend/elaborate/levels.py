"""Bodies in the making: the nodes of each, and what variables are at each place of the program.

A body (of a loop, of a branch) is a `Level` of its own. While it is elaborated, its nodes are kept
apart; they use values of the levels round it as they are. When it is closed, what it uses of them
is found, and becomes its captured parameters. A loop does not know yet which variables it updates
when it reads one: it reads a stand-in, which becomes a carried value if the variable was updated,
and a captured one if not.

A `View` is what `grad` and `minimize` in one expanded function see of the variables: each value
that was there before the function was called stands under a name of the view's own, so that a
gradient by that name takes in what this function computed, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import field

from dlc.frontend.elaborate.values import Variable
from dlc.ir.dataclass import dataclass
from dlc.ir.graph import Builder, Graph, Node, Param, Value
from dlc.ir.types import I64, tensor


@dataclass(slots=True, eq=False)
class Level:
    """One body, or the function itself, which has no `outer` level."""

    outer: Level | None = None
    loop: bool = False
    place: int = 0  # the number of the loop's place in the text, for random draws
    nodes: list[Node] = field(default_factory=list)
    views: tuple[View, ...] = ()
    values: dict[str, Value] = field(default_factory=dict)  # what variables are now
    entered: dict[str, tuple[Variable, Value]] = field(default_factory=dict)  # stand-ins
    written: dict[str, Variable] = field(default_factory=dict)
    sunk: dict[tuple[int, int], Node] = field(default_factory=dict)  # nodes of outer levels, copied
    turn: Value | None = None  # the number of the turn, if anything draws
    makers: dict[Value, int] = field(default_factory=dict)
    indexed: int = 0  # how many nodes `makers` knows

    def chain(self) -> tuple[Level, ...]:
        """All levels from the outermost to this one."""
        return (*(self.outer.chain() if self.outer is not None else ()), self)

    def whole(self) -> tuple[Node, ...]:
        """The nodes, with those that were copied into it first."""
        return (*(self.sunk[place] for place in sorted(self.sunk)), *self.nodes)

    def maker(self, value: Value) -> int | None:
        """The place of the node that makes a value, if one of this level does."""
        for at in range(self.indexed, len(self.nodes)):
            self.makers.update(dict.fromkeys(self.nodes[at].results, at))
        self.indexed = len(self.nodes)
        return self.makers.get(value)

    def take(self) -> tuple[Node, ...]:
        """Gives all nodes away."""
        nodes = self.whole()
        self.nodes.clear()
        self.sunk.clear()
        self.makers.clear()
        self.indexed = 0
        return nodes


@dataclass(slots=True, eq=False)
class View:
    """What the gradients of one function see; `level` is where the function was called."""

    level: Level
    names: dict[Value, Value] = field(default_factory=dict)
    versions: dict[str, list[Value]] = field(default_factory=dict)  # by variable, as they were read


class Store:
    """The levels that are open, and the variables."""

    def __init__(self, builder: Builder) -> None:
        self.builder = builder
        self.level = Level(nodes=builder.nodes)
        self.views: tuple[View, ...] = (View(self.level),)
        self.level.views = self.views
        self.inside: dict[str, set[Value]] = {}  # by variable, what it was given in bodies
        self.variables: dict[str, tuple[Variable, Value]] = {}  # as the function is called
        self.reserved: frozenset[str] = frozenset()  # names that are variables' alone
        self.origins: dict[Value, Variable] = {}  # of which variable something is a value
        self._births: dict[Value, tuple[View, ...]] = {}

    # Levels

    @contextmanager
    def body(self, loop: bool = False, place: int = 0) -> Iterator[Level]:
        """What is made in this block are nodes of a new body."""
        level = Level(self.level, loop, place, views=self.views)
        if not loop:
            level.values = dict(self.level.values)
        with self.within(level):
            yield level

    @contextmanager
    def within(self, level: Level) -> Iterator[None]:
        """What is made in this block stands at the end of `level`."""
        before = self.level, self.builder.nodes
        self.level, self.builder.nodes = level, level.nodes
        try:
            yield
        finally:
            self.level, self.builder.nodes = before

    def turn(self, level: Level) -> Value:
        """The number of a loop's turn, an i64: a parameter of its body."""
        if level.turn is None:
            level.turn = self.builder.fresh("turn", tensor(I64))
        return level.turn

    # Variables

    def read(self, variable: Variable) -> Value:
        """The value that a variable has now, under the name that the innermost view has for it."""
        value = self.at(self.level, variable)
        for view in self.views:
            value = self._seen(view, variable, value)
        self.origins[value] = variable
        return value

    def at(self, level: Level, variable: Variable) -> Value:
        """The value that a variable has at the end of a level."""
        name = variable.name
        if name not in level.values:
            if level.outer is None:
                kept = name in self.reserved
                value = Value(name, variable.kind) if kept else (
                    self.builder.fresh(name, variable.kind))
                self.variables[name] = variable, value
            elif level.loop:
                self.at(level.outer, variable)
                value = self.builder.fresh(name, variable.kind)
                level.entered[name] = variable, value
                self._births[value] = level.views
            else:
                value = self.at(level.outer, variable)
            self.origins[value] = variable
            level.values[name] = value
        return level.values[name]

    def write(self, variable: Variable, value: Value) -> None:
        """Gives a variable a new value, after it was read."""
        self.set(self.level, variable, value)

    def set(self, level: Level, variable: Variable, value: Value) -> None:
        """Gives a variable the value that a body of `level` has left."""
        level.values[variable.name] = value
        level.written[variable.name] = variable
        if level.outer is not None:
            entered = [level.entered[variable.name][1]] if level.loop else []
            self.inside.setdefault(variable.name, set()).update((value, *entered))
        self.origins[value] = variable
        self._births.setdefault(value, self.views)

    def forget(self) -> None:
        """Takes back that anything was read."""
        self.variables.clear()
        self.level.values.clear()

    # Views

    @contextmanager
    def view(self) -> Iterator[View]:
        """A function with gradients of its own is expanded in this block."""
        before = self.views
        made = View(self.level)
        self.views = (*before, made)
        try:
            yield made
        finally:
            self.views = before

    def versions(self, variable: Variable) -> list[Value]:
        """The values of a variable that were read, as the innermost view names them."""
        return self.views[-1].versions.get(variable.name, [])

    def seen(self) -> list[Variable]:
        """The variables that were read in the innermost view, in the order of first reads."""
        return [self.origins[values[0]] for values in self.views[-1].versions.values()]

    def _seen(self, view: View, variable: Variable, value: Value) -> Value:
        root = view is self.views[0]
        if not root and variable.kind.dtype.is_float and view not in self._births.get(value, ()):
            if value not in view.names:
                with self.within(view.level):
                    view.names[value] = self.same(value)
                    self.origins[view.names[value]] = variable
            value = view.names[value]
        versions = view.versions.setdefault(variable.name, [])
        if value not in versions:
            versions.append(value)
        return value

    def same(self, value: Value) -> Value:
        """`value` under another name."""
        hint = value.name
        return self.builder.op("reshape", value, hint=hint, dims=value.dims)


# Closing


def captured(
    nodes: Sequence[Node], results: Sequence[Value], own: Sequence[Value]
) -> list[Value]:
    """What a body uses of the levels round it, in the order of first uses; `own` are its
    parameters so far."""
    known, found = set(own), list[Value]()

    def use(value: Value) -> None:
        if value not in known:
            known.add(value)
            found.append(value)

    for node in nodes:
        for operand in node.operands:
            use(operand)
        known.update(node.results)
    for value in results:
        use(value)
    return found


def body_graph(
    name: str, nodes: Sequence[Node], params: Sequence[Value], results: Sequence[Value]
) -> Graph:
    """A body as a graph."""
    return Graph(name, tuple(Param(value) for value in params), tuple(nodes), tuple(results))
