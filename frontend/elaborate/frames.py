"""The state of an elaboration: the graph in the making, and a frame for each function in it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import field, replace
from typing import Final, Literal

from dlc.frontend.elaborate.levels import Store
from dlc.frontend.elaborate.modules import Module, Program
from dlc.frontend.elaborate.values import Instance, Many, Poisoned, Value, Variable
from dlc.frontend.text import syntax
from dlc.ir import graph as ir
from dlc.ir.dataclass import dataclass
from dlc.ir.diagnostics import Diagnostic, Diagnostics, Span
from dlc.ir.dims import Dim, at_least, symbols
from dlc.ir.graph import Attr, Builder, Condition, Loc
from dlc.ir.ops import TypeRuleError
from dlc.ir.types import F32, DType, TensorType, tensor

Lexical = Literal["fn", "step", "optimizer", "model", "const", "setting", "test"]


MOST_TURNS: Final = 15_000  # statements, calls and items that one function may come to
MOST_NODES: Final = 50_000
MOST_BYTES: Final = 2**39  # of one tensor
DEEPEST: Final = 1000  # expressions and blocks inside one another, through all calls


class Fault(Exception):
    """One error of the user, on its way to the statement that it stands in."""

    def __init__(
        self, code: str, message: str, span: Span, notes: Iterable[str] = (), help: str = ""
    ) -> None:
        super().__init__(message)
        self.diagnostic = Diagnostic(code, message, span, tuple(notes), help)


def check_size(kind: TensorType, span: Span) -> None:
    """`Fault` for a type that no machine holds, or that has a dim below 0."""
    known = [dim for dim in kind.dims if isinstance(dim, int)]
    if any(dim < 0 for dim in known):
        raise Fault("zero-size", f"a dim of {kind} is less than 0", span)
    size = math.prod(known) * kind.dtype.size
    if size > MOST_BYTES:
        raise Fault("tensor-size", f"{kind} takes {size:,} bytes or more", span,
                    help=f"a tensor has at most {MOST_BYTES:,} bytes")


class Silent(Exception):
    """Something depends on what is wrong already: nothing more is said."""


@dataclass(frozen=True, slots=True)
class Engine:
    """The parts of the elaborator that need each other, each in a file of its own."""

    evaluate: Callable[[Frame, syntax.Expr], Value]
    execute: Callable[[Frame, syntax.Block], Value | None]
    constant: Callable[[Context, syntax.Const, Module], Value]


@dataclass(slots=True, eq=False)
class Context:
    """One graph in the making."""

    program: Program
    engine: Engine
    found: Diagnostics
    training: bool = False
    name: str = ""  # of the model whose function it is
    cut: bool = True  # whether no gradient flows through updates
    checking: bool = False  # models' integers are symbols, nothing is kept
    builder: Builder = field(default_factory=Builder)
    store: Store = field(init=False)
    conditions: dict[tuple[str, str, str], Condition] = field(default_factory=dict)
    optimizer_states: dict[str, Variable] = field(default_factory=dict)
    order: tuple[str, ...] = ()  # the names of the model's variables, as it declares them
    built: dict[str, Instance] = field(default_factory=dict)  # models, by a test
    active: list[tuple[syntax.Syntax, Instance | None]] = field(default_factory=list)
    constants: dict[int, Value] = field(default_factory=dict)
    opened: set[int] = field(default_factory=set)  # constants that are being worked out
    random: ir.Value | None = None
    draws: dict[str, int] = field(default_factory=dict)
    turns: int = 0
    grown: bool = False  # whether it was too large
    depth: int = 0  # of expressions and blocks that are open

    def __post_init__(self) -> None:
        self.store = Store(self.builder)

    def report(self, fault: Fault) -> None:
        """Keeps an error."""
        found, chosen = fault.diagnostic, self.program.main.default_float
        if found.code == "dtype-mismatch" and chosen is not F32:
            told = (f"by --float {chosen} the library and what meets no type are {chosen}; what is "
                    "written as f32 stays f32, and `float` in a signature is either")
            found = replace(found, help=f"{found.help}; {told}" if found.help else told)
        self.found.add(found)

    def tick(self, span: Span) -> None:
        """Counts a statement, a call or an item; `Fault` if a program grows without bounds."""
        self.turns += 1
        if self.grown:
            raise Silent  # told already
        if self.turns > MOST_TURNS or len(self.builder.nodes) > MOST_NODES:
            self.grown = True
            raise Fault("too-large", "this program is too large when its loops are unrolled and "
                        "its functions expanded", span,
                        help="`scan` goes over many turns without being unrolled")

    @contextmanager
    def trained(self) -> Iterator[None]:
        """A test calls a step in this block."""
        before, self.training = self.training, True
        try:
            yield
        finally:
            self.training = before

    @contextmanager
    def deeper(self, span: Span) -> Iterator[None]:
        """One expression or block inside another; `Fault` if there are too many."""
        if self.depth >= DEEPEST:
            raise Fault("too-deep", "calls and expressions are nested too deeply here", span)
        self.depth += 1
        try:
            yield
        finally:
            self.depth -= 1

    def constant(self, definition: syntax.Const, module: Module) -> Value:
        """The value of a `const`, worked out once."""
        key = id(definition)
        if key in self.opened:
            raise Fault("recursion", f"the const `{definition.name.text}` reaches itself",
                        definition.name.span)
        if key not in self.constants:
            self.constants[key] = Poisoned()  # where it is wrong
            self.opened.add(key)
            try:
                self.constants[key] = self.engine.constant(self, definition, module)
            finally:
                self.opened.remove(key)
        return self.constants[key]

    def declare(self, variables: Iterable[Variable], others: Iterable[str] = ()) -> None:
        """Keeps the names of a model's variables for these, but for names that are `others`'."""
        self.order = tuple(v.name for v in variables)
        self.store.reserved = frozenset(self.order) - frozenset(others)
        self.builder.reserve(self.store.reserved)

    @property
    def updated(self) -> dict[str, ir.Value]:
        """The new values of the variables that the function updates."""
        root = self.store.level.chain()[0]
        return {name: root.values[name] for name in root.written}

    def read(self, variable: Variable) -> ir.Value:
        """The value that a variable has now."""
        return self.store.read(variable)

    def write(self, variable: Variable, value: ir.Value) -> None:
        """Gives a variable a new value, through which no gradient flows to what it was made of."""
        self.store.at(self.store.level, variable)
        if self.cut:
            value = self.builder.op("stop_gradient", value, hint=variable.name)
        self.store.write(variable, value)

    def require(
        self, left: Dim, relation: Literal[">=", "=="], right: Dim, text: str, loc: Loc
    ) -> None:
        """A condition that is checked when the function is called."""
        key = str(left), relation, str(right)
        self.conditions.setdefault(key, Condition(left, relation, right, text, (loc,)))


@dataclass(slots=True, eq=False)
class Frame:
    """One function being expanded, or one expression that stands outside of functions."""

    context: Context
    module: Module
    lexical: Lexical
    path: str
    owner: Instance | None = None
    function: syntax.Function | None = None
    locals: dict[str, Value] = field(default_factory=dict)
    symbols: dict[str, Dim] = field(default_factory=dict)
    rests: dict[str, tuple[Dim, ...]] = field(default_factory=dict)
    generics: dict[str, DType] = field(default_factory=dict)
    caller: Loc | None = None
    new_model: str | None = None  # the path that a model built here gets
    declared: TensorType | None = None  # the type that a maker without a shape makes
    assigned: dict[str, Variable] = field(default_factory=dict)  # p and states of an optimizer
    whole: str = ""  # the operator of which all parts are evaluated, if one stands round this
    fixed: frozenset[str] = frozenset()  # names of locals outside of the loop that this is in
    lost: dict[str, Span] = field(default_factory=dict)  # names given in one branch of an `if` only
    ended: dict[str, Span] = field(default_factory=dict)  # names that ended with a loop
    yields: dict[syntax.Yield, Value | None] = field(default_factory=dict)  # of the scan round it
    minimized: dict[str, list[Span]] = field(default_factory=dict)  # by a body of Python

    @property
    def default_float(self) -> DType:
        """The type of numbers and makers that meet none, and of a `float` that nothing binds."""
        return self.module.default_float

    # Places

    def loc(self, span: Span) -> Loc:
        """The place of `span`, and the call through which it was reached."""
        return Loc(span.file, span.line, span.column, self.caller)

    def place(self, span: Span) -> Builder:
        """The builder; what it makes next stands at `span`."""
        builder = self.context.builder
        builder.locs = (self.loc(span),)
        builder.path = self.path
        return builder

    # Shortcuts

    @contextmanager
    def parts_of(self, operator: str) -> Iterator[None]:
        """What is evaluated in this block is evaluated whatever the operator chooses."""
        before, self.whole = self.whole, operator
        try:
            yield
        finally:
            self.whole = before

    def evaluate(self, expr: syntax.Expr) -> Value:
        """What an expression is."""
        return self.context.engine.evaluate(self, expr)

    def evaluate_all(self, exprs: Iterable[syntax.Expr]) -> list[Value]:
        """What some expressions are. After an error in one the others are evaluated too, so that
        theirs are told with it."""
        values: list[Value] = []
        wrong: Fault | Silent | None = None
        for expr in exprs:
            try:
                values.append(self.evaluate(expr))
            except (Fault, Silent) as found:
                if isinstance(wrong, Fault):
                    self.report(wrong)
                wrong = found
        if wrong is not None:
            raise wrong
        return values

    def emit(
        self, span: Span, op: str, *operands: ir.Value, hint: str = "", **attrs: Attr
    ) -> ir.Value:
        """A node with one result; what its type rule says against it is an error at `span`."""
        try:
            made = self.place(span).op(op, *operands, hint=hint, **attrs)
        except TypeRuleError as error:
            raise Fault("type-mismatch", str(error), span) from None
        check_size(made.tensor, span)
        return made

    def opaque(self, span: Span, dtype: DType, dims: tuple[Dim, ...]) -> ir.Value:
        """Any value of a type, while a definition is checked with symbols in place of numbers."""
        return self.place(span).fresh("checked", tensor(dtype, dims))

    def report(self, fault: Fault) -> None:
        """Keeps an error of this frame, with the call through which it was reached."""
        if self.caller is not None:
            found = fault.diagnostic
            notes = (*found.notes, f"reached from {self.caller}")
            fault.diagnostic = replace(found, notes=notes)
        self.context.report(fault)

    def text_of(self, span: Span) -> str:
        """What is written at `span`, in one line."""
        lines = self.context.program.text_of(span).split("\n")
        return " ".join(line.strip() for line in lines)

    # Conditions

    def at_least(
        self, dim: Dim, bound: int, text: str, span: Span, wrong: str,
        code: str = "shape-mismatch",
    ) -> None:
        """Proves `dim >= bound`, or puts it off to the call, where `text` says what must hold;
        `Fault` with the message `wrong` if it is never so."""
        if at_least(dim, bound):
            return
        if not symbols(dim):
            raise Fault(code, wrong, span)
        self.context.require(dim, ">=", bound, text, self.loc(span))


def flatten(value: Value) -> tuple[Value, ...]:
    """The items of several values, or the one value."""
    return value.items if isinstance(value, Many) else (value,)
