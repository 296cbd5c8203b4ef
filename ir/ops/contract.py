"""The symmetric contraction: matrix products, convolutions, pooling, sums, and all their gradients.

`C[out(i)] += product of A_k[map_k(i)]` over one domain of indices, in which any of the maps may be
affine. Reads outside an operand are 0, writes outside the result are dropped. So the gradient with
respect to an operand is a contraction again: that operand and the result change places.
Index names are lower-case, so that they never meet symbols of dims.
"""

from __future__ import annotations

from collections.abc import Mapping
from string import ascii_letters
from typing import TYPE_CHECKING

import numpy as np

from dlc.ir.dims import Dim, Poly, coefficient, evaluate, floordiv, substitute, symbol, symbols
from dlc.ir.ops.op import Array, EvalCall, Op, Sample, TypeRuleError, dense, register
from dlc.ir.scalar import cast_array
from dlc.ir.types import BOOL, I32, DType, Type, tensor

if TYPE_CHECKING:
    from dlc.ir.graph import Attr, Builder, Graph, Node, Value

Map = tuple[Dim, ...]
Spec = dict[str, "Attr"]

_NAMES = "abcdefghijklmnopqrstuvwxyz"


def spec(
    extents: dict[str, Dim], maps: tuple[Map, ...], out: Map, dims: tuple[Dim, ...]
) -> Spec:
    """The attributes of a contraction: indices with extents, a map for each operand, the result."""
    return {"indices": tuple(extents), "extents": tuple(extents.values()), "maps": maps,
            "out": out, "dims": dims}


def sum_spec(dims: tuple[Dim, ...], axes: tuple[int, ...]) -> Spec:
    """The sum over `axes` of a tensor of `dims`."""
    names = [_NAMES[i] for i in range(len(dims))]
    kept = [i for i in range(len(dims)) if i not in axes]
    return spec(
        dict(zip(names, dims, strict=True)), (tuple(map(symbol, names)),),
        tuple(symbol(names[i]) for i in kept), tuple(dims[i] for i in kept))


def matmul_spec(left: tuple[Dim, ...], right: tuple[Dim, ...]) -> Spec:
    """`left @ right`: f32[*S, K] @ f32[K, M] -> f32[*S, M], or f32[*S, N, K] @ f32[*S, K, M].

    A vector on either side loses its axis, as in NumPy. TypeRuleError if the dims do not agree.
    """
    inner = left[-1]
    if right[-2 if len(right) > 1 else -1] != inner:
        raise TypeRuleError(f"{inner} is not {right[-2 if len(right) > 1 else -1]}")
    if len(right) > 2 and left[:-2] != right[:-2]:
        raise TypeRuleError(f"batch dims differ: {left[:-2]} and {right[:-2]}")
    batch = len(right) - 2 if len(right) > 2 else 0
    rows = [_NAMES[i] for i in range(len(left) - 1)]
    extents: dict[str, Dim] = dict(zip(rows, left, strict=False))
    columns = ["y"] if len(right) > 1 else []
    extents |= {c: right[-1] for c in columns}
    extents["z"] = inner
    a, y, z = tuple(map(symbol, rows)), tuple(map(symbol, columns)), symbol("z")
    return spec(extents, ((*a, z), (*a[:batch], z, *y)), (*a, *y),
                (*left[:-1], *(right[-1:] if columns else ())))


def conv_spec(
    x: tuple[Dim, ...], w: tuple[Dim, ...], stride: int = 1, padding: int = 0, dilation: int = 1,
    groups: int = 1,
) -> Spec:
    """Cross-correlation of x[N, C, *space] with w[O, C / groups, *kernel] (1-D to 3-D)."""
    rank = len(x) - 2
    if len(w) != len(x) or not 1 <= rank <= 3:
        raise TypeRuleError(f"a convolution of {x} by {w}: their ranks do not fit")
    if x[1] != w[1] * groups:
        raise TypeRuleError(f"the input has {x[1]} channels, the weights take {w[1] * groups}")
    if not isinstance(w[0], int) and groups != 1:
        raise TypeRuleError("groups take a constant number of output channels")
    n, o, i = map(symbol, "noi")
    space = [symbol(c) for c in "uvw"[:rank]]
    taps = [symbol(c) for c in "rst"[:rank]]
    sizes = [floordiv(x[2 + k] + 2 * padding - dilation * (w[2 + k] - 1) - 1, stride) + 1
             for k in range(rank)]
    at = [space[k] * stride + taps[k] * dilation - padding for k in range(rank)]
    out: Map = (n, o, *space)
    dims: tuple[Dim, ...] = (x[0], w[0], *sizes)
    extents: dict[str, Dim] = {"n": x[0]}
    if groups == 1:
        extents["o"] = w[0]
        maps: tuple[Map, ...] = ((n, i, *at), (o, i, *taps))
    else:
        g, per = symbol("g"), floordiv(w[0], groups)
        extents |= {"g": groups, "o": per}
        maps = ((n, g * w[1] + i, *at), (g * per + o, i, *taps))
        out = (n, g * per + o, *space)
    extents |= dict(zip("uvw", sizes, strict=False))
    extents |= {"i": w[1]} | dict(zip("rst", w[2:], strict=False))
    return spec(extents, maps, out, dims)


