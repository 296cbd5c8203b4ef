"""`minimize` and `grad`: which variables a loss depends on, their gradients, one optimizer each."""

from __future__ import annotations

from collections.abc import Sequence

from dlc.frontend.elaborate.arithmetic import as_value
from dlc.frontend.elaborate.every import executions, update_every
from dlc.frontend.elaborate.expressions import evaluate, resolve
from dlc.frontend.elaborate.frames import Fault, Frame
from dlc.frontend.elaborate.gradients import (
    check_updates,
    gradients,
    gradients_of,
    reach,
    why_not,
)
from dlc.frontend.elaborate.optimizers import prepare
from dlc.frontend.elaborate.values import (
    Instance,
    Listing,
    Many,
    Optimizer,
    Sparse,
    Tensor,
    Value,
    Variable,
    describe,
)
from dlc.frontend.text import syntax
from dlc.ir import graph as ir
from dlc.ir.diagnostics import Span, did_you_mean
from dlc.ir.types import F32, F64

_OPTIONS = ("over", "clip_norm", "every")


def minimize(frame: Frame, statement: syntax.Minimize) -> None:
    """All gradients, then clipping, then one run of the optimizer for each param."""
    if frame.lexical != "step":
        raise Fault("assign-in-fn", f"`minimize` can't stand in a `{frame.lexical}`",
                    statement.span, help="only a `step` may change params")
    loss = scalar_loss(frame, evaluate(frame, statement.loss), statement.loss.span)
    optimizer = resolve(frame, statement.optimizer.function)
    if not isinstance(optimizer, Optimizer):
        raise Fault("not-an-optimizer", f"{describe(optimizer)} is no optimizer",
                    statement.optimizer.function.span)
    options = _options(statement)
    over = options.get("over")
    wanted = None if over is None else _named(frame, over)
    run = prepare(frame, optimizer, statement)
    params = _params(frame, loss, wanted, statement)
    gradients = gradients_of(frame, loss, params, statement.span)

    def update(found: Sequence[ir.Value]) -> None:
        if "clip_norm" in options:
            found = _clip(frame, found, options["clip_norm"])
        for param, gradient in zip(params, found, strict=True):
            run(param, gradient)

    count = executions(frame, options["every"]) if "every" in options else 1
    if count == 1:
        update(gradients)
    else:
        update_every(frame, count, run.prefix, params, gradients, update, statement.span)


def _options(statement: syntax.Minimize) -> dict[str, syntax.Expr]:
    found: dict[str, syntax.Expr] = {}
    for option in statement.options:
        assert option.name is not None
        name = option.name.text
        if name not in _OPTIONS:
            raise Fault("unknown-option", f"`minimize` has no option `{name}`", option.name.span,
                        help=did_you_mean(name, _OPTIONS)
                        or "it has `over`, `clip_norm` and `every`")
        found[name] = option.value
    return found


def scalar_loss(frame: Frame, value: Value, span: Span) -> ir.Value:
    """A loss: a scalar of floats."""
    loss = as_value(frame, value, span)
    if loss.dims or not loss.dtype.is_float:
        raise Fault("loss-type", f"a loss is a scalar float, not {loss.type}", span,
                    help="`mean(x)` or `sum(x)` makes one number of many" if loss.dims else
                    "`f32(x)` makes a float, through which no gradient flows")
    return loss


def _named(frame: Frame, expr: syntax.Expr) -> tuple[Variable, ...]:
    """The params that `over` names; a submodel stands for all of its params."""
    found = variables_in(resolve(frame, expr))
    if not found:
        raise Fault("over-targets", "`over` takes params, submodels and lists of them", expr.span)
    return tuple(v for v in found if v.trained)


def variables_in(value: Value) -> tuple[Variable, ...]:
    """The variables that a value stands for: itself, a model's, those of a list."""
    if isinstance(value, Variable):
        return (value,)
    if isinstance(value, Instance):
        return tuple(value.variables())
    if isinstance(value, Many | Listing):
        return tuple(dict.fromkeys(v for item in value.items for v in variables_in(item)))
    return ()


