"""Reads the text form of a Graph, as `text.py` prints it."""

from __future__ import annotations

import json
import math
import re
from functools import lru_cache
from typing import NoReturn, get_args

from dlc.ir.dims import Dim
from dlc.ir.dims_text import parse_dim
from dlc.ir.graph import Attr, Condition, Graph, Loc, Node, Param, Phase, Relation, Role, Value
from dlc.ir.types import DTYPES, Type, parse_type

_STRING = r'"(?:[^"\\\n]|\\.)*"'
_TOKEN = re.compile(
    rf"""(?P<loc>(?:{_STRING}|[\w./\-]*[A-Za-z_/][\w./\-]*):\d+:\d+)
    |(?P<value>%(?:[\w.]+|{_STRING}))
    |(?P<data>\#\w+)
    |(?P<string>{_STRING})
    |(?P<number>\d+(?:\.\d+)?(?:[eE][-+]?\d+)?(?![\w.]))
    |(?P<word>[A-Za-z_][\w.]*)
    |(?P<mark>@\w+)
    |(?P<sign>->|//|[=<>]=|[-+*%(){{}}\[\],:=<>])""",
    re.VERBOSE,
)
_SPACE = re.compile(r"\s*")
_OPENS, _CLOSES = frozenset("([{"), frozenset(")]}")
_PHASES: dict[str, Phase] = {name: name for name in get_args(Phase)}
_ROLES: dict[str, Role] = {name: name for name in get_args(Role)}
_RELATIONS: dict[str, Relation] = {name: name for name in get_args(Relation)}
_CONSTANTS: dict[str, bool | float] = {
    "true": True, "false": False, "nan": math.nan, "inf": math.inf}

_type_of = lru_cache(4096)(parse_type)
_dim_of = lru_cache(4096)(parse_dim)


class TextError(ValueError):
    """Text that is no graph. The message begins with the number of the line."""


def parse_graph(text: str) -> Graph:
    """The last graph in `text`, which holds the others; TextError for anything else."""
    graphs = parse_graphs(text)
    if not graphs:
        raise TextError("line 1: there is no graph")
    return list(graphs.values())[-1]


def parse_graphs(text: str) -> dict[str, Graph]:
    """All graphs in `text` by label, in the order of the text."""
    return _Parser(text).file()


