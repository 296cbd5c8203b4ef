"""The text form of a Kernel, and back: `parse_kernel(print_kernel(k)) == k`.

    kernel conv_tanh<N>(x: f32[N, 1, 32, 32] in, w: f32[6, 1, 5, 5] in, y: f32[N, 6, 28, 28] out) {
      local a: f32
      outer n<N, o<6, v<28, u<28
      a = sum r<5, s<5: mul(x[n, 0, r + v, s + u], w[o, 0, r, s])
      y[n, o, v, u] = tanh(a)
    }

A buffer's layout stands before its role: `@ (0/16, 1, 0)` are digits, `axis` or `axis/divisor`,
outermost first. A compute is `target = value`, or has indices before the value: reduced ones
(`sum`, `max`, `min`, `argmax`, `argmin`; `tree sum`; `sum f64` where the accumulator's type is
not the target's) or free ones (`over`), and what they must meet (`where k - 1 >= 0`). Ordered loops
are `seq j<T reverse carry m, l { … }`. Ops on lines of their own make the body a block:

      a = sum k<N {
        t0 = exp(x[k])
        mul(t0, t0)
      }
"""

from __future__ import annotations

from typing import Final, get_args

from dlc.ir.dims import Dim
from dlc.ir.expression_text import ExpressionParser, ExpressionPrinter, access_text, index_text
from dlc.ir.kernel import (
    ROW_MAJOR,
    Buffer,
    BufferRole,
    Combine,
    CombineKind,
    Compute,
    Index,
    Kernel,
    Layout,
    Opaque,
    Seq,
)
from dlc.ir.notation import quoted
from dlc.ir.tokens import Scanner, joined, name_text, names_text, wrapped
from dlc.ir.types import DTYPES, DType, tensor

_ROLES: Final[dict[str, BufferRole]] = {name: name for name in get_args(BufferRole)}
_KINDS: Final[dict[str, CombineKind]] = {name: name for name in get_args(CombineKind)}


def print_kernel(kernel: Kernel) -> str:
    """The text of a kernel."""
    printer = ExpressionPrinter(kernel)
    symbols = f"<{names_text(kernel.symbols)}>" if kernel.symbols else ""
    params = [f"{buffer_text(b)} {b.role}" for b in kernel.params]
    lines = joined(f"kernel {name_text(kernel.name)}{symbols}(", params, ") {", "    ")
    if kernel.doc:
        lines.append(f"  doc {quoted(kernel.doc)}")
    if kernel.locals:
        found = [buffer_text(b) + ("" if b.role == "local" else f" {b.role}")
                 for b in kernel.locals]
        lines += joined("  local ", found, "", "    ")
    if kernel.outer:
        lines += joined("  outer ", [index_text(i) for i in kernel.outer], "", "    ")
    for step in kernel.body:
        lines += _step(printer, step, "  ")
    return "\n".join([*lines, "}"]) + "\n"


def buffer_text(buffer: Buffer) -> str:
    """`x: f32[N, 5] @ (0/16, 1, 0)`"""
    return f"{name_text(buffer.name)}: {tensor_text(buffer.dtype, buffer.dims, buffer.layout)}"


def tensor_text(dtype: DType, dims: tuple[Dim, ...], layout: Layout) -> str:
    """`f32[N, 5] @ (0/16, 1, 0)`; nothing is said of the row-major order."""
    digits = [f"{axis}/{divisor}" if divisor != 1 else str(axis) for axis, divisor in layout.digits]
    return str(tensor(dtype, dims)) + (f" @ ({', '.join(digits)})" if digits else "")


def _step(printer: ExpressionPrinter, step: Compute | Seq | Opaque, indent: str) -> list[str]:
    if isinstance(step, Compute):
        return _compute(printer, step, indent)
    if isinstance(step, Opaque):
        text = [f"{indent}  {quoted(line)}" for line in step.text.split("\n")]
        return [f"{indent}opaque {{", *text, f"{indent}}}"]
    carried = f" carry {names_text(step.carried)}" if step.carried else ""
    reverse = " reverse" if step.reverse else ""
    lines = [f"{indent}seq {index_text(step.index)}{reverse}{carried} {{"]
    for inner in step.body:
        lines += _step(printer, inner, indent + "  ")
    return [*lines, f"{indent}}}"]


def _compute(printer: ExpressionPrinter, compute: Compute, indent: str) -> list[str]:
    target = printer.buffers.get(compute.target.buffer)
    combine = compute.combine
    head = _head(compute, target)
    lines, value = printer.body(compute, combine.dtype if combine else target)
    left = f"{indent}{access_text(compute.target, bare=not compute.target.at)} ="
    if lines:
        return [*wrapped(left, [*head, "{"], f"{indent}    "),
                *(f"{indent}  {line}" for line in (*lines, value)), f"{indent}}}"]
    if head:
        head[-1] += ":"
    return wrapped(left, [*head, value], f"{indent}    ")