def _params(
    frame: Frame, loss: ir.Value, wanted: tuple[Variable, ...] | None, statement: syntax.Minimize
) -> list[Variable]:
    """The params to train, in the order in which the model declares them."""
    context = frame.context
    found = reach(frame, loss)
    read = [v for v in context.store.seen() if v.trained]
    for param in read if wanted is None else wanted:
        check_updates(frame, found, param, statement.loss.span)
    reached = [v for v in read if any(x in found.values for x in context.store.versions(v))]
    if wanted is not None:
        for param in wanted:
            if param not in reached:
                raise _independent(frame, loss, param, statement.loss.span)
        return list(wanted)
    if not reached:
        raise Fault("no-gradient", "the loss depends on no param", statement.loss.span)
    order = list(context.order)
    return sorted(reached, key=lambda v: order.index(v.name) if v.name in order else len(order))


def _independent(frame: Frame, loss: ir.Value, param: Variable, span: Span) -> Fault:
    notes = why_not(frame, loss, frame.context.store.versions(param))
    return Fault("no-gradient", f"the loss does not depend on `{param.name}`", span,
                 (f"declared at {param.span}", *notes))


def _clip(frame: Frame, gradients: Sequence[ir.Value], expr: syntax.Expr) -> list[ir.Value]:
    """Gradients scaled down so that the 2-norm of all of them is at most a number; f32 at least."""
    dtype = F64 if any(g.dtype is F64 for g in gradients) else F32
    bound = as_value(frame, evaluate(frame, expr), expr.span, dtype)
    if bound.dims or not bound.dtype.is_float:
        raise Fault("type-mismatch", f"`clip_norm` is a scalar float, not {bound.type}", expr.span)
    builder = frame.place(expr.span)
    bound = builder.cast(bound, dtype)
    total = builder.constant(0.0, bound.type)
    for gradient in (builder.cast(g, dtype) for g in gradients):
        square = builder.op("mul", gradient, gradient)
        total = builder.op("add", total, builder.sum(square, range(len(square.dims))))
    norm = builder.op("sqrt", total)
    scale = builder.op("div", bound, builder.op("maximum", norm, bound))
    return [builder.op("mul", g, builder.broadcast(builder.cast(scale, g.dtype), g.dims))
            for g in gradients]


def grad(frame: Frame, call: tuple[syntax.Argument, ...], span: Span) -> Value:
    """`grad(loss, w)`, `grad(loss, (w, b))`: values like any other."""
    if len(call) != 2 or any(a.name is not None for a in call):
        raise Fault("grad-target", "`grad` takes a loss, and what to differentiate by", span)
    loss = scalar_loss(frame, evaluate(frame, call[0].value), call[0].span)
    target = resolve(frame, call[1].value)
    items = target.items if isinstance(target, Many | Listing) else (target,)
    made = tuple(Tensor(_by(frame, loss, item, call[1].span)) for item in items)
    return Many(made) if isinstance(target, Many | Listing) else made[0]


def _by(frame: Frame, loss: ir.Value, item: Value, span: Span) -> ir.Value:
    found = reach(frame, loss)
    seen = found.values
    if isinstance(item, Variable):
        check_updates(frame, found, item, span)
        if not any(v in seen for v in frame.context.store.versions(item)):
            raise _independent(frame, loss, item, span)
        return gradients_of(frame, loss, [item], span)[0]
    if isinstance(item, Instance):
        raise Fault("grad-target", f"`grad` takes params and values, not {describe(item)}", span,
                    help="`grad(loss, params(m))` gives all gradients of a model `m`")
    if isinstance(item, Sparse):
        raise Fault("no-gradient", "there is no gradient with respect to the values of "
                    f"{item.kind}", span)
    if not isinstance(item, Tensor) or item.untyped:
        raise Fault("no-gradient", f"the loss does not depend on {describe(item)}", span,
                    help="a gradient is by a param, or by a value that the loss is made of")
    if not item.value.dtype.is_float:
        raise Fault("no-gradient", f"there is no gradient with respect to {item.value.type}", span,
                    help="only floats have one")
    if item.value not in seen:
        raise Fault("no-gradient", f"the loss does not depend on `{frame.text_of(span)}`", span,
                    why_not(frame, loss, [item.value]))
    return gradients(frame, loss, [item.value], span)[0]