def conv_transpose_spec(
    x: tuple[Dim, ...], w: tuple[Dim, ...], stride: int = 1, padding: int = 0,
    output_padding: int = 0,
) -> Spec:
    """What the gradient of a convolution with w[I, O, *kernel] does with x[N, I, *space]: each
    element of x is spread over a window, at `stride` from one to the next; `padding` is cut off on
    all sides, and `output_padding` is added at the end."""
    rank = len(x) - 2
    if len(w) != len(x) or not 1 <= rank <= 3:
        raise TypeRuleError(f"a convolution of {x} by {w}: their ranks do not fit")
    if x[1] != w[0]:
        raise TypeRuleError(f"the input has {x[1]} channels, the weights take {w[0]}")
    n, o, i = map(symbol, "noi")
    space = [symbol(c) for c in "uvw"[:rank]]
    taps = [symbol(c) for c in "rst"[:rank]]
    sizes = [(x[2 + k] - 1) * stride - 2 * padding + w[2 + k] + output_padding
             for k in range(rank)]
    at = [space[k] * stride + taps[k] - padding for k in range(rank)]
    extents: dict[str, Dim] = {"n": x[0], "o": w[1]} | dict(zip("uvw", x[2:], strict=False))
    extents |= {"i": x[1]} | dict(zip("rst", w[2:], strict=False))
    return spec(extents, ((n, i, *space), (i, o, *taps)), (n, o, *at), (x[0], w[1], *sizes))


def pool_spec(x: tuple[Dim, ...], size: int, stride: int, padding: int = 0) -> Spec:
    """The sum over windows of size x size of x[N, C, H, W]; parts of a window are left out."""
    n, c, u, v, r, s = map(symbol, "ncuvrs")
    h, w = (floordiv(d + 2 * padding - size, stride) + 1 for d in x[2:])
    extents: dict[str, Dim] = {"n": x[0], "c": x[1], "u": h, "v": w, "r": size, "s": size}
    at = (u * stride + r - padding, v * stride + s - padding)
    return spec(extents, ((n, c, *at),), (n, c, u, v), (x[0], x[1], h, w))


def einsum_spec(formula: str, *operands: tuple[Dim, ...]) -> Spec:
    """`einsum("nd,nkd->nk", …)`; TypeRuleError for a bad formula or dims that do not agree."""
    left, arrow, right = formula.replace(" ", "").partition("->")
    inputs = left.split(",")
    if not arrow or len(inputs) != len(operands):
        raise TypeRuleError(f"einsum of {len(operands)} values can't be {formula!r}")
    extents: dict[str, Dim] = {}
    for letters, dims in zip(inputs, operands, strict=True):
        if len(letters) != len(dims) or not letters.isalpha() or not letters.islower():
            raise TypeRuleError(f"{letters!r} in {formula!r} does not name {len(dims)} dims")
        for letter, dim in zip(letters, dims, strict=True):
            if extents.setdefault(letter, dim) != dim:
                raise TypeRuleError(
                    f"{letter!r} in {formula!r} is both {extents[letter]} and {dim}")
    if not set(right) <= extents.keys() or len(set(right)) < len(right):
        raise TypeRuleError(f"{right!r} in {formula!r} is not a choice of the letters before")
    maps = tuple(tuple(map(symbol, letters)) for letters in inputs)
    return spec(extents, maps, tuple(map(symbol, right)), tuple(extents[c] for c in right))


def map_of(value: Attr) -> Map:
    """An attribute that is a tuple of dims: a map, or the dims of the result."""
    if not isinstance(value, tuple):
        raise TypeRuleError(f"{value} is no tuple of dims")
    dims = tuple(e for e in value if isinstance(e, int | Poly))
    if len(dims) != len(value):
        raise TypeRuleError(f"{value} holds what is no dim")
    return dims


def maps_of(node: Node) -> tuple[Map, ...]:
    """The maps of the operands of a contraction node."""
    return _maps(dict(node.attrs))


def extents_of(node: Node) -> dict[str, Dim]:
    """The indices of a contraction node, with their extents."""
    return _extents(dict(node.attrs))


def sums(node: Node) -> bool:
    """Whether a contraction adds up: whether an index of it, of more than one, is not written."""
    written = frozenset[str]().union(*map(symbols, map_of(node.attr("out"))))
    return any(extent != 1 and name not in written for name, extent in extents_of(node).items())


