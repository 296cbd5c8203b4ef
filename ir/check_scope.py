"""What is in scope while Loops are checked, and which threads come to a statement together."""

from __future__ import annotations

from typing import NoReturn

from dlc.ir.dims import Dim, symbol, symbols
from dlc.ir.group_loops import GROUP
from dlc.ir.kernel_rules import KernelError
from dlc.ir.loops import LoopFunction
from dlc.ir.types import BOOL, DType

Kind = tuple[DType, int]  # an element type, and lanes
WARP = 32  # threads that go in step as far as shuffles are concerned
WIDTHS = (0, WARP, GROUP)  # threads that may have to come together: all, of a warp, of a group


class Scope:
    """One function under inspection, with what is in scope."""

    def __init__(self, function: LoopFunction) -> None:
        self.function = function
        self.indices = {"chunk", *function.symbols}
        self.indices |= {"thread"} if function.threads > 1 else set()
        self.indices |= {"chunk.after"} if function.together > 1 else set()
        # The indices that may differ from thread to thread, of each of `WIDTHS`; and how many loops
        # and conditions round here do.
        self.varying = tuple({"thread"} for _ in WIDTHS)
        self.apart = [0 for _ in WIDTHS]
        self.registers: dict[str, Kind] = {}
        self.buffers: dict[str, tuple[DType, bool]] = {}
        self.shared: set[str] = set()
        self.sizes: dict[str, int] = {}  # of memory that is allocated, in elements
        self.defined: set[str] = set()  # all registers and buffers ever defined
        self.place = ""

    def _define(self, name: str, dtype: DType, lanes: int) -> None:
        if lanes < 1:
            self._fail(f"{lanes} lanes")
        self._new(name)
        self.registers[name] = dtype, lanes

    def _new(self, name: str) -> None:
        if not name or name in self.defined:
            self._fail(f"{name or 'an empty name'} is defined already")
        self.defined.add(name)

    def _buffer(self, name: str, dtype: DType, writable: bool) -> None:
        self._new(name)
        self.buffers[name] = dtype, writable

    def _index(self, name: str) -> None:
        if not name or name in self.indices:
            self._fail(f"{name or 'an empty name'} is an index already")
        self.indices.add(name)

    def _dims(self, *dims: Dim) -> None:
        for dim in dims:
            unknown = symbols(dim) - self.indices
            if unknown:
                self._fail(f"{', '.join(sorted(unknown))} in {dim} is no index here")

    def _use(self, name: str) -> Kind:
        if name not in self.registers:
            self._fail(f"there is no register {name} here")
        return self.registers[name]

    def _expect(self, name: str, dtype: DType, lanes: int) -> None:
        found = self._use(name)
        if found != (dtype, lanes):
            self._fail(f"{name} is {_text(found)}, not {_text((dtype, lanes))}")

    def _element(self, buffer: str, dtype: DType, offset: Dim, write: bool = False) -> None:
        if buffer not in self.buffers:
            self._fail(f"there is no buffer {buffer} here")
        kind, writable = self.buffers[buffer]
        if kind is not dtype:
            self._fail(f"{buffer} holds {kind}, not {dtype}")
        if write and not writable:
            self._fail(f"{buffer} is only read")
        self._dims(offset)

    def _masked(self, mask: str, lanes: int) -> None:
        if mask:
            self._expect(mask, BOOL, lanes)

    def _shared_element(self, buffer: str, dtype: DType, offset: Dim) -> None:
        self._element(buffer, dtype, offset, write=True)
        if buffer not in self.shared:
            self._fail(f"{buffer} is not shared")

    def _together(self, width: int = 0) -> None:
        if self.apart[WIDTHS.index(width)]:
            self._fail("not all threads come here together")

    def _vary(self, name: str, *dims: Dim) -> None:
        """An index is new here; it differs between threads if one does in `dims`."""
        for varying, varies in zip(self.varying, self._varies(*dims), strict=True):
            varying.discard(name)
            varying.update({name} if varies else ())

    def _varies(self, *dims: Dim) -> list[bool]:
        """Whether a dim differs between the threads of each of `WIDTHS`."""
        return [any(_differs(dim, varying, width) for dim in dims)
                for varying, width in zip(self.varying, WIDTHS, strict=True)]

    def _enter_apart(self, *dims: Dim) -> list[int]:
        before = self.apart
        self.apart = [n + varies for n, varies in zip(before, self._varies(*dims), strict=True)]
        return before

    def _enter(self) -> tuple[set[str], dict[str, Kind], dict[str, tuple[DType, bool]]]:
        return set(self.indices), dict(self.registers), dict(self.buffers)

    def _leave(
        self, saved: tuple[set[str], dict[str, Kind], dict[str, tuple[DType, bool]]]
    ) -> None:
        self.indices, self.registers, self.buffers = saved

    def _fail(self, message: str) -> NoReturn:
        raise KernelError(self.function.name or "loops", self.place, message)


def _differs(dim: Dim, varying: set[str], width: int) -> bool:
    """Whether a dim may differ among so many threads that follow each other (0: among all); the
    quotient of `thread` by as many does not."""
    if isinstance(dim, int):
        return False
    for factor in (f for monomial, _ in dim.terms for f, _ in monomial):
        if isinstance(factor, str):
            if factor in varying:
                return True
        elif width and factor.kind == "//" and factor.left is symbol("thread") and isinstance(
                factor.right, int) and factor.right % width == 0:
            continue
        elif any(_differs(side, varying, width) for side in (factor.left, factor.right)):
            return True
    return False


def _text(kind: Kind) -> str:
    dtype, lanes = kind
    return f"{dtype}x{lanes}" if lanes > 1 else str(dtype)
