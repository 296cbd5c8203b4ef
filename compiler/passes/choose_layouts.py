"""choose_layouts: decides in which order the elements of intermediate values are stored.

Where most of the multiplications of a program run over one symbolic dim (the batch), and it pays
(`kernels/batches.py`), values that have it are stored in blocks of `lanes` of that dim, the lanes
innermost, and the channels of a pixel side by side. Then each step of every
product, convolution and pooling, forward and backward, is a full vector operation, whatever the
other sizes: no channel count or border wastes lanes. Values that have no such dim, and all that a
caller sees, stay in row-major order.
"""

from __future__ import annotations

from dataclasses import replace

from dlc.compiler.kernels.batches import batch_in_lanes, is_convolution
from dlc.compiler.kernels.shapes import SEQUENCES, behind
from dlc.compiler.options import Options
from dlc.ir.dims import symbol
from dlc.ir.fused import FusedGraph
from dlc.ir.graph import Value, producers
from dlc.ir.kernel import Layout, blocked, channels_inside


def choose_layouts(fused: FusedGraph, options: Options) -> FusedGraph:
    """Adds the layouts of all outputs of groups that are not in row-major order."""
    batch = batch_in_lanes(fused.graph.nodes, options)
    if batch is None:
        return fused
    fixed = _row_major(fused, batch)
    layouts: dict[Value, Layout] = {}
    viewed = {v for view in fused.views for v in view}
    pixels = any(is_convolution(node) for node in fused.graph.nodes)
    for value in (v for group in fused.groups for v in group.outputs):
        axes = [a for a, d in enumerate(value.dims) if d is symbol(batch)]
        if len(axes) == 1 and value not in fixed:
            inside = pixels and value not in viewed and axes[0] == 0 and len(value.dims) > 2
            make = channels_inside if inside else blocked
            layouts[value] = make(axes[0], len(value.dims), options.lanes)
    for value, source in fused.views:
        if source in layouts:
            layouts[value] = blocked(0, len(value.dims), options.lanes)
    return replace(fused, layouts=tuple(layouts.items()))


def _in_order(fused: FusedGraph) -> set[Value]:
    """The values that are read or written at indices that are data, or one after another."""
    made = producers(fused.graph.nodes)
    stored = {v for group in fused.groups for v in group.outputs}
    found: set[Value] = set()
    for node in fused.graph.nodes:
        if node.op != "gather" and node.op not in SEQUENCES:
            continue
        values = node.operands if node.op == "gather" else (*node.operands, node.result)
        found.update(behind(values, made, stored.__contains__))
    return found


def _row_major(fused: FusedGraph, batch: str) -> set[Value]:
    """Values that others see, or that are read under dims in which the batch does not lead."""
    fixed = set(fused.graph.outputs)
    for group in fused.groups:
        if group.call is not None:
            fixed |= {*group.call.operands, *group.call.results}
    fixed |= _in_order(fused)
    lead = symbol(batch)
    fixed |= {v for view in fused.views for v in view
              if not all(w.dims and w.dims[0] is lead for w in view)}
    count = -1
    while count != len(fixed):  # a view and its source are fixed together
        count = len(fixed)
        fixed |= {v for view in fused.views if not fixed.isdisjoint(view) for v in view}
    return fixed
