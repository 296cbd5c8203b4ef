"""From the parse tree to the syntax tree: a method for each rule of the grammar, by its name."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from dlc.frontend.text import syntax as s
from dlc.frontend.text.lalr import Branch, Token, Tree
from dlc.frontend.text.newlines import SyntaxFault
from dlc.ir.diagnostics import Diagnostic, Span

Parts = list[Branch]
N = TypeVar("N", bound=s.Syntax)
DEEPEST: Final = 300  # levels of the parse tree that are read


def check_depth(tree: Tree, file: str) -> None:
    """Raises `SyntaxFault` if the tree is too deep to be walked by recursion."""
    level, depth = [tree], 0
    while level:
        depth += 1
        if depth > DEEPEST:
            message = "this is nested too deeply: name parts of it in lines of their own"
            raise SyntaxFault(Diagnostic("too-deep", message, tree_span(file, level[0])))
        level = [c for t in level for c in t.children if isinstance(c, Tree)]


def tree_span(file: str, tree: Tree) -> Span:
    """Where a tree stands; the file's start if it is empty."""
    if not tree.line:
        return Span(file, 1, 1, 1, 1)
    return Span(file, tree.line, tree.column, tree.end_line, tree.end_column)


class Transform:
    """Makes the syntax tree of one file. Method `x` makes the node for rule `x`."""

    def __init__(self, file: str) -> None:
        self._file = file

    # Helpers

    def node(self, branch: Branch) -> s.Syntax:
        """The node for any subtree."""
        assert isinstance(branch, Tree)
        make: Callable[[Span, Parts], s.Syntax] = getattr(self, str(branch.data))
        return make(tree_span(self._file, branch), branch.children)

    def _of(self, kind: type[N], branch: Branch) -> N:
        made = self.node(branch)
        assert isinstance(made, kind), made
        return made

    def _maybe(self, kind: type[N], branch: Branch) -> N | None:
        return None if branch is None else self._of(kind, branch)

    def _expr(self, branch: Branch) -> s.Expr:
        made = self.node(branch)
        assert isinstance(made, s.Expr), made
        return made

    def _all(self, kind: type[N], branches: Sequence[Branch]) -> tuple[N, ...]:
        return tuple(self._of(kind, b) for b in branches if b is not None)

    def _exprs(self, branches: Sequence[Branch]) -> tuple[s.Expr, ...]:
        return tuple(self._expr(b) for b in branches if isinstance(b, Tree))

    def _inner(self, branch: Branch) -> Sequence[Branch]:
        """The children of a subtree that is there only to group them."""
        return branch.children if isinstance(branch, Tree) else ()

    def _span(self, token: Branch) -> Span:
        assert isinstance(token, Token)
        line, column = token.line or 1, token.column or 1
        return Span(self._file, line, column, token.end_line or line, token.end_column or column)

    def _name(self, token: Branch) -> s.Name:
        return s.Name(self._span(token), str(token))

    def _names(self, branch: Branch) -> tuple[s.Name, ...]:
        return tuple(self._name(token) for token in self._inner(branch))

    @staticmethod
    def _text(token: Branch) -> str:
        text = str(token)
        return text[3:-3] if text.startswith('"""') else text[1:-1]

    def _doc(self, token: Branch) -> str | None:
        return None if token is None else self._text(token)

    # Definitions

    def file(self, span: Span, parts: Parts) -> s.File:
        definitions = tuple(self.node(p) for p in parts[1:])
        return s.File(span, self._doc(parts[0]), definitions)  # type: ignore[arg-type]

    def expression(self, span: Span, parts: Parts) -> s.Expr:
        return self._expr(parts[0])

    def import_(self, span: Span, parts: Parts) -> s.Import:
        token = parts[0]
        quoted = isinstance(token, Token) and token.type == "STRING"
        return s.Import(span, self._text(token) if quoted else str(token), quoted)

    def const(self, span: Span, parts: Parts) -> s.Const:
        name, kind, value = parts
        return s.Const(span, self._name(name), self._of(s.TypeExpr, kind), self._expr(value))

    def fn(self, span: Span, parts: Parts) -> s.Function:
        return self._function(span, "fn", parts)

    def step(self, span: Span, parts: Parts) -> s.Function:
        return self._function(span, "step", parts)

    def _function(self, span: Span, kind: str, parts: Parts) -> s.Function:
        name, parameters, result, where, body = parts
        made = None if result is None else self.node(result)
        block = self.node(body)
        return s.Function(
            span, "fn" if kind == "fn" else "step", self._name(name),
            self._all(s.Parameter, self._inner(parameters)),
            made,  # type: ignore[arg-type]
            self._exprs(self._inner(where)),
            block,  # type: ignore[arg-type]
        )

    def model(self, span: Span, parts: Parts) -> s.Model:
        name, parameters, where, doc, *members = parts
        made = tuple(self.node(m) for m in members)
        return s.Model(
            span, self._name(name), self._all(s.Parameter, self._inner(parameters)),
            self._exprs(self._inner(where)), self._doc(doc),
            made,  # type: ignore[arg-type]
        )

    def optimizer(self, span: Span, parts: Parts) -> s.Optimizer:
        name, parameters, operands, doc, *lines = parts
        made = [self.node(line) for line in lines]
        states = tuple(m for m in made if isinstance(m, s.Variable))
        return s.Optimizer(
            span, self._name(name), self._all(s.Parameter, self._inner(parameters)),
            self._all(s.Parameter, self._inner(operands)), self._doc(doc), states,
            tuple(m for m in made if isinstance(m, s.Statement)),
        )

    def train(self, span: Span, parts: Parts) -> s.Train:
        name, arguments, *lines = parts
        made = [self.node(line) for line in lines]
        return s.Train(
            span, self._name(name), self._arguments(arguments),
            tuple(m for m in made if isinstance(m, s.Setting)),
            tuple(m for m in made if isinstance(m, s.Phase)),
        )

    def setting(self, span: Span, parts: Parts) -> s.Setting:
        return s.Setting(span, self._name(parts[0]), self._expr(parts[1]))

    def phase(self, span: Span, parts: Parts) -> s.Phase:
        return s.Phase(span, self._name(parts[0]), self._all(s.Setting, parts[1:]))

    def test(self, span: Span, parts: Parts) -> s.Test:
        return s.Test(span, self._text(parts[0]), self._of(s.Block, parts[1]))

    def parameter(self, span: Span, parts: Parts) -> s.Parameter:
        name, kind, default = parts
        value = None if default is None else self._expr(default)
        return s.Parameter(span, self._name(name), self._of(s.TypeExpr, kind), value)

    def param(self, span: Span, parts: Parts) -> s.Variable:
        return self._variable(span, True, parts)

    def state(self, span: Span, parts: Parts) -> s.Variable:
        return self._variable(span, False, parts)

    def _variable(self, span: Span, trained: bool, parts: Parts) -> s.Variable:
        name, kind, value = parts
        return s.Variable(span, "param" if trained else "state", self._name(name),
                          self._of(s.TypeExpr, kind), self._expr(value))

    def member(self, span: Span, parts: Parts) -> s.Member:
        return s.Member(span, self._name(parts[0]), self._expr(parts[1]))

    # Types

    def type(self, span: Span, parts: Parts) -> s.TypeExpr:
        if len(parts) == 1:
            return s.TypeExpr(span, "int", ())
        sparse, dtype, *dims = parts
        made = tuple(self.node(d) for d in dims if d is not None)
        return s.TypeExpr(span, str(dtype), made, sparse is not None)  # type: ignore[arg-type]

    def tuple_type(self, span: Span, parts: Parts) -> s.TupleTypeExpr:
        return s.TupleTypeExpr(span, self._all(s.TypeExpr, parts))

    def rest(self, span: Span, parts: Parts) -> s.Rest:
        return s.Rest(span, self._name(parts[1]))

    # Statements

    def block(self, span: Span, parts: Parts) -> s.Block:
        statements = tuple(self.node(p) for p in parts[1:])
        return s.Block(span, self._doc(parts[0]), statements)  # type: ignore[arg-type]

    def assign(self, span: Span, parts: Parts) -> s.Assign:
        return s.Assign(span, self._names(parts[0]), self._exprs(self._inner(parts[1])))

    def update(self, span: Span, parts: Parts) -> s.Update:
        target = self._expr(parts[0])
        assert isinstance(target, s.Name | s.Field | s.Subscript)
        return s.Update(span, target, str(parts[1]), self._expr(parts[2]))

    def return_(self, span: Span, parts: Parts) -> s.Return:
        return s.Return(span, self._exprs(self._inner(parts[0])))

    def yield_(self, span: Span, parts: Parts) -> s.Yield:
        return s.Yield(span, self._expr(parts[0]), self._name(parts[1]))

    def for_(self, span: Span, parts: Parts) -> s.For:
        targets, source, body = parts
        return s.For(span, self._names(targets), self._expr(source), self._of(s.Block, body))

    def if_(self, span: Span, parts: Parts) -> s.If:
        condition, then, otherwise = parts
        other = None if otherwise is None else self.node(otherwise)
        if isinstance(other, s.If):
            other = s.Block(other.span, None, (other,))
        assert other is None or isinstance(other, s.Block)
        return s.If(span, self._expr(condition), self._of(s.Block, then), other)

    def scan(self, span: Span, parts: Parts) -> s.Scan:
        targets, *given, carry, body = parts
        arguments = self._all(s.Argument, given)
        sources = tuple(a.value for a in arguments if a.name is None)
        return s.Scan(span, self._names(targets), sources,
                      self._all(s.Carried, self._inner(carry)), self._of(s.Block, body),
                      tuple(a for a in arguments if a.name is not None))

    def while_(self, span: Span, parts: Parts) -> s.While:
        condition, carry, body = parts
        return s.While(span, self._expr(condition), self._all(s.Carried, self._inner(carry)),
                       self._of(s.Block, body))

    def carried(self, span: Span, parts: Parts) -> s.Carried:
        return s.Carried(span, self._name(parts[0]), self._expr(parts[1]))

    def minimize(self, span: Span, parts: Parts) -> s.Minimize:
        loss, optimizer, *options = parts
        return s.Minimize(span, self._expr(loss), self._of(s.Call, optimizer),
                          self._all(s.Argument, options))

    def optimizer_call(self, span: Span, parts: Parts) -> s.Call:
        return self.call(span, parts)

    def assert_(self, span: Span, parts: Parts) -> s.Assert:
        return s.Assert(span, self._expr(parts[0]), self._text(parts[1]))

    def print_(self, span: Span, parts: Parts) -> s.Print:
        return s.Print(span, self._expr(parts[0]))

    def on(self, span: Span, parts: Parts) -> s.On:
        return s.On(span, self._text(parts[0]), self._of(s.Block, parts[1]))

    # Expressions

    def name(self, span: Span, parts: Parts) -> s.Name:
        return s.Name(span, str(parts[0]))

    def number(self, span: Span, parts: Parts) -> s.Number:
        text = str(parts[0]).replace("_", "")
        if len(text) > 1000:
            raise SyntaxFault(Diagnostic("number-range", "a number of more than 1000 digits",
                                         span))
        if text.isdigit():
            return s.Number(span, int(text))
        value = float(text)
        if math.isinf(value):
            raise SyntaxFault(Diagnostic("number-range", f"{text} is too large for a number", span,
                                         help="write `inf` if infinity is meant"))
        return s.Number(span, value)

    def string(self, span: Span, parts: Parts) -> s.String:
        return s.String(span, self._text(parts[0]))

    def true(self, span: Span, parts: Parts) -> s.Boolean:
        return s.Boolean(span, True)

    def false(self, span: Span, parts: Parts) -> s.Boolean:
        return s.Boolean(span, False)

    def choice(self, span: Span, parts: Parts) -> s.Choice:
        then, condition, otherwise = self._exprs(parts)
        return s.Choice(span, condition, then, otherwise)

    def pipe(self, span: Span, parts: Parts) -> s.Call:
        value, right = self._expr(parts[0]), self._expr(parts[2])
        first = s.Argument(value.span, None, value)
        if isinstance(right, s.Name | s.Field | s.Subscript):
            return s.Call(span, right, (first,), True)
        if isinstance(right, s.Call) and not right.piped:
            return s.Call(span, right.function, (first, *right.arguments), True)
        message = "the right side of `|>` is a function, or a call of one"
        raise SyntaxFault(Diagnostic("pipe-target", message, right.span,
                                     help="put the pipe in `( )`, or give its value a name"))

    def binary(self, span: Span, parts: Parts) -> s.Binary:
        left, operator, right = parts
        return s.Binary(span, str(operator), self._expr(left), self._expr(right),
                        self._span(operator))

    def unary(self, span: Span, parts: Parts) -> s.Unary:
        return s.Unary(span, str(parts[0]), self._expr(parts[1]))

    def comparison(self, span: Span, parts: Parts) -> s.Comparison:
        operators = parts[1::2]
        return s.Comparison(span, self._exprs(parts[::2]), tuple(map(str, operators)),
                            tuple(self._span(o) for o in operators))

    def call(self, span: Span, parts: Parts) -> s.Call:
        return s.Call(span, self._expr(parts[0]), self._arguments(parts[1]))

    def _arguments(self, branch: Branch) -> tuple[s.Argument, ...]:
        return self._all(s.Argument, self._inner(branch))

    def positional(self, span: Span, parts: Parts) -> s.Argument:
        return s.Argument(span, None, self._expr(parts[0]))

    def named(self, span: Span, parts: Parts) -> s.Argument:
        return s.Argument(span, self._name(parts[0]), self._expr(parts[1]))

    def subscript(self, span: Span, parts: Parts) -> s.Subscript:
        value, *indices = parts
        made = tuple(self.node(i) for i in indices)
        return s.Subscript(span, self._expr(value), made)  # type: ignore[arg-type]

    def field(self, span: Span, parts: Parts) -> s.Field:
        return s.Field(span, self._expr(parts[0]), self._name(parts[1]))

    def slice(self, span: Span, parts: Parts) -> s.Slice:
        bounds: list[s.Expr | None] = [None, None, None]
        place = 0
        for part in parts:
            if isinstance(part, Token):
                place += 1
            elif part is not None:
                bounds[place] = self._expr(part)
        return s.Slice(span, *bounds)

    def ellipsis(self, span: Span, parts: Parts) -> s.Ellipsis:
        return s.Ellipsis(span)

    def new_axis(self, span: Span, parts: Parts) -> s.NewAxis:
        return s.NewAxis(span)

    def cast(self, span: Span, parts: Parts) -> s.Cast:
        return s.Cast(span, str(parts[0]), self._expr(parts[1]))

    def paren(self, span: Span, parts: Parts) -> s.Expr:
        inside = self._inner(parts[0])
        items = self._exprs(inside)
        tuple_ = len(items) > 1 or isinstance(inside[-1], Token)
        return s.Tuple(span, items) if tuple_ else items[0]

    def list(self, span: Span, parts: Parts) -> s.List:
        return s.List(span, self._exprs(self._inner(parts[0])))

    def comprehension(self, span: Span, parts: Parts) -> s.Comprehension:
        item, targets, source = parts
        return s.Comprehension(span, self._expr(item), self._names(targets), self._expr(source))
