"""A sum over a product of matrices, by way of another product that is known already.

In the gradient of attention each row of weights p sums up with that of d, the gradient with respect
to it: sum_k d[i, k] p[i, k]. But d is itself a product, of the gradient a of the result y and the
values v; and y is the product of p and v. So it is also a sum over the few columns of y (Dao et al.
2022, FlashAttention, section 3 and appendix B.4): nothing as large as p is gone through.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from dlc.compiler.rewriting.rewrite import Rewriter, Rule
from dlc.ir.dims import Dim, Poly, substitute, symbol, symbols
from dlc.ir.graph import Node, Value
from dlc.ir.ops.contract import Map, Spec, extents_of, maps_of, spec
from dlc.ir.ops.shape import dims_attr


def sum_by_known_product(r: Rewriter, node: Node) -> Value | None:
    """contract ((contract a, v) * p) -> contract a, y, where y = contract p, v is known"""
    if len(node.operands) != 1 or not node.result.dtype.is_float:
        return None
    factors = _factors(r, node.operands[0])
    if len(factors) < 2:
        return None
    for place, factor in enumerate(factors):
        product = r.maker(factor, "contract")
        if product is None or len(product.operands) != 2:
            continue
        others = Counter(factors[:place] + factors[place + 1:])
        for side in (0, 1):
            for known in r.products(product.operands[side]):
                for attrs in _joined(r, node, product, side, known, others):
                    return r.make("contract", (product.operands[1 - side], known.result), attrs)
    return None


def _factors(r: Rewriter, value: Value) -> list[Value]:
    """The values whose product `value` is, element by element."""
    stack, found = [value], []
    while stack:
        one = stack.pop()
        node = r.maker(one, "mul")
        if node is None:
            found.append(one)
        else:
            stack += reversed(node.operands)
    return found


def _joined(
    r: Rewriter, node: Node, product: Node, side: int, known: Node, others: Counter[Value]
) -> Iterator[Spec]:
    """The attributes of the new contraction, if `known` fits: the operand that it shares with
    `product`, at `side` there, times all `others`, summed over what `node` sums over."""
    for own in (0, 1):
        matrix, shared = known.operands[1 - own], known.operands[own]
        if shared != product.operands[side] or Counter(_factors(r, matrix)) != others:
            continue
        axes = _names(dims_attr(product, "out"))
        read, kept = _names(maps_of(node)[0]), _names(dims_attr(node, "out"))
        inside = _names(maps_of(known)[1 - own])
        if axes is None or read is None or kept is None or inside is None:
            continue
        summed = {axes[read.index(n)] for n in read if n not in kept}
        renamed = _unified(dict(zip(inside, axes, strict=True)), maps_of(known)[own],
                           maps_of(product)[side])
        given = _names(dims_attr(known, "out"))
        left = maps_of(product)[1 - side]
        used = frozenset[str]().union(*map(symbols, left))
        if renamed is None or given is None or summed & used:
            continue
        out = [axes[read.index(n)] for n in kept]
        at = [renamed[n] for n in given]
        extents = extents_of(product)
        # All that is summed inside the known product, and nothing else, is summed by the node.
        if {renamed[n] for n in extents_of(known)} - set(at) != summed or (
                used | set(at)) != set(extents) - summed:
            continue
        extents = {n: e for n, e in extents.items() if n not in summed}
        yield spec(extents, (left, _map(at)), _map(out), node.result.dims)


def _unified(renamed: dict[str, str], one: Map, other: Map) -> dict[str, str] | None:
    """`renamed` with names added so that map `one` becomes `other`; None if it can't."""
    found = dict(renamed)
    for mine, theirs in zip(one, other, strict=True):
        if _is_name(mine) and _is_name(theirs):
            found.setdefault(str(mine), str(theirs))
    known: dict[str, Dim] = {name: symbol(new) for name, new in found.items()}
    same = all(substitute(a, known) == b for a, b in zip(one, other, strict=True))
    return found if same and len(set(found.values())) == len(found) else None


def _names(at: Map) -> list[str] | None:
    """The index at each axis; None if a map is not so simple."""
    names = [str(e) for e in at]
    return names if all(map(_is_name, at)) and len(set(names)) == len(names) else None


def _is_name(e: Dim) -> bool:
    return isinstance(e, Poly) and e is symbol(str(e))


def _map(names: list[str]) -> tuple[Dim, ...]:
    return tuple(map(symbol, names))


PRODUCTS: Final = (Rule(("contract",), sum_by_known_product),)
