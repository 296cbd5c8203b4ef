"""What a text defines, for an editor's outline."""

from __future__ import annotations

from collections.abc import Iterator

from dlc.frontend.text import syntax
from dlc.ir.dataclass import dataclass
from dlc.ir.diagnostics import Span


@dataclass(frozen=True, slots=True)
class Entry:
    """A definition: its name and kind, the whole of it, its name's place, what stands in it."""

    name: str
    kind: str
    span: Span
    at: Span
    inside: tuple[Entry, ...] = ()


def outline(tree: syntax.File) -> Iterator[Entry]:
    """The definitions of a file, in the order of its text."""
    for node in tree.definitions:
        match node:
            case syntax.Const():
                yield _named(node, "const")
            case syntax.Function():
                yield _named(node, node.kind)
            case syntax.Model():
                inside = (_named(m, _kind(m)) for m in node.members)
                yield _named(node, "model", tuple(inside))
            case syntax.Optimizer():
                yield _named(node, "optimizer", tuple(_named(m, "state") for m in node.states))
            case syntax.Train():
                yield Entry(f"train {node.model.text}", "train", node.span, node.model.span,
                            tuple(_named(m, "phase") for m in node.phases))
            case syntax.Test():
                yield Entry(f"test {node.name}", "test", node.span, node.span)


def _kind(member: syntax.Variable | syntax.Member | syntax.Function) -> str:
    return "member" if isinstance(member, syntax.Member) else member.kind


_Named = (syntax.Const | syntax.Function | syntax.Model | syntax.Optimizer | syntax.Variable
          | syntax.Member | syntax.Phase)


def _named(node: _Named, kind: str, inside: tuple[Entry, ...] = ()) -> Entry:
    return Entry(node.name.text, kind, node.span, node.name.span, inside)
