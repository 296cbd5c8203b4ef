"""Applying a GPU's schedule: elementwise work of which a thread has several places.

While memory answers, a thread asks for more of it: it reads all of its places before it writes one.
They lie as far apart as a block has threads, so that neighbouring threads touch neighbours.

    place = chunk * 512 + thread
    x0 = x[place * 4 …], x1 = x[(place + 256) * 4 …]             16 bytes each
    y[place * 4 …] = f(x0), y[(place + 256) * 4 …] = f(x1)

Threads that have fewer places, or whose last vector is not whole, go one after another.
"""

from __future__ import annotations

from dlc.compiler.loops.builder import Register
from dlc.compiler.loops.threads import OnThreads
from dlc.ir.dims import Dim, floordiv, product, symbol
from dlc.ir.kernel import Access, Compute, Index, Kernel
from dlc.ir.loops import Let
from dlc.ir.schedule import Schedule


class OnSeveralPlaces(OnThreads):
    """Applies a schedule by which a thread has several places.

    `ready` are values that are not stored yet, each with its target and the point there; `made`
    those of the place here.
    """

    def __init__(self, kernel: Kernel, schedule: Schedule) -> None:
        super().__init__(kernel, schedule)
        self.together = False
        self.ready: list[tuple[Access, Register, dict[str, Dim]]] = []
        self.made: dict[Access, Register] = {}

    def body_of_block(self) -> None:
        """What the threads of one block do."""
        threads, places = self.schedule.threads, self.schedule.places
        outer = [next(i for i in self.kernel.outer if i.name == n) for n in self.schedule.order]
        total = product(tuple(map(self._turns, outer)))
        self.out.add(Let("place", symbol("chunk") * (threads * places) + symbol("thread")))
        self.span("place", 0, total - 1)
        place = symbol("place")
        room = product(tuple(map(self._whole_turns, outer))) - place - (places - 1) * threads
        with self.out.block() as statements:
            self._all_places(outer)
        self.out.when((room - 1,), statements)
        with self.out.block() as statements:
            self._each_place(outer, total)
        self.out.when((0 - room,), statements)

    def _whole_turns(self, index: Index) -> Dim:
        """How many places, or whole vectors of places, an outer index has."""
        assert not isinstance(index.high, Access)
        wide = index.name == self.schedule.vector
        return floordiv(index.high, self.schedule.lanes) if wide else index.high

    def _all_places(self, outer: list[Index]) -> None:
        """All places of a thread; their vectors are whole."""
        points: list[dict[str, Dim]] = []
        for at in range(self.schedule.places):
            self._move(outer, symbol("place") + at * self.schedule.threads)
            points.append(dict(self.point))
        self.together = self.whole = True
        for self.point in points:
            self._read_all()
        for self.point in points:
            self.sequence(self.kernel.body)
            self.made = {}
        self.together = False
        for target, value, point in self.ready:
            self.point = point
            self.write(target, value)
        self.whole = False

    def _move(self, outer: list[Index], number: Dim) -> None:
        """Moves to the place (or the vector) with this number."""
        self.number([(i.name, self._turns(i)) for i in outer], number)
        for index in (i for i in outer if i.name == self.schedule.vector):
            self.point[index.name] = (
                self.point[index.name] * self.schedule.lanes + symbol("lane"))
            assert not isinstance(index.high, Access)
            self.vector_bound = index.high

    def _read_all(self) -> None:
        """Reads what the place here needs; it is known from then on."""
        written = {c.target.buffer for c in self.kernel.body if isinstance(c, Compute)}
        for compute in (c for c in self.kernel.body if isinstance(c, Compute)):
            for access in (a for a in compute.args if isinstance(a, Access)):
                if access.buffer not in written:
                    self.read(access)

    def _each_place(self, outer: list[Index], total: Dim) -> None:
        """The places of a thread that has not as many as others, or not whole vectors."""
        threads = self.schedule.threads
        number = symbol("place") + symbol("k") * threads
        self.span("k", 0, self.schedule.places - 1)
        self.whole = bool(self.schedule.vector) and self.comes_out_even
        with self.out.block() as body:
            with self.out.block() as statements:
                self._move(outer, self.named("at", number, total - 1))
                self.sequence(self.kernel.body)
            self.out.when((total - 1 - number,), statements)
        self.out.loop("k", 0, self.schedule.places, body)

    def read(self, access: Access) -> Register:
        """An element or a vector: what was made at this place, or what lies in memory."""
        found = self.made.get(access)
        return super().read(access) if found is None else found

    def write(self, target: Access, value: Register) -> None:
        """Stores a value, once all places have been read."""
        if self.together and self.kernel.buffer(target.buffer).role != "local":
            self.made[target] = value
            self.ready.append((target, value, dict(self.point)))
            return
        super().write(target, value)
