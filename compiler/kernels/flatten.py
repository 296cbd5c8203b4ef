"""Elementwise kernels as one loop over elements, so that one kernel serves every shape."""

from __future__ import annotations

from dataclasses import replace

from dlc.ir.dims import Dim, symbol
from dlc.ir.kernel import (
    Access,
    Arg,
    Buffer,
    Compute,
    Index,
    IndexValue,
    Kernel,
    storage_size,
)

At = tuple[Dim | Access, ...]


def flatten(kernel: Kernel) -> tuple[Kernel, tuple[Dim, ...]] | None:
    """The same work over a dim `E`, and what the new kernel's symbols are; None if it can't be
    said.

    All buffers must lie alike and be read where they are written. Parts that are added up in a tree
    have their count in front, which becomes `Z`.
    """
    names = tuple(symbol(i.name) if i.high != 1 else 0 for i in kernel.outer)
    domain = tuple(i.high for i in kernel.outer)
    tree = _tree(kernel)
    if not kernel.outer or (kernel.locals and tree is None):
        return None
    parts = tree.value.buffer if tree is not None and isinstance(tree.value, Access) else ""
    shapes: dict[str, tuple[Dim, ...]] = {}
    for buffer in kernel.params:
        body = buffer.dims[1:] if buffer.name == parts else buffer.dims
        if body != domain and (body or buffer.name == parts):
            return None
        shapes[buffer.name] = body
    layouts = {b.layout for b in kernel.params if b.dims}
    if len(layouts) != 1 or (parts and not next(iter(layouts)).is_row_major):
        return None
    inside: set[At] = {names, ()} | ({(symbol("k0"), *names)} if parts else set())
    if not all(_plain(arg, inside) for c in kernel.body for arg in _args(c)):
        return None
    size = storage_size(next(iter(layouts)), domain)  # type: ignore[arg-type]
    flat = _flat(kernel, parts, tree)
    if tree is None:
        return flat, (size,)
    return flat, (size, tree.over[0].high)  # type: ignore[return-value]


def _tree(kernel: Kernel) -> Compute | None:
    first = kernel.body[0]
    if isinstance(first, Compute) and first.combine is not None and first.combine.tree:
        return first
    return None


def _args(compute: object) -> list[Arg]:
    assert isinstance(compute, Compute)
    return [*(a for op in compute.body for a in op.args), compute.value, compute.target]


def _plain(arg: Arg, inside: set[At]) -> bool:
    return not isinstance(arg, IndexValue) and (not isinstance(arg, Access) or arg.at in inside)


def _flat(kernel: Kernel, parts: str, tree: Compute | None) -> Kernel:
    element, count, at = symbol("E"), symbol("Z"), symbol("i0")

    def move(arg: Arg) -> Arg:
        if not isinstance(arg, Access) or not arg.at:
            return arg
        return Access(arg.buffer, (symbol("k0"), at) if arg.buffer == parts else (at,))

    body = []
    for compute in kernel.body:
        assert isinstance(compute, Compute)
        target = move(compute.target)
        assert isinstance(target, Access)
        ops = tuple(replace(op, args=tuple(map(move, op.args))) for op in compute.body)
        over = (Index("k0", count),) if compute is tree else compute.over
        body.append(replace(
            compute, target=target, body=ops, value=move(compute.value), over=over))
    params = tuple(
        Buffer(b.name, b.dtype,
               (count, element) if b.name == parts else (element,) if b.dims else (), b.role)
        for b in kernel.params)
    symbols = ("E", "Z") if tree is not None else ("E",)
    return Kernel("", symbols, params, kernel.locals, (Index("i0", element),), tuple(body))
