"""interchange_loops: the rows of a batch go through all turns of a loop by themselves.

    loop turn < T {                       parallel piece < (N + 7) // 8 cost … {
      launch product<N>(h.old, w, a)        loop turn < T {
      launch gates<N>(a, h.new)       →       launch product<min(8, N - 8*piece)>(h.old.rows, …)
    }                                         launch gates<min(8, N - 8*piece)>(a.rows, …)
                                            }
                                          }

Threads would meet after every launch of every turn, and hand on to each other what they have in
their caches. Where no row needs another one (the sequences of a batch, in an LSTM), the loop over
rows can stand outside: each thread takes some rows through all turns, and meets nobody.

A row is what an outer index of a kernel counts whose extent is the batch, or a multiple of it in
kernels whose dims are merged: element i of every operand that has it is of row i // multiple. A
piece has as many rows as the register tiles of the products ask for, so that full tiles stay full.

Requires: schedules; a loop that is in no other. Ensures: each row is computed as before, to the
bit. Left alone are loops that read more than a fast cache holds for each piece: there the weights
are better read once a turn, for all rows.
"""

from __future__ import annotations

from dataclasses import replace
from math import lcm

from dlc.compiler.kernels.own_rows import row_index
from dlc.compiler.options import Options
from dlc.ir.dataclass import dataclass
from dlc.ir.dims import Dim, ceildiv, coefficient, minimum, product, substitute, symbol, symbols
from dlc.ir.kernel import digit_extents, storage_size
from dlc.ir.program import Launch, Loop, Parallel, Program, ProgramBuffer, Step, each_step

MOST_ROWS = 32  # of a piece: more make too few pieces
MOST_BYTES = 1 << 20  # that all pieces read, turn by turn: the second cache of a core holds them


def interchange_loops(program: Program, options: Options) -> Program:
    """The program with such loops inside of pieces; itself if there are none."""
    found = _Interchange(program, options)
    steps = tuple(found.step(step) for step in program.steps)
    if not found.made:
        return program
    return replace(program, steps=steps, buffers=(*program.buffers, *found.made.values()))


@dataclass(frozen=True, slots=True)
class _Rows:
    """How a launch goes by rows: the symbol of its kernel that counts them, `unit` of whose values
    are a row; the index; of each of its buffers the elements of a row (0: all rows have it)."""

    symbol: str
    unit: int
    index: str
    elements: tuple[Dim, ...]


