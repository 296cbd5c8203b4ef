"""`scan` and `while`: bodies of their own, what goes round in them, what comes out.

A body is a scope: names of outside can be read in it, and only carried ones be given new values.
Params and states that are updated in it are carried by themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field, replace

from dlc.frontend.elaborate.arithmetic import as_value, constant_of, is_untyped
from dlc.frontend.elaborate.declared import conform
from dlc.frontend.elaborate.draws import place_number
from dlc.frontend.elaborate.expressions import evaluate
from dlc.frontend.elaborate.frames import Fault, Frame
from dlc.frontend.elaborate.levels import Level, body_graph, captured
from dlc.frontend.elaborate.names import check_given, check_new_name
from dlc.frontend.elaborate.scanned import flags_of, sources_of
from dlc.frontend.elaborate.values import Listing, Many, Tensor, Truth, Value, Variable, describe
from dlc.frontend.text import syntax
from dlc.ir import graph as ir
from dlc.ir.dataclass import dataclass
from dlc.ir.diagnostics import Span
from dlc.ir.ops.loops import item_type
from dlc.ir.types import BOOL, I64


def scan(frame: Frame, statement: syntax.Scan) -> None:
    """A turn for each place of a leading axis."""
    flags = flags_of(frame, statement)
    over, length = sources_of(frame, statement)
    loop = _Loop(frame, statement, statement.carries)
    with frame.context.store.body(True, place_number(frame, statement.span)) as level:
        items = [frame.context.builder.fresh(target.text, item_type(value.type))
                 for target, value in zip(statement.targets, over, strict=True)]
        inner = loop.inside(statement.targets, items)
        _open_yields(inner, statement)
        loop.run(inner, statement.body)
        yields = {s.name.text: value.value for s, value in inner.yields.items()
                  if isinstance(value, Tensor)}
    carried = loop.carried(level)
    if level.turn is not None:
        over.append(frame.emit(statement.span, "iota", dtype=I64, dims=(length,), axis=0))
        items.append(level.turn)
    params = [*carried.params, *items]
    results = [*carried.results, *yields.values()]
    outside = captured(level.whole(), results, params)
    body = body_graph("scan", level.whole(), [*params, *outside], results)
    made = frame.place(statement.span).emit(
        "scan", *carried.initial, *over, *loop.operands(level, outside), hint="scan",
        regions=(body,), carried=len(carried.params), items=len(items), length=length, **flags)
    loop.give(carried, made)
    for name, value in zip(yields, made[len(carried.params) :], strict=True):
        frame.locals[name] = Tensor(value)


def while_(frame: Frame, statement: syntax.While) -> None:
    """Turns as long as a condition holds."""
    loop = _Loop(frame, statement, statement.carries)
    store = frame.context.store
    with store.body(True, place_number(frame, statement.span)) as level:
        inner = loop.inside((), ())
        holds = _condition(inner, statement.condition, level)
        test = level.take()
        loop.run(inner, statement.body)
        if level.turn is not None:
            builder = frame.place(statement.span)
            after = builder.op("add", level.turn, builder.scalar(I64, 1))
    carried = loop.carried(level)
    if level.turn is not None:
        carried.add(level.turn, frame.place(statement.span).scalar(I64, 0), after)
    nodes, params = level.whole(), carried.params
    outside = list(dict.fromkeys((*captured(test, (holds,), params),
                                  *captured(nodes, carried.results, params))))
    condition = body_graph("condition", test, [*params, *outside], (holds,))
    body = body_graph("while", nodes, [*params, *outside], carried.results)
    made = frame.place(statement.span).emit(
        "while", *carried.initial, *loop.operands(level, outside), hint="while",
        regions=(condition, body), carried=len(params))
    loop.give(carried, made)


def yield_(frame: Frame, statement: syntax.Yield) -> None:
    """`yield value as name`: kept until the turn ends."""
    if statement not in frame.yields:
        raise Fault("misplaced-yield", "`yield` stands directly in the body of a `scan`",
                    statement.span)
    value = evaluate(frame, statement.value)
    frame.yields[statement] = Tensor(_typed(frame, value, statement.value.span, "yielded"))


def _open_yields(inner: Frame, statement: syntax.Scan) -> None:
    """The yields that stand in the body of a scan; each gives a name after it."""
    carried = {c.name.text for c in statement.carries}
    seen: dict[str, Span] = {}
    for each in statement.body.statements:
        if not isinstance(each, syntax.Yield):
            continue
        name = each.name.text
        if name in carried:
            raise Fault("defined-twice", f"`{name}` is carried: it can't be yielded too",
                        each.name.span, help="yield it under another name")
        if name in seen:
            raise Fault("defined-twice", f"`{name}` is yielded twice", each.name.span,
                        (f"first at {seen[name]}",))
        seen[name] = each.name.span
        inner.yields[each] = None


def _typed(frame: Frame, value: Value, span: Span, what: str) -> ir.Value:
    """A value that goes round or out of a loop: a tensor with a type."""
    if isinstance(value, Listing | Many) and not _is_table(value):
        raise Fault("carried-type", f"{describe(value)} can't be {what}: a tensor is", span)
    return as_value(frame, value, span)


def _is_table(value: Value) -> bool:
    if isinstance(value, Listing):
        return all(_is_table(item) for item in value.items)
    return constant_of(value) is not None


def _condition(inner: Frame, expr: syntax.Expr, level: Level) -> ir.Value:
    """What says whether there is another turn."""
    value = evaluate(inner, expr)
    if isinstance(value, Truth) and value.value:
        raise Fault("endless-while", "this `while` never ends: its condition is always true",
                    expr.span, help="a condition on what is carried")
    made = as_value(inner, value, expr.span)
    if made.dtype is not BOOL or made.dims:
        raise Fault("needs-bool", f"`while` takes a scalar bool, not {describe(value)}",
                    expr.span, help="`any(x)` and `all(x)` make one bool of many")
    if level.written:
        raise Fault("misplaced-update", "the condition of a `while` can't update anything",
                    expr.span)
    return made


@dataclass(slots=True)
class _Carried:
    """What goes round: its parameters in the body, what is before the loop, what a turn gives."""

    names: tuple[str, ...]
    variables: tuple[Variable, ...]
    params: list[ir.Value] = field(default_factory=list)
    initial: list[ir.Value] = field(default_factory=list)
    results: list[ir.Value] = field(default_factory=list)

    def add(self, param: ir.Value, initial: ir.Value, result: ir.Value) -> None:
        """One value more."""
        self.params.append(param)
        self.initial.append(initial)
        self.results.append(result)


class _Loop:
    """A loop being elaborated in a frame."""

    def __init__(
        self, frame: Frame, statement: syntax.Scan | syntax.While,
        carries: Sequence[syntax.Carried],
    ) -> None:
        self._frame = frame
        self._span = statement.span
        self._carries = {carry.name.text: carry for carry in carries}
        self._following: list[ir.Value] = []
        for place, carry in enumerate(carries):
            if any(carry.name.text == other.name.text for other in carries[:place]):
                raise Fault("defined-twice", f"`{carry.name.text}` is carried twice",
                            carry.name.span)
            check_given(frame, carry.name.text, carry.name.span)
        for each in statement.body.statements:
            if isinstance(each, syntax.Yield):
                check_given(frame, each.name.text, each.name.span)
        self._initial = [_typed(frame, evaluate(frame, c.value), c.value.span, "carried")
                         for c in carries]
        self._params = [frame.context.builder.fresh(name, value.type)
                        for name, value in zip(self._carries, self._initial, strict=True)]

    def inside(
        self, targets: Sequence[syntax.Name], items: Sequence[ir.Value]
    ) -> Frame:
        """The frame of the body: the names round it, the items of a turn, what is carried."""
        frame, own = self._frame, {t.text for t in targets} | self._carries.keys()
        for target in targets:
            check_new_name(frame, target.text, target.span)
            if target.text in self._carries:
                raise Fault("defined-twice", f"`{target.text}` is carried, and an item too",
                            target.span)
        names = {t.text: Tensor(v) for t, v in zip(targets, items, strict=True)}
        names |= {n: Tensor(v) for n, v in zip(self._carries, self._params, strict=True)}
        return replace(
            frame, locals={**frame.locals, **names}, lost=dict(frame.lost),
            ended=dict(frame.ended), yields={},
            fixed=(frame.fixed | frozenset(frame.locals)) - own)

    def run(self, inner: Frame, body: syntax.Block) -> None:
        """Elaborates the body, and finds the next values of what is carried."""
        if inner.context.engine.execute(inner, body) is not None:
            raise Fault("misplaced-return", "`return` can't stand in a loop", self._span)
        for name in inner.locals.keys() - self._frame.locals.keys() - self._carries.keys():
            self._frame.ended[name] = self._span
        self._following = [self._next(inner, body, name, value)
                           for name, value in zip(self._carries, self._params, strict=True)]

    def _next(self, inner: Frame, body: syntax.Block, name: str, param: ir.Value) -> ir.Value:
        carry = self._carries[name]
        span = _last_given(body, name) or carry.span
        value, wanted = inner.locals[name], param.tensor
        if isinstance(value, Listing | Many):
            _typed(inner, value, span, "carried")
        made = as_value(inner, value, span, wanted.dtype)
        if wanted.dims and not made.dims and not is_untyped(value):
            raise Fault("carried-type", f"`{name}` is carried as {wanted}, but gets {made.type}",
                        span, (f"carried at {carry.span}",))
        return conform(inner, made, wanted, f"the next value of `{name}`", span, carry.span)

    def carried(self, level: Level) -> _Carried:
        """The names that are carried, then the variables that the body updates."""
        store = self._frame.context.store
        made = _Carried(tuple(self._carries), tuple(level.written.values()))
        for values in zip(self._params, self._initial, self._following, strict=True):
            made.add(*values)
        for name, variable in level.written.items():
            _, param = level.entered[name]
            made.add(param, store.read(variable), level.values[name])
        return made

    def operands(self, level: Level, outside: Sequence[ir.Value]) -> list[ir.Value]:
        """What the captured parameters of the body are, outside of it."""
        store = self._frame.context.store
        stands_for = {value: variable for variable, value in level.entered.values()}
        return [store.read(stands_for[v]) if v in stands_for else v for v in outside]

    def give(self, carried: _Carried, made: Sequence[ir.Value]) -> None:
        """Names and variables have the values of the last turn."""
        for name, value in zip(carried.names, made, strict=False):
            self._frame.locals[name] = Tensor(value)
        store, first = self._frame.context.store, len(carried.names)
        for variable, value in zip(carried.variables, made[first:], strict=False):
            store.set(store.level, variable, value)


def _last_given(block: syntax.Block, name: str) -> Span | None:
    """Where a name is given its last value in a block."""
    found: Span | None = None
    for statement in block.statements:
        if isinstance(statement, syntax.Assign) and name in [t.text for t in statement.targets]:
            found = statement.span
        if isinstance(statement, syntax.Update) and isinstance(statement.target, syntax.Name) and (
                statement.target.text == name):
            found = statement.span
        for part in ("body", "then", "otherwise"):
            inner = getattr(statement, part, None)
            if isinstance(inner, syntax.Block):
                found = _last_given(inner, name) or found
    return found
