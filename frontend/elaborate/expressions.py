"""What an expression is: one function for each kind of node."""

from __future__ import annotations

from functools import partial

from dlc.frontend.elaborate.arithmetic import as_value, constant_of, is_untyped
from dlc.frontend.elaborate.calls import call
from dlc.frontend.elaborate.frames import Fault, Frame, Silent
from dlc.frontend.elaborate.indexing import subscript
from dlc.frontend.elaborate.names import check_new_name, definition_of, look_up, member_of
from dlc.frontend.elaborate.operators import binary, choose, invert, negate
from dlc.frontend.elaborate.sparse import transposed
from dlc.frontend.elaborate.undecided import left_open, unless_chosen
from dlc.frontend.elaborate.values import (
    Instance,
    Listing,
    Many,
    Number,
    Package,
    Poisoned,
    Sparse,
    Tensor,
    Text,
    Truth,
    Value,
    Variable,
    describe,
)
from dlc.frontend.text import syntax
from dlc.frontend.text.habits import FUNCTIONS
from dlc.ir.diagnostics import Span, plural
from dlc.ir.types import DTYPES, I32


def evaluate(frame: Frame, expr: syntax.Expr) -> Value:
    """The value of an expression; a variable that it names is read."""
    with frame.context.deeper(expr.span):
        found = resolve(frame, expr)
    if isinstance(found, Variable):
        return Tensor(frame.context.read(found))
    if isinstance(found, Poisoned):
        raise Silent
    return found


def resolve(frame: Frame, expr: syntax.Expr) -> Value:
    """What an expression stands for; a variable that it names is not read."""
    found: Value
    match expr:
        case syntax.Name():
            found = look_up(frame, expr)
        case syntax.Number() | syntax.Boolean() | syntax.String():
            found = _written(expr)
        case syntax.Tuple(_, items):
            found = Many(tuple(resolve(frame, item) for item in items))
        case syntax.List() | syntax.Comprehension():
            found = _list(frame, expr)
        case syntax.Field():
            found = _field(frame, expr)
        case syntax.Subscript():
            found = subscript(frame, resolve(frame, expr.value), expr)
        case syntax.Call():
            found = call(frame, expr, _callee(frame, expr))
        case syntax.Host():
            found = expr.run(frame)
        case _:
            found = _operation(frame, expr)
    if frame.context.program.observer is not None:
        frame.context.program.observer(frame, expr.span, found)
    return found


def _written(expr: syntax.Number | syntax.Boolean | syntax.String) -> Value:
    match expr:
        case syntax.Number(_, number):
            return Number(number)
        case syntax.Boolean(_, truth):
            return Truth(truth)
    return Text(expr.value)


def _operation(frame: Frame, expr: syntax.Expr) -> Value:
    match expr:
        case syntax.Unary(span, sign, operand):
            return _unary(frame, sign, evaluate(frame, operand), span)
        case syntax.Binary(_, sign, left, right, at):
            return _binary(frame, sign, left, right, at)
        case syntax.Comparison():
            return _comparison(frame, expr)
        case syntax.Choice():
            return _choice(frame, expr)
        case syntax.Cast(span, dtype, operand):
            return _cast(frame, dtype, evaluate(frame, operand), span)
    raise AssertionError(expr)


def _binary(frame: Frame, sign: str, left: syntax.Expr, right: syntax.Expr, at: Span) -> Value:
    if sign in ("and", "or"):
        with frame.parts_of(sign):
            a, b = _both(frame, left, right)
    else:
        a, b = _both(frame, left, right)
    return binary(frame, sign, a, b, at)


def _both(frame: Frame, left: syntax.Expr, right: syntax.Expr) -> tuple[Value, Value]:
    """Two values; what is wrong in either is told."""
    a, b = frame.evaluate_all((left, right))
    return a, b


def _unary(frame: Frame, sign: str, value: Value, span: Span) -> Value:
    if sign == "not":
        return invert(frame, value, span)
    return negate(frame, value, span) if sign == "-" else value


def _comparison(frame: Frame, expr: syntax.Comparison) -> Value:
    values = [evaluate(frame, operand) for operand in expr.operands]
    result: Value | None = None
    for left, sign, right, at in zip(values, expr.operators, values[1:], expr.ats, strict=False):
        one = binary(frame, sign, left, right, at)
        result = one if result is None else binary(frame, "and", result, one, at)
    assert result is not None
    return result


def _choice(frame: Frame, expr: syntax.Choice) -> Value:
    condition = evaluate(frame, expr.condition)
    if isinstance(condition, Truth):
        return evaluate(frame, expr.then if condition.value else expr.otherwise)
    if isinstance(condition, Tensor) and left_open(frame, condition):
        return unless_chosen(frame, condition.value, partial(evaluate, frame, expr.then),
                             partial(evaluate, frame, expr.otherwise), expr.span)
    with frame.parts_of("if … else"):
        then, otherwise = evaluate(frame, expr.then), evaluate(frame, expr.otherwise)
    for value, side in ((then, expr.then), (otherwise, expr.otherwise)):
        if isinstance(value, Instance):
            raise Fault("not-constant", "which of two models is meant is not known as the program "
                        "is compiled", expr.condition.span,
                        (f"{describe(value)} at {side.span}",),
                        "an `if` statement runs one of two calls")
    return choose(frame, condition, then, otherwise, expr.span)


