"""Builtins that are contractions: products, convolutions, pooling."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dlc.frontend.elaborate.arithmetic import meet
from dlc.frontend.elaborate.builtin_table import Given, builtin
from dlc.frontend.elaborate.frames import Fault
from dlc.frontend.elaborate.operators import matmul
from dlc.frontend.elaborate.proofs import put_off, renamed
from dlc.frontend.elaborate.values import Tensor, Text, Value, describe
from dlc.ir import graph as ir
from dlc.ir.dims import Dim, Poly
from dlc.ir.ops import TypeRuleError
from dlc.ir.ops.contract import (
    Spec,
    conv_spec,
    conv_transpose_spec,
    einsum_spec,
    pool_spec,
)


def _contract(
    given: Given, make: Callable[[], Spec], operands: Sequence[ir.Value], hint: str
) -> ir.Value:
    """A contraction; what its sizes say against it is an error at the call."""
    try:
        made = make()
    except TypeRuleError as error:
        notes = [str(v.type) for v in operands]
        raise Fault("shape-mismatch", f"`{given.name}`: {error}", given.span, notes) from None
    dims = made["dims"]
    assert isinstance(dims, tuple)
    for dim in dims:
        assert isinstance(dim, int | Poly)
        given.frame.at_least(
            dim, 1, f"{dim} >= 1, for it is a size of what `{given.name}` gives", given.span,
            f"a size of what `{given.name}` gives is {dim}, but must be at least 1")
    return given.frame.emit(given.span, "contract", *operands, hint=hint, **made)


def _stride(given: Given, name: str, default: int, least: int) -> int:
    number = given.integer(name, default)
    if number < least:
        raise given.fault(name, f"`{name}` is at least {least}", "argument-range")
    return number


def _picture_and_weights(
    given: Given, space: int, channels: str
) -> tuple[ir.Value, ir.Value]:
    """What is convolved with what; both of `space` dims beside those for batch and channels."""
    (x, w), _ = meet(
        given.frame, (given.values["x"], given.values["w"]), f"`{given.name}`", given.span)
    if len(x.dims) != 2 + space or len(w.dims) != 2 + space:
        sizes, kernel = "".join(f", {c}" for c in "DHW"[3 - space:]), ", kernel" * space
        raise Fault("convolution-shape",
                    f"`{given.name}` takes x[N, I{sizes}] and w[{channels}{kernel}]",
                    given.span, (f"x: {x.type}", f"w: {w.type}"))
    return x, w


def _convolution(name: str, space: int) -> None:
    def run(given: Given) -> Value:
        x, w = _picture_and_weights(given, space, "O, I")
        stride, padding = _stride(given, "stride", 1, 1), _stride(given, "padding", 0, 0)
        dilation, groups = _stride(given, "dilation", 1, 1), _stride(given, "groups", 1, 1)
        if isinstance(w.dims[0], int) and w.dims[0] % groups:
            raise given.fault("groups", f"{w.dims[0]} maps do not fall into {groups} groups",
                              "convolution-shape")
        return Tensor(_contract(
            given, lambda: conv_spec(x.dims, w.dims, stride, padding, dilation, groups), (x, w),
            name))

    builtin(name, "x, w, stride?, padding?, dilation?, groups?")(run)


def _transposed_convolution(name: str, space: int) -> None:
    def run(given: Given) -> Value:
        x, w = _picture_and_weights(given, space, "I, O")
        stride, padding = _stride(given, "stride", 1, 1), _stride(given, "padding", 0, 0)
        more = _stride(given, "output_padding", 0, 0)
        if more >= stride:
            raise given.fault("output_padding", "`output_padding` is less than `stride`",
                              "argument-range")
        return Tensor(_contract(
            given, lambda: conv_transpose_spec(x.dims, w.dims, stride, padding, more), (x, w),
            name))

    builtin(name, "x, w, stride?, padding?, output_padding?")(run)


for _space in (1, 2, 3):
    _convolution(f"conv{_space}d", _space)
for _space in (1, 2):
    _transposed_convolution(f"conv_transpose{_space}d", _space)


def _pooled(given: Given) -> tuple[ir.Value, int, int, int]:
    """The picture, and the size, stride and padding of windows."""
    x = given.tensor("x")
    if len(x.dims) != 4 or not x.dtype.is_float:
        raise Fault("convolution-shape", f"`{given.name}` takes floats [N, C, H, W], not {x.type}",
                    given.span)
    size = _stride(given, "size", 1, 1)
    stride, padding = _stride(given, "stride", size, 1), _stride(given, "padding", 0, 0)
    if 2 * padding > size:
        raise given.fault("padding", "`padding` is at most half of `size`", "argument-range")
    return x, size, stride, padding


@builtin("max_pool2d", "x, size, stride?, padding?")
def _max_pool2d(given: Given) -> Value:
    """The largest of each window; outside stands -inf."""
    x, size, stride, padding = _pooled(given)
    frame, span = given.frame, given.span
    for extent in x.dims[2:]:
        frame.at_least(extent + 2 * padding, size, f"{extent} >= {size - 2 * padding}, for a "
                       f"window has {size} places", span, f"a window of {size} places does not fit "
                       f"{extent + 2 * padding}")
    builder = frame.place(span)
    if padding:
        wide = (0, 0, padding, padding)
        x = builder.op("pad", x, low=wide, high=wide, value=float("-inf"))
    windows = builder.op("windows", x, axes=(2, 3), size=(size, size), step=(stride, stride))
    return Tensor(builder.op("reduce_max", windows, axes=(4, 5)))


@builtin("avg_pool2d", "x, size, stride?, padding?")
def _avg_pool2d(given: Given) -> Value:
    """The sum over each window, over the number of its places; outside stands 0."""
    x, size, stride, padding = _pooled(given)
    total = _contract(given, lambda: pool_spec(x.dims, size, stride, padding), (x,), given.name)
    builder = given.frame.place(given.span)
    area = size * size
    if area & (area - 1) == 0:  # a power of two: the product is exact, and cheaper
        return Tensor(builder.op("mul", total, builder.constant(1 / area, total.type)))
    return Tensor(builder.op("div", total, builder.constant(area, total.type)))


@builtin("matmul", "a, b")
def _matmul(given: Given) -> Value:
    return Tensor(matmul(given.frame, given.tensor("a"), given.tensor("b"), given.span))


@builtin("einsum", "formula, *operands")
def _einsum(given: Given) -> Value:
    formula = given.values["formula"]
    if not isinstance(formula, Text):
        raise given.fault("formula", f"the formula of `einsum` is a text, not {describe(formula)}")
    operands, _ = meet(given.frame, given.shape, "`einsum`", given.span)
    operands = _one_size_a_letter(given, formula.value, operands)
    dims = [v.dims for v in operands]
    return Tensor(_contract(given, lambda: einsum_spec(formula.value, *dims), operands, "einsum"))


def _one_size_a_letter(given: Given, formula: str, operands: list[ir.Value]) -> list[ir.Value]:
    """The operands with the dims that a letter has first, where its others can be put off."""
    sizes: dict[str, Dim] = {}
    made = []
    for term, value in zip(formula.replace(" ", "").partition("->")[0].split(","), operands,
                           strict=False):
        dims = list(value.dims)
        for place, (letter, dim) in enumerate(zip(term, value.dims, strict=False)):
            first = sizes.setdefault(letter, dim)
            if first != dim and put_off(given.frame, dim, first, given.span):
                dims[place] = first
        made.append(renamed(given.frame, value, tuple(dims), given.span))
    return [*made, *operands[len(made) :]]