def _head(compute: Compute, target: DType | None) -> list[str]:
    """What stands between `=` and the value, in parts that are not broken."""
    parts: list[str] = []
    combine = compute.combine
    if combine is not None:
        parts += ["tree"] * combine.tree + [combine.kind]
        parts += [] if combine.dtype is target else [str(combine.dtype)]
    elif compute.over:
        parts.append("over")
    parts += _with_commas([index_text(index) for index in compute.over])
    conditions = _with_commas([f"{dim} >= 0" for dim in compute.where])
    return [*parts, "where", *conditions] if conditions else parts


def _with_commas(items: list[str]) -> list[str]:
    return [f"{item}," for item in items[:-1]] + items[-1:]


def parse_kernel(text: str) -> Kernel:
    """The kernel that `text` writes down; TextError for anything else."""
    scan = Scanner(text)
    kernel = read_kernel(scan)
    scan.end()
    return kernel


def read_kernel(scan: Scanner) -> Kernel:
    """The kernel that comes next."""
    return _KernelParser(scan).kernel()


def read_layout(scan: Scanner) -> Layout:
    """`@ (0/16, 1, 0)`, or nothing."""
    def digit() -> tuple[int, int]:
        axis = scan.integer()
        return axis, scan.integer() if scan.take("/") else 1

    return Layout(scan.bracketed("(", ")", digit)) if scan.take("@") else ROW_MAJOR


def read_tensor(scan: Scanner) -> tuple[DType, tuple[Dim, ...], Layout]:
    """`f32[N, 5] @ (0/16, 1, 0)`"""
    dtype = scan.dtype()
    dims = scan.bracketed("[", "]", scan.dim) if scan.word == "[" else ()
    return dtype, dims, read_layout(scan)


class _KernelParser(ExpressionParser):
    """Reads one kernel."""

    def kernel(self) -> Kernel:
        """`kernel name<symbols>(params) { doc local outer body }`"""
        scan = self.scan
        scan.expect("kernel")
        name = scan.name()
        symbols = scan.bracketed("<", ">", scan.name) if scan.word == "<" else ()
        params = scan.bracketed("(", ")", lambda: self._buffer("in"))
        scan.expect("{")
        doc = scan.string() if scan.take("doc") else ""
        found = scan.items(lambda: self._buffer("local")) if scan.take("local") else ()
        outer = scan.items(self.index) if scan.take("outer") else ()
        body: list[Compute | Seq | Opaque] = []
        while not scan.take("}"):
            body.append(self._opaque() if scan.word == "opaque" else self._step())
        return Kernel(name, symbols, params, found, outer, tuple(body), doc)

    def _buffer(self, role: BufferRole) -> Buffer:
        name = self.scan.name()
        self.scan.expect(":")
        dtype, dims, layout = read_tensor(self.scan)
        scan = self.scan
        if role == "in" or (scan.word in _ROLES and scan.after not in ("=", "[", "else")):
            role = self._role()
        self.buffers[name] = Buffer(name, dtype, dims, role, layout)
        return self.buffers[name]

    def _role(self) -> BufferRole:
        if self.scan.word not in _ROLES:
            self.scan.fail(f"expected one of {', '.join(_ROLES)}, found {self.scan.word!r}")
        return _ROLES[self.scan.next("word")]

    def _opaque(self) -> Opaque:
        scan = self.scan
        scan.expect("opaque")
        scan.expect("{")
        lines = []
        while not scan.take("}"):
            lines.append(scan.string())
        return Opaque("\n".join(lines))

    def _step(self) -> Compute | Seq:
        return self._seq() if self.scan.word == "seq" else self._compute()

    def _seq(self) -> Seq:
        scan = self.scan
        scan.expect("seq")
        index = self.index()
        reverse = scan.take("reverse")
        carried = scan.items(scan.name) if scan.take("carry") else ()
        scan.expect("{")
        body = []
        while not scan.take("}"):
            body.append(self._step())
        return Seq(index, carried, tuple(body), reverse)

    def _compute(self) -> Compute:
        scan = self.scan
        target = self.access()
        scan.expect("=")
        dtype = self.buffers[target.buffer].dtype if target.buffer in self.buffers else None
        combine = self._combine(dtype)
        over: tuple[Index, ...] = ()
        if (combine and scan.word not in (":", "{", "where")) or scan.take("over"):
            over = scan.items(self.index)
        where = scan.items(self._condition) if scan.take("where") else ()
        if (combine or over or where) and scan.word != "{":
            scan.expect(":")
        body, value = self.body(combine.dtype if combine else dtype)
        return Compute(target, body, value, over, where, combine)

    def _combine(self, target: DType | None) -> Combine | None:
        scan = self.scan
        tree = scan.take("tree")
        if scan.word not in _KINDS:
            if tree:
                scan.fail(f"expected one of {', '.join(_KINDS)}, found {scan.word!r}")
            return None
        kind = _KINDS[scan.next("word")]
        written = scan.word in DTYPES and scan.after not in ("<", "<=")
        dtype = scan.dtype() if written else target
        if dtype is None:
            scan.fail("the type of the sum must be written here")
        return Combine(kind, dtype, tree)

    def _condition(self) -> Dim:
        dim = self.scan.dim()
        self.scan.expect(">=")
        self.scan.expect("0")
        return dim
