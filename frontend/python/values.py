"""Traced values: what stands for a tensor, a number or a model while Python is traced."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Final, NoReturn, cast

import numpy as np

from dlc.frontend.elaborate.frames import Context, Frame
from dlc.frontend.elaborate.values import (
    Instance,
    Listing,
    Many,
    Number,
    Table,
    Tensor,
    Truth,
    Value,
    Variable,
    describe,
)
from dlc.frontend.python import places
from dlc.frontend.python.trace import apply, current, error, frame_for, known
from dlc.frontend.python.types import dim_expression
from dlc.frontend.text import syntax
from dlc.ir.diagnostics import Span, did_you_mean
from dlc.ir.dims import Dim, Poly
from dlc.ir.types import DTYPES, tensor

__all__ = ["Delayed", "Operand", "Part", "Traced", "call", "expression", "wrap"]


class Operand(ABC):
    """What Python's operators work on. Each makes what the language's operator makes."""

    __slots__ = ()
    __hash__ = object.__hash__
    __array_ufunc__ = None  # NumPy leaves `array + traced` to us

    @abstractmethod
    def __dl_syntax__(self, span: Span, whole: bool = False) -> syntax.Expr:
        """It as a leaf of the syntax; `whole` if a variable stands for itself, not its value."""

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return call(self, arguments, named)

    def __getitem__(self, index: Any) -> Any:
        span = places.here()
        items = index if isinstance(index, tuple) else (index,)
        return apply(syntax.Subscript(
            span, self.__dl_syntax__(span), tuple(_index(item, span) for item in items)))

    def __neg__(self) -> Any:
        span = places.here()
        return apply(syntax.Unary(span, "-", self.__dl_syntax__(span)))

    def __pos__(self) -> Any:
        return self

    def __invert__(self) -> Any:
        span = places.here()
        return apply(syntax.Unary(span, "not", self.__dl_syntax__(span)))

    def __eq__(self, other: object) -> Any:
        return _compare(self, "==", other)

    def __ne__(self, other: object) -> Any:
        return _compare(self, "!=", other)

    def __lt__(self, other: Any) -> Any:
        return _compare(self, "<", other)

    def __le__(self, other: Any) -> Any:
        return _compare(self, "<=", other)

    def __gt__(self, other: Any) -> Any:
        return _compare(self, ">", other)

    def __ge__(self, other: Any) -> Any:
        return _compare(self, ">=", other)


def _add_operators() -> None:
    """`x + y` and `y + x` of every operator; Python's `&` and `|` are the language's `and`, `or`.

    `x += y` gives the name a new value, as in the language.
    """
    signs = {"add": "+", "sub": "-", "mul": "*", "truediv": "/", "floordiv": "//", "mod": "%",
             "pow": "**", "matmul": "@", "and": "and", "or": "or"}
    for name, sign in signs.items():
        setattr(Operand, f"__{name}__",
                lambda self, other, sign=sign: _binary(self, sign, other))
        setattr(Operand, f"__r{name}__",
                lambda self, other, sign=sign: _binary(other, sign, self))


_add_operators()


def _binary(left: Any, sign: str, right: Any) -> Any:
    span = places.here()
    return apply(syntax.Binary(span, sign, expression(left, span), expression(right, span), span))


def _compare(left: Any, sign: str, right: Any) -> Any:
    span = places.here()
    operands = expression(left, span), expression(right, span)
    return apply(syntax.Comparison(span, operands, (sign,), (span,)))


def _index(item: Any, span: Span) -> syntax.Index:
    if item is None:
        return syntax.NewAxis(span)
    if item is ...:
        return syntax.Ellipsis(span)
    if isinstance(item, slice):
        bounds = (None if bound is None else expression(bound, span)
                  for bound in (item.start, item.stop, item.step))
        return syntax.Slice(span, *bounds)
    return expression(item, span)


def call(function: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """`function(arguments)` in the language."""
    span = places.here()
    return apply(syntax.Call(span, expression(function, span),
                             arguments_of(arguments, named, span)))


def arguments_of(
    arguments: tuple[Any, ...], named: dict[str, Any], span: Span, whole: bool = False
) -> tuple[syntax.Argument, ...]:
    """The arguments of a call as syntax."""
    return (
        *(syntax.Argument(span, None, expression(each, span, whole)) for each in arguments),
        *(syntax.Argument(span, syntax.Name(span, name), expression(each, span, whole))
          for name, each in named.items()),
    )


class Delayed(Operand):
    """An expression that is evaluated later: an initial value, or a model to be built."""

    __slots__ = ("syntax",)

    def __init__(self, expr: syntax.Expr) -> None:
        self.syntax = expr

    def __dl_syntax__(self, span: Span, whole: bool = False) -> syntax.Expr:
        return self.syntax

    def __bool__(self) -> NoReturn:
        raise error("traced-bool", "this is not known yet: it is evaluated when a model is built")

    def __repr__(self) -> str:
        return f"<to be evaluated: {self.syntax.span}>"


class Traced(Operand):
    """A tensor, or a number that is known only at the call, of the graph that is being made."""

    __slots__ = ("_context", "_level", "_variable", "value")

    def __init__(self, context: Context, value: Value, variable: Variable | None = None) -> None:
        self._context = context
        self._level = context.store.level
        self._variable = variable
        self.value = value

    def __dl_syntax__(self, span: Span, whole: bool = False) -> syntax.Expr:
        frame = current()
        if frame is None or frame.context is not self._context:
            raise error("misplaced", "this value belongs to a trace that is over", span=span,
                        help="a function's values are of use in its own calls alone: return them")
        if self._level not in self._context.store.level.chain():
            raise error("misplaced", "this value belongs to the body of a loop or branch that is "
                        "over", span=span, help="what a body returns is known after it")
        return known(span, self._variable if whole and self._variable else self.value)

    @property
    def shape(self) -> tuple[Any, ...]:
        """Its dims: integers, and traced numbers for those that are symbols."""
        return tuple(wrap_dim(self._context, dim) for dim in self._dims())

    @property
    def ndim(self) -> int:
        """The number of its dims."""
        return len(self._dims())

    @property
    def dtype(self) -> str:
        """The name of its element type."""
        match self.value:
            case Tensor(value):
                return value.dtype.name
            case Table(kind):
                return kind.dtype.name
        return "bool" if isinstance(self.value, Truth) else "int"

    @property
    def T(self) -> Any:
        """With its last two axes exchanged."""
        span = places.here()
        return apply(syntax.Field(span, self.__dl_syntax__(span), syntax.Name(span, "T")))

    def _dims(self) -> tuple[Dim, ...]:
        match self.value:
            case Tensor(value):
                return value.dims
            case Table(kind):
                return kind.dims
        return ()

    def update(self, value: Any) -> None:
        """Gives the param or state that this was read from a new value, in a step."""
        if self._variable is None:
            raise error("type-mismatch", f"{describe(self.value)} is no param or state",
                        help="`name = value` gives a local name a value")
        set_variable(self._variable, value)

    def __bool__(self) -> NoReturn:
        raise error(
            "traced-bool", "Python can't decide by a value that is known only as the program runs",
            (f"found: {describe(self.value)}",),
            "`dlc.where(c, a, b)` chooses element by element, `dlc.cond` runs one of two; "
            "`a < b < c` is `(a < b) & (b < c)`, `and` is `&`, `not` is `~`")

    def __len__(self) -> int:
        return len(range(self._length("len")))

    def __iter__(self) -> Iterator[Any]:
        return (self[place] for place in range(self._length("for")))

    def _length(self, what: str) -> int:
        dims = self._dims()
        if dims and isinstance(dims[0], int):
            return dims[0]
        raise error("type-mismatch", f"Python's `{what}` needs a length that is known as the "
                    f"function is traced, not that of {describe(self.value)}",
                    help="`dlc.scan` goes over a leading axis of any length")

    def _no_number(self, *_: Any, **__: Any) -> NoReturn:
        raise error("type-mismatch", f"{describe(self.value)} is known only as the program runs, "
                    "and is no Python number or array while it is traced")

    __index__ = __int__ = __float__ = __array__ = _no_number

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise error("unknown-member", f"{describe(self.value)} has no `{name}`",
                    help=f"write `dlc.{name}(x)` for `x.{name}()`")

    def __repr__(self) -> str:
        return f"<traced {describe(self.value)}>"


class Part(Operand):
    """A model of the language, or one of its functions, in a trace."""

    __slots__ = ("_value",)

    def __init__(self, value: Value) -> None:
        self._value = value

    def __dl_syntax__(self, span: Span, whole: bool = False) -> syntax.Expr:
        return known(span, self._value)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return member(self._value, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "_value":
            object.__setattr__(self, name, value)
        else:
            set_member(self._value, name, value)

    def __repr__(self) -> str:
        return f"<traced {describe(self._value)}>"


def member(owner: Value, name: str) -> Any:
    """A member of a model that is being traced."""
    span, frame = places.here(), frame_for("a member of a traced model")
    found = owner.members.get(name) if isinstance(owner, Instance) else None
    if isinstance(found, Variable):
        return wrap(frame, found)
    return apply(syntax.Field(span, known(span, owner), syntax.Name(span, name)))


def set_member(owner: Value, name: str, value: Any) -> None:
    """`owner.name := value`, in a step."""
    found = owner.members.get(name) if isinstance(owner, Instance) else None
    if not isinstance(found, Variable):
        known_names = owner.members if isinstance(owner, Instance) else ()
        raise error("unknown-member", f"{describe(owner)} has no param or state `{name}`",
                    help=did_you_mean(name, known_names))
    set_variable(found, value)


def set_variable(variable: Variable, value: Any) -> None:
    """Gives a variable a new value in the trace."""
    span, frame = places.here(), frame_for("an update")
    execute(frame, syntax.Update(span, cast(syntax.Name, known(span, variable)), ":=",
                                 expression(value, span)))


def execute(frame: Frame, statement: syntax.Statement) -> None:
    """Runs one statement of the language."""
    frame.context.engine.execute(frame, syntax.Block(statement.span, None, (statement,)))


def wrap_dim(context: Context, dim: Dim) -> Any:
    """A dim as Python sees it."""
    return dim if isinstance(dim, int) else Traced(context, Number(dim))


def wrap(frame: Frame, value: Value) -> Any:
    """A value of the elaborator as Python sees it: what is known as Python's own."""
    match value:
        case Number(number):
            return number if not isinstance(number, Poly) else Traced(frame.context, value)
        case Truth(truth):
            return truth
        case Many(items):
            return tuple(wrap(frame, item) for item in items)
        case Listing(items, True):
            return [wrap(frame, item) for item in items]
        case Variable():
            return Traced(frame.context, Tensor(frame.context.read(value)), value)
        case Tensor() | Table():
            return Traced(frame.context, value)
    return Part(value)


