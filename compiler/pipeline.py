"""The order of the passes, and why each stands where it stands. Order is written nowhere else."""

from __future__ import annotations

from typing import Final

from dlc.compiler.passes.differentiate import differentiate
from dlc.compiler.passes.eliminate_common import eliminate_common
from dlc.compiler.passes.eliminate_dead import eliminate_dead
from dlc.compiler.passes.fold_constants import fold_constants
from dlc.compiler.passes.inline import inline_structure
from dlc.compiler.passes.simplify import simplify
from dlc.compiler.runner import GRAPH, Pass

# From the program as it was checked to the one that is fused.
GRAPH_PASSES: Final = (
    Pass("inline", inline_structure, GRAPH, GRAPH,
         "first: what is called many times is seen in its place; optimizers stay calls"),
    Pass("differentiate", differentiate, GRAPH, GRAPH,
         "before all that asks who reads a value: gradients read most of them again"),
    Pass("eliminate_dead", eliminate_dead, GRAPH, GRAPH,
         "gradients that nobody asked for (of data, of labels) cost no more visits"),
    Pass("fold_constants", fold_constants, GRAPH, GRAPH,
         "rules of simplify look for numbers"),
    Pass("simplify", simplify, GRAPH, GRAPH,
         "after differentiate, which needs stop_gradient and makes factors of 1 and sums of one"),
    Pass("eliminate_common", eliminate_common, GRAPH, GRAPH,
         "after simplify: more is equal in normal form"),
    Pass("eliminate_dead", eliminate_dead, GRAPH, GRAPH,
         "what simplify left without readers would be fused and computed"),
)