class _Interchange:
    """One program."""

    def __init__(self, program: Program, options: Options) -> None:
        self.program, self.options = program, options
        self.kernels = {k.name: k for k in program.kernels}
        self.schedules = dict(program.schedules)
        self.buffers = {b.name: b for b in program.buffers}
        self.made: dict[tuple[str, str], ProgramBuffer] = {}  # by variable of the pieces, buffer
        self.pieces = 0

    def step(self, step: Step) -> Step:
        """A step, in pieces if it is such a loop."""
        if not isinstance(step, Loop) or step.condition:
            return step
        inside = list(each_step(step.body))
        launches = [s for s in inside if isinstance(s, Launch)]
        if len(launches) != sum(not isinstance(s, Loop) or bool(s.condition) for s in inside):
            return step  # checks, prints
        for name in self.program.symbols:
            rows = [self._by_rows(launch, name) for launch in launches]
            found = {id(s): r for s, r in zip(launches, rows, strict=True) if r is not None}
            if len(found) == len(launches) and self._apart(launches, found, name):
                return self._pieces(step, launches, found, name)
        return step

    def _by_rows(self, launch: Launch, name: str) -> _Rows | None:
        """How a launch goes by rows of the symbol; None if it doesn't."""
        kernel, dims = self.kernels[launch.kernel], self._dims(launch)
        counting = [own for own, dim in dims.items() if name in symbols(dim)]
        if len(counting) != 1:
            return None
        (own,) = counting
        unit, index = coefficient(dims[own], name), row_index(kernel, own)
        if not isinstance(unit, int) or dims[own] != unit * symbol(name) or not index:
            return None
        elements = tuple(
            unit * substitute(product(digit_extents(p.layout, p.dims)[1:]), dims)
            if own in _names(p.dims) else 0 for p in kernel.params)
        return _Rows(own, unit, index, elements)

    def _dims(self, launch: Launch) -> dict[str, Dim]:
        """What the symbols of a launch's kernel are."""
        return dict(zip(self.kernels[launch.kernel].symbols, launch.dims, strict=True))

    def _apart(self, launches: list[Launch], rows: dict[int, _Rows], name: str) -> bool:
        """Whether no row touches what is written for another one, and all of them little beside.

        Memory that is written has rows of one size, in whole batches from its beginning on.
        """
        sizes: dict[str, set[Dim]] = {}
        written: set[str] = set()
        for launch in launches:
            params = self.kernels[launch.kernel].params
            for param, buffer, size in zip(
                    params, launch.buffers, rows[id(launch)].elements, strict=True):
                root, offset = self._memory(buffer)
                sizes.setdefault(root, set()).add(size)
                batch = size * symbol(name)
                if param.role != "in":
                    written.add(root)
                if size != 0 and (offset // batch) * batch != offset:
                    return False
        shared = [b for b in self.program.buffers if sizes.get(b.name) == {0}]
        return all(len(sizes[root]) == 1 and sizes[root] != {0} for root in written) and (
            sum(map(self._bytes, shared)) <= MOST_BYTES)

    def _memory(self, name: str) -> tuple[str, Dim]:
        """The buffer that a buffer lies in, and where."""
        buffer = self.buffers[name]
        return buffer.alias_of or name, buffer.offset

    def _bytes(self, buffer: ProgramBuffer) -> int:
        size = storage_size(buffer.layout, buffer.dims)
        return self.options.likely(size) * buffer.dtype.size

    def _pieces(
        self, loop: Loop, launches: list[Launch], rows: dict[int, _Rows], name: str
    ) -> Parallel:
        """A loop in pieces of the rows of the symbol."""
        self.pieces += 1
        var = f"piece.{self.pieces}"
        most = self._rows_of_piece(launches, rows)
        left = symbol(name) - most * symbol(var)
        some = _Some(var, most, minimum(most, left), name)

        def inside(step: Step) -> Step:
            if isinstance(step, Loop):
                return replace(step, body=tuple(map(inside, step.body)))
            assert isinstance(step, Launch)
            return self._launch(step, rows[id(step)], some)

        body = inside(loop)
        return Parallel(var, ceildiv(symbol(name), most), self._cost((loop,)), (body,))

    def _rows_of_piece(self, launches: list[Launch], rows: dict[int, _Rows]) -> int:
        """As many rows as fill the tiles of all launches, if these are few."""
        tiles = [tile.size for launch in launches
                 for tile in self.schedules[launch.kernel].tiles
                 if tile.index == rows[id(launch)].index and rows[id(launch)].unit == 1]
        full = lcm(*tiles)
        return full if full <= MOST_ROWS else max(tiles)

    def _cost(self, steps: tuple[Step, ...]) -> Dim:
        """What steps likely take, in nanoseconds."""
        total: Dim = 0
        for step in steps:
            if isinstance(step, Loop):
                total = total + step.count * self._cost(step.body)
            elif isinstance(step, Launch):
                cost = self.schedules[step.kernel].cost
                total = total + substitute(cost, self._dims(step))
        return total

    def _launch(self, launch: Launch, rows: _Rows, some: _Some) -> Launch:
        """A launch on some rows."""
        dims = tuple(rows.unit * some.count if own == rows.symbol else dim
                     for own, dim in self._dims(launch).items())
        buffers = tuple(self._part(name, size, some) if size != 0 else name
                        for name, size in zip(launch.buffers, rows.elements, strict=True))
        return replace(launch, dims=dims, buffers=buffers)

    def _part(self, name: str, size: Dim, some: _Some) -> str:
        """The rows of a buffer that a piece has."""
        if (some.var, name) not in self.made:
            buffer, (root, offset) = self.buffers[name], self._memory(name)
            self.made[some.var, name] = replace(
                buffer, name=self._fresh(f"{name}.rows"), alias_of=root, default=None,
                dims=tuple(substitute(d, {some.of: some.count}) for d in buffer.dims),
                offset=offset + size * some.most * symbol(some.var), path="")
        return self.made[some.var, name].name

    def _fresh(self, name: str) -> str:
        taken = self.buffers.keys() | {b.name for b in self.made.values()}
        names = (f"{name}{suffix}" for suffix in ("", *(f".{k}" for k in range(2, len(taken) + 3))))
        return next(n for n in names if n not in taken)


@dataclass(frozen=True, slots=True)
class _Some:
    """The rows of a piece: `most` in all but the last, `count` in the one that `var` counts, of as
    many as the symbol `of` says."""

    var: str
    most: int
    count: Dim
    of: str


def _names(dims: tuple[Dim, ...]) -> frozenset[str]:
    return frozenset[str]().union(*map(symbols, dims))