_PLAIN: Final = {bool: syntax.Boolean, int: syntax.Number, float: syntax.Number,
                 str: syntax.String}


def expression(value: Any, span: Span, whole: bool = False) -> syntax.Expr:
    """Anything that Python may hold as an expression of the language."""
    if hasattr(value, "__dl_syntax__") and not isinstance(value, type):
        made: syntax.Expr = value.__dl_syntax__(span, whole)
        return made
    if type(value) in _PLAIN:
        plain: syntax.Expr = _PLAIN[type(value)](span, value)
        return plain
    if isinstance(value, tuple | list | range):
        items = tuple(expression(item, span, whole) for item in value)
        return syntax.Tuple(span, items) if isinstance(value, tuple) else syntax.List(span, items)
    if isinstance(value, Poly):
        return dim_expression(value, span)
    if isinstance(value, np.ndarray | np.generic):
        return known(span, table(np.asarray(value), span))
    raise error("type-mismatch", f"expected a tensor, a number or a model, found {value!r} "
                f"({type(value).__name__})", span=span)


def table(array: np.ndarray[Any, Any], span: Span) -> Table:
    """A NumPy array as a constant of its own type."""
    names = {kind.numpy: name for name, kind in reversed(DTYPES.items()) if name != "bf16"}
    name = names.get(array.dtype.newbyteorder("=").name)
    if name is None:
        raise error("dtype-mismatch", f"the language has no type for arrays of {array.dtype}",
                    span=span)
    numbers = tuple(array.ravel().tolist())
    return Table(tensor(DTYPES[name], array.shape), tuple(
        math.nan if number != number else number for number in numbers))
