"""Ops of the user's own: one function says the formula, and all else follows from it.

    @dlc.register_op(gradient=lambda b, g, x, y: b.op("mul", g, b.op("cos", x)))
    def my_sine(b, x):
        return …                      # by the methods of `ir/scalar.py`

From then on `my_sine(x)` is a function of the language and of `dlc`, differentiable, interpreted,
and compiled for every target like the ops that come with the compiler.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from dlc.frontend import keys
from dlc.frontend.elaborate.arithmetic import elementwise
from dlc.frontend.elaborate.builtin_table import BUILTINS, Given, builtin
from dlc.frontend.elaborate.values import Tensor
from dlc.frontend.errors import user_error
from dlc.frontend.python import library, places
from dlc.frontend.python.fingerprints import fingerprint
from dlc.frontend.python.types import TYPES
from dlc.ir.dataclass import dataclass
from dlc.ir.diagnostics import Diagnostic, UserError
from dlc.ir.graph import Attr, Builder, Graph, Node, Param, Value
from dlc.ir.interpret import run_body
from dlc.ir.ops import OPS, EvalCall, NotDifferentiable, Op, Sample, not_differentiable, register
from dlc.ir.ops.elementwise import same_types
from dlc.ir.scalar import Array, NumpyBuilder
from dlc.ir.types import DTYPES, DType, Type, tensor

__all__ = ["forget_op", "not_differentiable", "register_op"]

GROUPS: Final = ("float", "number", "integer", "bool", "any")
Rule = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Said:
    """What the user said of an op."""

    name: str
    doc: str
    compute: Rule
    operands: tuple[str, ...]
    settings: Mapping[str, Attr]  # keyword-only parameters, with their defaults
    gradient: Rule | NotDifferentiable
    decomposed: bool
    elements: str
    to: DType | None

    def error(self, message: str, help: str = "") -> UserError:
        """An error at the function that computes the op."""
        span = places.of_code(self.compute.__code__)
        return UserError((Diagnostic("bad-op", f"`{self.name}`: {message}", span, (), help),),
                         places.PythonSources())


def register_op(
    *, gradient: Rule | NotDifferentiable | None = None, elements: str = "float",
    to: str | None = None, name: str | None = None, decompose: bool = False,
) -> Callable[[Rule], Any]:
    """Makes an op of the function below; gives what Python calls it by.

    The function is a formula, `formula(b, *xs)`: `b` is a `ScalarBuilder`, the xs are elements of
    operands of one type, and the result is one element. Keyword-only parameters with a default are
    settings, constant at each call. With `decompose=True` it works on whole tensors instead: `b` is
    the Graph's `Builder`, and the shape of the result follows from what it makes.

    `gradient(b, g, *xs, y)` gives, by `b`, the gradient for each operand from that of the result
    y (None where there is none), or is `dlc.not_differentiable("why")`: an op never lacks one.
    `elements` says which types it takes (float, number, integer, bool, any), `to` the element type
    of the result where it is another. ProgramError for a name that is taken, a formula or a
    gradient that fails.
    """

    def make(function: Rule) -> Any:
        said = _said(function, name or function.__name__, gradient, elements, to, decompose)
        text = _fingerprint(said)
        if keys.user_ops.get(said.name) != text:
            _check_name(said)
            op = _op(said)
            _check(said, op)
            register(op)
            _make_builtin(said)
            keys.user_ops[said.name] = text
        return library.find(said.name)

    return make


def forget_op(name: str) -> None:
    """Takes an op of the user's out again."""
    if name not in keys.user_ops:
        raise user_error("unknown-name", f"no op `{name}` was registered")
    for table in (OPS, BUILTINS, keys.user_ops):
        del table[name]


def _said(
    function: Rule, name: str, gradient: Rule | NotDifferentiable | None, elements: str,
    to: str | None, decompose: bool,
) -> Said:
    parameters = inspect.signature(function).parameters.values()
    first = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    settings = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    made = Said(name, inspect.getdoc(function) or name, function, tuple(first[1:]), settings,
                gradient or not_differentiable(""), decompose, elements,
                DTYPES.get(to) if to else None)
    if gradient is None:
        raise made.error("an op never lacks a gradient", "give `gradient=…`, or "
                         '`gradient=dlc.not_differentiable("why")`')
    if len(first) < 2:
        raise made.error("a formula takes a builder and one operand or more")
    if elements not in GROUPS or (to is not None and to not in DTYPES):
        raise made.error(f"`elements` is one of {', '.join(GROUPS)}, `to` an element type")
    wrong = [key for key, value in settings.items() if not isinstance(value, bool | int | float)]
    if wrong:
        raise made.error(f"the setting `{wrong[0]}` needs a default that is a number or a bool")
    return made


def _fingerprint(said: Said) -> str:
    rules = [said.compute] if isinstance(said.gradient, NotDifferentiable) else [
        said.compute, said.gradient]
    return "\n".join([said.elements, str(said.to), str(said.decomposed), *map(fingerprint, rules)])


def _check_name(said: Said) -> None:
    if not said.name.isidentifier() or said.name[0] == "_":
        raise said.error("this is no name of the language")
    if said.name in OPS or said.name in TYPES or library.find(said.name) is not None:
        raise said.error("the language has this name already", "give another: `name=\"…\"`")


