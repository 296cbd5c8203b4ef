"""`minimize …, every=4`: gradients are added up over four executions; the fourth one updates."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dlc.frontend.elaborate.arithmetic import integer_of
from dlc.frontend.elaborate.branches import either
from dlc.frontend.elaborate.frames import Fault, Frame
from dlc.frontend.elaborate.undecided import left_open
from dlc.frontend.elaborate.values import Variable, describe
from dlc.frontend.text import syntax
from dlc.ir import graph as ir
from dlc.ir.diagnostics import Span
from dlc.ir.types import I32, TensorType, tensor

Update = Callable[[Sequence[ir.Value]], None]


def executions(frame: Frame, expr: syntax.Expr) -> int:
    """The number that `every` is: a constant integer."""
    value = frame.evaluate(expr)
    if left_open(frame, value):
        return 1
    count = integer_of(value)
    if count is None or count < 1:
        raise Fault("constant-argument", f"`every` is a constant integer that is at least 1, not "
                    f"{describe(value)}", expr.span)
    return count


def update_every(
    frame: Frame, count: int, prefix: str, params: Sequence[Variable],
    gradients: Sequence[ir.Value], update: Update, span: Span,
) -> None:
    """Runs `update` on the mean of the gradients of `count` executions, at the last of them.

    The sums, and the number of executions since the last update, are states of the model.
    """
    context, builder = frame.context, frame.place(span)
    executed = _state(frame, f"{prefix}.executed", tensor(I32), params[0])
    sums = [_state(frame, f"{prefix}.{p.name}.gradients", p.kind, p) for p in params]
    with builder.located((), phase="update"):
        totals = [builder.op("add", context.read(s), g)
                  for s, g in zip(sums, gradients, strict=True)]
        turn = builder.op("add", context.read(executed), builder.scalar(I32, 1))
        due = builder.op("ge", turn, builder.scalar(I32, count))

        def then() -> None:
            update([builder.op("div", total, builder.constant(count, total.type))
                    for total in totals])
            for each in (executed, *sums):
                context.write(each, builder.zeros(each.kind))

        def otherwise() -> None:
            for each, value in zip((executed, *sums), (turn, *totals), strict=True):
                context.write(each, value)

        either(frame, due, then, otherwise, span)


def _state(frame: Frame, name: str, kind: TensorType, param: Variable) -> Variable:
    """A variable that is zero at first."""
    states = frame.context.optimizer_states
    if name not in states:
        zero = syntax.Number(param.span, 0)
        states[name] = Variable(name, kind, "optimizer", param.span, param.owner, param.module,
                                zero)
    return states[name]