def _maps(attrs: Mapping[str, Attr]) -> tuple[Map, ...]:
    maps = attrs["maps"]
    if not isinstance(maps, tuple):
        raise TypeRuleError("the maps of a contraction are a tuple")
    return tuple(map(map_of, maps))


def _extents(attrs: Mapping[str, Attr]) -> dict[str, Dim]:
    names, extents = attrs["indices"], map_of(attrs["extents"])
    if not isinstance(names, tuple) or len(names) != len(extents):
        raise TypeRuleError("the indices of a contraction have an extent each")
    return dict(zip(map(str, names), extents, strict=True))


def _names(at: Map) -> frozenset[str]:
    return frozenset[str]().union(*map(symbols, at))


def accumulator(dtype: DType) -> DType:
    """The type in which a sum of `dtype` is kept: narrow integers and bool in i32."""
    return I32 if dtype is BOOL or (dtype.is_integer and dtype.size < 4) else dtype


def _infer(
    kinds: tuple[Type, ...], attrs: dict[str, Attr], regions: tuple[Graph, ...]
) -> tuple[Type, ...]:
    maps, out, dims = _maps(attrs), map_of(attrs["out"]), map_of(attrs["dims"])
    if len(maps) != len(kinds) or not kinds:
        raise TypeRuleError(f"a contraction with {len(maps)} maps has {len(kinds)} operands")
    dtypes = {dense(kind, "contract").dtype for kind in kinds}
    if len(dtypes) > 1:
        raise TypeRuleError(f"the operands of a product differ: {', '.join(map(str, kinds))}")
    ranks = [len(dense(kind, "contract").dims) for kind in kinds]
    if [len(m) for m in maps] != ranks or len(out) != len(dims):
        raise TypeRuleError("the maps of a contraction do not have the ranks of its operands")
    if not frozenset[str]().union(*map(_names, (*maps, out))) <= _extents(attrs).keys():
        raise TypeRuleError("a map of a contraction uses an index that it does not have")
    return (tensor(accumulator(dtypes.pop()), dims),)


def _view(x: Array, at: Map, sizes: dict[str, int]) -> tuple[Array, str]:
    """`x` as a strided view with an axis for each index of `at`; reads outside are 0."""
    low = [_reach(e, sizes, min) for e in at]
    high = [_reach(e, sizes, max) for e in at]
    pads = [(max(0, -lo), max(0, hi - n + 1)) for lo, hi, n in zip(low, high, x.shape, strict=True)]
    padded = np.pad(x, pads) if pads else np.asarray(x)
    names = sorted(_names(at))
    start = sum((evaluate(e, dict.fromkeys(names, 0)) + p[0]) * s
                for e, p, s in zip(at, pads, padded.strides, strict=True))
    strides = [sum(_number(coefficient(e, name)) * s
                   for e, s in zip(at, padded.strides, strict=True)) for name in names]
    flat = np.ndarray(
        tuple(sizes[name] for name in names), padded.dtype, padded.data, start, tuple(strides))
    return flat, "".join(names)


def _number(dim: Dim | None) -> int:
    if not isinstance(dim, int):
        raise TypeRuleError("a map of a contraction is not affine with integer coefficients")
    return dim


def _reach(e: Dim, sizes: dict[str, int], side: object) -> int:
    total = evaluate(e, dict.fromkeys(symbols(e), 0))
    for name in symbols(e):
        step = _number(coefficient(e, name)) * (sizes[name] - 1)
        total += min(step, 0) if side is min else max(step, 0)
    return total


def _eval(call: EvalCall) -> tuple[Array, ...]:
    # Indices may have longer names; einsum has letters.
    extents = _extents(call.attrs)
    letters = dict(zip(extents, ascii_letters, strict=False))
    renamed: dict[str, Dim] = {name: symbol(letter) for name, letter in letters.items()}
    maps = [tuple(substitute(e, renamed) for e in m) for m in _maps(call.attrs)]
    out = tuple(substitute(e, renamed) for e in map_of(call.attrs["out"]))
    sizes = {letters[name]: evaluate(e, call.env) for name, e in extents.items()}
    kind = dense(call.types[0], "contract")
    inputs = [cast_array(x, kind.dtype) for x in call.inputs]
    shape = tuple(evaluate(d, call.env) for d in kind.dims)
    if 0 in sizes.values():
        return (np.zeros(shape, kind.dtype.numpy),)
    views = [_view(x, m, sizes) for x, m in zip(inputs, maps, strict=True)]
    kept = sorted(_names(out))
    seen = set("".join(axes for _, axes in views))
    views += [(np.ones(sizes[k], kind.dtype.numpy), k) for k in kept if k not in seen]
    terms = ",".join(axes for _, axes in views)
    repeats = int(np.prod([sizes[n] for n in sizes if n not in seen | set(kept)], dtype=np.int64))
    block = np.einsum(f"{terms}->{''.join(kept)}", *(v for v, _ in views), optimize=True)
    block = np.asarray(block * np.asarray(repeats, block.dtype))
    return (_scatter(block, kept, out, sizes, shape).astype(kind.dtype.numpy),)


