"""Loops and branches of the program that is made: `dlc.scan`, `dlc.while_loop`, `dlc.cond`.

Python's own `for` and `if` run as a function is traced. These stay in the program: their bodies are
traced once, and run as often as the program says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dlc.frontend.elaborate.frames import Frame
from dlc.frontend.elaborate.values import Many, Number, Value
from dlc.frontend.python import places
from dlc.frontend.python.trace import error, frame_for, tracing
from dlc.frontend.python.values import Traced, execute, expression, wrap
from dlc.frontend.text import syntax
from dlc.ir.diagnostics import Span

__all__ = ["cond", "scan", "while_loop"]


def scan(
    body: Callable[..., Any], init: Any, xs: Any, *, reverse: bool = False, recompute: bool = False
) -> tuple[Any, Any]:
    """A turn for each place of the leading axis of `xs`: `carry, y = body(carry, x)`.

    `carry` begins as `init` and keeps its type; `init`, `xs` and `y` are each one value or a tuple
    of some, and `y` may be None. A number as `xs` (an integer, a dim) is `range` of it. Gives the
    last carry, and all ys stacked. `reverse` goes from the last place to the first; `recompute`
    keeps nothing but the carry of each turn for the gradient.
    """
    span, frame = places.here(), frame_for("`dlc.scan`")
    carry, items = _Carry(frame, init, span), _items(xs)
    targets = _names(frame, "item", len(items), span)
    made: dict[str, Any] = {"ys": ()}

    def run(inner: Frame) -> Value:
        with tracing(inner):
            found = [wrap(inner, inner.locals[target.text]) for target in targets]
            result = body(carry.now(inner), tuple(found) if isinstance(xs, tuple) else found[0])
            if not isinstance(result, tuple) or len(result) != 2:
                raise error("name-count", "the body of a scan returns a carry and what is stacked",
                            (f"found: {result!r}",), "`return carry, y`, or `return carry, None`",
                            span)
            made["one"] = not isinstance(result[1], tuple)
            ys = () if result[1] is None else (result[1],) if made["one"] else result[1]
            made["ys"] = _names(inner, "stacked", len(ys), span)
            for name, y in zip(made["ys"], ys, strict=True):
                statement = syntax.Yield(span, expression(y, span), name)
                inner.yields[statement] = None
                execute(inner, statement)
            return carry.next(inner, result[0])

    options = tuple(
        syntax.Argument(span, syntax.Name(span, name), syntax.Boolean(span, value))
        for name, value in (("reverse", reverse), ("recompute", recompute)))
    execute(frame, syntax.Scan(
        span, targets, tuple(_source(each, span) for each in items), carry.declared(),
        carry.block(run), options))
    stacked = tuple(wrap(frame, frame.locals[name.text]) for name in made["ys"])
    return carry.now(frame), stacked[0] if stacked and made["one"] else (stacked or None)


def while_loop(condition: Callable[..., Any], body: Callable[..., Any], init: Any) -> Any:
    """`carry = body(carry)` as long as `condition(carry)` holds; no gradient goes through it.

    `init` is one value or a tuple of some; each keeps its type.
    """
    span, frame = places.here(), frame_for("`dlc.while_loop`")
    carry = _Carry(frame, init, span)

    def holds(inner: Frame) -> Value:
        with tracing(inner):
            return inner.evaluate(expression(condition(carry.now(inner)), span))

    def run(inner: Frame) -> Value:
        with tracing(inner):
            return carry.next(inner, body(carry.now(inner)))

    execute(frame, syntax.While(span, syntax.Host(span, holds), carry.declared(), carry.block(run)))
    return carry.now(frame)


def cond(condition: Any, then: Callable[..., Any], otherwise: Callable[..., Any],
         *operands: Any) -> Any:
    """What `then(*operands)` gives where a scalar bool holds, else `otherwise(*operands)`.

    One of them is run. A condition that Python knows chooses as the function is traced.
    """
    span, frame = places.here(), frame_for("`dlc.cond`")

    def branch(function: Callable[..., Any]) -> syntax.Block:
        def run(inner: Frame) -> Value:
            with tracing(inner):
                result = function(*operands)
                return Many(()) if result is None else inner.evaluate(expression(result, span))

        return _block(span, syntax.Return(span, (syntax.Host(span, run),)))

    statement = syntax.If(span, expression(condition, span), branch(then), branch(otherwise))
    value = frame.context.engine.execute(frame, _block(span, statement))
    made = None if value is None else wrap(frame, value)
    return None if isinstance(made, tuple) and not made else made


class _Carry:
    """What goes round, under names that no program has."""

    def __init__(self, frame: Frame, init: Any, span: Span) -> None:
        self._span = span
        self._one = not isinstance(init, tuple)
        self._init = (init,) if self._one else init
        self._names = _names(frame, "carry", len(self._init), span)

    def declared(self) -> tuple[syntax.Carried, ...]:
        """`name = initial` of each."""
        return tuple(syntax.Carried(self._span, name, expression(value, self._span))
                     for name, value in zip(self._names, self._init, strict=True))

    def now(self, frame: Frame) -> Any:
        """The values in a frame."""
        values = tuple(wrap(frame, frame.locals[name.text]) for name in self._names)
        return values[0] if self._one else values

    def next(self, inner: Frame, result: Any) -> Value:
        """What a turn gives, as the elaborator assigns it."""
        values = (result,) if self._one else result
        if not isinstance(values, tuple) or len(values) != len(self._names):
            raise error("name-count", f"a turn gives {len(self._names)} carried values, as it "
                        "began with", (f"found: {result!r}",), span=self._span)
        made = tuple(inner.evaluate(expression(value, self._span)) for value in values)
        return Number(0) if not made else made[0] if len(made) == 1 else Many(made)

    def block(self, run: Callable[[Frame], Value]) -> syntax.Block:
        """The body: one statement that gives the carried names what Python made."""
        names = self._names or _unused(self._span)
        return _block(self._span, syntax.Assign(self._span, names,
                                                (syntax.Host(self._span, run),)))


def _block(span: Span, statement: syntax.Statement) -> syntax.Block:
    return syntax.Block(span, None, (statement,))


def _unused(span: Span) -> tuple[syntax.Name, ...]:
    return (syntax.Name(span, "_unused"),)


def _names(frame: Frame, kind: str, count: int, span: Span) -> tuple[syntax.Name, ...]:
    """Names of their own for one loop: those that users write begin with a letter."""
    place = frame.context.turns
    return tuple(syntax.Name(span, f"_{kind}_{place}_{number}") for number in range(count))


def _items(xs: Any) -> tuple[Any, ...]:
    return xs if isinstance(xs, tuple) else (xs,)


def _source(value: Any, span: Span) -> syntax.Expr:
    """What is gone over; a number stands for the numbers below it."""
    number = isinstance(value, int) or (
        isinstance(value, Traced) and isinstance(value.value, Number))
    made = expression(value, span)
    if not number:
        return made
    return syntax.Call(span, syntax.Name(span, "range"), (syntax.Argument(span, None, made),))
