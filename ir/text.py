"""The text form of a Graph: the printer. `parse.py` beside it reads the text back.

    graph head(%x: f32[N, 5], %w: f32[5, 3] var, %rate: f32 = 0.1) -> (f32[N]) {
      require N >= 2 "a batch of two at least" @loc(head.dl:3:9)
      %s = contract %x, %w {indices = ["a"], …} : f32[N, 3]  @path("head.s") @loc(head.dl:4:7)
      %y = reduce_max %s {axes = [1]} : f32[N]  @backward @loc(lib.dl:9:2 < head.dl:5:7)
      return %y
      update "w" = %v
    }

One node a line: results, op, operands, `with` the graphs it holds, attributes, result types, marks.
Graphs that nodes hold are printed before the graph they are in, under a label (`graph step as
step.2` where the name is taken). Tuples of more than 64 numbers stand at the end: `data h… = [1.0,
…]`, named by a hash of what they hold. Floats are the shortest decimals that read back the same.

The text is deterministic, and `parse_graph(print_graph(g)) == g`; places (`@loc`) and the doc are
kept too, although they take no part in equality.
"""

from __future__ import annotations

import hashlib
import re

from dlc.ir.dims import Poly
from dlc.ir.graph import Attr, Condition, Graph, Node, Param, Value
from dlc.ir.notation import number_text, path_text, places_text, quoted
from dlc.ir.types import DTYPES, DType

BIG = 64
"""How many numbers a tuple may hold before it moves to a `data` line."""

RESERVED = frozenset({"true", "false", "nan", "inf"}) | DTYPES.keys()
"""Words that are attribute values of their own; a dim that begins so gets parentheses."""

_FIRST_WORD = re.compile(r"[^\w.]")
_PLAIN_VALUE = re.compile(r"[\w.]+")
_PLAIN_NAME = re.compile(r"[A-Za-z_][\w.]*")


def print_graph(graph: Graph) -> str:
    """The text of `graph`, with the graphs its nodes hold before it and big tuples after it."""
    printer = _Printer()
    printer.graph(graph)
    blocks = printer.blocks + [
        f"data {name} = {_wrapped(values)}\n" for name, values in printer.data.items()]
    return "\n".join(blocks)


class _Printer:
    """Collects what is printed: blocks of graphs, labels they got, and big tuples."""

    def __init__(self) -> None:
        self.blocks: list[str] = []
        self.data: dict[str, list[str]] = {}
        self._labels: dict[str, str] = {}  # text of a graph without its label -> label
        self._taken: set[str] = set()

    def graph(self, graph: Graph) -> str:
        """Prints `graph` and returns its label."""
        lines = [f"  {self._node(node)}" for node in graph.nodes]
        conditions = [f"  {_condition(condition)}" for condition in graph.conditions]
        doc = [f"  doc {quoted(graph.doc)}"] if graph.doc else []
        last = [f"  return {_values(graph.results)}".rstrip()]
        last += [f"  update {quoted(name)} = {_value(value)}" for name, value in graph.updates]
        params = ", ".join(_param(param) for param in graph.params)
        results = ", ".join(str(value.type) for value in graph.results)
        rest = "\n".join([f"({params}) -> ({results}) {{", *doc, *conditions, *lines, *last, "}\n"])
        name = _name(graph.name)
        key = f"{name}{rest}"
        if key not in self._labels:
            label = self._label(graph.name)
            self._labels[key] = label
            self.blocks.append(f"graph {name}{'' if label == name else f' as {label}'}{rest}")
        return self._labels[key]

    def _label(self, name: str) -> str:
        label, count = name, 1
        while label in self._taken:
            count += 1
            label = f"{name}.{count}"
        self._taken.add(label)
        return _name(label)

    def _node(self, node: Node) -> str:
        left = f"{_values(node.results)} = " if node.results else ""
        operands = f" {_values(node.operands)}" if node.operands else ""
        held = ", ".join(self.graph(region) for region in node.regions)
        attrs = ", ".join(f"{name} = {self._attr(value)}" for name, value in node.attrs)
        types = ", ".join(str(value.type) for value in node.results)
        return (
            f"{left}{node.op}{operands}{f' with {held}' if held else ''}"
            f"{f' {{{attrs}}}' if attrs else ''}{f' : {types}' if types else ''}{_marks(node)}"
        )

    def _attr(self, value: Attr) -> str:
        if not isinstance(value, tuple):
            return _scalar(value)
        if len(value) <= BIG or not all(type(item) in (int, float, bool) for item in value):
            return f"[{', '.join(self._attr(item) for item in value)}]"
        items = [_scalar(item) for item in value]
        name = "h" + hashlib.sha256(",".join(items).encode()).hexdigest()[:16]
        self.data[name] = items
        return f"#{name}"


def attr_text(value: Attr) -> str:
    """An attribute's value, tuples spelled out however long they are."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(attr_text, value))}]"
    return _scalar(value)


def print_value(value: Value) -> str:
    """`%name: type`, as parameters are printed."""
    return f"{_value(value)}: {value.type}"


def _scalar(value: Attr) -> str:
    """One attribute value that is not a tuple."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | DType():
            return str(value)
        case float():
            return number_text(value)
        case str():
            return quoted(value)
        case Poly():
            text = str(value)
            return f"({text})" if _FIRST_WORD.split(text, 1)[0] in RESERVED else text
    raise TypeError(f"an attribute can't be {value!r}")



def _param(param: Param) -> str:
    role = "" if param.role == "in" else f" {param.role}"
    default = "" if param.default is None else f" = {number_text(param.default)}"
    return f"{print_value(param.value)}{role}{default}"


def _condition(condition: Condition) -> str:
    return (f"require {condition.left} {condition.relation} {condition.right} "
            f"{quoted(condition.text)}{places_text(condition.locs)}")


def _marks(node: Node) -> str:
    phase = "" if node.phase == "forward" else f" @{node.phase}"
    marks = f"{phase}{path_text(node.path)}{places_text(node.locs)}"
    return f" {marks}" if marks else ""




def _values(values: tuple[Value, ...]) -> str:
    return ", ".join(map(_value, values))


def _value(value: Value) -> str:
    return f"%{value.name}" if _PLAIN_VALUE.fullmatch(value.name) else f"%{quoted(value.name)}"


def _name(name: str) -> str:
    return name if _PLAIN_NAME.fullmatch(name) else quoted(name)



def _wrapped(items: list[str], width: int = 96) -> str:
    """`[1.0, 2.0, …]` over lines of about `width` characters."""
    lines, line = [], ""
    for item in items:
        if line and len(line) + len(item) > width:
            lines.append(line)
            line = ""
        line += f"{item}, "
    return "[\n  " + "\n  ".join([*lines, line.rstrip(", ")]).replace(", \n", ",\n") + "\n]"
