"""Types in Python: `dlc.f32["N", 784]`, with the words and the dims of the language."""

from __future__ import annotations

from typing import Any

from dlc.frontend.elaborate.declared import GENERIC, dim_of
from dlc.frontend.elaborate.frames import Frame
from dlc.frontend.elaborate.values import Number
from dlc.frontend.python import places
from dlc.frontend.python.trace import apply, error, leaf
from dlc.frontend.text import syntax
from dlc.frontend.text.parse import parse_expression
from dlc.ir.diagnostics import Span, UserError
from dlc.ir.dims import Poly, substitute
from dlc.ir.dims import symbol as symbol_of
from dlc.ir.types import DTYPES


class TensorOf:
    """`f32[N, 10]` as an annotation. Dims are integers, symbols, and texts such as `"2 * N"`."""

    __slots__ = ("dims", "name")

    def __init__(self, name: str, dims: tuple[Any, ...]) -> None:
        self.name = name
        self.dims = dims

    def __repr__(self) -> str:
        return f"{self.name}[{', '.join(map(str, self.dims))}]" if self.dims else self.name


class ElementType(TensorOf):
    """`dlc.f32`: the type of a scalar, with `[…]` that of a tensor; called, it converts."""

    __slots__ = ()

    def __init__(self, name: str) -> None:
        super().__init__(name, ())

    def __getitem__(self, dims: Any) -> TensorOf:
        return TensorOf(self.name, dims if isinstance(dims, tuple) else (dims,))

    def __call__(self, value: Any) -> Any:
        """`value` converted: floats truncate to integers and saturate, nan gives 0."""
        from dlc.frontend.python.values import expression

        span = places.here()
        return apply(syntax.Cast(span, self.name, expression(value, span)))


TYPES = {name: ElementType(name) for name in (*DTYPES, *GENERIC)}


def symbol(name: str) -> Poly:
    """A size that is known at the call, to be used in dims with `+`, `*`, `//` and their like.

    Its name begins with a capital, as in the language: `N = dlc.symbol("N")`.
    """
    if not name.isidentifier() or not name[0].isupper():
        raise error("unknown-name", f"`{name}` is no name of a symbol",
                    help="a symbol begins with a capital, and stands alone as a dim of some "
                         "parameter")
    return symbol_of(name)


def type_syntax(annotation: Any, span: Span, what: str) -> syntax.TypeExpr:
    """An annotation as the language's type; an error that names `what` for anything else."""
    if annotation is int:
        return syntax.TypeExpr(span, "int", ())
    if isinstance(annotation, TensorOf):
        dims = tuple(_dim(dim, span) for dim in annotation.dims)
        return syntax.TypeExpr(span, annotation.name, dims)
    raise error("type-mismatch", f"{what} has no type of the language: {annotation!r}", span=span,
                help='types are written `dlc.f32["N", 10]`, `dlc.i32`, `int`')


def result_syntax(
    annotation: Any, span: Span
) -> syntax.TypeExpr | syntax.TupleTypeExpr | None:
    """What stands after `->`: a type, or `tuple[…]` or `(…)` of several; None if nothing does."""
    items = getattr(annotation, "__args__", annotation)
    if isinstance(items, tuple):
        return syntax.TupleTypeExpr(span, tuple(
            type_syntax(item, span, "a result") for item in items))
    return None if annotation is None else type_syntax(annotation, span, "the result")


def _dim(dim: Any, span: Span) -> syntax.Expr | syntax.Rest:
    if isinstance(dim, Poly):
        return dim_expression(dim, span)
    if isinstance(dim, str):
        return _dim_of_text(dim.strip(), span)
    if isinstance(dim, int) and not isinstance(dim, bool):
        return syntax.Number(span, dim)
    raise error("type-mismatch", f"a dim is an integer, a symbol or a text, not {dim!r}", span=span)


def _dim_of_text(text: str, span: Span) -> syntax.Expr | syntax.Rest:
    if text.isidentifier():
        return syntax.Name(span, text)
    if text.startswith("*") and text[1:].isidentifier():
        return syntax.Rest(span, syntax.Name(span, text[1:]))
    try:
        return parse_expression(text, span.file, span.line, span.column)
    except UserError as wrong:
        raise error("syntax", f'"{text}" is no dim: {wrong.diagnostics[0].message}',
                    span=span) from None


def dim_expression(dim: Poly, span: Span) -> syntax.Expr:
    """A dim over symbols: they are what they are bound to where it is used."""
    if len(dim.symbols) == 1 and str(dim) in dim.symbols:
        return syntax.Name(span, str(dim))

    def run(frame: Frame) -> Number:
        bound = {name: dim_of(frame, syntax.Name(span, name)) for name in sorted(dim.symbols)}
        return Number(substitute(dim, bound))

    return leaf(span, run)
