"""A kernel that goes on with what another one does to its result, element by element.

    g[i, j] = sum n: x[n, i] * y[n, j]   and   w[e] = w[e] - r * g[e]
    ->
    w[i, j] = w[i, j] - r * sum n: x[n, i] * y[n, j]
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace

from dlc.ir.kernel import Access, Arg, Buffer, Compute, Kernel, ScalarOp


def appended(kernel: Kernel, made: Compute, elements: Kernel, operand: int) -> Kernel:
    """`kernel`, in which `elements` stands where `made` wrote a result.

    `elements` goes over elements in a row, and reads that result as its parameter number `operand`
    alone. Its other parameters take the dims of the result, and come after those of `kernel`.
    """
    result = kernel.buffer(made.target.buffer)
    taken = {b.name for b in (*kernel.params, *kernel.locals)}
    ops = {op.name for c in kernel.body if isinstance(c, Compute) for op in c.body}
    read = elements.params[operand].name
    params = {b.name: _fresh(f"u{k}", taken) for k, b in enumerate(elements.params)}

    def arg(given: Arg) -> Arg:
        if isinstance(given, str):
            return _fresh(f"u{given}", ops)
        if not isinstance(given, Access):
            return given
        if given.buffer == read:
            return made.value
        return Access(params[given.buffer], made.target.at if given.at else ())

    def compute(given: Compute) -> Compute:
        target = arg(given.target)
        assert isinstance(target, Access)
        body = tuple(ScalarOp(_fresh(f"u{op.name}", ops), op.op, tuple(map(arg, op.args)),
                              op.dtype, op.attrs) for op in given.body)
        return replace(given, target=target, body=body, value=arg(given.value))

    added = [compute(c) for c in elements.body if isinstance(c, Compute)]
    added[0] = replace(added[0], body=(*made.body, *added[0].body))
    body = tuple(c for each in kernel.body for c in (added if each is made else [each]))
    others = (Buffer(params[b.name], b.dtype, result.dims if b.dims else (), b.role)
              for b in elements.params if b.name != read)
    own = tuple(b for b in kernel.params if b is not result)
    return replace(kernel, params=(*own, *others), body=body)


def _fresh(name: str, taken: Container[str]) -> str:
    """A name that is not taken; always the same for the same."""
    while name in taken:
        name += "_"
    return name
