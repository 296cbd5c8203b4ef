"""Loops of a kernel for a GPU, by what its schedule asks for."""

from __future__ import annotations

from dlc.compiler.loops.columns import InColumns
from dlc.compiler.loops.group_tiles import InGroupTiles
from dlc.compiler.loops.held_rows import InHeldRows
from dlc.compiler.loops.running import RunningSums, running_sum
from dlc.compiler.loops.several_places import OnSeveralPlaces
from dlc.compiler.loops.shared_chains import InSharedChains
from dlc.compiler.loops.shared_tiles import InSharedTiles
from dlc.compiler.loops.tensor_chains import InTensorChains
from dlc.compiler.loops.tensor_tiles import InTensorTiles
from dlc.compiler.loops.threads import OnThreads
from dlc.ir.kernel import Kernel
from dlc.ir.loops import LoopFunction
from dlc.ir.schedule import Schedule


def apply_on_gpu(kernel: Kernel, schedule: Schedule) -> LoopFunction:
    """The loops of one kernel."""
    if schedule.shared is not None and schedule.part:
        return InSharedChains(kernel, schedule).function()
    if schedule.chain is not None:
        return InTensorChains(kernel, schedule).function()
    if schedule.shared is not None:
        return InSharedTiles(kernel, schedule).function()
    if schedule.tensor is not None:
        return InTensorTiles(kernel, schedule).function()
    if schedule.grouped is not None:
        return InGroupTiles(kernel, schedule).function()
    if schedule.beside and running_sum(kernel) is not None:
        return RunningSums(kernel, schedule).function()
    if schedule.beside:
        return InColumns(kernel, schedule).function()
    if schedule.held:
        return InHeldRows(kernel, schedule).function()
    if schedule.places > 1:
        return OnSeveralPlaces(kernel, schedule).function()
    return OnThreads(kernel, schedule).function()
