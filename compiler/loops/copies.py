"""Applying a GPU's schedule: what the threads of a block copy into shared memory together.

A piece of `depth` lines is copied; each thread has some elements of it. An element that does not
count, for it would lie outside, is 0, and memory is not touched for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dlc.compiler.kernels.products import is_read, needed, reads
from dlc.compiler.loops.builder import Register
from dlc.compiler.loops.threads import OnThreads
from dlc.ir.dims import Dim, ceildiv, floordiv, mod, symbol
from dlc.ir.kernel import Arg, Compute
from dlc.ir.types import BOOL, DType

PAD = 4  # elements after each line: those that stand in a column lie in different banks


class Copying(OnThreads):
    """Copies factors of products. `keep` is whether the place counts that is read here."""

    keep: Register | None = None

    def copy(
        self, memory: str, size: int, depth: int, along: bool,
        element: Callable[[Dim, Dim], Register],
    ) -> None:
        """Each thread's part of `depth` lines of `size` elements: number m of line k is
        `element(k, m)`. Neighbouring threads take neighbouring lines if memory lies `along` them.
        """

        def one(number: Dim, k: Dim, m: Dim) -> None:
            self.out.store(memory, k * (size + PAD) + m, element(k, m))
            self.keep = None

        self._each(size, depth, along, one)

    def load(
        self, dtype: DType, size: int, depth: int, along: bool,
        element: Callable[[Dim, Dim], Register],
    ) -> str:
        """As `copy`, into registers: memory of the thread's own."""
        held = self.out.alloc("held", dtype, -(-size * depth // self.schedule.threads))

        def one(number: Dim, k: Dim, m: Dim) -> None:
            self.out.store(held, number, element(k, m))
            self.keep = None

        self._each(size, depth, along, one)
        return held

    def put(
        self, held: str, dtype: DType, memory: tuple[str, Dim], size: int, depth: int, along: bool
    ) -> None:
        """Copies what was loaded to a place in shared memory."""
        name, first = memory

        def one(number: Dim, k: Dim, m: Dim) -> None:
            self.out.store(name, first + k * (size + PAD) + m, self.out.load(held, number, dtype))

        self._each(size, depth, along, one)

    def _each(
        self, size: int, depth: int, along: bool, one: Callable[[Dim, Dim, Dim], None]
    ) -> None:
        """Each element of this thread's part: its number, its line, and its place there."""
        threads, var, all_of = self.schedule.threads, self.out.fresh("e"), size * depth
        turns = ceildiv(all_of, threads)
        self.span(var, 0, turns - 1)
        with self.out.block() as body:
            at = symbol(var) * threads + symbol("thread")
            with self.out.block() as inside:
                k = self.named("k", mod(at, depth) if along else floordiv(at, size), depth - 1)
                m = self.named("m", floordiv(at, depth) if along else mod(at, size), size - 1)
                one(symbol(var), k, m)
            if all_of % threads:
                self.out.when((all_of - 1 - at,), inside)
            else:
                self.out.blocks[-1] += inside
        self.out.loop(var, 0, turns, body, unrolled=True)

    def keep_where(self, below: Sequence[tuple[Dim, Dim]]) -> None:
        """From here on a place counts where each of these numbers is below the other one."""
        masks = [Register(self.out.mask(at, bound, 1), BOOL) for at, bound in below]
        self.keep = self._all(masks) if masks else None

    def kept(self, compute: Compute, value: Arg) -> Register:
        """A factor of a product where the indices stand; 0 where the place does not count."""
        for op in needed(compute, value):
            self.names[op.name] = self.out.apply(
                op.op, tuple(self.arg(a) for a in op.args), op.dtype, op.attrs)
        found = self.arg(value)
        plain = is_read(compute, value) and not any(a.fill for a in reads(compute, value))
        if self.keep is None or plain:  # what is not read is 0
            return found
        zero = self.out.constant(found.dtype, 0.0)
        return self.out.apply("select", (self.keep, found, zero), found.dtype)

    def _load_at(self, name: str, offset: Dim) -> Register:
        """An element, which is not touched where the place does not count."""
        if self.keep is None:
            return super()._load_at(name, offset)
        return self.out.load(name, offset, self.kernel.buffer(name).dtype, 1, self.keep.name)

    def _inside(self, keep: list[Register]) -> list[Register]:
        return keep if self.keep is None else [self.keep, *keep]


def in_packs(number: Dim, thread: Dim, threads: int, pack: int) -> Dim:
    """Which row (or column) of a tile is that with this number of a thread's own, of which it has
    packs side by side."""
    return floordiv(number, pack) * (pack * threads) + thread * pack + mod(number, pack)
