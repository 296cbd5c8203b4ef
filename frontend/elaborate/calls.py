"""Calls: functions are expanded where they are called, models run their `forward`."""

from __future__ import annotations

from typing import Final

from dlc.frontend.elaborate.arguments import assign_arguments
from dlc.frontend.elaborate.builtin_table import call_builtin
from dlc.frontend.elaborate.declared import bind_symbols, fit, require_bound, require_where
from dlc.frontend.elaborate.frames import Fault, Frame, Silent
from dlc.frontend.elaborate.instances import build
from dlc.frontend.elaborate.optimizers import differentiates
from dlc.frontend.elaborate.values import (
    Builtin,
    Callee,
    Instance,
    Maker,
    Many,
    Optimizer,
    Poisoned,
    Tensor,
    Value,
    describe,
)
from dlc.frontend.text import syntax
from dlc.ir.diagnostics import Span

_DEEPEST: Final = 64


def call(frame: Frame, expr: syntax.Call, callee: Value) -> Value:
    """`callee(arguments)`."""
    match callee:
        case Builtin(name):
            return call_builtin(frame, name, expr.arguments, expr.span)
        case Callee():
            return _function(frame, callee, expr)
        case Instance():
            return _model(frame, callee, expr)
        case Maker():
            return build(frame, callee, expr.arguments, expr.span)
        case Optimizer(definition):
            raise Fault("misplaced-optimizer", f"the optimizer `{definition.name.text}` stands "
                        "after `with`", expr.span, help="`minimize loss with adam(lr=0.001)`")
        case Poisoned():
            raise Silent
    raise Fault("not-callable", f"{describe(callee)} can't be called", expr.function.span,
                help=_call_help(expr))


def _call_help(expr: syntax.Call) -> str:
    return "" if not expr.piped else "the right side of `|>` is a function or a model"


def _model(frame: Frame, model: Instance, expr: syntax.Call) -> Value:
    """A model runs its `forward`; in training its `train_forward`, if it has one."""
    if frame.context.training:
        function = model.function("train_forward")
        if function is not None:
            _check_whole(frame, function, expr.span)
            return call_function(frame, Callee(function, model.module, model), expr.arguments,
                                 expr.span)
    function = model.function("forward")
    if function is None:
        raise Fault("not-callable", f"`{model.name}` has no `forward`, so it can't be called",
                    expr.span, (f"model `{model.name}` at {model.model.name.span}",))
    return call_function(frame, Callee(function, model.module, model), expr.arguments, expr.span)


def _check_whole(frame: Frame, function: syntax.Function, span: Span) -> None:
    if function.kind == "step" and frame.whole:
        raise Fault("step-in-choice", f"no `step` is called in a part of `{frame.whole}`: all "
                    "parts are evaluated, whatever is chosen", span,
                    (f"`{function.name.text}` is a step, at {function.name.span}",),
                    "an `if` statement runs one branch alone")


def _function(frame: Frame, callee: Callee, expr: syntax.Call) -> Value:
    function = callee.function
    _check_whole(frame, function, expr.span)
    if function.kind == "step" and frame.lexical == "test":
        with frame.context.trained():
            return call_function(frame, callee, expr.arguments, expr.span)
    if function.kind == "step" and frame.lexical != "step":
        where = "an initial value" if frame.lexical == "model" else f"a `{frame.lexical}`"
        raise Fault("step-in-fn", f"the step `{function.name.text}` can't be called in {where}",
                    expr.span, (f"`{function.name.text}` is a step, at {function.name.span}",),
                    "only a `step` may change params and states, or call what does")
    return call_function(frame, callee, expr.arguments, expr.span)


def call_function(
    frame: Frame, callee: Callee, arguments: tuple[syntax.Argument, ...], span: Span
) -> Value:
    """Expands a function here."""
    function, context = callee.function, frame.context
    context.tick(span)
    if len(context.active) > _DEEPEST:
        raise Fault("too-deep", f"calls inside calls, more than {_DEEPEST} deep", span)
    if (function, callee.owner) in context.active:
        raise Fault("recursion", f"`{function.name.text}` reaches itself", span,
                    help="functions are expanded where they are called")
    given = assign_arguments(
        function.name.text, function.parameters, arguments, span)
    inner = Frame(context, callee.module, function.kind, path_of(frame, callee), callee.owner,
                  function, caller=frame.loc(span))
    made = frame.evaluate_all(a.value for a in given.values())
    values = dict(zip(given, made, strict=True))
    context.active.append((function, callee.owner))
    try:
        if not differentiates(function):
            _bind(inner, function, given, values, span)
            return run_body(inner, function)
        with context.store.view():
            _bind(inner, function, given, values, span)
            _rename(inner, span)
            return run_body(inner, function)
    finally:
        context.active.pop()


