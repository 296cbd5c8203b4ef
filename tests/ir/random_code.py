"""Random kernels, schedules and loops that are well formed, for tests of their text and checks.

The same seed with other names gives the same kernel up to names.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Literal

from dlc.ir.dims import Dim, ceildiv, maximum, minimum, symbol
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
    ScalarOp,
    Seq,
    blocked,
)
from dlc.ir.loops import (
    Alloc,
    Apply,
    AsIndex,
    Const,
    Exchange,
    Fetch,
    For,
    If,
    IndexOf,
    LaneReduce,
    Let,
    Load,
    LoadIndex,
    LoopFunction,
    Mask,
    Pointer,
    Splat,
    Statement,
    Store,
)
from dlc.ir.schedule import Schedule, Tile
from dlc.ir.types import BOOL, F32, F64, I32, I64

Names = Callable[[str, int], str]  # (kind, number) -> a name
NUMBERS = (0.0, -0.0, 1.0, 0.1, -2.5e-30, 3e38, math.nan, math.inf, -math.inf, 7)


def plain(kind: str, number: int) -> str:
    """Names as the compiler gives them: p0, i1, t2."""
    return f"{kind}{number}"


def strange(kind: str, number: int) -> str:
    """Names in another order, some of which the text has to quote."""
    odd = number % 5 == 3 and kind in ("p", "l", "t")
    return f"{'sum' if odd else 'zyxw'[number % 4]} {kind}{number}" if odd else (
        f"{'ZYXW'[number % 4] if kind == 'S' else 'zyxw'[number % 4]}.{kind}{number}")


class KernelMaker:
    """Makes one random kernel."""

    def __init__(self, seed: int, names: Names = plain) -> None:
        self.rng = random.Random(seed)
        self.names = names
        self.counts: dict[str, int] = {}
        self.scope: list[str] = []  # indices
        self.ops: list[tuple[str, list[ScalarOp]]] = []
        self.body: list[ScalarOp] = []
        self.seen: list[str] = []  # ops that are known here

    def name(self, kind: str) -> str:
        """A new name."""
        number = self.counts[kind] = self.counts.get(kind, -1) + 1
        return self.names(kind, number)

    def kernel(self) -> Kernel:
        """Reads of all kinds, a reduction, an ordered loop, and outputs."""
        rng = self.rng
        self.symbols = tuple(self.name("S") for _ in range(rng.randint(1, 3)))
        n = symbol(self.symbols[0])
        self.input = Buffer(self.name("p"), F32, (n, 9, 30), "in")
        self.ids = Buffer(self.name("p"), I32, (n + 1,), "in", rng.choice(
            [Buffer("", I32, (), "in").layout, blocked(0, 1, 8)]))
        outer = tuple(self._index("i") for _ in range(rng.randint(1, 4)))
        dims = tuple(i.high for i in outer if not isinstance(i.high, Access))
        layout = blocked(rng.randrange(len(dims)), len(dims), rng.choice([4, 16]))
        self.out = Buffer(self.name("p"), F32, dims, "out", layout)
        self.acc = Buffer(self.name("l"), F32, (), "local")
        at = tuple(symbol(i.name) for i in outer)
        body: list[Compute | Seq] = [self.reduction()]
        for _ in range(rng.randint(0, 2)):
            body.append(self.sequence())
        for _ in range(rng.randint(1, 2)):
            body.append(self.compute(Access(self.out.name, at)))
        return Kernel(self.name("kernel"), self.symbols, (self.input, self.ids, self.out),
                      (self.acc,), outer, tuple(body), rng.choice(["", "a \"doc\"\n\\n"]))

    def _index(self, kind: str) -> Index:
        high = self.rng.choice([3, 5, symbol(self.symbols[-1]),
                                ceildiv(symbol(self.symbols[0]) + 3, 4)])
        low: Dim = self.rng.choice([0, 0, 1, 2]) if kind != "i" else 0
        index = Index(self.name(kind), high, low)
        self.scope.append(index.name)
        return index

    def dim(self) -> Dim:
        """An index expression."""
        rng = self.rng
        out: Dim = rng.randint(-3, 3)
        for name in rng.sample(self.scope, min(len(self.scope), rng.randint(1, 3))):
            part = symbol(name) * rng.choice([1, 1, 2, -1])
            part = rng.choice([part, part, part // 4, part % 3, minimum(part, 7),
                               maximum(part, symbol(self.symbols[0]) - 2)])
            out = out + part
        return out

    def arg(self, depth: int) -> Arg:
        """A float."""
        rng = self.rng
        choice = rng.randrange(8)
        if depth <= 0 or choice < 2:
            if choice == 0:
                return Number(F32, rng.choice(NUMBERS))
            if choice == 1 and self.seen:
                return rng.choice(self.seen)
            return self.read(rng.randrange(3))
        if choice == 2:
            which = self.op("ge", (IndexValue(I64, self.dim()), Number(I64, 0)), BOOL)
            return self.op("select", (which, self.arg(depth - 1), self.arg(depth - 1)))
        if choice == 3:
            return self.op("cast", (self.read(3),), attrs=True)
        if choice == 4:
            return self.op("tanh", (self.arg(depth - 1),))
        return self.op(rng.choice(["add", "mul", "sub", "maximum"]),
                       (self.arg(depth - 1), self.arg(depth - 1)))

    def op(self, op: str, args: tuple[Arg, ...], dtype: object = F32, attrs: bool = False) -> str:
        """Appends an op."""
        name = self.name("t")
        assert dtype in (F32, BOOL)
        self.body.append(ScalarOp(name, op, args, F32 if dtype is F32 else BOOL,
                                  (("to", F32),) if attrs else ()))
        if dtype is F32:
            self.seen.append(name)
        return name

    def read(self, kind: int) -> Access:
        """A read: of a local, of the input, through a loaded index, or of an integer."""
        if kind == 0:
            return Access(self.acc.name)
        loaded = Access(self.ids.name, (self.dim(),), self.rng.choice([None, 0]))
        if kind == 3:
            return loaded
        first = loaded if kind == 2 else self.dim()
        fill = self.rng.choice([None, *NUMBERS])
        return Access(self.input.name, (first, self.dim(), self.dim()), fill)

    def compute(self, target: Access) -> Compute:
        """An elementwise compute."""
        value = self.arg(self.rng.randint(0, 4))
        ops, self.body = tuple(self.body), []
        return Compute(target, ops, value)

    def reduction(self) -> Compute:
        """A reduction into the local."""
        rng, scope, seen = self.rng, list(self.scope), list(self.seen)
        over = [self._index("k") for _ in range(rng.randint(1, 2))]
        if rng.random() < 0.3:
            row = Access(self.ids.name, (symbol(scope[0]),))
            over.append(Index(self.name("k"), Access(self.ids.name, (symbol(scope[0]) + 1,)), row))
            self.scope.append(over[-1].name)
        self.body, before = [], self.body
        value = self._without_local(rng.randint(0, 3))
        where = tuple(self.dim() for _ in range(rng.choice([0, 0, 1, 2])))
        ops, self.body = tuple(self.body), before
        self.scope, self.seen = scope, seen
        kind: Literal["sum", "max", "min"] = rng.choice(["sum", "sum", "max", "min"])
        return Compute(Access(self.acc.name), ops, value, tuple(over), where, Combine(kind, F32))

    def _without_local(self, depth: int) -> Arg:
        """A value that does not read the local, which may not be written yet."""
        if depth == 0:
            return self.read(self.rng.choice([1, 2]))
        return self.op("mul", (self._without_local(depth - 1), self.read(1)))

    def sequence(self) -> Seq:
        """An ordered loop that carries the local."""
        scope, seen = list(self.scope), list(self.seen)
        index = self._index("j")
        body = (self.compute(Access(self.acc.name)), self.compute(Access(self.acc.name)))
        self.scope, self.seen = scope, seen
        return Seq(index, (self.acc.name,), body, self.rng.random() < 0.5)


def random_schedule(kernel: Kernel, seed: int) -> Schedule:
    """A legal schedule of a random kernel."""
    rng = random.Random(seed)
    order = [i.name for i in kernel.outer]
    rng.shuffle(order)
    reduce = [i.name for c in kernel.body if isinstance(c, Compute) and c.combine for i in c.over]
    vector = rng.choice(["", *order, *reduce])
    tiles = tuple(Tile(n, rng.randint(1, 6)) for n in order if rng.random() < 0.5)
    sizes = [symbol(name) * 3 // 7 for name in kernel.symbols]
    return Schedule(
        rng.choice(["", "znver4", "x86-64-v4", "odd target {"]), tuple(order),
        rng.randint(0, len(order)), rng.choice([1, 64, *sizes]), vector,
        rng.choice([4, 16]) if vector else 1, tiles, tuple(reduce),
        edge=tuple((t.index, "clamp") for t in tiles), cost=rng.choice([0, 9000, *sizes]))


class LoopsMaker:
    """Makes one random loop function."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.count = 0
        self.scope = ["chunk", "N"]
        self.floats: list[tuple[str, int]] = []

    def fresh(self, hint: str) -> str:
        """A new name, sometimes one that has to be quoted."""
        self.count += 1
        return f"{hint}{self.count}" if self.rng.random() < 0.9 else f"{hint} {self.count}"

    def function(self) -> LoopFunction:
        """A function of one input, one vector of ids and one output."""
        pointers = (
            Pointer("x", F32, False), Pointer("ids", I32, False), Pointer("next", F32, True))
        together = self.rng.choice([1, 8])
        self.scope += ["chunk.after"] if together > 1 else []
        body = (Alloc("stack", F32, 64, self.rng.random() < 0.5), *self.block(3))
        return LoopFunction(
            "f", ("N",), pointers, ceildiv(symbol("N"), 8), body, together=together)

    def dim(self) -> Dim:
        """An index expression."""
        one, two = (symbol(self.rng.choice(self.scope)) for _ in range(2))
        return self.rng.choice([one, one * 4 + two - 3, one // 5, two % 3 + 1, minimum(one, 7), 0])

    def block(self, depth: int) -> tuple[Statement, ...]:
        """Statements; what they define is known in this block."""
        scope, floats = list(self.scope), list(self.floats)
        out: list[Statement] = []
        for _ in range(self.rng.randint(1, 8)):
            self.statement(out, depth)
        self.scope, self.floats = scope, floats
        return tuple(out)

    def value(self, out: list[Statement], lanes: int) -> str:
        """A register of f32 with so many lanes."""
        known = [name for name, count in self.floats if count == lanes]
        if known and self.rng.random() < 0.8:
            return self.rng.choice(known)
        name = self.fresh("c")
        out.append(Const(name, self.rng.choice(NUMBERS), F32, lanes))
        self.floats.append((name, lanes))
        return name

    def statement(self, out: list[Statement], depth: int) -> None:
        """Appends one statement, and what it needs."""
        rng, lanes = self.rng, self.rng.choice([1, 4, 16])
        makers = [self.load, self.store, self.apply, self.index, self.reduce, self.let]
        if depth and rng.random() < 0.4:
            makers = [self.loop, self.when]
        rng.choice(makers)(out, depth if makers[0] == self.loop else lanes)

    def _mask(self, out: list[Statement], lanes: int) -> str:
        if self.rng.random() < 0.5:
            return ""
        out.append(Mask(self.fresh("m"), self.dim(), self.dim(), lanes))
        return out[-1].name  # type: ignore[union-attr]

    def load(self, out: list[Statement], lanes: int) -> None:
        name, mask = self.fresh("v"), self._mask(out, lanes)
        buffer = self.rng.choice(["x", "next", "stack"])
        out.append(Load(name, buffer, self.dim(), F32, lanes, mask))
        self.floats.append((name, lanes))

    def store(self, out: list[Statement], lanes: int) -> None:
        value, mask = self.value(out, lanes), self._mask(out, lanes)
        out.append(Store(self.rng.choice(["next", "stack"]), self.dim(), value, F32, lanes, mask))

    def apply(self, out: list[Statement], lanes: int) -> None:
        one, two = self.value(out, lanes), self.value(out, lanes)
        name, wide, which = self.fresh("t"), self.fresh("d"), self.fresh("b")
        out.append(Apply(name, "fma", (one, two, one), F32, F32, lanes))
        out.append(Apply(which, "lt", (one, name), BOOL, F32, lanes))
        out.append(Apply(wide, "cast", (name,), F64, F32, lanes, (("to", F64),)))
        self.floats.append((name, lanes))

    def index(self, out: list[Statement], lanes: int) -> None:
        step = self.rng.choice([0, 1, -2]) if lanes > 1 else 0
        out.append(IndexOf(self.fresh("x"), self.dim(), I32, lanes, step))

    def reduce(self, out: list[Statement], lanes: int) -> None:
        name, wide = self.fresh("h"), self.fresh("s")
        op: Literal["add", "maximum"] = self.rng.choice(["add", "maximum"])
        out.append(LaneReduce(name, op, self.value(out, 4), F32, 4))
        out.append(Splat(wide, name, F32, lanes))
        self.floats += [(name, 1), (wide, lanes)]
        moved, distance = self.fresh("m"), self.rng.choice([1, 2])
        one, two = self.value(out, 4), self.value(out, 4)
        out.append(Exchange(moved, one, two, distance, self.rng.random() < 0.5, F32, 4))
        self.floats.append((moved, 4))
        out.append(Fetch("ids", self.dim(), I32))

    def let(self, out: list[Statement], lanes: int) -> None:
        name = f"at.{self.count}.{lanes}"
        self.count += 1
        value = self.dim()
        out.append(LoadIndex(name, "ids", value, I32) if lanes == 4 else Let(name, value))
        if self.rng.random() < 0.3:
            number, name = self.fresh("n"), f"from.{self.count}"
            out += [IndexOf(number, value, I32), AsIndex(name, number, I32)]
        self.scope.append(name)

    def loop(self, out: list[Statement], depth: int) -> None:
        widths = [self.rng.choice([1, 4]) for _ in range(self.rng.choice([0, 1, 2, 7]))]
        firsts = [self.value(out, lanes) for lanes in widths]
        own, after = ([self.fresh(hint) for _ in widths] for hint in ("a", "r"))
        low, high, step = self.dim(), self.dim(), self.rng.choice([1, 2, 0, symbol("N")])
        self.count += 1
        var = f"k{self.count}.b"
        scope, floats = list(self.scope), list(self.floats)
        self.scope.append(var)
        self.floats += list(zip(own, widths, strict=True))
        body = list(self.block(depth - 1))
        following = tuple(self.value(body, lanes) for lanes in widths)
        self.scope, self.floats = scope, floats
        carried = tuple((name, first, F32, lanes)
                        for name, first, lanes in zip(own, firsts, widths, strict=True))
        out.append(For(var, low, high, tuple(body), step, carried, following, tuple(after)))
        self.floats += list(zip(after, widths, strict=True))

    def when(self, out: list[Statement], depth: int) -> None:
        conditions = tuple(self.dim() for _ in range(self.rng.randint(0, 2)))
        out.append(If(conditions, self.block(depth - 1)))
