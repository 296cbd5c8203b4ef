"""The buffers of a program in the making, and in which of them each value lies."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import field

from dlc.ir.dataclass import dataclass
from dlc.ir.dims import Dim
from dlc.ir.graph import Value
from dlc.ir.kernel import Layout
from dlc.ir.program import ProgramBuffer


@dataclass(slots=True)
class Storage:
    """Buffers by name, the place of each value, and the numbers that a program gives out.

    `names` are those of the values of the graph, which no buffer takes that is made on the way.
    """

    layouts: dict[Value, Layout]
    names: Container[str]
    buffers: dict[str, ProgramBuffer] = field(default_factory=dict)
    place: dict[Value, str] = field(default_factory=dict)
    checks: int = 0
    prints: int = 0
    loops: int = 0

    def alias(
        self, name: str, of: str, like: Value, offset: Dim = 0, layout: Layout | None = None
    ) -> str:
        """A buffer of the type of `like` that begins `offset` elements into another one."""
        root = self.buffers[of]
        self.buffers[name] = ProgramBuffer(
            name, like.dtype, like.dims, root.kind, layout or Layout(),
            alias_of=root.alias_of or of, offset=root.offset + offset)
        return name

    def alias_value(self, value: Value, of: str, offset: Dim = 0) -> None:
        """Places `value` in the memory of a buffer."""
        layout = self.layouts.get(value, Layout())
        self.place[value] = self.alias(value.name, of, value, offset, layout)

    def together(self, one: Value, other: Value) -> bool:
        """Whether two values lie in the same memory; a value without memory does not."""
        if one not in self.place or other not in self.place:
            return False
        first, second = (self.buffers[self.place[v]] for v in (one, other))
        return (first.alias_of or first.name, first.offset) == (
            second.alias_of or second.name, second.offset)

    def fresh(self, hint: str) -> str:
        """A name that no buffer has, and none will."""
        name, count = hint, 1
        while name in self.buffers or name in self.names:
            count += 1
            name = f"{hint}.{count}"
        return name

    def turn(self) -> str:
        """A name for the variable of a loop."""
        self.loops += 1
        return f"turn.{self.loops}"
