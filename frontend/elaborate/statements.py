"""Statements: what each does to the names of its frame and to the variables of the program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final

from dlc.frontend.elaborate.arithmetic import as_value
from dlc.frontend.elaborate.branches import either
from dlc.frontend.elaborate.calls import returned
from dlc.frontend.elaborate.declared import conform
from dlc.frontend.elaborate.devices import require_device
from dlc.frontend.elaborate.expressions import evaluate, give, items_of, resolve
from dlc.frontend.elaborate.frames import Fault, Frame, Silent
from dlc.frontend.elaborate.loops import scan, while_, yield_
from dlc.frontend.elaborate.minimize import minimize
from dlc.frontend.elaborate.names import check_given, check_new_name
from dlc.frontend.elaborate.operators import binary
from dlc.frontend.elaborate.printing import print_
from dlc.frontend.elaborate.undecided import decided, unless_built
from dlc.frontend.elaborate.values import (
    Many,
    Poisoned,
    Tensor,
    Truth,
    Value,
    Variable,
    describe,
)
from dlc.frontend.text import syntax
from dlc.ir.types import BOOL


def execute(frame: Frame, block: syntax.Block) -> Value | None:
    """Runs a body; what it returns, or None. After an error the statements that follow are checked
    too; then `Silent` tells that there is no result."""
    with frame.context.deeper(block.span):
        return _execute(frame, block)


def _execute(frame: Frame, block: syntax.Block) -> Value | None:
    value: Value | None = None
    failed = False
    for place, statement in enumerate(block.statements):
        try:
            value = _statement(frame, statement)
            if value is not None and place + 1 < len(block.statements):
                after = block.statements[place + 1]
                raise Fault("after-return", "nothing after `return` is run", after.span)
        except Fault as fault:
            frame.report(fault)
            failed = True
            _poison(frame, statement)
        except Silent:
            failed = True
            _poison(frame, statement)
    if failed:
        raise Silent
    return value


def _poison(frame: Frame, statement: syntax.Statement) -> None:
    """What a failed statement would have given is poison: no errors come of using it."""
    match statement:
        case syntax.Assign(_, targets):
            names = [t.text for t in targets]
        case syntax.Scan() | syntax.While():
            yields = [s.name.text for s in statement.body.statements if isinstance(s, syntax.Yield)]
            names = [c.name.text for c in statement.carries] + yields
        case syntax.For() | syntax.If() | syntax.On():
            blocks = [statement.otherwise] if isinstance(statement, syntax.If) else []
            blocks.append(statement.then if isinstance(statement, syntax.If) else statement.body)
            for block in blocks:
                for inner in block.statements if block is not None else ():
                    _poison(frame, inner)
            return
        case syntax.Update(_, syntax.Name(_, text)) if text not in frame.locals:
            names = [text]
        case _:
            return
    for name in names:
        frame.locals[name] = Poisoned()


def _statement(frame: Frame, statement: syntax.Statement) -> Value | None:
    """Runs one statement; a value if it returned."""
    frame.context.tick(statement.span)
    match statement:
        case syntax.Return():
            values = tuple(evaluate(frame, v) for v in statement.values)
            return values[0] if len(values) == 1 else Many(values)
        case syntax.For():
            return _for(frame, statement)
        case syntax.If():
            return _if(frame, statement)
        case syntax.On():
            require_device(statement, frame.context.program.device)
            return frame.context.engine.execute(frame, statement.body)
        case _:
            _EFFECTS[type(statement)](frame, statement)
    return None


def _assign(frame: Frame, statement: syntax.Assign) -> None:
    for target in statement.targets:
        check_given(frame, target.text, target.span)
    path = frame.path
    frame.path = f"{path}.{statement.targets[0].text}"
    try:
        frame.new_model = _new_model(frame, statement)
        values = tuple(evaluate(frame, v) for v in statement.values)
        _call_last(frame, values)
    finally:
        frame.path, frame.new_model = path, None
    targets = statement.targets
    if len(targets) > 1 and len(values) == 1 and isinstance(values[0], Many):
        values = values[0].items
    if len(targets) > 1 and len(values) != len(targets):
        found = describe(values[0]) if len(values) == 1 else f"{len(values)} values"
        raise Fault("name-count", f"{len(targets)} names for {found}", statement.span)
    value = values[0] if len(values) == 1 else Many(values)
    if len(targets) == 1 and isinstance(value, Many) and targets[0].text != "_":
        raise Fault("several-values", f"several values can't be kept under one name: "
                    f"{describe(value)}", statement.span, help="take them apart: `a, b = …`")
    give(frame, targets, value, statement.span)


def _new_model(frame: Frame, statement: syntax.Assign) -> str | None:
    """The path of a model that is built here, which only a test may do."""
    if frame.lexical != "test":
        return None
    name, built = statement.targets[0].text, frame.context.built
    same = sum(1 for path in built if path.partition(".")[0].partition("#")[0] == name)
    return f"{name}#{same + 1}" if same else name


def _call_last(frame: Frame, values: tuple[Value, ...]) -> None:
    """The node that makes the value of a name is called so, though a function made it."""
    nodes = frame.context.builder.nodes
    value = values[0]
    if nodes and len(values) == 1 and isinstance(value, Tensor) and (
            nodes[-1].results == (value.value,)):
        nodes[-1] = replace(nodes[-1], path=frame.path)


def _update(frame: Frame, statement: syntax.Update) -> None:
    """`target := value`, `target += value`."""
    name, sign = statement.target, statement.operator
    try:
        target = resolve(frame, name)
    except Fault as fault:
        raise _new_name(frame, fault, statement) from None
    if not isinstance(target, Variable):
        _update_local(frame, statement, target)
        return
    if frame.lexical not in ("step", "optimizer"):
        raise Fault("assign-in-fn", f"`{target.name}` can't be updated in a `{frame.lexical}`",
                    name.span,
                    (f"`{target.name}` is a {target.role}, declared at {target.span}",),
                    "only a `step` may update params and states")
    path = frame.path
    frame.path = f"{path}.{target.name}"
    value = evaluate(frame, statement.value)
    if sign != ":=":
        old = Tensor(frame.context.read(target))
        value = binary(frame, sign[0], old, value, statement.span)
    made = as_value(frame, value, statement.value.span, target.kind.dtype)
    made = conform(frame, made, target.kind, f"the new value of `{target.name}`",
                   statement.value.span, target.span)
    frame.place(statement.span)
    frame.context.write(target, made)
    frame.path = path


def _new_name(frame: Frame, fault: Fault, statement: syntax.Update) -> Fault:
    """`y := 1` where nothing is called `y`."""
    found = fault.diagnostic
    if found.code != "unknown-name" or statement.operator != ":=" or (
            not isinstance(statement.target, syntax.Name)):
        return fault
    frame.locals[statement.target.text] = Poisoned()
    return Fault("update-for-assignment", f"{found.message}: `:=` updates params and states",
                 statement.target.span, help=found.help or "`name = value` gives a new name a "
                 "value")


def _update_local(frame: Frame, statement: syntax.Update, target: Value) -> None:
    name, sign = statement.target, statement.operator
    if sign == ":=" or not isinstance(name, syntax.Name) or name.text not in frame.locals:
        raise _not_updatable(frame, name, target)
    check_given(frame, name.text, name.span)
    value = binary(frame, sign[0], target, evaluate(frame, statement.value), statement.span)
    frame.locals[name.text] = value


def _not_updatable(frame: Frame, name: syntax.Expr, target: Value) -> Fault:
    help, text = "", frame.text_of(name.span)
    if isinstance(name, syntax.Name) and name.text in frame.locals:
        help = f"`{text} = value` gives a local name a value"
    if isinstance(name, syntax.Subscript) and isinstance(resolve(frame, name.value), Variable):
        whole = frame.text_of(name.value.span)
        help = f"a whole param or state is updated: `{whole} := set_at({whole}, place, value)`"
    return Fault("not-updatable", f"`{text}` is {describe(target)}, no param or state", name.span,
                 help=help)


def _for(frame: Frame, statement: syntax.For) -> Value | None:
    """Unrolled. Of a list of unknown length there is a first turn, and a second if it differs."""
    source = items_of(frame, resolve(frame, statement.source), statement.source.span)
    for target in statement.targets:
        check_new_name(frame, target.text, target.span)
    names = [target.text for target in statement.targets]
    hidden = {name: frame.locals[name] for name in names if name in frame.locals}
    before, fixed = dict(frame.locals), frame.fixed
    frame.fixed = fixed - frozenset(names)
    for item in source.items:
        _turn(frame, statement, item)
    if not source.known:
        if source.alike and not _same_types(frame, before):
            _turn(frame, statement, source.items[0])
        _leave_open(frame, before, source.alike)
    frame.fixed = fixed
    for name in names:
        frame.locals.pop(name, None)
    frame.locals.update(hidden)
    return None


def _turn(frame: Frame, statement: syntax.For, item: Value) -> None:
    give(frame, statement.targets, item, statement.span)
    if frame.context.engine.execute(frame, statement.body) is not None:
        raise Fault("misplaced-return", "`return` can't stand in a `for`", statement.span)


def _same_types(frame: Frame, before: dict[str, Value]) -> bool:
    """Whether all names that were known before a turn still have values of their types."""
    return all(_same_type(old, frame.locals[name]) for name, old in before.items())


def _same_type(old: Value, new: Value) -> bool:
    if isinstance(old, Tensor) and isinstance(new, Tensor):
        return old.value.type is new.value.type and old.untyped == new.untyped
    return old == new


def _leave_open(frame: Frame, before: dict[str, Value], alike: bool) -> None:
    """After turns of which only the first are known: what later ones may give otherwise is known
    when the model is built."""
    for name, new in frame.locals.items():
        old = before.get(name)
        stays = new is old or (alike and (old is None or _same_type(old, new)))
        if not stays:
            frame.locals[name] = Poisoned()


def _if(frame: Frame, statement: syntax.If) -> Value | None:
    condition = evaluate(frame, statement.condition)
    if isinstance(condition, Truth):
        branch = statement.then if condition.value else statement.otherwise
        return None if branch is None else frame.context.engine.execute(frame, branch)
    made = as_value(frame, condition, statement.condition.span)
    if made.dtype is not BOOL or made.dims:
        raise Fault("needs-bool", f"`if` takes a scalar bool, not {describe(condition)}",
                    statement.condition.span,
                    help="`a if c else b` chooses element by element")

    def run(block: syntax.Block | None) -> Value | None:
        value = None if block is None else frame.context.engine.execute(frame, block)
        return None if value is None or block is None else returned(frame, value, block.span)

    then, otherwise = partial(run, statement.then), partial(run, statement.otherwise)
    if frame.context.checking and decided(frame, made):
        return unless_built(frame, made, then, otherwise, statement.span)
    return either(frame, made, then, otherwise, statement.span)


def _assert(frame: Frame, statement: syntax.Assert) -> None:
    condition = evaluate(frame, statement.condition)
    if isinstance(condition, Truth):
        if condition.value:
            return
        if frame.lexical != "test":  # a test that fails is no error of the program
            raise Fault("assert", f"this never holds: {statement.text}", statement.condition.span)
    made = as_value(frame, condition, statement.condition.span)
    if made.dtype is not BOOL or made.dims:
        raise Fault("needs-bool", f"`assert` takes a scalar bool, not {describe(condition)}",
                    statement.condition.span, help="`all(x)` holds where every element does")
    frame.place(statement.span).emit("check", made, text=statement.text)


_EFFECTS: Final[dict[type, Callable[..., None]]] = {
    syntax.Assign: _assign, syntax.Update: _update, syntax.Minimize: minimize,
    syntax.Assert: _assert, syntax.Print: print_, syntax.Scan: scan, syntax.While: while_,
    syntax.Yield: yield_,
}
