"""Ops that work element by element: the formula, the meaning in NumPy, and the gradient of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from dlc.ir.ops.op import (
    Array,
    EvalCall,
    NotDifferentiable,
    Op,
    Sample,
    TypeRuleError,
    dense,
    not_differentiable,
    register,
)
from dlc.ir.scalar import NumpyBuilder, ScalarBuilder, cast_array
from dlc.ir.types import BOOL, DTYPES, DType, TensorType, Type, tensor

if TYPE_CHECKING:
    from dlc.ir.graph import Attr, Builder, Graph, Node, Value

    Gradient = Callable[[Builder, Value, tuple[Value, ...], Value], tuple[Value | None, ...]]

T = TypeVar("T")
FLOAT, NUMBER, INTEGER, LOGIC, ANY = "float", "number", "integer", "bool", "any"


def _accepts(group: str, dtype: DType) -> bool:
    return {
        FLOAT: dtype.is_float, NUMBER: dtype is not BOOL, INTEGER: dtype.is_integer,
        LOGIC: dtype is BOOL, ANY: True,
    }[group]


def same_types(name: str, kinds: tuple[Type, ...], count: int, group: str) -> TensorType:
    """The one type that all `count` operands have; TypeRuleError if they differ."""
    if len(kinds) != count:
        raise TypeRuleError(f"{name} takes {count} operands, not {len(kinds)}")
    first = dense(kinds[0], name)
    for kind in kinds[1:]:
        if kind is not first:
            raise TypeRuleError(f"the operands of {name} differ: {first} is not {kind}")
    if not _accepts(group, first.dtype):
        raise TypeRuleError(f"{name} takes {group} elements, not {first}")
    return first


def elementwise(
    name: str, doc: str, count: int, group: str, *, formula: Callable[..., object],
    evaluate: Callable[..., Array], gradient: Gradient | NotDifferentiable, to: DType | None = None,
    low: float = -2.0, high: float = 2.0, cost: float = 1.0,
) -> Op:
    """Registers an op on `count` operands of one type; the result has it too (or dtype `to`)."""

    def infer(
        kinds: tuple[Type, ...], attrs: dict[str, Attr], regions: tuple[Graph, ...]
    ) -> tuple[Type, ...]:
        kind = same_types(name, kinds, count, group)
        return (tensor(to or kind.dtype, kind.dims),)

    def run(call: EvalCall) -> tuple[Array, ...]:
        with np.errstate(all="ignore"):
            out = np.asarray(evaluate(*call.inputs))
            return (out.astype(dense(call.types[0], name).dtype.numpy, copy=False),)

    def vjp(b: Builder, node: Node, g: tuple[Value, ...]) -> tuple[Value | None, ...]:
        assert not isinstance(gradient, NotDifferentiable)
        return gradient(b, g[0], node.operands, node.result)

    element = {INTEGER: "i32", LOGIC: "bool"}.get(group, "f32")
    shapes = ("[3, 5]", "[]", "[1]", "[17]", "[2, 3, 4]")
    samples = tuple(
        Sample((element + ("" if s == "[]" else s),) * count, low=low, high=high) for s in shapes
    )
    return register(Op(
        name, doc, infer, run, gradient if isinstance(gradient, NotDifferentiable) else vjp,
        samples, formula=lambda b, attrs, *xs: formula(b, *xs), cost=cost,
    ))


def _primitive(name: str) -> Callable[..., object]:
    return lambda b, *xs: b.primitive(name, *xs)


_FLAT = not_differentiable("its derivative is 0 wherever it exists")


def _mul(b: Builder, x: Value, y: Value) -> Value:
    return b.op("mul", x, y)


def _zero_where(b: Builder, keep: Value, g: Value) -> Value:
    return b.op("select", keep, g, b.zeros(g.type))


add = elementwise(
    "add", "a + b", 2, NUMBER, formula=_primitive("add"), evaluate=np.add,
    gradient=lambda b, g, x, y: (g, g))
sub = elementwise(
    "sub", "a - b", 2, NUMBER, formula=_primitive("sub"), evaluate=np.subtract,
    gradient=lambda b, g, x, y: (g, b.op("neg", g)))
mul = elementwise(
    "mul", "a * b", 2, NUMBER, formula=_primitive("mul"), evaluate=np.multiply,
    gradient=lambda b, g, x, y: (_mul(b, g, x[1]), _mul(b, g, x[0])))
div = elementwise(
    "div", "a / b", 2, FLOAT, formula=_primitive("div"), evaluate=np.divide, low=0.5, cost=4,
    gradient=lambda b, g, x, y: (
        b.op("div", g, x[1]), b.op("neg", _mul(b, b.op("div", g, x[1]), y))))
neg = elementwise(
    "neg", "-a", 1, NUMBER, formula=_primitive("neg"), evaluate=np.negative,
    gradient=lambda b, g, x, y: (b.op("neg", g),))
absolute = elementwise(
    "abs", "the absolute value, with gradient 0 at 0", 1, NUMBER, formula=_primitive("abs"),
    evaluate=np.abs, gradient=lambda b, g, x, y: (_mul(b, g, b.op("sign", x[0])),))
sign = elementwise(
    "sign", "-1, 0 or 1; 0 for nan", 1, NUMBER, evaluate=lambda x: np.nan_to_num(np.sign(x)),
    formula=lambda b, x: b.sub(
        b.cast(b.compare("gt", x, b.like(x, 0)), b.dtype(x)),
        b.cast(b.compare("lt", x, b.like(x, 0)), b.dtype(x))),
    gradient=_FLAT)
floor = elementwise(
    "floor", "rounded down", 1, FLOAT, formula=_primitive("floor"), evaluate=np.floor,
    gradient=_FLAT)
rounded = elementwise(
    "round", "rounded to the nearest integer, halves to even", 1, FLOAT,
    formula=_primitive("round"), evaluate=np.rint, gradient=_FLAT)
sqrt = elementwise(
    "sqrt", "the square root; nan below 0", 1, FLOAT, formula=_primitive("sqrt"),
    evaluate=np.sqrt, low=0.1, cost=4,
    gradient=lambda b, g, x, y: (b.op("div", _mul(b, g, b.constant(0.5, g.type)), y),))
maximum = elementwise(
    "maximum", "the larger; nan if one is; on a tie the gradient goes to a", 2, NUMBER,
    formula=_primitive("maximum"), evaluate=np.maximum,
    gradient=lambda b, g, x, y: (
        _zero_where(b, b.op("ge", *x), g), _zero_where(b, b.op("lt", *x), g)))
minimum = elementwise(
    "minimum", "the smaller; nan if one is; on a tie the gradient goes to a", 2, NUMBER,
    formula=_primitive("minimum"), evaluate=np.minimum,
    gradient=lambda b, g, x, y: (
        _zero_where(b, b.op("le", *x), g), _zero_where(b, b.op("gt", *x), g)))
floordiv = elementwise(
    "floordiv", "the quotient rounded down; 0 for an integer divided by 0", 2, NUMBER,
    formula=_primitive("floordiv"), evaluate=np.floor_divide, gradient=_FLAT, low=1, cost=8)
mod = elementwise(
    "mod", "a - b * floor(a / b); 0 for an integer divided by 0", 2, NUMBER,
    formula=_primitive("mod"), evaluate=np.remainder, low=1, cost=8,
    gradient=lambda b, g, x, y: (
        g, b.op("neg", _mul(b, g, b.op("floor", b.op("div", *x))))))

for _name, _word, _function in (
    ("eq", "equals", np.equal), ("ne", "differs from", np.not_equal),
    ("lt", "is less than", np.less), ("le", "is at most", np.less_equal),
    ("gt", "is greater than", np.greater), ("ge", "is at least", np.greater_equal),
):
    elementwise(
        _name, f"whether a {_word} b", 2, ANY if _name in ("eq", "ne") else NUMBER, to=BOOL,
        formula=_primitive(_name), evaluate=_function, gradient=_FLAT)
for _name, _connective in (("and", np.logical_and), ("or", np.logical_or)):
    elementwise(
        _name, f"a {_name} b", 2, LOGIC, formula=_primitive(_name), evaluate=_connective,
        gradient=_FLAT)
logical_not = elementwise(
    "not", "whether a is false", 1, LOGIC, formula=_primitive("not"), evaluate=np.logical_not,
    gradient=_FLAT)


def _infer_select(
    kinds: tuple[Type, ...], attrs: dict[str, Attr], regions: tuple[Graph, ...]
) -> tuple[Type, ...]:
    if len(kinds) != 3:
        raise TypeRuleError(f"select takes 3 operands, not {len(kinds)}")
    kind = same_types("select", kinds[1:], 2, ANY)
    if kinds[0] is not tensor(BOOL, kind.dims):
        raise TypeRuleError(f"select chooses by {tensor(BOOL, kind.dims)}, not by {kinds[0]}")
    return (kind,)


def _select_vjp(b: Builder, node: Node, g: tuple[Value, ...]) -> tuple[Value | None, ...]:
    zero = b.zeros(g[0].type)
    chosen = node.operands[0]
    return None, b.op("select", chosen, g[0], zero), b.op("select", chosen, zero, g[0])


select = register(Op(
    "select", "a where the condition holds, else b", _infer_select,
    lambda call: (np.where(*call.inputs),), _select_vjp,
    (Sample(("bool[3, 5]", "f32[3, 5]", "f32[3, 5]")), Sample(("bool", "i32", "i32"))),
    formula=lambda b, attrs, c, x, y: b.select(c, x, y),
))


def _infer_cast(
    kinds: tuple[Type, ...], attrs: dict[str, Attr], regions: tuple[Graph, ...]
) -> tuple[Type, ...]:
    to = attrs["to"]
    if len(kinds) != 1 or not isinstance(to, DType):
        raise TypeRuleError("cast takes one operand and a dtype")
    return (tensor(to, dense(kinds[0], "cast").dims),)


def _cast_eval(call: EvalCall) -> tuple[Array, ...]:
    return (cast_array(call.inputs[0], dense(call.types[0], "cast").dtype),)


def _cast_vjp(b: Builder, node: Node, g: tuple[Value, ...]) -> tuple[Value | None, ...]:
    x = node.operands[0]
    if not (x.dtype.is_float and node.result.dtype.is_float):
        return (None,)
    return (b.cast(g[0], x.dtype),)


cast = register(Op(
    "cast", "another element type: floats truncate to integers and saturate, nan gives 0",
    _infer_cast, _cast_eval, _cast_vjp,
    tuple(Sample((f"{a}[3, 5]",), (("to", DTYPES[c]),), -300, 300)
          for a in ("f32", "i32", "u8", "bool", "f64")
          for c in ("f32", "i32", "u8", "i64", "bool", "f64")),
    attrs=("to",), formula=lambda b, attrs, x: b.cast(x, attrs["to"]),
))


_BITS = {"f16": DTYPES["i16"], "f32": DTYPES["i32"], "f64": DTYPES["i64"]}


def _infer_bits(
    kinds: tuple[Type, ...], attrs: dict[str, Attr], regions: tuple[Graph, ...]
) -> tuple[Type, ...]:
    kind = same_types("bits", kinds, 1, FLOAT)
    if kind.dtype.name not in _BITS:
        raise TypeRuleError(f"bits takes {', '.join(_BITS)}, not {kind}")
    return (tensor(_BITS[kind.dtype.name], kind.dims),)


bits = register(Op(
    "bits", "the bits of a float, read as an integer", _infer_bits,
    lambda call: (call.inputs[0].view(dense(call.types[0], "bits").dtype.numpy),),
    not_differentiable("it gives an integer, whose derivative is 0"),
    (Sample(("f32[3, 5]",)), Sample(("f32",)), Sample(("f64[17]",)), Sample(("f16[17]",))),
    formula=lambda b, attrs, x: b.bitcast(x, _BITS[b.dtype(x).name]),
))


def evaluate_formula(op: Op, attrs: dict[str, Attr], *xs: Array) -> Array:
    """The formula of an elementwise op on arrays: what backends are held against."""
    assert op.formula is not None
    return np.asarray(op.formula(NumpyBuilder(), attrs, *xs))


__all__ = ["ANY", "FLOAT", "INTEGER", "LOGIC", "NUMBER", "ScalarBuilder", "elementwise",
           "evaluate_formula", "same_types"]
