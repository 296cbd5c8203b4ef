"""The trace that is going on: in which frame of the elaborator the user's Python runs.

What Python does to a traced value is written as a small tree of the language's syntax, and that is
evaluated at once by the elaborator: the language has one meaning, and the same errors, wherever it
is written. Outside of a trace the tree itself is kept (`Delayed`), for initial values and members.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dlc.frontend.elaborate.frames import Fault, Frame
from dlc.frontend.elaborate.values import Value
from dlc.frontend.python import places
from dlc.frontend.text import syntax
from dlc.ir.diagnostics import Diagnostic, Span, UserError

if TYPE_CHECKING:
    from dlc.frontend.python.units import Unit


class _State(threading.local):
    """What this thread traces."""

    frame: Frame | None = None
    unit: Unit | None = None


_STATE = _State()


def current() -> Frame | None:
    """The frame of the function that is being traced, if one is."""
    return _STATE.frame


def current_unit() -> Unit | None:
    """The model or function whose graphs are being made, with all that it is made of."""
    return _STATE.unit


@contextmanager
def tracing(frame: Frame | None) -> Iterator[None]:
    """What the user's Python does in this block happens in `frame`."""
    before, _STATE.frame = _STATE.frame, frame
    try:
        yield
    finally:
        _STATE.frame = before


@contextmanager
def building(unit: Unit) -> Iterator[None]:
    """The graphs of `unit` are made in this block."""
    before, _STATE.unit = _STATE.unit, unit
    try:
        with tracing(None):
            yield
    finally:
        _STATE.unit = before


def known(span: Span, value: Value) -> syntax.Host:
    """A leaf of the syntax: a value that is known already."""
    return syntax.Host(span, lambda frame: value)


def leaf(span: Span, run: Callable[[Frame], Value]) -> syntax.Host:
    """A leaf that is found in the frame in which it is evaluated."""
    return syntax.Host(span, run)


def frame_for(what: str) -> Frame:
    """The frame of the trace; an error for what makes sense in a trace alone."""
    if _STATE.frame is None:
        raise error("misplaced", f"{what} stands in a traced function",
                    help="decorate the function with `@dlc.fn`, or `@dlc.step` in a model")
    return _STATE.frame


def error(
    code: str, message: str, notes: tuple[str, ...] = (), help: str = "", span: Span | None = None
) -> Exception:
    """An error at the user's line: for the elaborator to collect in a trace, else to raise."""
    at = span or places.here()
    if _STATE.frame is not None:
        return Fault(code, message, at, notes, help)
    return UserError((Diagnostic(code, message, at, notes, help),), places.PythonSources())


def evaluate(frame: Frame, expr: syntax.Expr) -> Any:
    """What an expression is in a frame, as Python sees it."""
    from dlc.frontend.python.values import wrap

    frame.context.tick(expr.span)
    return wrap(frame, frame.evaluate(expr))


def apply(expr: syntax.Expr) -> Any:
    """What an expression is: its value in a trace, else what it will be."""
    from dlc.frontend.python.values import Delayed

    return Delayed(expr) if _STATE.frame is None else evaluate(_STATE.frame, expr)
