"""What a traced function may do besides computing: train, differentiate, choose, check."""

from __future__ import annotations

from typing import Any

from dlc.frontend.elaborate.frames import Frame
from dlc.frontend.elaborate.optimizers import differentiates
from dlc.frontend.python import places
from dlc.frontend.python.library import Chosen, Definition
from dlc.frontend.python.trace import apply, error, frame_for
from dlc.frontend.python.values import arguments_of, execute, expression
from dlc.frontend.text import syntax

__all__ = ["check", "grad", "minimize", "where"]


def minimize(
    loss: Any, with_: Any, *, over: Any = None, clip_norm: Any = None, every: int | None = None
) -> None:
    """In a step: gradients of `loss`, then one run of the optimizer for each param.

    `over` names params, submodels or lists of them (all that the loss depends on without it);
    `clip_norm` bounds the 2-norm of all gradients together; `every=4` adds gradients up over four
    executions, the fourth of which updates.
    """
    span, frame = places.here(), _frame("minimize")
    if not isinstance(with_, Chosen):
        raise error("type-mismatch", f"`with_` is an optimizer, not {with_!r}",
                    help="`dlc.minimize(loss, with_=dlc.adam(lr=0.001))`")
    given = {"over": over, "clip_norm": clip_norm, "every": every}
    options = {name: value for name, value in given.items() if value is not None}
    execute(frame, syntax.Minimize(span, expression(loss, span), with_.call,
                                   arguments_of((), options, span, whole=True)))


def _frame(name: str) -> Frame:
    """The frame of the trace, whose function must say by that name that it differentiates.

    What such a function is called with are constants to its gradients, so this is known before.
    """
    frame = frame_for(f"`dlc.{name}`")
    if frame.caller and frame.function and not differentiates(frame.function):
        raise error("unsupported", f"`{name}` is reached through another name here",
                    help=f"write `{name}(…)` in the body of the function itself")
    return frame


def grad(loss: Any, by: Any) -> Any:
    """The gradient of a scalar with respect to a value, a param, or a tuple of them."""
    span = places.here()
    _frame("grad")
    arguments = arguments_of((loss, by), {}, span, whole=True)
    return apply(syntax.Call(span, Definition("grad").__dl_syntax__(span), arguments))


def where(condition: Any, then: Any, otherwise: Any) -> Any:
    """`then` where the condition holds, else `otherwise`, element by element.

    A condition that Python knows chooses at once.
    """
    span = places.here()
    chosen, a, b = (expression(each, span) for each in (condition, then, otherwise))
    return apply(syntax.Choice(span, chosen, a, b))


def check(condition: Any, text: str) -> None:
    """Checked as the program runs: where it does not hold, the call raises with this line."""
    span = places.here()
    execute(frame_for("`dlc.check`"), syntax.Assert(span, expression(condition, span), text))
