"""Sorts and scatters of a GPU, as launches whose work many threads share (`kernels/make_runs.py`).

    radix_pass %keys, %order            for each half of its digit:
      -> counts[row, digit, run];  ends = cumsum counts;  the elements in their places
    scatter %base, %updates, %ids
      -> targets of all updates;  their order by targets, digit by digit;  where the updates of each
         place begin and end;  the updates of each place, in their order
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from dlc.compiler.kernels.make_kernel import KernelMaker, Memory
from dlc.compiler.kernels.make_runs import BITS, MOST_STEPS, RUN, VALUES, RunMaker
from dlc.compiler.kernels.make_sequence import SequenceMaker
from dlc.compiler.lowering.storage import Storage
from dlc.compiler.options import Options
from dlc.ir.dataclass import dataclass
from dlc.ir.dims import Dim, ceildiv, product
from dlc.ir.fused import Group
from dlc.ir.graph import Builder, Node, Value
from dlc.ir.kernel import Kernel, Layout
from dlc.ir.ops.indices import axis_attr
from dlc.ir.ops.sort import DIGIT
from dlc.ir.program import Launch, ProgramBuffer, Step
from dlc.ir.types import I32, DType, tensor

FEW = 64  # updates of a scatter that go in order as fast
SHORT = 16  # keys of a row that one thread sorts as fast

LaunchOf = Callable[[Kernel, list[Value], tuple[Node, ...], str], Launch]
Copy = Callable[[Value, str, tuple[Node, ...]], Launch]


def goes_in_runs(node: Node, options: Options) -> bool:
    """Whether a sequence is worth the launches of `Runs`."""
    if not options.is_gpu or node.op not in ("radix_pass", "scatter"):
        return False
    if node.op == "radix_pass":
        return options.likely(node.result.dims[-1]) > SHORT
    return options.likely(product(node.operands[2].dims)) > FEW


@dataclass(slots=True)
class Runs:
    """Lowers one node; its launches are made by `launch`, and copies of values by `copy`."""

    node: Node
    memory: Memory
    storage: Storage
    launch: LaunchOf
    copy: Copy

    def steps(self) -> list[Step]:
        """The steps of the node, whose result has its memory; that of a scatter holds its base."""
        return self._radix_pass() if self.node.op == "radix_pass" else self._scatter()

    def _radix_pass(self) -> list[Step]:
        keys, order = self.node.operands
        shift = self.node.attr("shift")
        assert isinstance(shift, int)
        steps: list[Step] = []
        for part in range(0, DIGIT, BITS):
            last = part + BITS == DIGIT
            out = self.node.result if last else self._temp("order", I32, keys.dims)
            steps += self._by_digit(keys, order, out, shift + part)
            order = out
        return steps

    def _by_digit(self, keys: Value, order: Value, out: Value, shift: int) -> list[Step]:
        """An order sorted anew by one digit."""
        *rows, length = keys.dims
        runs = ceildiv(length, RUN)
        counts, ends = (self._temp(n, I32, (*rows, VALUES, runs)) for n in ("counts", "ends"))
        flat = self._view(counts, (*rows, VALUES * runs)), self._view(ends, (*rows, VALUES * runs))
        maker = self._maker()
        first = self._launch(maker.counts(keys, order, counts, shift), maker)
        maker = self._maker()
        last = self._launch(maker.places(keys, order, (counts, ends), out, shift), maker)
        return [first, self._running_sum(*flat), last]

    def _running_sum(self, x: Value, out: Value) -> Step:
        b = Builder(())
        b.op("cumsum", x, axis=len(x.dims) - 1, reverse=False)
        node = replace(b.nodes[0], results=(out,))
        maker = SequenceMaker(Group("cumsum", (), (node,), (out,)), self.memory)
        return self._launch(maker.make_sequence(), maker)

    def _scatter(self) -> list[Step]:
        base, updates, *ids = self.node.operands
        axis = axis_attr(self.node)
        extents = base.dims[axis:axis + len(ids)]
        count, inner = product(ids[0].dims), len(ids[0].dims)
        steps: list[Step] = []
        if updates not in self.storage.place:
            made = self._temp("updates", updates.dtype, updates.dims)
            steps.append(self.copy(updates, self.storage.place[made], (self.node,)))
            updates = made
        rows = self._view(updates, (
            *updates.dims[:axis], count, *updates.dims[axis + inner:]))
        keys = self._temp("targets", I32, ids[0].dims)
        maker = self._maker()
        steps.append(self._launch(maker.targets(tuple(ids), extents, keys), maker))
        order, sorting = self._sorted(self._view(keys, (count,)), product(extents))
        return [*steps, *sorting, *self._by_target(
            self._view(keys, (count,)), rows, order, (axis, axis + len(ids)))]

    def _sorted(self, keys: Value, below: Dim) -> tuple[Value, list[Step]]:
        """The order of keys that are below a number, and the steps that make it."""
        bits = max(1, (below - 1).bit_length()) if isinstance(below, int) else MOST_STEPS
        b = Builder((keys.name,))
        order = b.op("iota", hint=f"{keys.name}.number", dtype=I32, dims=keys.dims, axis=0)
        self.memory.made[order] = b.nodes[0]  # in no memory: it is computed where it is read
        steps: list[Step] = []
        for shift in range(0, bits, BITS):
            out = self._temp("order", I32, keys.dims)
            steps += self._by_digit(keys, order, out, shift)
            order = out
        return order, steps

    def _by_target(
        self, keys: Value, updates: Value, order: Value, axes: tuple[int, int]
    ) -> list[Step]:
        """Bounds of the updates of each place, and what becomes of the places."""
        out, mode = self.node.result, str(self.node.attr("mode"))
        places = (product(out.dims[axes[0]:axes[1]]),)
        first, after, some = (self._temp(n, I32, places) for n in ("first", "after", "some"))
        maker = self._maker()
        steps: list[Step] = [self._launch(
            maker.bounds(keys, order, (first, after, some), mode == "set"), maker)]
        maker = self._maker()
        kernel = maker.gathered(updates, order, (first, after, some), out, axes, mode)
        return [*steps, self._launch(kernel, maker)]

    def _maker(self) -> RunMaker:
        return RunMaker(Group("runs", (), (self.node,), (self.node.result,)), self.memory)

    def _launch(self, kernel: Kernel, maker: KernelMaker) -> Step:
        return self.launch(kernel, maker.buffers, (self.node,), self.node.op)

    def _temp(self, hint: str, dtype: DType, dims: tuple[Dim, ...]) -> Value:
        """A value with memory of its own, which nothing but these steps knows."""
        name = self.storage.fresh(hint)
        value = Value(name, tensor(dtype, dims))
        self.storage.buffers[name] = ProgramBuffer(name, dtype, dims, "temp", Layout())
        self.storage.place[value] = name
        return value

    def _view(self, value: Value, dims: tuple[Dim, ...]) -> Value:
        """The same memory under other dims."""
        if dims == value.dims:
            return value
        view = Value(self.storage.fresh(value.name), tensor(value.dtype, dims))
        self.storage.alias_value(view, self.storage.place[value])
        return view