def _scatter(
    block: Array, names: list[str], out: Map, sizes: dict[str, int], shape: tuple[int, ...]
) -> Array:
    if tuple(map(str, out)) == tuple(names) and shape == block.shape:
        return block
    grids = dict(zip(names, np.meshgrid(*(np.arange(sizes[n]) for n in names), indexing="ij"),
                     strict=True)) if names else {}
    at = [np.broadcast_to(_on_grid(e, grids), block.shape) for e in out]
    inside = np.ones(block.shape, bool)
    for index, extent in zip(at, shape, strict=True):
        inside &= (index >= 0) & (index < extent)
    result = np.zeros(shape, block.dtype)
    np.add.at(result, tuple(index[inside] for index in at), block[inside])
    return result


def _on_grid(e: Dim, grids: dict[str, Array]) -> Array:
    total = np.asarray(evaluate(e, dict.fromkeys(symbols(e), 0)))
    for name in symbols(e):
        total = total + _number(coefficient(e, name)) * grids[name]
    return total


def _vjp(b: Builder, node: Node, g: tuple[Value, ...]) -> tuple[Value | None, ...]:
    maps, extents = maps_of(node), extents_of(node)
    out = map_of(node.attr("out"))
    gradients: list[Value | None] = []
    for k, operand in enumerate(node.operands):
        if not operand.dtype.is_float:
            gradients.append(None)
            continue
        others = [v for i, v in enumerate(node.operands) if i != k]
        their = [m for i, m in enumerate(maps) if i != k]
        attrs = spec(extents, (out, *their), maps[k], operand.dims)
        gradients.append(b.op("contract", g[0], *others, hint=f"d_{operand.name}", **attrs))
    return tuple(gradients)


def _sample(types: tuple[str, ...], attrs: Spec) -> Sample:
    return Sample(types, tuple(attrs.items()))


contract = register(Op(
    "contract", "a sum of products over affine maps of one domain", _infer, _eval, _vjp,
    (
        _sample(("f32[3, 5]", "f32[5, 7]"), matmul_spec((3, 5), (5, 7))),
        _sample(("f32[1, 1]", "f32[1, 1]"), matmul_spec((1, 1), (1, 1))),
        _sample(("f32[37, 61]", "f32[61, 53]"), matmul_spec((37, 61), (61, 53))),
        _sample(("f32[2, 3, 5]", "f32[2, 5, 4]"), matmul_spec((2, 3, 5), (2, 5, 4))),
        _sample(("f32[4, 6]", "f32[6]"), matmul_spec((4, 6), (6,))),
        _sample(("f32[2, 3, 9, 8]", "f32[5, 3, 3, 3]"), conv_spec((2, 3, 9, 8), (5, 3, 3, 3))),
        _sample(("f32[2, 3, 9, 8]", "f32[4, 3, 3, 2]"),
                conv_spec((2, 3, 9, 8), (4, 3, 3, 2), stride=2, padding=1)),
        _sample(("f32[1, 4, 11, 9]", "f32[4, 2, 3, 3]"),
                conv_spec((1, 4, 11, 9), (4, 2, 3, 3), dilation=2, groups=2)),
        _sample(("f32[3, 2, 13]", "f32[4, 2, 5]"), conv_spec((3, 2, 13), (4, 2, 5), stride=3)),
        _sample(("f32[2, 3, 5, 4]", "f32[3, 4, 3, 3]"),
                conv_transpose_spec((2, 3, 5, 4), (3, 4, 3, 3), 2, 1, 1)),
        _sample(("f32[2, 3, 7, 6]",), pool_spec((2, 3, 7, 6), 2, 2)),
        _sample(("f32[2, 3, 7, 6]",), pool_spec((2, 3, 7, 6), 3, 2, 1)),
        _sample(("f32[2, 3, 8, 9]",), pool_spec((2, 3, 8, 9), 3, 2)),
        _sample(("f32[5, 7, 3]",), sum_spec((5, 7, 3), (0, 2))),
        _sample(("f32[129]",), sum_spec((129,), (0,))),
        _sample(("f32[3, 4]", "f32[3, 5, 4]"), einsum_spec("nd,nkd->nk", (3, 4), (3, 5, 4))),
    ),
    attrs=("indices", "extents", "maps", "out", "dims"), kernel="contract", cost=8,
))
