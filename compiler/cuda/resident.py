"""All turns of a loop as one kernel, whose blocks stay: each is a block of every launch in turn.

    loop t < T resident (product, gates) {       for (Wide turn = 0; turn < turns; turn++) {
      launch product<N>(h, w, a)                   if (block < blocks0) product_turn(…, block);
      launch gates<N>(a, c, h)                     meet_all_blocks();
    }                                              if (block < blocks1) gates_turn(…, block);
                                                   if (turn + 1 < turns) meet_all_blocks();
                                                 }

The work of a launch is a function, whose pointers are those of the memory that buffers lie in, with
the offsets of this turn. All of them have the shared memory of a block one after another. Blocks
meet before a launch that touches what one since the last meeting has written, or the other way
round; at the end of a turn they always do.

What one block writes and another one reads lies in the same memory that loads go through: no
pointer of such a function is `__restrict__`, so that no load takes the way of what never changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from dlc.compiler.cuda.expressions import Expressions
from dlc.compiler.cuda.kernels import GUARD, copies, head_of, pointer_text, shared_memory
from dlc.compiler.loops.names import Name
from dlc.ir.dataclass import dataclass
from dlc.ir.dims import Dim, symbols
from dlc.ir.loops import LoopFunction
from dlc.ir.program import Launch, Loop, ProgramBuffer

MOST_INLINE = 16  # parts: NVCC keeps what all of them need from turn to turn in registers


@dataclass(frozen=True, slots=True)
class Part:
    """A launch of a turn: the function that does its work, and the name of that in C."""

    launch: Launch
    function: LoopFunction
    name: str


class Turns:
    """A loop as one kernel. Its parameters are pointers to `roots`, then numbers: `symbols`, how
    many turns, and for each part its dims and blocks."""

    def __init__(
        self, loop: Loop, parts: Sequence[Part], buffers: dict[str, ProgramBuffer]
    ) -> None:
        self.loop, self.parts, self.buffers = loop, parts, buffers
        self.roots: dict[str, bool] = {}  # and whether they are written
        named: set[str] = set()
        for part in parts:
            for pointer, name in zip(part.function.pointers, part.launch.buffers, strict=True):
                buffer = buffers[name]
                root = buffer.alias_of or name
                self.roots[root] = self.roots.get(root, False) or pointer.writable
                named |= symbols(buffer.offset)
        self.symbols = tuple(sorted(named - {loop.var}))
        self.threads = parts[0].function.threads
        self.shared = max(shared_memory(part.function, 0)[1] for part in parts)
        self.calls = len(parts) > MOST_INLINE

    def emit(self, name: str, guarded: bool) -> str:
        """The definition of the kernel; `guarded` by the state of checks."""
        pointers = [f"{pointer_text(self.buffers[root].dtype, written)}m{k}"
                    for k, (root, written) in enumerate(self.roots.items())]
        sizes = [f"s{k}" for k in range(len(self.symbols))]
        own = [n for k, part in enumerate(self.parts) for n in (*self._dims(k, part), f"blocks{k}")]
        numbers = [f"Wide {n}" for n in (*sizes, "turns", *own)]
        head = head_of(name, self.threads, (*pointers, *[GUARD] * guarded, *numbers), guarded)
        return "\n".join((head + "  for (Wide turn = 0; turn < turns; turn++) {", *self._turn(),
                          "  }", "}\n"))

    def _turn(self) -> list[str]:
        lines: list[str] = []
        since: list[Part] = []  # the last meeting
        for k, part in enumerate(self.parts):
            if any(self._clash(part, other) for other in since):
                lines.append("    meet_all_blocks();")
                since = []
            elif since and not part.launch.beside:
                lines.append("    __syncthreads();")
            since.append(part)
            lines += self._part(k, part)
        return [*lines, "    if (turn + 1 < turns) meet_all_blocks();"]

    def _clash(self, one: Part, other: Part) -> bool:
        """Whether one of two parts writes where the other one reads or writes."""
        (touched, written), (others, theirs) = self._memory(one), self._memory(other)
        return not (touched.isdisjoint(theirs) and written.isdisjoint(others))

    def _memory(self, part: Part) -> tuple[set[str], set[str]]:
        """The roots that a part touches, and those that it writes."""
        names = [self.buffers[name].alias_of or name for name in part.launch.buffers]
        pointers = zip(part.function.pointers, names, strict=True)
        return set(names), {name for pointer, name in pointers if pointer.writable}

    def _part(self, k: int, part: Part) -> list[str]:
        """A launch: its blocks come after those of what it is beside."""
        given = ", ".join((*map(self._pointer, part.launch.buffers), *self._dims(k, part)))
        run = f"{part.name}({given}, (Index)chunk{k});"
        if part.launch.beside:
            return [f"    const Wide chunk{k} = chunk{k - 1} - blocks{k - 1};",
                    f"    if (chunk{k} >= 0 && chunk{k} < blocks{k}) {run}"]
        lines = [f"    const Wide chunk{k} = blockIdx.x;", f"    if (chunk{k} < blocks{k}) {run}"]
        if copies(part.function.body):  # those past the end: shared memory is another part's next
            lines.append("    wait_for_copies<0>();")
        return lines

    @staticmethod
    def _dims(k: int, part: Part) -> list[str]:
        return [f"n{k}_{at}" for at in range(len(part.launch.dims))]

    def _pointer(self, name: str) -> str:
        """Where a buffer begins in this turn."""
        buffer = self.buffers[name]
        root = f"m{list(self.roots).index(buffer.alias_of or name)}"
        return root if buffer.offset == 0 else f"{root} + {self._offset(buffer.offset)}"

    def _offset(self, offset: Dim) -> str:
        indices = Expressions()
        indices.define(self.loop.var, Name("turn", 0, (0, inf)))
        for k, symbol in enumerate(self.symbols):
            indices.define(symbol, Name(f"s{k}", 0, (0, inf)))
        return indices.wide(offset)
