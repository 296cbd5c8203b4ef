"""Checks that a Graph is well formed, and that its types are what the ops' rules say.

It is run on what a pass gives. A fault found here is one of the compiler, never of a user's
program.
"""

from __future__ import annotations

from typing import NoReturn

from dlc.ir.dims import Poly, symbols
from dlc.ir.graph import Attr, Graph, Loc, Node, Value
from dlc.ir.ops import OPS, TypeRuleError
from dlc.ir.text import attr_text, print_value
from dlc.ir.types import I64, Type, tensor, type_symbols


class VerifyError(Exception):
    """What is wrong with a graph: where, what was expected, and what was found."""

    def __init__(
        self, graph: str, op: str, expected: str, found: str, locs: tuple[Loc, ...] = (),
        stage: str = "",
    ) -> None:
        self.graph, self.op, self.expected, self.found = graph, op, expected, found
        self.locs, self.stage = locs, stage
        place = f" at {locs[0]}" if locs else ""
        after = f"after {stage}: " if stage else ""
        super().__init__(f"{after}{graph}: {op}{place}: expected {expected}, found {found}")


def verify(graph: Graph, stage: str = "", around: frozenset[str] = frozenset()) -> None:
    """VerifyError, with the name of the pass `stage`, if `graph` breaks a rule.

    `around` are the symbols that a body sees of the graph that it stands in.

    Every name is defined once and before its use, with the type it is used with; nodes have the
    attributes and result types that their ops say; variables are updated once, to their own type;
    symbols come from parameters; held graphs are well formed too, and update nothing.
    """
    _Verifier(graph, stage, around).run()


class _Verifier:
    """One graph under inspection, with the values in scope by name."""

    def __init__(self, graph: Graph, stage: str, around: frozenset[str]) -> None:
        self.graph = graph
        self.stage = stage
        self.scope: dict[str, Type] = {}
        self.verified: set[tuple[int, frozenset[str]]] = set()  # bodies, by identity
        self.symbols = around.union(
            *(type_symbols(v.type) for v in graph.inputs),
            {p.value.name for p in graph.params if p.role == "size"})

    def run(self) -> None:
        """Checks all of it, in order."""
        for param in self.graph.params:
            self._define("parameters", param.value)
            if param.role == "random" and param.value.type is not tensor(I64, (2,)):
                self._fail("parameters", "i64[2] as random state", print_value(param.value))
            if param.role == "size" and param.value.type is not tensor(I64):
                self._fail("parameters", "an i64 as size", print_value(param.value))
        for condition in self.graph.conditions:
            for dim in (condition.left, condition.right):
                self._known("require", symbols(dim), condition.locs)
        for node in self.graph.nodes:
            self._node(node)
        for value in self.graph.results:
            self._use("return", value)
        self._updates()

    def _node(self, node: Node) -> None:
        definition = OPS.get(node.op)
        if definition is None:
            self._fail(node.op, "an op of the registry", "none of that name", node.locs)
        for value in node.operands:
            self._use(node.op, value, node.locs)
        self._bodies(node, self.symbols if definition.kernel == "control" else frozenset())
        attrs = dict(node.attrs)
        self._known(node.op, _attr_symbols(node), node.locs)
        try:
            ordered = definition.order_attrs(attrs)
            types = definition.infer(tuple(v.type for v in node.operands), attrs, node.regions)
        except (TypeRuleError, ArithmeticError, LookupError, ValueError, AssertionError) as error:
            self._fail(node.op, "operands and attributes that fit", str(error), node.locs)
        if ordered != node.attrs:
            self._fail(node.op, f"the attributes {_attrs_text(ordered)}", _attrs_text(node.attrs),
                       node.locs)
        found = tuple(v.type for v in node.results)
        if types != found:
            self._fail(node.op, f"results of type {_types_text(types)}", _types_text(found),
                       node.locs)
        for value in node.results:
            self._define(node.op, value, node.locs)

    def _bodies(self, node: Node, around: frozenset[str]) -> None:
        """The graphs that a node holds; one that many nodes share is checked once."""
        for region in node.regions:
            if region.updates:
                self._fail(node.op, "bodies that update nothing",
                           ", ".join(name for name, _ in region.updates), node.locs)
            if (id(region), around) not in self.verified:
                verify(region, self.stage, around)
                self.verified.add((id(region), around))

    def _updates(self) -> None:
        variables = {p.value.name: p.value.type for p in self.graph.params if p.role == "var"}
        seen: set[str] = set()
        for name, value in self.graph.updates:
            self._use("update", value)
            if name in variables and variables[name] is not value.type:
                self._fail("update", f"{variables[name]} for {name}", str(value.type))
            if name in self.scope and name not in variables:
                self._fail("update", f"{name} to be a variable", "another value of that name")
            if name in seen:
                self._fail("update", f"{name} once", "it twice")
            seen.add(name)

    def _define(self, op: str, value: Value, locs: tuple[Loc, ...] = ()) -> None:
        if value.name in self.scope:
            self._fail(op, "a new name", f"%{value.name}, which is defined already", locs)
        self._known(op, type_symbols(value.type), locs)
        self.scope[value.name] = value.type

    def _use(self, op: str, value: Value, locs: tuple[Loc, ...] = ()) -> None:
        known = self.scope.get(value.name)
        if known is None:
            self._fail(op, "a value that is defined before", print_value(value), locs)
        if known is not value.type:
            self._fail(op, f"%{value.name}: {known}", print_value(value), locs)

    def _known(self, op: str, names: frozenset[str], locs: tuple[Loc, ...]) -> None:
        unknown = sorted(names - self.symbols)
        if unknown:
            self._fail(op, "symbols of the parameters", ", ".join(unknown), locs)

    def _fail(
        self, op: str, expected: str, found: str, locs: tuple[Loc, ...] = ()
    ) -> NoReturn:
        raise VerifyError(self.graph.name, op, expected, found, locs, self.stage)


def _attr_symbols(node: Node) -> frozenset[str]:
    """The symbols in attributes, without the indices that a contraction has of its own."""
    own: set[str] = set()
    for name, value in node.attrs:
        if name == "indices" and isinstance(value, tuple):
            own |= {str(index) for index in value}
    found = frozenset[str]().union(*(_symbols_in(value) for _, value in node.attrs))
    return found - own


def _symbols_in(value: Attr) -> frozenset[str]:
    if isinstance(value, tuple):
        return frozenset[str]().union(*(_symbols_in(item) for item in value))
    return value.symbols if isinstance(value, Poly) else frozenset()


def _attrs_text(attrs: tuple[tuple[str, Attr], ...]) -> str:
    return "{" + ", ".join(f"{name} = {attr_text(value)}" for name, value in attrs) + "}"


def _types_text(types: tuple[Type, ...]) -> str:
    return ", ".join(map(str, types)) or "nothing"


__all__ = ["VerifyError", "verify"]