def _op(said: Said) -> Op:
    """The op, whole."""
    element = {"integer": "i32", "bool": "bool"}.get(said.elements, "f32")
    samples = tuple(Sample((f"{element}{dims}",) * len(said.operands), tuple(said.settings.items()))
                    for dims in ("[3, 5]", "[4]", "[2, 3, 4]"))

    def vjp(b: Builder, node: Node, g: tuple[Value, ...]) -> tuple[Value | None, ...]:
        assert not isinstance(said.gradient, NotDifferentiable)
        made = said.gradient(b, g[0], *node.operands, node.result, **dict(node.attrs))
        return made if isinstance(made, tuple) else (made,)

    def formula(b: Any, attrs: Mapping[str, Attr], *xs: Any) -> object:
        return said.compute(b, *xs, **attrs)

    def decompose(b: Builder, node: Node) -> tuple[Value, ...]:
        return (said.compute(b, *node.operands, **dict(node.attrs)),)

    return Op(
        said.name, said.doc, _infer(said), _eval(said),
        said.gradient if isinstance(said.gradient, NotDifferentiable) else vjp, samples,
        attrs=tuple(said.settings), formula=None if said.decomposed else formula,
        decompose=decompose if said.decomposed else None, cost=4.0)


def _body(said: Said, kinds: tuple[Type, ...], attrs: Mapping[str, Attr]) -> Graph:
    """A decomposition as a graph of its own."""
    b = Builder()
    operands = tuple(b.fresh(name, kind) for name, kind in zip(said.operands, kinds, strict=True))
    result = said.compute(b, *operands, **attrs)
    return Graph(said.name, tuple(map(Param, operands)), tuple(b.nodes), (result,))


def _infer(said: Said) -> Any:
    """The type rule: operands of one type, a result like them; or what a decomposition makes."""

    def infer(
        kinds: tuple[Type, ...], attrs: dict[str, Attr], regions: tuple[Graph, ...]
    ) -> tuple[Type, ...]:
        if said.decomposed:
            for kind in kinds:
                same_types(said.name, (kind,), 1, said.elements)
            return (_body(said, kinds, attrs).results[0].type,)
        kind = same_types(said.name, kinds, len(said.operands), said.elements)
        return (tensor(said.to or kind.dtype, kind.dims),)

    return infer


def _eval(said: Said) -> Callable[[EvalCall], tuple[Array, ...]]:
    """The meaning in NumPy, by the formula itself."""

    def run(call: EvalCall) -> tuple[Array, ...]:
        if said.decomposed:
            kinds = tuple(tensor(_dtype(x), x.shape) for x in call.inputs)
            return run_body(_body(said, kinds, call.attrs), call.inputs, call.env)
        with np.errstate(all="ignore"):
            made = np.asarray(said.compute(NumpyBuilder(), *call.inputs, **call.attrs))
            return (np.broadcast_to(made, call.inputs[0].shape),)

    return run


def _dtype(x: Array) -> DType:
    return next(t for t in DTYPES.values() if t.numpy == x.dtype.name and t.name != "bf16")


def _check(said: Said, op: Op) -> None:
    """Tries the formula and the gradient once, so that what is wrong shows here."""
    element = DTYPES[{"integer": "i32", "bool": "bool"}.get(said.elements, "f32")]
    kinds: tuple[Type, ...] = (tensor(element, (2, 3)),) * len(said.operands)
    arrays = tuple(np.ones((2, 3), element.numpy) for _ in kinds)
    try:
        made = op.infer(kinds, dict(said.settings), ())
        (found,) = op.eval(EvalCall(arrays, dict(said.settings), {}, made))
    except Exception as error:
        raise said.error(f"its formula fails: {type(error).__name__}: {error}") from error
    kind = made[0]
    if (str(found.dtype), found.shape) != (kind.dtype.numpy, kind.dims):  # type: ignore[union-attr]
        raise said.error(f"its formula gives {found.dtype} of shape {found.shape}, not {kind}",
                         "`to=` says the element type of the result where it is another")
    if not isinstance(op.vjp, NotDifferentiable):
        _check_gradient(said, op, kinds, kind)


def _check_gradient(said: Said, op: Op, kinds: tuple[Type, ...], kind: Type) -> None:
    b = Builder()
    operands = tuple(b.fresh(name, each) for name, each in zip(said.operands, kinds, strict=True))
    node = Node(said.name, operands, tuple(said.settings.items()), (b.fresh("y", kind),))
    try:
        made = op.vjp(b, node, (b.fresh("g", kind),))  # type: ignore[operator]
    except Exception as error:
        raise said.error(f"its gradient fails: {type(error).__name__}: {error}") from error
    types = [None if value is None else value.type for value in made]
    if len(types) != len(kinds) or any(t not in (None, k) for t, k in zip(types, kinds,
                                                                       strict=True)):
        raise said.error(f"its gradient gives {', '.join(map(str, types))}, not one for each of "
                         f"{', '.join(map(str, kinds))}")


def _make_builtin(said: Said) -> None:
    """The function of the language."""

    def run(given: Given) -> Tensor:
        settings: dict[str, Any] = {
            key: _setting(given, key, default) for key, default in said.settings.items()}
        values = [given.values[key] for key in said.operands]
        if said.decomposed:
            tensors = [given.tensor(key) for key in said.operands]
            return Tensor(given.frame.emit(given.span, said.name, *tensors, **settings))
        return elementwise(given.frame, said.name, values, f"`{said.name}`", given.span, **settings)

    builtin(said.name, ", ".join([*said.operands, *(f"{key}?" for key in said.settings)]))(run)


def _setting(given: Given, name: str, default: Attr) -> Attr:
    if isinstance(default, bool):
        return given.truth(name, default)
    if isinstance(default, int):
        return given.integer(name, default)
    assert isinstance(default, float)
    return given.number(name, default)
