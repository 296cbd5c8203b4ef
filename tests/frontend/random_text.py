"""Random programs as text: functions, loops, branches, gradients, and a model that is trained.

They always check. What stands after `#:` in a line is put there by `seen`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from dlc.runtime.memory import DTYPES
from tests.frontend.random_expressions import Expressions, Function, Kind, kinds

PLAIN = ("sgd(lr=0.1)", "sgd(lr=0.1, momentum=0.5)", "sgd(lr=0.01), clip_norm=1.0")
SCALED = ("adam(lr=0.01)", "rmsprop()", "adamw(lr=0.01, decay=0.1), clip_norm=1.0")
"""Optimizers; the second ones make much of the last bits of gradients that are nearly zero."""


class RandomText:
    """A program: its text, and what its functions take. One letter of a symbol is its size."""

    def __init__(self, seed: int, statements: int = 6) -> None:
        self.draw = random.Random(seed)
        self.float = self.draw.choice(["f32", "f64"])
        self.make = Expressions(self.draw, self.float)
        self.count = 0
        self.lines: list[str] = []
        self.indent = 0
        self.states: list[tuple[str, Kind]] = []
        self.inputs = (
            ("x", Kind(self.float, ("N", "3"), True)), ("ts", Kind(self.float, ("T", "3"), True)),
            ("k", Kind("i32", ("N",), True)), ("z", Kind(self.float, ("T", "N"), True)),
            ("s", Kind(self.float)), ("l", Kind("i64", ("3", "4"), True)))
        self.model = "M" if self.draw.random() < 0.6 else ""
        self._helpers()
        if self.model:
            self._model(statements)
        else:
            self.make.scope = list(self.inputs)
            self.body("fn score", statements)

    @property
    def text(self) -> str:
        """The whole program."""
        return "\n".join(self.lines) + "\n"

    def arrays(self, rng: np.random.Generator, **sizes: int) -> dict[str, Any]:
        """Inputs for symbols of these sizes."""
        found: dict[str, Any] = {}
        for name, kind in self.inputs:
            shape = [sizes[d] if d in sizes else int(d) for d in kind.dims]
            found[name] = rng.integers(-4, 5, shape).astype(DTYPES[kind.dtype])
        return found | {"s": 0.5}

    # Definitions.

    def _helpers(self) -> None:
        """Functions that others call."""
        for number in range(2):
            params = [(f"p{at}", self.make.kind()) for at in range(2)]
            params.append(("both", Kind(self.float, ("T", "N"))))  # all symbols have a place
            kind = self.make.kind()
            self.make.scope = list(params)
            name = f"helper{number}"
            self.line(f"fn {name}({kinds(params)}) -> {kind} {{")
            with self.block():
                self.statements(2)
                self.line(f"return {self.make.make(kind)}")
            self.make.functions.append(Function(name, tuple(k for _, k in params), kind))

    def body(self, head: str, statements: int) -> None:
        """A function of `inputs` that gives what it made last."""
        at = len(self.lines)
        with self.block():
            self.statements(statements)
            self.gradients()
            results = self.make.scope[-4:]
            self.line(f"return {', '.join(name for name, _ in results)}")
        types = ", ".join(str(kind) for _, kind in results)
        self.lines.insert(at, f"{'    ' * self.indent}{head}({kinds(self.inputs)}) -> ({types}) {{")

    def _model(self, statements: int) -> None:
        """A model with params, states, parts, and a step that trains it."""
        float_ = self.float
        make = "uniform(low=-1.0, high=1.0)"
        self.line("model Part(width: int) {")
        with self.block():
            self.line(f"param w: {float_}[width, width] = {make}")
            self.line(f"state seen: {float_}[width] = 0.0")
            self.line(f"fn forward(x: {float_}[K, width]) -> {float_}[K, width] =")
            self.line("    tanh(x @ w + seen)")
        self.line("model M {")
        with self.block():
            self.line("part = Part(3)")
            self.line("parts = [Part(3), Part(3)]")
            self.line(f"param v: {float_}[3, 4] = {make}")
            self.line(f"state m: {float_}[3] = 0.5")
            self.line("state n: i32 = 1")
            self.make.functions += [
                Function(f"{part}.forward", (Kind(float_, (rows, "3")),), Kind(float_, (rows, "3")))
                for part in ("part", "parts[1]") for rows in ("N", "T")]
            members = [("v", Kind(float_, ("3", "4"))), ("part.w", Kind(float_, ("3", "3"))),
                       ("m", Kind(float_, ("3",))), ("n", Kind("i32", (), True))]
            self.make.scope = [*members, *self.inputs]
            self.body("fn score", statements)
            self.make.scope = [*members, *self.inputs]
            self.states = [("m", Kind(float_, ("3",))), ("n", Kind("i32", (), True)),
                           ("parts[0].seen", Kind(float_, ("3",)))]
            self._step(statements)

    def _step(self, statements: int) -> None:
        optimizer = self.draw.choice(PLAIN + SCALED if self.float == "f64" else PLAIN)
        every = self.draw.choice(["", "", ", every=2"])
        self.line(f"step fit({kinds(self.inputs)}) -> {self.float} {{")
        with self.block():
            self.statements(statements)
            self.states = []
            self.line("rows = x")
            self.line("for each in parts { rows = rows + each(rows) }")
            terms = [f"sum(tanh({self.make.make(Kind(self.float, ('N', '3')))}))", "sum(part(ts))",
                     "mean(rows)", "sum(v * v) * 0.1"]
            self.line(f"loss = {' + '.join(terms)}")
            self.line(f"minimize loss with {optimizer}{every}  #:every")
            self.line("n := n + 1")
            self.line("return loss")

    # Statements.

    def statements(self, count: int) -> None:
        """Statements of all kinds."""
        ways = [self.assign, self.assign, self.assign, self.scan, self.while_, self.branch,
                self.unrolled, self.update, self.draws]
        for _ in range(count):
            self.draw.choice(ways)()

    def assign(self) -> None:
        kind = self.make.kind()
        self.given(self.name(), kind, self.make.make(kind))

    def given(self, name: str, kind: Kind, value: str) -> None:
        """A statement that gives a name its value."""
        self.line(f"{name} = {value}  #:{name}")
        self.make.scope.append((name, kind))

    def update(self) -> None:
        if not self.states:
            return self.assign()
        name, kind = self.draw.choice(self.states)
        self.line(f"{name} := {self.make.make(kind)}")
        return None

    def draws(self) -> None:
        """Random numbers, which depend on where they stand."""
        kind = Kind(self.float, ("3", "4"))
        self.given(self.name(), kind, f"{self.float}(uniform(3, 4, low=-1.0, high=1.0))")

    def scan(self) -> None:
        """A loop over rows, or over places."""
        item, carried, stacked = self.name(), self.name(), self.name()
        source, kind, length = self.draw.choice([
            ("ts", Kind(self.float, ("3",), True), "T"), ("x", Kind(self.float, ("3",), True), "N"),
            ("range(4)", Kind("i32", (), True), "4"), ("range(N)", Kind("i32", (), True), "N")])
        if source in ("x", "ts") and source not in dict(self.make.scope):
            source, kind, length = "range(T)", Kind("i32", (), True), "T"
        state, yielded = self.make.kind(), self.make.kind()
        options = self.draw.choice(["", ", reverse=true"]) + self.draw.choice(
            ["", ", recompute=true"])
        self.line(f"scan {item} in {source}{options} carry {carried} = "
                  f"{self.make.make(state, 2)} {{")
        with self.block():
            self.make.scope += [(item, kind), (carried, state)]
            self.statements(self.draw.randrange(2))
            self.line(f"{carried} = {self.make.make(state)}")
            self.line(f"yield {self.make.make(yielded)} as {stacked}")
        self.make.scope += [(carried, state), (stacked, yielded.of((length, *yielded.dims)))]

    def while_(self) -> None:
        """A loop of a few turns."""
        turn, carried = self.name(), self.name()
        kind = self.make.kind()
        before = len(self.make.scope)
        first = self.make.make(kind, 2)
        self.make.scope += [(turn, Kind("i32", (), True)), (carried, kind)]
        condition = self.make.make(Kind("bool", (), True), 2)
        del self.make.scope[before:]
        self.line(f"while {turn} < {self.draw.randrange(5)} and {condition} carry {turn} = "
                  f"i32(0), {carried} = {first} {{")
        states, self.states = self.states, []  # no gradient flows through a `while`
        with self.block():
            self.make.scope += [(turn, Kind("i32", (), True)), (carried, kind)]
            self.statements(self.draw.randrange(2))
            self.line(f"{carried} = {self.make.make(kind)}")
            self.line(f"{turn} = {turn} + 1")
        self.states = states
        self.make.scope += [(f"stop_gradient({carried})" if kind.dtype == self.float else carried,
                             kind)]

    def branch(self) -> None:
        """An `if` that is decided as the program runs."""
        name, kind = self.name(), self.make.kind()
        self.line(f"if {self.make.make(Kind('bool', (), True))} {{")
        for word in ("} else {", "}"):
            with self.block(word):
                self.statements(self.draw.randrange(2))
                self.line(f"{name} = {self.make.make(kind)}")
        self.make.scope.append((name, kind))

    def unrolled(self) -> None:
        """A `for`: it opens no scope."""
        name, kind = self.name(), self.make.kind()
        self.given(name, kind, self.make.make(kind))
        self.line("for turn in range(2) {")
        with self.block():
            self.line(f"{name} = {self.make.make(kind)}")

    def gradients(self) -> None:
        """The gradient of a loss by something of floats."""
        found = [(name, kind) for name, kind in self.make.scope
                 if kind.dtype == self.float and not name.startswith("stop")]
        name, kind = self.draw.choice(found)
        other = self.make.make(Kind(self.float, ("N", "3")))
        loss, slope = self.name(), self.name()
        self.given(loss, Kind(self.float), f"sum({name} * {name}) * 0.1 + sum(tanh({other}))")
        self.given(slope, kind.of(kind.dims, False), f"grad({loss}, {name})")

    def name(self) -> str:
        """A new name."""
        self.count += 1
        return f"a{self.count}"

    def line(self, text: str) -> None:
        self.lines.append("    " * self.indent + text)

    @contextmanager
    def block(self, end: str = "}") -> Iterator[None]:
        """What stands between braces; its names are gone after it."""
        before = list(self.make.scope)
        self.indent += 1
        yield
        self.indent -= 1
        self.line(end)
        self.make.scope = before
