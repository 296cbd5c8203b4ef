"""Collects Loops statements: nested blocks, fresh names, and values that a block knows already."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import field

from dlc.ir.dataclass import dataclass
from dlc.ir.dims import Dim, symbol
from dlc.ir.loops import (
    Alloc,
    Apply,
    AsIndex,
    Barrier,
    Const,
    Copies,
    Copy,
    Exchange,
    Fetch,
    For,
    Fragments,
    If,
    IndexOf,
    LaneOp,
    LaneReduce,
    Load,
    LoadIndex,
    Mask,
    Matrices,
    Shuffle,
    Splat,
    Statement,
    Store,
    Tensor,
)
from dlc.ir.types import DType


@dataclass(frozen=True, slots=True)
class Register:
    """A value in the code: its name, element type and lanes (1: a scalar)."""

    name: str
    dtype: DType
    lanes: int = 1


@dataclass(slots=True)
class LoopBuilder:
    """Statements in the making. What a block has computed is known in the blocks inside it."""

    blocks: list[list[Statement]] = field(default_factory=lambda: [[]])
    known: list[dict[Hashable, Register]] = field(default_factory=lambda: [{}])
    count: int = 0

    def fresh(self, hint: str) -> str:
        """A name not used yet."""
        self.count += 1
        return f"{hint}{self.count}"

    def add(self, statement: Statement) -> None:
        """Appends a statement to the innermost block."""
        self.blocks[-1].append(statement)

    @contextmanager
    def block(self) -> Iterator[list[Statement]]:
        """A nested block; the statements made inside are in the list that is given."""
        self.blocks.append([])
        self.known.append({})
        try:
            yield self.blocks[-1]
        finally:
            self.blocks.pop()
            self.known.pop()

    def recall(self, key: Hashable) -> Register | None:
        """What is known under `key` here."""
        for known in reversed(self.known):
            if key in known:
                return known[key]
        return None

    def remember(self, key: Hashable, value: Register) -> Register:
        """Makes `value` known in this block."""
        self.known[-1][key] = value
        return value

    def forget_memory(self) -> None:
        """After a store: what was loaded may have changed."""
        for known in self.known:
            for key in [k for k in known if isinstance(k, tuple) and k[0] == "load"]:
                del known[key]

    def constant(self, dtype: DType, value: float, lanes: int = 1) -> Register:
        """A number in all lanes."""
        key = ("const", dtype, repr(value), lanes)
        found = self.recall(key)
        if found is None:
            found = self.remember(key, Register(self.fresh("c"), dtype, lanes))
            self.add(Const(found.name, value, dtype, lanes))
        return found

    def index(self, dtype: DType, value: Dim, lanes: int = 1, step: int = 0) -> Register:
        """An index expression as a number."""
        found = Register(self.fresh("x"), dtype, lanes)
        self.add(IndexOf(found.name, value, dtype, lanes, step))
        return found

    def mask(
        self, base: Dim, bound: Dim, lanes: int, low: Dim | None = None, step: int = 1
    ) -> str:
        """The lanes that are inside `bound`, and not below `low`."""
        key = ("mask", str(base), str(bound), lanes, str(low), step)
        found = self.recall(key)
        if found is None:
            from dlc.ir.types import BOOL

            found = self.remember(key, Register(self.fresh("m"), BOOL, lanes))
            self.add(Mask(found.name, base, bound, lanes, low, step))
        return found.name

    def load(
        self, buffer: str, offset: Dim, dtype: DType, lanes: int = 1, mask: str = ""
    ) -> Register:
        """Elements of a buffer."""
        key = ("load", buffer, str(offset), lanes, mask)
        found = self.recall(key)
        if found is None:
            found = self.remember(key, Register(self.fresh("v"), dtype, lanes))
            self.add(Load(found.name, buffer, offset, dtype, lanes, mask))
        return found

    def load_index(self, buffer: str, offset: Dim, dtype: DType, constant: bool) -> Dim:
        """An integer element as an index; what is `constant` is never written here."""
        key = ("index" if constant else "load", "index", buffer, str(offset))
        found = self.recall(key)
        if found is None:
            found = self.remember(key, Register(self.fresh("at"), dtype))
            self.add(LoadIndex(found.name, buffer, offset, dtype))
        return symbol(found.name)

    def as_index(self, value: Register) -> Dim:
        """An integer in a register as an index."""
        key = ("as index", value.name)
        found = self.recall(key)
        if found is None:
            found = self.remember(key, Register(self.fresh("at"), value.dtype))
            self.add(AsIndex(found.name, value.name, value.dtype))
        return symbol(found.name)

    def store(self, buffer: str, offset: Dim, value: Register, mask: str = "") -> None:
        """Writes elements of a buffer."""
        self.add(Store(buffer, offset, value.name, value.dtype, value.lanes, mask))
        self.forget_memory()
        if not mask:  # under a mask, a load gives 0 in the other lanes
            self.remember(("load", buffer, str(offset), value.lanes, mask), value)

    def fetch(self, buffer: str, offset: Dim, dtype: DType) -> None:
        """Asks for memory that will be read."""
        self.add(Fetch(buffer, offset, dtype))

    def widen(self, value: Register, lanes: int) -> Register:
        """A scalar in all lanes; a vector as it is."""
        if value.lanes == lanes:
            return value
        key = ("splat", value.name, lanes)
        found = self.recall(key)
        if found is None:
            found = self.remember(key, Register(self.fresh("s"), value.dtype, lanes))
            self.add(Splat(found.name, value.name, value.dtype, lanes))
        return found

    def apply(
        self, op: str, args: tuple[Register, ...], dtype: DType,
        attrs: tuple[tuple[str, int | DType], ...] = (),
    ) -> Register:
        """An op of registers; scalars are widened where another is a vector."""
        lanes = max((a.lanes for a in args), default=1)
        wide = tuple(self.widen(a, lanes) for a in args)
        out = Register(self.fresh("t"), dtype, lanes)
        self.add(Apply(out.name, op, tuple(a.name for a in wide), dtype, wide[0].dtype, lanes,
                       attrs))
        return out

    def over_lanes(self, op: LaneOp, value: Register) -> Register:
        """The lanes of a vector combined in a tree."""
        found = Register(self.fresh("h"), value.dtype)
        self.add(LaneReduce(found.name, op, value.name, value.dtype, value.lanes))
        return found

    def shuffle(self, value: Register, distance: int) -> Register:
        """A scalar of the thread whose number differs in the bit `distance`."""
        found = Register(self.fresh("o"), value.dtype)
        self.add(Shuffle(found.name, value.name, distance, value.dtype))
        return found

    def barrier(self, warp: bool = False) -> None:
        """A barrier; what was loaded before may have been written since."""
        self.add(Barrier(warp))
        self.forget_memory()

    def copy(
        self, memory: tuple[str, Dim], source: tuple[str, Dim], dtype: DType, lanes: int,
        mask: str = "",
    ) -> None:
        """Starts to copy elements into shared memory; zeros where the mask is off."""
        self.add(Copy(*memory, *source, dtype, lanes, mask))

    def end_copies(self) -> None:
        """What was started is a group."""
        self.add(Copies())

    def wait_for_copies(self, pending: int) -> None:
        """Waits until at most so many groups are on their way."""
        self.add(Copies(pending))

    def matrices(
        self, buffer: str, places: tuple[Dim, ...], dtype: DType, turned: bool
    ) -> Register:
        """This thread's part of four matrices in shared memory."""
        made = Matrices(self.fresh("w"), buffer, places, dtype, turned)
        self.add(made)
        return Register(made.name, made.word, 4)

    def fragments(self, values: list[Register], dtype: DType) -> Register:
        """What this thread has as sums, as its part of the left matrices of a product."""
        made = Fragments(self.fresh("f"), tuple(v.name for v in values), dtype)
        self.add(made)
        return Register(made.name, made.word, 4)

    def tensor(
        self, left: Register, right: Register, second: bool, sums: Register, dtype: DType
    ) -> Register:
        """Sums plus a product of matrices."""
        found = Register(self.fresh("p"), sums.dtype, sums.lanes)
        self.add(Tensor(found.name, left.name, right.name, second, sums.name, dtype))
        return found

    def exchange(
        self, first: Register, second: Register, distance: int
    ) -> tuple[Register, Register]:
        """Two vectors with lanes `distance` apart exchanged."""
        made = []
        for upper in (False, True):
            made.append(Register(self.fresh("e"), first.dtype, first.lanes))
            self.add(Exchange(made[-1].name, first.name, second.name, distance, upper, first.dtype,
                              first.lanes))
        return made[0], made[1]

    def transpose(self, rows: list[Register]) -> list[Register]:
        """As many vectors as they have lanes: lane k of vector i becomes lane i of vector k."""
        rows, distance = list(rows), 1
        while distance < len(rows):
            for i in range(len(rows)):
                if not i & distance:
                    j = i + distance
                    rows[i], rows[j] = self.exchange(rows[i], rows[j], distance)
            distance *= 2
        return rows

    def loop(
        self, var: str, low: Dim, high: Dim, body: list[Statement], step: Dim = 1,
        carried: tuple[tuple[str, Register], ...] = (), after: tuple[Register, ...] = (),
        following: tuple[Register, ...] = (), unrolled: bool | None = None,
    ) -> None:
        """Appends a loop over statements collected before."""
        self.add(For(
            var, low, high, tuple(body), step,
            tuple((name, r.name, r.dtype, r.lanes) for name, r in carried),
            tuple(r.name for r in following), tuple(r.name for r in after), unrolled))

    def when(self, conditions: tuple[Dim, ...], body: list[Statement]) -> None:
        """Appends a block that runs if all conditions are >= 0."""
        self.add(If(conditions, tuple(body)))

    def alloc(
        self, hint: str, dtype: DType, size: int, zeroed: bool = False, shared: bool = False
    ) -> str:
        """Memory that stands at the head of the function: the stack's, or shared by threads."""
        name = self.fresh(hint)
        self.blocks[0].insert(0, Alloc(name, dtype, size, zeroed, shared))
        return name
