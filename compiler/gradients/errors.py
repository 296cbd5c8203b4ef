"""What is told where no gradient flows."""

from __future__ import annotations

from dlc.ir.diagnostics import Diagnostic, Span, UserError
from dlc.ir.graph import Loc, Node
from dlc.ir.ops import OPS, NotDifferentiable


def no_gradient(node: Node, gradient: Node) -> UserError:
    """That no gradient flows through `node`, which `gradient` asks for."""
    vjp = OPS[node.op].vjp
    reason = vjp.reason if isinstance(vjp, NotDifferentiable) else f"it gives {node.result.type}"
    notes = [f"the gradient is asked for at {loc}" for loc in gradient.locs[:1]]
    return UserError([
        Diagnostic(
            "no-gradient",
            f"no gradient flows through `{node.op}`: {reason}",
            _span(node.locs or gradient.locs),
            tuple(notes),
            "`stop_gradient` says that none is meant to",
        )
    ])


def _span(locs: tuple[Loc, ...]) -> Span | None:
    if not locs:
        return None
    loc = locs[0]
    return Span(loc.file, loc.line, loc.column, loc.line, loc.column + 1)
