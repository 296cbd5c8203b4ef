"""The cheapest set of values that separates what can't be computed again from who reads it."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Mapping
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)
ENDLESS = 1 << 62


class MinCut(Generic[T]):
    """A graph of values with what it costs to keep each; edges go from operands to readers.

    Maximum flow by shortest paths (Edmonds and Karp 1972), each value two nodes: in and out.
    """

    def __init__(self) -> None:
        self.number: dict[T, int] = {}
        self.edges: list[list[int]] = [[], []]  # of each node; node 0 is the source, 1 the sink
        self.to: list[int] = []
        self.room: list[int] = []  # edge k ^ 1 is edge k turned round

    def value(self, value: T, cost: int) -> None:
        """Adds a value."""
        self.number[value] = len(self.edges)
        self.edges += [[], []]
        self._edge(self.number[value], self.number[value] + 1, cost)

    def read(self, operand: T, reader: T) -> None:
        """The reader can be computed from its operands."""
        self._edge(self.number[operand] + 1, self.number[reader], ENDLESS)

    def begin(self, value: T) -> None:
        """The value can't be computed again."""
        self._edge(0, self.number[value], ENDLESS)

    def end(self, value: T) -> None:
        """The value is asked for."""
        self._edge(self.number[value] + 1, 1, ENDLESS)

    def _edge(self, start: int, end: int, room: int) -> None:
        for a, b, r in ((start, end, room), (end, start, 0)):
            self.edges[a].append(len(self.to))
            self.to.append(b)
            self.room.append(r)

    def solve(self) -> tuple[set[T], set[T]]:
        """The values to keep, and those to be computed again from them.

        Of cuts that cost the same, the one nearest to who asks.
        """
        while (path := self._path()) is not None:
            flow = min(self.room[edge] for edge in path)
            for edge in path:
                self.room[edge] -= flow
                self.room[edge ^ 1] += flow
        behind = self._behind()
        kept = {v for v, n in self.number.items() if n + 1 in behind and n not in behind}
        return kept, {v for v, n in self.number.items() if n in behind and n + 1 in behind}

    def _path(self) -> Iterable[int] | None:
        """The edges of a shortest way from the source to the sink on which there is room."""
        came: Mapping[int, int]
        came = found = {0: -1}
        waiting = deque([0])
        while waiting:
            node = waiting.popleft()
            for edge in self.edges[node]:
                following = self.to[edge]
                if self.room[edge] > 0 and following not in found:
                    found[following] = edge
                    waiting.append(following)
            if 1 in found:
                break
        else:
            return None
        path = []
        node = 1
        while node:
            path.append(came[node])
            node = self.to[came[node] ^ 1]
        return path

    def _behind(self) -> set[int]:
        """The nodes from which there is still room to the sink."""
        found = {1}
        waiting = [1]
        while waiting:
            for edge in self.edges[waiting.pop()]:
                before = self.to[edge]  # the edge turned round leads from there to here
                if self.room[edge ^ 1] > 0 and before not in found:
                    found.add(before)
                    waiting.append(before)
        return found