class _Parser:
    """A recursive descent over the tokens of a text. Types and dims are cut out and read whole."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[tuple[str, str, int]] = []  # kind, text, offset
        at = _skip(text, 0)
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                self._fail(f"unexpected {text[at]!r}", at)
            self.tokens.append((match.lastgroup or "", match[0], at))
            at = _skip(text, match.end())
        self.tokens.append(("end", "the end", len(text)))
        self.at = 0
        self.graphs: dict[str, Graph] = {}
        self.values: dict[str, Value] = {}
        self.data: dict[str, tuple[Attr, ...]] = {}

    # What a text is made of.

    def file(self) -> dict[str, Graph]:
        """`(graph | data)*`"""
        self._read_data()
        while self._kind() != "end":
            if self._take("data"):
                self._next("word")
                self._skip_data()
            else:
                self._graph()
        return self.graphs

    def _read_data(self) -> None:
        """The `data` lines, which stand after their use, are read before all else."""
        for i, (_, word, _) in enumerate(self.tokens):
            if word == "data" and (i == 0 or self.tokens[i - 1][1] in ("}", "]")):
                self.at = i + 1
                name = self._next("word")
                self._expect("=")
                self.data[name] = self._list()
        self.at = 0

    def _skip_data(self) -> None:
        while self.tokens[self.at][1] != "]":
            self.at += 1
        self.at += 1

    def _graph(self) -> None:
        self._expect("graph")
        name = label = self._name()
        if self._take("as"):
            label = self._name()
        self.values = {}
        params = self._params()
        self._expect("->")
        self._expect("(")
        types = self._types(")")
        self._expect(")")
        self._expect("{")
        doc = _unquoted(self._next("string")) if self._take("doc") else ""
        conditions = []
        while self._take("require"):
            conditions.append(self._condition())
        nodes = []
        while not self._take("return"):
            nodes.append(self._node())
        results = self._operands()
        if tuple(v.type for v in results) != types:
            self._wrong(f"{name} returns {', '.join(str(v.type) for v in results)}, but says "
                        f"{', '.join(map(str, types))}")
        updates = []
        while self._take("update"):
            target = _unquoted(self._next("string"))
            self._expect("=")
            updates.append((target, self._use()))
        self._expect("}")
        if label in self.graphs:
            self._wrong(f"there are two graphs {label}")
        self.graphs[label] = Graph(
            name, params, tuple(nodes), results, tuple(updates), tuple(conditions), doc)

    def _params(self) -> tuple[Param, ...]:
        self._expect("(")
        params: list[Param] = []
        while not self._take(")"):
            if params:
                self._expect(",")
            name = self._next("value")
            self._expect(":")
            value = self._define(name, self._type())
            role = _ROLES[self._next("word")] if self._word() in _ROLES else "in"
            default = self._number() if self._take("=") else None
            params.append(Param(value, role, default))
        return tuple(params)

    def _condition(self) -> Condition:
        left = self._dim()
        relation = self._next("sign")
        if relation not in _RELATIONS:
            self._wrong(f"{relation!r} is no relation")
        right = self._dim()
        text = _unquoted(self._next("string"))
        return Condition(left, _RELATIONS[relation], right, text, self._locs())

    def _node(self) -> Node:
        names: list[str] = []
        while self._kind() == "value":
            names.append(self._next("value"))
            if not self._take(","):
                self._expect("=")
                break
        op = self._next("word")
        operands = self._operands()
        regions = self._regions() if self._take("with") else ()
        attrs = self._attrs() if self._take("{") else ()
        types = self._types("") if self._take(":") else ()
        if len(types) != len(names):
            self._wrong(f"{len(names)} results have {len(types)} types")
        phase: Phase = "forward"
        if self._word()[1:] in _PHASES and self._kind() == "mark":
            phase = _PHASES[self._next("mark")[1:]]
        path = ""
        if self._take("@path"):
            self._expect("(")
            path = _unquoted(self._next("string"))
            self._expect(")")
        locs = self._locs()
        results = tuple(self._define(n, t) for n, t in zip(names, types, strict=True))
        return Node(op, operands, attrs, results, regions, phase, path, locs)

    def _regions(self) -> tuple[Graph, ...]:
        out: list[Graph] = []
        while not out or self._take(","):
            label = self._name()
            if label not in self.graphs:
                self._wrong(f"there is no graph {label} before this line")
            out.append(self.graphs[label])
        return tuple(out)

    def _attrs(self) -> tuple[tuple[str, Attr], ...]:
        attrs: list[tuple[str, Attr]] = []
        while not self._take("}"):
            if attrs:
                self._expect(",")
            name = self._next("word")
            self._expect("=")
            attrs.append((name, self._attr()))
        return tuple(attrs)

    def _attr(self) -> Attr:
        kind, word, _ = self.tokens[self.at]
        if word == "[":
            return self._list()
        if kind == "string":
            return _unquoted(self._next("string"))
        if kind == "data":
            name = self._next("data")[1:]
            if name not in self.data:
                self._wrong(f"there is no data {name}")
            return self.data[name]
        if word in DTYPES:
            return DTYPES[self._next("word")]
        if word in _CONSTANTS:
            return _CONSTANTS[self._next("word")]
        if (number := self._float()) is not None:
            return number
        return self._dim()

    def _list(self) -> tuple[Attr, ...]:
        self._expect("[")
        items: list[Attr] = []
        while not self._take("]"):
            if items:
                self._expect(",")
            items.append(self._attr())
        return tuple(items)

    def _locs(self) -> tuple[Loc, ...]:
        if not self._take("@loc"):
            return ()
        self._expect("(")
        locs = [self._loc()]
        while self._take(","):
            locs.append(self._loc())
        self._expect(")")
        return tuple(locs)

    def _loc(self) -> Loc:
        file, line, column = self._next("loc").rsplit(":", 2)
        caller = self._loc() if self._take("<") else None
        name = _unquoted(file) if file.startswith('"') else file
        return Loc(name, int(line), int(column), caller)

    # Small pieces.

    def _operands(self) -> tuple[Value, ...]:
        found: list[Value] = []
        # Nothing but `,` joins operands: a value on the next line begins the next node.
        while self._kind() == "value" and (found or not self._on_new_line()):
            found.append(self._use())
            if not self._take(","):
                break
        return tuple(found)

    def _use(self) -> Value:
        name = _value_name(self._next("value"))
        if name not in self.values:
            self._wrong(f"%{name} is not defined before this line")
        return self.values[name]

    def _define(self, token: str, kind: Type) -> Value:
        name = _value_name(token)
        if name in self.values:
            self._wrong(f"%{name} is defined twice")
        self.values[name] = Value(name, kind)
        return self.values[name]

    def _types(self, end: str) -> tuple[Type, ...]:
        types: list[Type] = []
        if end and self._word() == end:
            return ()
        while not types or self._take(","):
            types.append(self._type())
        return tuple(types)

    def _type(self) -> Type:
        cut = self._cut(frozenset({",", ")", "=", *_ROLES}))
        try:
            return _type_of(cut)
        except ValueError as error:
            self._wrong(str(error))

    def _dim(self) -> Dim:
        cut = self._cut(frozenset({",", "]", "}", ")", *_RELATIONS}))
        try:
            return _dim_of(cut)
        except ValueError as error:
            self._wrong(str(error))

    def _cut(self, ends: frozenset[str]) -> str:
        """The text up to a word of `ends` outside brackets, a mark, a string or the line's end."""
        first, depth = self.at, 0
        while True:
            kind, word, _ = self.tokens[self.at]
            if depth == 0 and (word in ends or kind in ("mark", "string", "value", "end")):
                break
            if kind == "end" or (self.at > first and self._on_new_line()):
                break
            depth += (word in _OPENS) - (word in _CLOSES)
            self.at += 1
        start, stop = self.tokens[first][2], self.tokens[self.at][2]
        return self.text[start:stop].strip()

    def _float(self) -> float | None:
        """A number with a point or an exponent, or -inf; None where something else stands."""
        negative = self._word() == "-"
        kind, word, _ = self.tokens[self.at + negative]
        if word != "inf" and (kind != "number" or word.isdigit()):
            return None
        self.at += negative + 1
        return -float(word) if negative else float(word)

    def _number(self) -> float:
        number = self._attr()
        if isinstance(number, int | float):
            return number
        self._wrong(f"{number} is no number")

    def _name(self) -> str:
        if self._kind() == "string":
            return _unquoted(self._next("string"))
        return self._next("word")

    # The stream of tokens.

    def _kind(self) -> str:
        return self.tokens[self.at][0]

    def _word(self) -> str:
        return self.tokens[self.at][1]

    def _on_new_line(self) -> bool:
        _, before, offset = self.tokens[self.at - 1]
        return "\n" in self.text[offset + len(before) : self.tokens[self.at][2]]

    def _take(self, word: str) -> bool:
        if self._word() != word:
            return False
        self.at += 1
        return True

    def _expect(self, word: str) -> None:
        if not self._take(word):
            self._fail(f"expected {word!r}, found {self._word()!r}")

    def _next(self, kind: str) -> str:
        found, word, _ = self.tokens[self.at]
        if found != kind:
            self._fail(f"expected a {kind}, found {word!r}")
        self.at += 1
        return word

    def _wrong(self, message: str) -> NoReturn:
        """Fails at what was read last."""
        self._fail(message, self.tokens[max(self.at - 1, 0)][2])

    def _fail(self, message: str, offset: int | None = None) -> NoReturn:
        place = self.tokens[self.at][2] if offset is None else offset
        raise TextError(f"line {self.text.count(chr(10), 0, place) + 1}: {message}")


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _unquoted(token: str) -> str:
    return str(json.loads(token))


def _value_name(token: str) -> str:
    return _unquoted(token[1:]) if token.startswith('%"') else token[1:]


__all__ = ["TextError", "parse_graph", "parse_graphs"]