def _cast(frame: Frame, name: str, value: Value, span: Span) -> Value:
    dtype = DTYPES.get(name) or frame.generics.get(name)
    if dtype is None:
        raise Fault("unbound-type", f"`{name}` is bound by no parameter here", span)
    if is_untyped(value) and not dtype.is_float and not isinstance(constant_of(value), float):
        return Tensor(as_value(frame, value, span, dtype))
    if is_untyped(value) and dtype.is_float:
        return Tensor(as_value(frame, value, span, dtype))
    made = as_value(frame, value, span)
    return Tensor(frame.place(span).cast(made, dtype))


def _list(frame: Frame, expr: syntax.List | syntax.Comprehension) -> Value:
    """A list; models that are built in it are numbered by their place."""
    path = frame.new_model
    try:
        if isinstance(expr, syntax.Comprehension):
            return _comprehension(frame, expr, path)
        items = []
        for place, item in enumerate(expr.items):
            frame.new_model = None if path is None else f"{path}.{place}"
            items.append(evaluate(frame, item))
        return Listing(tuple(items))
    finally:
        frame.new_model = path


def _comprehension(frame: Frame, expr: syntax.Comprehension, path: str | None) -> Value:
    source = items_of(frame, evaluate(frame, expr.source), expr.source.span)
    for target in expr.targets:
        check_new_name(frame, target.text, target.span)
    before = dict(frame.locals)
    items = []
    for place, turn in enumerate(source.items):
        frame.context.tick(expr.span)
        frame.new_model = None if path is None else f"{path}.{place}"
        give(frame, expr.targets, turn, expr.span)
        items.append(evaluate(frame, expr.item))
    frame.locals = before
    alike = source.alike or not any(syntax.reads(expr.item, name.text) for name in expr.targets)
    return Listing(tuple(items), source.known, alike)


def items_of(frame: Frame, source: Value, span: Span) -> Listing:
    """What a `for` goes over."""
    if isinstance(source, Listing):
        return source
    if isinstance(source, Many):
        return Listing(source.items)
    if isinstance(source, Tensor) and source.value.dtype is I32 and left_open(frame, source):
        return Listing((Poisoned(),), known=False, alike=False)  # a range, once the model is built
    raise Fault("not-iterable", f"`for` goes over lists and constant ranges, not "
                f"{describe(source)}", span, help="`scan` goes over the leading axis of a tensor")


def give(
    frame: Frame, targets: tuple[syntax.Name, ...], value: Value, span: Span
) -> None:
    """Gives one name a value, or several the parts of one."""
    if len(targets) == 1:
        _give(frame, targets[0], value)
        return
    if not isinstance(value, Many | Listing) or len(value.items) != len(targets):
        raise Fault("name-count", f"{plural(len(targets), 'name')} for {describe(value)}", span)
    for name, item in zip(targets, value.items, strict=True):
        _give(frame, name, item)


def _give(frame: Frame, name: syntax.Name, value: Value) -> None:
    frame.locals[name.text] = value
    if frame.context.program.observer is not None:
        frame.context.program.observer(frame, name.span, value)


def _callee(frame: Frame, expr: syntax.Call) -> Value:
    """What is called; a method of a tensor is a function in this language."""
    function = expr.function
    if isinstance(function, syntax.Field):
        owner = resolve(frame, function.value)
        if isinstance(owner, Tensor | Variable):
            name = function.name.text
            raise Fault("method-call", f"{describe(owner)} has no `{name}`", function.name.span,
                        help=f"write {FUNCTIONS.get(name, f'`{name}(x)` for `x.{name}()`')}")
    return resolve(frame, function)


def _field(frame: Frame, expr: syntax.Field) -> Value:
    value = resolve(frame, expr.value)
    name = expr.name
    if isinstance(value, Poisoned):
        raise Silent
    if isinstance(value, Package):
        return definition_of(frame, value.module, name)
    if isinstance(value, Instance):
        return member_of(frame, value, name)
    if name.text == "T":
        return _transposed(frame, value, expr)
    if name.text == "shape":
        dims = value.dims if isinstance(value, Sparse) else as_value(frame, value, expr.span).dims
        return Many(tuple(Number(dim) for dim in dims))
    raise Fault("unknown-member", f"{describe(value)} has no `{name.text}`", name.span)


def _transposed(frame: Frame, value: Value, expr: syntax.Field) -> Value:
    if isinstance(value, Sparse):
        return transposed(value)
    made = as_value(frame, value, expr.span)
    rank = len(made.dims)
    if rank < 2:
        raise Fault("rank-mismatch", f"`.T` needs two dims or more, not {made.type}",
                    expr.name.span)
    order = (*range(rank - 2), rank - 1, rank - 2)
    return Tensor(frame.emit(expr.span, "transpose", made, order=order))
