"""Masks, and memory that is read or written under them.

Where the CPU has no instruction for it, LLVM would branch for each lane, with the mask taken apart
on the stack. There a lane that is off goes to a place of its own instead: it reads zeros and
writes what nobody reads. All lanes at once do if they are on or off together.
"""

from __future__ import annotations

from collections.abc import Iterator

from dlc.compiler.llvm.index import Indices
from dlc.compiler.llvm.target import Target
from dlc.compiler.llvm.text import Operand, Writer, element, number, stored, suffix, vector
from dlc.ir.dataclass import dataclass
from dlc.ir.dims import Dim
from dlc.ir.loops import Load, Mask, Store
from dlc.ir.types import BOOL, I8, I16, I32, I64, DType

LINE = 64  # bytes of a cache line; stack buffers are aligned to it


@dataclass(frozen=True, slots=True)
class Test:
    """Which lanes are on: all or none by an i1 (`lanes` is empty), or those whose number is less
    (`lanes` is `sgt`) than an i64, or is not (`sle`)."""

    value: str
    lanes: str = ""


class MaskEmitter:
    """Emits masks, and what goes by them."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.writer = Writer()
        self.indices = Indices(self.writer)
        self.values: dict[str, Operand] = {}
        self.tests: dict[str, tuple[Test, ...]] = {}  # of the registers that hold masks
        self.depths: dict[str, int] = {}  # the scopes that these are made in
        self.halves: dict[str, tuple[Operand, Operand]] = {}  # of those that are two others
        self.pointers: dict[str, str] = {}

    def mask(self, s: Mask) -> None:
        """Makes a mask, where all that it depends on is known."""
        above = self.indices.resolve(s.bound - s.base)
        below: Dim = 0 if s.low is None else self.indices.resolve(s.low - s.base)
        sure = self.indices.range(below)[1] <= 0
        depth = max(self.indices.depth(above), 0 if sure else self.indices.depth(below))
        scope = self.writer.scopes[depth]
        key = ("mask", above, 0 if sure else below, s.lanes, s.step)
        if key not in scope.known:
            make = self._make_mask if s.step else self._alike
            made = make(above, s.lanes, "slt", depth)
            if not sure:
                other = make(below, s.lanes, "sge", depth)
                made = self._both(*(Operand(m, BOOL, s.lanes) for m in (made, other)))
            scope.known[key] = made
        self.values[s.name] = Operand(scope.known[key], BOOL, s.lanes)

    def _alike(self, distance: Dim, lanes: int, compare: str, depth: int) -> str:
        """All lanes, or none: whether 0 is below (`slt`) `distance`, or is not (`sge`)."""
        value = self.indices.value(distance)
        one = self.writer.emit(f"icmp {compare} i64 0, {value}", "m", depth)
        made = self.spread(Operand(one, BOOL), lanes, depth).text if lanes > 1 else one
        self.tests[made], self.depths[made] = (Test(one),), depth
        return made

    def _make_mask(self, distance: Dim, lanes: int, compare: str, depth: int) -> str:
        """The lanes below (`slt`) `distance`, or those from there on (`sge`).

        It is clamped, so that a compare of narrow numbers is enough.
        """
        if lanes == 1:
            return self._alike(distance, lanes, compare, depth)
        left = self.indices.value(distance)
        emit = self.writer.emit
        dtype = I32 if lanes <= 16 else I16 if lanes <= 32 else I8
        low = emit(f"call i64 @llvm.smax.i64(i64 {left}, i64 0)", "m", depth)
        few = emit(f"call i64 @llvm.smin.i64(i64 {low}, i64 {lanes})", "m", depth)
        small = emit(f"trunc i64 {few} to {element(dtype)}", "m", depth)
        spread = self.spread(Operand(small, dtype), lanes, depth)
        numbers = self.writer.ready(lane_numbers(dtype, lanes, 1), depth)
        made = emit(f"icmp {compare} {numbers}, {spread.text}", "m", depth)
        self.tests[made] = (Test(few, "sgt" if compare == "slt" else "sle"),)
        self.depths[made] = depth
        return made

    def both(self, args: list[Operand]) -> Operand | None:
        """Where two masks are on, made where both are known; None of anything else."""
        if not all(arg.text in self.tests for arg in args):
            return None
        return Operand(self._both(*args), BOOL, args[0].lanes)

    def _both(self, a: Operand, b: Operand) -> str:
        depth = max(self.depths[a.text], self.depths[b.text])
        made = self.writer.once(("both", a.text, b.text), f"and {a}, {b.text}", "m", depth)
        self.tests[made] = (*self.tests[a.text], *self.tests[b.text])
        self.depths[made], self.halves[made] = depth, (a, b)
        return made

    def spread(self, scalar: Operand, lanes: int, depth: int | None = None) -> Operand:
        """A scalar in all lanes."""
        if scalar.is_constant:
            return Operand(f"splat ({element(scalar.dtype)} {scalar.text})", scalar.dtype, lanes)
        kind = vector(element(scalar.dtype), lanes)
        one = self.writer.emit(f"insertelement {kind} poison, {scalar}, i64 0", "s", depth)
        text = (f"shufflevector {kind} {one}, {kind} poison,"
                f" <{lanes} x i32> zeroinitializer")
        return Operand(self.writer.emit(text, "s", depth), scalar.dtype, lanes)

    def masked_load(self, s: Load, place: str) -> str:
        """The lanes that are on; zeros in the others."""
        tests = self._apart(s.mask, s.dtype)
        if tests is not None:
            return self._load_apart(s, place, tests)
        one = stored(s.dtype)
        kind, mask = f"<{s.lanes} x {one}>", self._mask_vector(s.mask, s.dtype)
        name = f"@llvm.masked.load.v{s.lanes}{suffix(one)}.p0"
        loaded = self.writer.emit(
            f"call {kind} {name}(ptr {place}, i32 {s.dtype.size}, {mask},"
            f" {kind} zeroinitializer)", s.name)
        if s.lanes > 1:
            return loaded
        return self.writer.emit(f"extractelement {kind} {loaded}, i64 0", s.name)

    def masked_store(self, s: Store, place: str, text: str) -> None:
        """Stores the lanes that are on."""
        one = stored(s.dtype)
        tests = self._apart(s.mask, s.dtype)
        if tests is not None:
            self._store_apart(s, place, text, tests)
            return
        kind = f"<{s.lanes} x {one}>"
        if s.lanes == 1:
            text = self.writer.emit(f"insertelement {kind} poison, {one} {text}, i64 0", "s")
        name = f"@llvm.masked.store.v{s.lanes}{suffix(one)}.p0"
        mask = self._made_again(s.mask, s.dtype) or self._mask_vector(s.mask, s.dtype)
        self.writer.line(
            f"call void {name}({kind} {text}, ptr {place}, i32 {s.dtype.size}, {mask})")

    def _mask_vector(self, name: str, dtype: DType) -> str:
        """A mask with its type, a vector even for one lane."""
        mask = self.values[name]
        if mask.lanes > 1 and mask.text in self.depths and self.target.masks_by_sign:
            return f"<{mask.lanes} x i1> {self._by_sign(mask, dtype)}"
        if mask.lanes > 1:
            return str(mask)
        return f"<1 x i1> {self.writer.emit(f'bitcast {mask} to <1 x i1>', 'm')}"

    def _made_again(self, name: str, dtype: DType) -> str:
        """A mask made a second time, of a number that no vector register holds meanwhile, where
        values leave no room for it from the first load to the last store of a turn; else empty."""
        mask = self.values[name]
        tests = self.tests.get(mask.text, ())
        if self.writer.kept is None or not self.target.masks_by_sign or len(tests) != 1 or (
                not tests[0].lanes or self.depths[mask.text] != self.writer.depth):
            return ""
        wide = I64 if dtype.size == 8 else I32
        first = Operand(self.writer.emit(f"sub i64 {tests[0].value}, 1", "m"), I64)
        if wide is I32:
            first = Operand(self.writer.emit(f"trunc {first} to i32", "m"), I32)
        bound, numbers = self.spread(first, mask.lanes), lane_numbers(wide, mask.lanes, 1, -1)
        compare = "slt" if tests[0].lanes == "sgt" else "sge"
        text = f"icmp {compare} {self.writer.ready(numbers)}, {bound.text}"
        return f"<{mask.lanes} x i1> {self.writer.emit(text, 'm')}"

    def _by_sign(self, mask: Operand, dtype: DType) -> str:
        """A mask out of lanes as wide as elements, as the instruction takes it: LLVM would keep
        lanes of 16 bits round a loop, and widen them in each turn."""
        signs = self._signs(mask, I64 if dtype.size == 8 else I32)
        return self.writer.once(
            ("negative", signs.text), f"icmp slt {signs}, zeroinitializer", "m")

    def _signs(self, mask: Operand, dtype: DType) -> Operand:
        """Integers, below 0 in the lanes that are on."""
        depth, key = self.depths[mask.text], ("signs", mask.text, dtype)
        found = self.writer.scopes[depth].known.get(key)
        if found is None:
            found = self.writer.scopes[depth].known[key] = self._made_signs(mask, dtype, depth)
        return Operand(found, dtype, mask.lanes)

    def _made_signs(self, mask: Operand, dtype: DType, depth: int) -> str:
        if mask.text in self.halves:
            a, b = (self._signs(half, dtype) for half in self.halves[mask.text])
            return self.writer.emit(f"and {a}, {b.text}", "m", depth)
        (test,) = self.tests[mask.text]
        if test.lanes:
            return self.writer.emit(
                f"sext {mask} to {vector(element(dtype), mask.lanes)}", "m", depth)
        one = self.writer.emit(f"sext i1 {test.value} to {element(dtype)}", "m", depth)
        return self.spread(Operand(one, dtype), mask.lanes, depth).text

    def _apart(self, mask: str, dtype: DType) -> tuple[Test, ...] | None:
        """The tests to go by, if not by the mask."""
        tests = self.tests.get(self.values[mask].text)
        if tests is None or self.target.masks(dtype, any(t.lanes for t in tests)):
            return None
        return tests

    def _load_apart(self, s: Load, place: str, tests: tuple[Test, ...]) -> str:
        one = stored(s.dtype)
        base = self._unless_off(place, tests, "nothing")
        if not any(t.lanes for t in tests):
            return self.writer.emit(
                f"load {vector(one, s.lanes)}, ptr {base}, align {s.dtype.size}", s.name)
        kind, made = vector(one, s.lanes), "zeroinitializer"
        for lane, at in self._lanes_on(s.dtype, s.lanes, base, tests, "nothing"):
            value = self.writer.emit(f"load {one}, ptr {at}, align {s.dtype.size}", s.name)
            made = self.writer.emit(
                f"insertelement {kind} {made}, {one} {value}, i64 {lane}", s.name)
        return made

    def _store_apart(self, s: Store, place: str, text: str, tests: tuple[Test, ...]) -> None:
        one = stored(s.dtype)
        kind = vector(one, s.lanes)
        base = self._unless_off(place, tests, "nowhere")
        if not any(t.lanes for t in tests):
            self.writer.line(f"store {kind} {text}, ptr {base}, align {s.dtype.size}")
            return
        for lane, at in self._lanes_on(s.dtype, s.lanes, base, tests, "nowhere"):
            value = self.writer.emit(f"extractelement {kind} {text}, i64 {lane}", "s")
            self.writer.line(f"store {one} {value}, ptr {at}, align {s.dtype.size}")

    def _unless_off(self, place: str, tests: tuple[Test, ...], other: str) -> str:
        """The place, or another where all lanes are off."""
        for test in tests:
            if not test.lanes:
                place = self._chosen(test.value, place, other)
        return place

    def _lanes_on(
        self, dtype: DType, lanes: int, base: str, tests: tuple[Test, ...], other: str
    ) -> Iterator[tuple[int, str]]:
        """The place of each lane, or another if it is off."""
        for lane in range(lanes):
            place = self.indices.address(base, stored(dtype), lane)
            for test in tests:
                if test.lanes:
                    on = self.writer.emit(f"icmp {test.lanes} i64 {test.value}, {lane}", "on")
                    place = self._chosen(on, place, other)
            yield lane, place

    def _chosen(self, on: str, place: str, other: str) -> str:
        return self.writer.emit(f"select i1 {on}, ptr {place}, ptr {self._spare(other)}", "p")

    def _spare(self, name: str) -> str:
        """Memory of this call beside all buffers: zeros, or to be written."""
        key = ("spare", name)
        known = self.writer.scopes[0].known
        if key not in known:
            known[key] = self.writer.fresh(name)
            self.writer.allocas += [
                f"  {known[key]} = alloca <{LINE} x i8>, align {LINE}",
                f"  store <{LINE} x i8> zeroinitializer, ptr {known[key]}, align {LINE}"]
        return known[key]


def lane_numbers(dtype: DType, lanes: int, step: int, first: int = 0) -> Operand:
    """The vector first, first + step, first + 2 step, …"""
    kind = element(dtype)
    numbers = ", ".join(f"{kind} {number(dtype, first + lane * step)}" for lane in range(lanes))
    return Operand(f"<{numbers}>", dtype, lanes)
