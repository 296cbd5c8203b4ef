"""What each node of a Graph is to fusion: a map, a view, a reduction, or a sequence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from dlc.compiler.kernels.invert import Inverse, combines, inverses, outer_names
from dlc.compiler.options import Options
from dlc.ir.dims import Dim, symbol
from dlc.ir.graph import Graph, Node, Value, producers
from dlc.ir.ops import OPS
from dlc.ir.types import F32

MOVERS = frozenset({"transpose", "slice", "stop_gradient", "reshape", "flip"})
# They go through their operands in order; each is a kernel of its own.
SEQUENCES = frozenset({"cumsum", "scatter", "radix_pass"})


def is_unit_reshape(node: Node) -> bool:
    """Whether a reshape only adds and drops axes of extent 1."""
    before = [d for d in node.operands[0].dims if d != 1]
    return before == [d for d in node.result.dims if d != 1]


def is_numbering(node: Node, made: Mapping[Value, Node]) -> bool:
    """Whether a node numbers the elements of a tensor: a reshaped iota, which needs no memory."""
    source = made.get(node.operands[0]) if node.op == "reshape" else None
    return source is not None and source.op == "iota" and not is_unit_reshape(node)


def reads_in_place(node: Node, inverses: dict[Value, Inverse]) -> bool:
    """Whether each element needs the operands' elements at its own place alone."""
    if node.op == "contract":
        inverse = inverses[node.result]
        here = _place_in(outer_names(len(node.result.dims)), node.result)
        return inverse.is_read and all(
            _place_in(read, v) == here
            for read, v in zip(inverse.reads, node.operands, strict=True))
    return OPS[node.op].formula is not None or node.op == "pack"


def _place_in(at: Sequence[Dim | str], value: Value) -> tuple[Dim, ...]:
    """An index into `value`, 0 along axes of extent 1."""
    return tuple(0 if d == 1 else symbol(e) if isinstance(e, str) else e
                 for e, d in zip(at, value.dims, strict=True))


def stands_alone(node: Node) -> bool:
    """Whether a node is a group of its own: it holds graphs, or has an effect."""
    return OPS[node.op].kernel in ("call", "control", "effect")


def behind(
    values: Iterable[Value], made: Mapping[Value, Node], ends: Callable[[Value], bool]
) -> Iterator[Value]:
    """`values` and what they are computed from, each once; not what is behind one that `ends`."""
    stack = list(values)
    seen: set[Value] = set()
    while stack:
        value = stack.pop()
        if value in seen:
            continue
        seen.add(value)
        yield value
        if value in made and not ends(value):
            stack += made[value].operands


class Shapes:
    """What each node of a graph is to fusion."""

    def __init__(self, graph: Graph, options: Options) -> None:
        self.graph = graph
        self.made = producers(graph.nodes)
        self.inverses = inverses(graph, options)
        self.users: dict[Value, list[Node]] = {}
        for node in graph.nodes:
            for value in node.operands:
                self.users.setdefault(value, []).append(node)
        self.kept = set(graph.outputs)
        self.gpu = options.is_gpu
        self.inlined: set[Value] = set()

    def is_view(self, node: Node) -> bool:
        """Whether the result is the operand's memory under other dims."""
        return node.op == "reshape" and not is_unit_reshape(node) and (
            not is_numbering(node, self.made))

    def is_map(self, node: Node) -> bool:
        """Whether it is computed element by element (a pad chooses between two values)."""
        if node.op == "contract":
            return self.inverses[node.result].is_read and len(node.operands) > 1
        return OPS[node.op].formula is not None or node.op in ("pad", "pack")

    def is_reduction(self, node: Node) -> bool:
        """Whether it combines many elements into one."""
        return combines(node, self.inverses)

    def in_memory(self, node: Node) -> tuple[Value, ...]:
        """The operands of a node that it reads at indices which are data, or as indices."""
        found: tuple[Value, ...] = ()
        if node.op == "gather":
            found = (node.operands[0], *(v for v in node.operands[1:] if not self._is_index(v)))
        elif node.op == "scatter":
            found = tuple(v for v in node.operands[2:] if not self._is_index(v))
        elif node.op == "radix_pass":
            found = node.operands[:1]
        return found

    def _is_index(self, value: Value) -> bool:
        """Whether an index can be read as it is: a number, a place, or an element in memory."""
        node = self.made.get(value)
        if node is None or node.op in ("constant", "dim", "iota", "gather"):
            return True
        return self._is_plain(node) and self._is_index(node.operands[0])

    def _is_plain(self, node: Node) -> bool:
        return OPS[node.op].access is not None and node.op != "pad" and not self.is_view(node)

    def mark_inlined(self) -> None:
        """Finds the elementwise nodes that become part of their only reader."""
        for node in reversed(self.graph.nodes):
            if node.results and self.is_map(node) and node.op != "contract":
                if self.gpu and self._is_widened(node):
                    self.inlined.add(node.result)
                    continue
                reader = self._only_reader(node)
                if reader is not None and self._absorbs(reader):
                    self.inlined.add(node.result)

    def _is_widened(self, node: Node) -> bool:
        """Whether a node makes f32 of numbers of 16 bits for products alone: a GPU, which has
        units for such products, keeps them short in memory."""
        short = node.op == "cast" and node.operands[0].dtype.size == 2 and (
            node.operands[0].dtype.is_float and node.result.dtype is F32)
        return short and node.result not in self.kept and all(
            user.op == "contract" and len(user.operands) > 1 and self.is_reduction(user)
            for user in self.users.get(node.result, ()))

    def _only_reader(self, node: Node) -> Node | None:
        """The one node that reads `node`, if each element is read once and not at its own place."""
        value, moved = node.result, False
        while value not in self.kept and len(self.users.get(value, ())) == 1:
            (user,) = self.users[value]
            if user.op in MOVERS and not self.is_view(user):
                value, moved = user.result, True
            elif user.op in ("pad", "cumsum") or (
                    self.is_reduction(user) and len(user.operands) == 1):
                return user
            elif user.results and user.results[0] in self.inlined:
                return None if self.gpu and self._is_widened(user) else user
            else:
                return user if moved and self.is_map(user) else None
        return None

    def _absorbs(self, reader: Node) -> bool:
        if self.is_reduction(reader):
            # A window that overlaps itself would compute an element more than once.
            inverse = self.inverses[reader.result]
            distinct = reader.op != "contract" or _distinct(inverse)
            return distinct and reader.op != "tree_sum"
        return self.is_map(reader) or reader.op == "cumsum"


def _distinct(inverse: Inverse) -> bool:
    return len(inverse.reads) == 1 and all(len(str(e).split()) == 1 for e in inverse.reads[0])
