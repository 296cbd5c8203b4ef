"""Checks that a Kernel is well formed. A fault found here is one of the compiler."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn

from dlc.ir.check_loops import check_loops
from dlc.ir.check_schedule import check_schedule
from dlc.ir.dims import Dim, symbols
from dlc.ir.expression_text import access_text, index_text
from dlc.ir.kernel import (
    Access,
    Arg,
    Buffer,
    Combine,
    Compute,
    Index,
    IndexValue,
    Kernel,
    Number,
    Opaque,
    ScalarOp,
    Seq,
    computes,
)
from dlc.ir.kernel_rules import KernelError, TypeRuleError, result_dtype
from dlc.ir.types import DType

_PARAM_ROLES, _LOCAL_ROLES = ("in", "out", "inout", "placed"), ("local",)
_UNSET = ("local", "out")  # roles of buffers that hold nothing at first


def check_kernel(kernel: Kernel) -> None:
    """KernelError if `kernel` breaks a rule.

    Names are defined once, before their use; accesses have the rank of their buffer, and loaded
    indices are integers; ops have the types of the registry's rules; only what is writable is
    written, and outputs are; locals are written before they are read.
    """
    _Checker(kernel).run()


class _Checker:
    """One kernel under inspection: what is in scope, and what has been written."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.buffers: dict[str, Buffer] = {}
        self.indices: set[str] = set()
        self.ops: dict[str, DType] = {}
        self.defined: set[str] = set()  # names that nothing else may have
        self.written: set[str] = set()
        self.place = ""

    def run(self) -> None:
        """Checks all of it, in order."""
        for name in self.kernel.symbols:
            self._define("symbol", name)
        for buffer in self.kernel.params:
            self._buffer(buffer, _PARAM_ROLES)
        for buffer in self.kernel.locals:
            self._buffer(buffer, _LOCAL_ROLES)
        for index in self.kernel.outer:
            self._index(index)
        self._steps(self.kernel.body)
        self.place = ""
        for buffer in self.kernel.params:
            if buffer.role in ("out", "placed") and buffer.name not in self.written:
                self._fail(f"{buffer.name} is an output that is never written")

    def _define(self, what: str, name: str) -> None:
        if not name:
            self._fail(f"a {what} without a name")
        if name in self.defined:
            self._fail(f"the {what} {name} has the name of something else")
        self.defined.add(name)

    def _buffer(self, buffer: Buffer, roles: tuple[str, ...]) -> None:
        self.place = f"buffer {buffer.name}"
        self._define("buffer", buffer.name)
        self.buffers[buffer.name] = buffer
        if buffer.role not in roles:
            self._fail(f"its role is {buffer.role}, not one of {', '.join(roles)}")
        for dim in buffer.dims:
            self._dim(dim)
        self._layout(buffer)

    def _layout(self, buffer: Buffer) -> None:
        above: dict[int, int] = {}
        for axis, divisor in buffer.layout.digits:
            if not 0 <= axis < len(buffer.dims):
                self._fail(f"its layout has an axis {axis}, it has {len(buffer.dims)} dims")
            if divisor < 1 or above.get(axis, 0) % divisor or above.get(axis) == divisor:
                self._fail(f"its layout has digits of axis {axis} that do not divide each other")
            above[axis] = divisor
        if above and any(above.get(axis) != 1 for axis in range(len(buffer.dims))):
            self._fail("its layout has an axis without a last digit of divisor 1")

    def _index(self, index: Index) -> None:
        self.place = f"index {index_text(index)}"
        for bound in (index.low, index.high):
            self._bound(bound)
        self._define("index", index.name)
        self.indices.add(index.name)

    def _bound(self, bound: Dim | Access) -> None:
        if not isinstance(bound, Access):
            self._dim(bound)
        elif not self._read(bound).is_integer:
            self._fail(f"{access_text(bound)} is no integer")

    def _dim(self, dim: Dim) -> None:
        unknown = symbols(dim) - self.indices - set(self.kernel.symbols)
        if unknown:
            self._fail(f"{', '.join(sorted(unknown))} in {dim} is no index or symbol here")

    def _steps(self, steps: Iterable[Compute | Seq | Opaque]) -> None:
        for step in steps:
            if isinstance(step, Compute):
                self._compute(step)
            elif isinstance(step, Seq):
                self._seq(step)
            else:
                self.written.update(self.buffers)  # what is in it is not known here

    def _seq(self, seq: Seq) -> None:
        self.place = f"seq {index_text(seq.index)}"
        for name in seq.carried:
            if name not in self.buffers or self.buffers[name].role not in _LOCAL_ROLES:
                self._fail(f"{name} is carried, and no local")
            if name not in self.written:
                self._fail(f"{name} is carried, and has no value before the loop")
        saved, before = self._enter(), set(self.written)
        self._index(seq.index)
        # A local keeps one meaning over turns if it is carried, or if no turn writes it.
        turned = {c.target.buffer for c in computes(seq.body)} - set(seq.carried)
        turned = {name for name in turned if name in self.buffers and self._is_local(name)}
        self.written -= turned
        self._steps(seq.body)
        self.written -= turned | {n for n in self.written - before if self._is_local(n)}
        self._leave(saved)

    def _is_local(self, name: str) -> bool:
        return self.buffers[name].role in _LOCAL_ROLES

    def _enter(self) -> tuple[set[str], dict[str, DType], set[str]]:
        return set(self.indices), dict(self.ops), set(self.defined)

    def _leave(self, saved: tuple[set[str], dict[str, DType], set[str]]) -> None:
        """Forgets indices and ops of a scope; names of indices may be used again."""
        inner = self.indices - saved[0]
        self.indices, self.ops = saved[0], saved[1]
        self.defined -= inner

    def _compute(self, compute: Compute) -> None:
        place = f"{access_text(compute.target, bare=not compute.target.at)} = …"
        saved = self._enter()
        for index in compute.over:
            self._index(index)
        self.place = place
        for dim in compute.where:
            self._dim(dim)
        for op in compute.body:
            self._op(op)
            self.place = place
        value = self._arg(compute.value)
        target = self._target(compute.target)
        self._over(compute)
        if compute.combine is None:
            if value is not target:
                self._fail(f"the value is {value}, the target {target}")
        else:
            self._combine(compute, compute.combine, value, target)
        if compute.over or compute.where or compute.combine:
            self._leave(saved)  # ops of a loop are not known after it

    def _over(self, compute: Compute) -> None:
        free = _names(compute.target)
        for index in compute.over:
            if compute.combine is None and index.name not in free:
                self._fail(f"{index.name} is neither in the target nor reduced")

    def _combine(self, compute: Compute, combine: Combine, value: DType, target: DType) -> None:
        reduced = [i.name for i in compute.over if i.name not in _names(compute.target)]
        if combine.dtype is not target:
            self._fail(f"the {combine.kind} is {combine.dtype}, the target {target}")
        if combine.kind in ("argmax", "argmin"):
            if not combine.dtype.is_integer or len(reduced) != 1:
                self._fail(f"{combine.kind} gives an integer, over one index")
        elif value is not combine.dtype:
            self._fail(f"the value is {value}, the {combine.kind} {combine.dtype}")
        if combine.tree:
            place = compute.value
            if combine.kind != "sum" or len(reduced) != 1 or not isinstance(place, Access):
                self._fail("a tree is a sum of elements over one index")
            if self.buffers[place.buffer].role == "in":
                self._fail(f"a tree adds up in place, and {place.buffer} is only read")

    def _target(self, target: Access) -> DType:
        buffer = self._element(target)
        if buffer.role == "in":
            self._fail(f"{buffer.name} is only read, and can't be written")
        if target.fill is not None:
            self._fail("a target has no value outside")
        self.written.add(buffer.name)
        return buffer.dtype

    def _read(self, access: Access) -> DType:
        buffer = self._element(access)
        if buffer.role in _UNSET and buffer.name not in self.written:
            self._fail(f"{buffer.name} is read before it is written")
        if buffer.role == "placed":
            self._fail(f"{buffer.name} is written at loaded places, and can't be read")
        if access.fill is not None:
            self._number(Number(buffer.dtype, access.fill))
        return buffer.dtype

    def _element(self, access: Access) -> Buffer:
        buffer = self.buffers.get(access.buffer)
        if buffer is None:
            self._fail(f"there is no buffer {access.buffer}")
        if len(access.at) != len(buffer.dims):
            self._fail(f"{access_text(access)} has {len(access.at)} indices, "
                       f"{buffer.name} has {len(buffer.dims)} dims")
        for at in access.at:
            self._bound(at)
        return buffer

    def _op(self, op: ScalarOp) -> None:
        self.place = f"{op.name} = {op.op}(…)"
        operands = tuple(map(self._arg, op.args))
        try:
            dtype = result_dtype(op.op, operands, op.attrs)
        except (TypeRuleError, LookupError, ValueError, AssertionError) as error:
            self._fail(str(error))
        if dtype is not op.dtype:
            self._fail(f"it says {op.dtype}, its operands give {dtype}")
        self._define("op", op.name)
        self.ops[op.name] = dtype

    def _arg(self, arg: Arg) -> DType:
        if isinstance(arg, str):
            if arg not in self.ops:
                self._fail(f"there is no op {arg} before")
            return self.ops[arg]
        if isinstance(arg, Access):
            return self._read(arg)
        if isinstance(arg, IndexValue):
            self._dim(arg.value)
        else:
            self._number(arg)
        return arg.dtype

    def _number(self, number: Number) -> None:
        if not number.dtype.is_float and number.value % 1 != 0:  # nan and inf too
            self._fail(f"{number.value} is no {number.dtype}")

    def _fail(self, message: str) -> NoReturn:
        raise KernelError(self.kernel.name or "kernel", self.place, message)


def _names(access: Access) -> set[str]:
    """The names in an access, those of loaded indices too."""
    found: set[str] = set()
    for at in access.at:
        found |= _names(at) if isinstance(at, Access) else symbols(at)
    return found


__all__ = ["KernelError", "check_kernel", "check_loops", "check_schedule"]
