"""Statements of Loops of what warp groups do, as CUDA C (`groups.cu` has the words)."""

from __future__ import annotations

from dlc.compiler.cuda.statements import StatementEmitter
from dlc.ir.dims import Dim
from dlc.ir.group_loops import (
    LINE,
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


class GroupEmitter(StatementEmitter):
    """Emits these statements too. Views are parameters, whose names are in `views`."""

    def __init__(self, multiples: tuple[tuple[str, int], ...] = ()) -> None:
        super().__init__(multiples)
        self.views: dict[str, str] = {}
        self._emitters |= {
            View: lambda s: None, Signals: self._signals, Arrive: self._arrive, Await: self._await,
            CopyBox: self._copy_box, Multiply: self._multiply, Multiplied: self._multiplied,
            Registers: self._registers}

    def _signals(self, s: Signals) -> None:
        name = self.pointers[s.name] = self.writer.fresh(s.name)
        self.writer.line(f"Signal *const {name} = (Signal *)(all_shared + {self.dynamic[s.name]});")
        self.writer.open("if (thread == 0)")
        self.writer.line(f"for (int k = 0; k < {s.count}; k++) "
                         f"begin_signal({name} + k, {s.arrivals});")
        self.writer.line("signals_are_there();")
        self.writer.close()

    def _signal(self, name: str, at: Dim) -> str:
        return f"{self.pointers[name]} + {self.indices.atom(at)}"

    def _arrive(self, s: Arrive) -> None:
        signal = self._signal(s.signals, s.at)
        self.writer.line(f"arrive_expecting({signal}, {s.bytes});" if s.bytes
                         else f"arrive({signal});")

    def _await(self, s: Await) -> None:
        signal = self._signal(s.signals, s.at)
        self.writer.line(f"await_phase({signal}, (int)({self.indices.text(s.phase)}));")

    def _copy_box(self, s: CopyBox) -> None:
        place = ", ".join(f"(int)({self.indices.text(at)})" for at in s.place)
        to = f"{self.pointers[s.buffer]} + {self.indices.atom(s.at)}"
        signal = self._signal(s.signals, s.signal)
        self.writer.line(f"copy_box({to}, {self.views[s.view]}, {signal}, {place});")

    def _multiply(self, s: Multiply) -> None:
        """One group of instructions."""
        turned = ", ".join(str(f.turned).lower() for f in (s.left, s.right))
        self.writer.line("products_begin();")
        for k in range(0, s.depth, STEP):
            factors = ", ".join(self._panel(f, k, s) for f in (s.left, s.right))
            self.writer.line(f"multiply_rows<{str(s.dtype).upper()}, {s.columns}, {turned}>("
                             f"{self.pointers[s.sums]} + {s.at}, {factors});")
        self.writer.line("products_end_group();")

    def _panel(self, factor: Factor, k: int, s: Multiply) -> str:
        """Where the places of the sum from `k` on lie."""
        line = LINE // s.dtype.size
        at = factor.at + k * (line if factor.turned else 1)
        beside = s.depth * LINE if factor.turned else 0
        return f"panel_at({self.pointers[factor.buffer]} + {self.indices.atom(at)}, {beside})"

    def _multiplied(self, s: Multiplied) -> None:
        self.writer.line(f"wait_for_products<{s.pending}>();")

    def _registers(self, s: Registers) -> None:
        self.writer.line(f"{'more' if s.more else 'fewer'}_registers<{s.count}>();")
