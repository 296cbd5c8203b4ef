"""Rewrites small patterns by named rules: `x * 1 -> x`, `reshape (reshape x) -> reshape x`, …

    %one = constant {value = 1.0}                    →      %y = reshape %x {dims = [N]}
    %r = reshape %x {dims = [N, 1]}
    %s = reshape %r {dims = [N]}
    %y = mul %s, broadcast of %one

Requires valid IR, and gradients taken: `stop_gradient` means nothing any more and goes. Ensures
that no rule fits any more (but where a value lost its second reader meanwhile). The rules are
listed, and what they keep is said, in `simplify_arithmetic.py`, `simplify_movement.py` and
`simplify_contract.py` beside the engine, `rewrite.py`.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from dlc.compiler.passes.fold_constants import fold_numbers
from dlc.compiler.rewriting.arithmetic import ARITHMETIC
from dlc.compiler.rewriting.contract import CONTRACT
from dlc.compiler.rewriting.indices import INDICES
from dlc.compiler.rewriting.movement import MOVEMENT
from dlc.compiler.rewriting.products import PRODUCTS
from dlc.compiler.rewriting.rewrite import ELEMENTWISE, Rule, Rules, rewrite
from dlc.ir.graph import Graph

# Constants that rules bring together are folded on the way.
RULES: Final[Rules] = (
    Rule((ELEMENTWISE,), fold_numbers), *ARITHMETIC, *MOVEMENT, *CONTRACT, *PRODUCTS, *INDICES)


def simplify(graph: Graph, hits: Counter[str] | None = None) -> Graph:
    """`graph` with all rules applied, in bodies too; `graph` itself if none fits.

    `hits` is added to: how often each rule fitted.
    """
    return rewrite(graph, RULES, hits)
