"""The way back: the adjoints of the values of a graph, or of a body, from its last node on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from dlc.compiler.gradients.activity import Marks
from dlc.compiler.gradients.errors import no_gradient
from dlc.ir.diagnostics import InternalError
from dlc.ir.graph import Builder, Node, Value, producers
from dlc.ir.ops import OPS, NotDifferentiable
from dlc.ir.ops.op import Structured

Pull = Callable[["Sweep", Node, Marks], None]


class Forward:
    """The nodes that a gradient goes back through. Scans among them may come to yield more."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes

    def replace(self, old: Node, new: Node) -> None:
        """Puts `new` in the place of `old`; it gives the same values, and maybe more."""
        (at,) = (i for i, node in enumerate(self.nodes) if node is old)
        self.nodes[at] = new

    def upstream(self, values: Iterable[Value]) -> list[Node]:
        """The nodes that `values` are computed by, in the order of the program."""
        made = producers(self.nodes)
        found: set[int] = set()
        stack = list(values)
        while stack:
            node = made.get(stack.pop())
            if node is not None and id(node) not in found:
                found.add(id(node))
                stack.extend(node.operands)
        return [node for node in self.nodes if id(node) in found]


class Sweep:
    """Adjoints in the making: what `builder` makes computes them from values of `forward`.

    The adjoint of a value is the sum of what its readers give. For the values in `apart` what they
    give is not added up but kept side by side. `pulls` are the ways back through ops with bodies.
    """

    def __init__(
        self, forward: Forward, builder: Builder, gradient: Node, pulls: Mapping[str, Pull],
        apart: Sequence[Value] = (),
    ) -> None:
        self.forward = forward
        self.builder = builder
        self.gradient = gradient
        self.pulls = pulls
        self.adjoints: dict[Value, Value] = {}
        self.apart: dict[Value, list[Value]] = {value: [] for value in apart}

    def give(self, value: Value, part: Value) -> None:
        """Adds `part` to the adjoint of `value`."""
        if part.type is not value.type:
            raise InternalError(f"an adjoint of {value.type} is {part.type}")
        if value in self.apart:
            self.apart[value].append(part)
            return
        before = self.adjoints.get(value)
        self.adjoints[value] = part if before is None else self.builder.op("add", before, part)

    def given(self, values: Sequence[Value]) -> tuple[Value, ...]:
        """The adjoints of `values`, zeros where there are none."""
        return tuple(self.adjoints.get(v) or self.builder.zeros(v.type) for v in values)

    def run(self, nodes: Sequence[Node], active: Marks) -> None:
        """Goes back through `nodes`, the ones that a gradient flows through to active values."""
        for node in reversed(nodes):
            if any(v in self.adjoints for v in node.results):
                with self.builder.located(node.locs, node.path, "backward"):
                    self.pull(node, active)

    def pull(self, node: Node, active: Marks) -> None:
        """Gives the active operands of `node` what its results pass on."""
        vjp = OPS[node.op].vjp
        if isinstance(vjp, NotDifferentiable):
            raise no_gradient(node, self.gradient)
        if isinstance(vjp, Structured):
            self.pulls[node.op](self, node, active)
            return
        parts = vjp(self.builder, node, self.given(node.results))
        for operand, part in zip(node.operands, parts, strict=True):
            if part is not None and operand in active:
                self.give(operand, part)