def _rename(inner: Frame, span: Span) -> None:
    """To `grad` and `minimize` the parameters of the function that they stand in are constants: it
    knows what it was called with by names of its own."""
    store = inner.context.store
    for name, value in inner.locals.items():
        if isinstance(value, Tensor) and value.value.dtype.is_float:
            inner.place(span)
            inner.locals[name] = Tensor(store.same(value.value), value.untyped)


def path_of(frame: Frame, callee: Callee) -> str:
    """The name of a function in the user's words: `LeNet5.c1.forward`, `LeNet5.scores.squash`."""
    name = callee.function.name.text
    if callee.owner is None:
        return f"{frame.path}.{name}"
    root = frame.context.name
    return ".".join(part for part in (root, callee.owner.path, name) if part)


def _bind(
    inner: Frame, function: syntax.Function, given: dict[str, syntax.Argument],
    values: dict[str, Value], span: Span,
) -> None:
    """Symbols first, from all arguments; then each argument as its parameter takes it."""
    for parameter in function.parameters:
        name = parameter.name.text
        if name in values:
            bind_symbols(inner, parameter, values[name], given[name].span)
    for parameter in function.parameters:
        name = parameter.name.text
        value, at = values.get(name), given[name].span if name in given else span
        if value is None:
            assert parameter.default is not None
            value = inner.evaluate(parameter.default)
            bind_symbols(inner, parameter, value, at)
        require_bound(inner, parameter, at)
        inner.locals[name] = fit(inner, parameter.type, value, f"`{name}`", at, parameter.span)
    require_where(inner, function.where)


def run_body(frame: Frame, function: syntax.Function) -> Value:
    """The result of a function whose parameters are bound, as its declared type has it.

    An error is reported at its place; then `Silent` tells the caller that there is no result.
    """
    try:
        if isinstance(function.body, syntax.Block):
            value = frame.context.engine.execute(frame, function.body)
            at = function.body.span
            last = function.body.statements[-1:]
            if last and isinstance(last[0], syntax.Return):
                at = last[0].span
        else:
            value, at = frame.evaluate(function.body), function.body.span
        return _result(frame, function, value, at)
    except Fault as fault:
        frame.report(fault)
        raise Silent from None


def returned(frame: Frame, value: Value, at: Span) -> Value:
    """What a branch returns, as the declared type of the function round it has it."""
    if frame.function is None:
        raise Fault("misplaced-return", "`return` stands in a function", at)
    return _result(frame, frame.function, value, at)


def _result(frame: Frame, function: syntax.Function, value: Value | None, at: Span) -> Value:
    declared = function.result
    name = function.name.text
    if declared is None and isinstance(function.body, syntax.Host):
        return Many(()) if value is None else value  # Python need not declare its results
    if declared is None:
        if value is not None:
            raise Fault("undeclared-result", f"`{name}` returns a value, but declares none", at,
                        help="write `-> f32` and the like after its parameters")
        return Many(())
    if value is None:
        raise Fault("no-return", f"`{name}` does not return", function.name.span)
    if isinstance(declared, syntax.TypeExpr):
        if isinstance(value, Many):
            raise Fault("result-count", f"`{name}` returns {describe(value)}", at,
                        (f"declared as one value at {declared.span}",))
        return fit(frame, declared, value, "the result", at, declared.span)
    if not isinstance(value, Many) or len(value.items) != len(declared.items):
        raise Fault("result-count", f"`{name}` returns {describe(value)}", at,
                    (f"declared as {len(declared.items)} values at {declared.span}",))
    return Many(tuple(
        fit(frame, kind, item, f"result {place}", at, kind.span)
        for place, (kind, item) in enumerate(zip(declared.items, value.items, strict=True), 1)))
