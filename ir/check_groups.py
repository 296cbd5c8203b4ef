"""Checks what warp groups do in Loops: views, signals, and products from shared memory."""

from __future__ import annotations

from collections.abc import Callable

from dlc.ir.check_scope import Scope
from dlc.ir.dims import Dim, symbols
from dlc.ir.group_loops import (
    GROUP,
    LINE,
    MOST_AXES,
    MOST_COLUMNS,
    MOST_OF_BOX,
    ROWS,
    STEP,
    Arrive,
    Await,
    CopyBox,
    Factor,
    Multiplied,
    Multiply,
    Registers,
    Signals,
    View,
)
from dlc.ir.loops import LoopFunction
from dlc.ir.types import BF16, F16, F32

WIDE = 16  # bytes: what steps of a view are multiples of
REGISTERS = range(24, 257, 8)  # that a thread may have


class GroupChecks(Scope):
    """The rules of these statements.

    Views and signals stand at the head of a function. All threads of a group come together to where
    it multiplies, waits for that, or says how many registers it has.
    """

    def __init__(self, function: LoopFunction) -> None:
        super().__init__(function)
        self.views: dict[str, View] = {}
        self.signals: dict[str, Signals] = {}

    def group_checks(self) -> dict[type, Callable[..., None]]:
        """What checks each kind of statement."""
        return {View: self._view, Signals: self._signals, Arrive: self._arrive, Await: self._await,
                CopyBox: self._copy_box, Multiply: self._multiply, Multiplied: self._multiplied,
                Registers: self._registers}

    def _at_the_head(self, statement: View | Signals) -> None:
        if not any(statement is each for each in self.function.body):
            self._fail("it does not stand at the head of the function")
        self._new(statement.name)

    def _view(self, s: View) -> None:
        self._at_the_head(s)
        if s.buffer not in {p.name for p in self.function.pointers}:
            self._fail(f"{s.buffer} is no parameter")
        self._element(s.buffer, s.dtype, s.offset)
        every = (s.offset, *s.sizes, *s.steps)
        if any(symbols(dim) - set(self.function.symbols) for dim in every):
            self._fail("it depends on more than symbols")
        rank = len(s.sizes)
        if not 2 <= rank <= MOST_AXES or len(s.steps) != rank - 1 or len(s.box) != rank:
            self._fail(f"{rank} axes, {len(s.steps)} steps and {len(s.box)} sides of a box")
        if s.box[0] * s.dtype.size != LINE or any(not 0 < n <= MOST_OF_BOX for n in s.box):
            self._fail(f"there are no boxes of {', '.join(map(str, s.box))}")
        if any(isinstance(n, int) and n * s.dtype.size % WIDE for n in (s.offset, *s.steps)):
            self._fail(f"lines do not begin at multiples of {WIDE} bytes")
        self.views[s.name] = s

    def _signals(self, s: Signals) -> None:
        self._at_the_head(s)
        if s.count < 1 or s.arrivals < 1:
            self._fail("a size is less than 1")
        self.signals[s.name] = s

    def _signal(self, name: str, at: Dim) -> None:
        if name not in self.signals:
            self._fail(f"there are no signals {name} here")
        self._dims(at)
        if isinstance(at, int) and not 0 <= at < self.signals[name].count:
            self._fail(f"there is no signal {at}")

    def _arrive(self, s: Arrive) -> None:
        self._signal(s.signals, s.at)
        if s.bytes < 0:
            self._fail(f"{s.bytes} bytes")

    def _await(self, s: Await) -> None:
        self._signal(s.signals, s.at)
        self._dims(s.phase)

    def _copy_box(self, s: CopyBox) -> None:
        if s.view not in self.views:
            self._fail(f"there is no view {s.view} here")
        view = self.views[s.view]
        self._shared_element(s.buffer, view.dtype, s.at)
        if len(s.place) != len(view.sizes):
            self._fail(f"a place has {len(s.place)} indices, the view {len(view.sizes)} axes")
        self._dims(*s.place)
        self._signal(s.signals, s.signal)

    def _multiply(self, s: Multiply) -> None:
        self._in_group()
        if s.dtype not in (F16, BF16):
            self._fail(f"{s.dtype} is not multiplied so")
        if s.columns % 8 or not 0 < s.columns <= MOST_COLUMNS or s.depth % STEP or s.depth < 1:
            self._fail(f"there are no products of {s.columns} columns and {s.depth} places")
        for factor, lines in ((s.left, ROWS), (s.right, s.columns)):
            self._factor(factor, lines, s)
        self._element(s.sums, F32, s.at, write=True)
        if s.sums in self.shared or not 0 <= s.at <= self.sizes.get(s.sums, 0) - s.columns // 2:
            self._fail(f"{s.sums} has no such sums of a thread's own")

    def _factor(self, factor: Factor, lines: int, s: Multiply) -> None:
        self._shared_element(factor.buffer, s.dtype, factor.at)
        line = LINE // s.dtype.size
        if (lines % line if factor.turned else s.depth > line):
            self._fail(f"{factor.buffer} has lines of {line} elements")

    def _multiplied(self, s: Multiplied) -> None:
        self._in_group()
        if s.pending < 0:
            self._fail(f"{s.pending} products")

    def _registers(self, s: Registers) -> None:
        self._in_group()
        if s.count not in REGISTERS:
            self._fail(f"no thread has {s.count} registers")

    def _in_group(self) -> None:
        if self.function.threads % GROUP:
            self._fail(f"{self.function.threads} threads are no whole number of groups")
        self._together(GROUP)
