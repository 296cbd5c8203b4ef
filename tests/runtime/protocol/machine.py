"""Several threads of the pool's code on one memory, and what must hold there.

Stores wait in their thread's buffer before others see them: in order on `x86`; in any order on
`arm`, but a release after all that was before it. Kernels give no more: what needs an empty
buffer is what the processors and LLVM promise for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple, TypeVar

from dlc.runtime.pool_code import FIELDS
from tests.runtime.protocol.code import Flat, read
from tests.runtime.protocol.threads import TIME, Operation, Role, Thread, Value

NOT_BEGUN: Thread = -1
ENDED: Thread = -2
DATA = 1 << 20  # where chunks write: a place for each chunk of each stage
TIMES = frozenset(FIELDS[name] for name in ("solo_length", "balance", "last"))
"""Fields of the owner that hold times: what they hold is open, so nobody need know it."""
_FULL = frozenset({"release", "acq_rel", "seq_cst"})
T = TypeVar("T")
Buffer = tuple[tuple[int, Value, bool], ...]  # address, value, whether it is a release


class Broken(AssertionError):
    """Something that must hold does not."""


class State(NamedTuple):
    """All there is. `asleep` is the address on which each thread sleeps, or -1; `begun` tells the
    chunks that have begun, `open` the stages whose calls have begun and not ended."""

    threads: tuple[Thread, ...]
    asleep: tuple[int, ...]
    buffers: tuple[Buffer, ...]
    memory: tuple[Value, ...]
    begun: frozenset[tuple[int, int]]
    open: frozenset[int]
    closed: frozenset[int]


class Step(NamedTuple):
    """A state that follows; `by_chance` if nothing obliges it to (spurious, or a timeout)."""

    state: State
    by_chance: bool = False


class Machine:
    """`callers` are steps, each the chunks of its stages; one without stages asks for the pool,
    ends the workers and gives it back, as who sets the number of threads does. `text` is the pool's
    code. With `solo` a caller that had to wait may go on alone."""

    def __init__(self, text: str, callers: tuple[tuple[int, ...], ...], workers: int,
                 arm: bool = False, solo: bool = True) -> None:
        self.arm, self.callers, self.workers = arm, callers, workers
        self.chunks = [n for stages in callers for n in stages]
        functions = read(text + _scripts(callers))
        constants = {FIELDS[name]: value for name, value in
                     (("serial_ns", 0), ("wake_ns", 0), ("solo_after_ns", int(solo)))}
        self.roles = [Role(Flat(functions, f"@script{at}"), constants)
                      for at in range(len(callers))]
        self.roles += [Role(Flat(functions, "@worker"), constants)] * workers
        others = ("parallel", "release", "ran", "cpu", "slot", "handles")
        fields = [at for name, at in FIELDS.items() if name not in others and at not in constants]
        slots = [FIELDS["slot"] + 64 * odd + 8 * at for odd in (0, 1) for at in range(4)]
        data = [DATA + 64 * s + c for s, n in enumerate(self.chunks) for c in range(n)]
        self.slots = frozenset(slots)
        self.places = {address: at for at, address in enumerate(fields + slots + data)}

    def begin(self) -> list[State]:
        """The pool as it is made; settled."""
        memory: list[Value] = [0] * len(self.places)
        memory[self.places[FIELDS["wanted"]]] = self.workers
        callers = [role.begin() for role in self.roles[: len(self.callers)]]
        threads = (*callers, *[NOT_BEGUN] * self.workers)
        count = len(threads)
        none: frozenset[int] = frozenset()
        return self.settle(State(threads, (-1,) * count, ((),) * count, tuple(memory),
                                 frozenset(), none, none))

    def _sorted(self, state: State) -> State:
        """The same with workers in order: which is which makes no difference."""
        if self.workers < 2:
            return state
        count = len(self.callers)
        workers = list(zip(state.threads, state.asleep, state.buffers, strict=True))[count:]
        ordered = sorted(workers)
        if ordered == workers:
            return state
        threads, asleep, buffers = zip(*ordered, strict=True)
        return state._replace(
            threads=(*state.threads[:count], *threads), asleep=(*state.asleep[:count], *asleep),
            buffers=(*state.buffers[:count], *buffers))

    def is_end(self, state: State) -> bool:
        """Whether all have come home."""
        return all(thread < 0 for thread in state.threads)

    def steps(self, state: State) -> Iterator[Step]:
        """All states that may follow one that is settled."""
        for at, thread in enumerate(state.threads):
            if state.buffers[at]:
                for after in self._flushes(state, at):
                    yield from map(Step, self.settle(after))
            if state.asleep[at] >= 0:
                for after in self.settle(self._after(state, at, 0)):
                    yield Step(after, by_chance=True)
            elif thread >= 0:
                for after in self._does(state, at, self.roles[at].operations[thread]):
                    yield from map(Step, self.settle(after))

    def settle(self, state: State) -> list[State]:
        """What comes of a state once all threads have done what no other thread can tell the time
        of: the order of such operations makes no difference."""
        settled, waiting = [], [state]
        while waiting:
            state = waiting.pop()
            for at, thread in enumerate(state.threads):
                if thread < 0 or state.asleep[at] >= 0:
                    continue
                operation = self.roles[at].operations[thread]
                if self._is_alone(state, at, operation):
                    waiting += self._does(state, at, operation)
                    break
            else:
                settled.append(self._sorted(state))
        return settled

    def _is_alone(self, state: State, at: int, operation: Operation) -> bool:
        """Whether no other thread can tell when it happens, whatever it does meanwhile."""
        kind = operation[0]
        if kind in ("choice", "opens", "closes", "exit", "create", "fence"):
            return not state.buffers[at] or not self._must_drain(operation)
        if operation[-1] == "plain" or (kind == "store" and operation[3] != "seq_cst"):
            return True
        if kind != "load" or operation[1] not in self.slots:
            return False
        return self._stays(state, int(operation[1]))

    def _stays(self, state: State, address: int) -> bool:
        """Whether nobody will write to a place of a slot any more."""
        stores = [(place, value) for buffer in state.buffers for place, value, _ in buffer]
        if any(place == address for place, _ in stores):
            return False
        word = FIELDS["word"]
        gen = max(int(v) for v in (self._read(state, word), *_of(stores, word))) >> 24
        arguments = FIELDS["slot"] + 64 * (gen & 1) + 8
        published = (self._read(state, arguments), *_of(stores, arguments))[-1]
        to_come = sum(1 for stage in range(len(self.chunks))
                      if stage not in state.closed and published != f"@args{stage}")
        return to_come == 0 or (to_come == 1 and (address - FIELDS["slot"]) // 64 == gen & 1)

    def _does(self, state: State, at: int, operation: Operation) -> Iterator[State]:
        kind = operation[0]
        if self._must_drain(operation) and state.buffers[at]:
            return
        if operation[-1] == "plain" and state.memory[self.places[FIELDS["owner"]]] != 1:
            raise Broken("who is not the owner touches what is the owner's")
        match kind:
            case "choice":
                yield self._after(state, at, 0)
                yield self._after(state, at, 1)
            case "load" | "store" | "add" | "cas":
                yield from self._accesses(state, at, operation)
            case "fence":
                yield self._after(state, at, 0)
            case "wait" | "wake":
                yield from self._futex(state, at, operation)
            case "chunk":
                yield self._chunk(state, at, operation)
            case "opens" | "closes":
                yield self._stage(state, at, operation)
            case _:
                yield from self._threads(state, at, operation)

    @staticmethod
    def _must_drain(operation: Operation) -> bool:
        kind = operation[0]
        if kind in ("fence", "wait", "wake", "create", "exit"):
            return True
        order = operation[4] if kind == "cas" else operation[3] if len(operation) > 3 else ""
        return (kind in ("cas", "add") and order in _FULL) or (kind, order) == ("store", "seq_cst")

    def _accesses(self, state: State, at: int, operation: Operation) -> Iterator[State]:
        kind, address = operation[0], operation[1]
        assert isinstance(address, int)
        if address in TIMES:
            yield self._after(state, at, TIME)
            return
        waiting = [value for place, value, _ in state.buffers[at] if place == address]
        if kind == "load":
            yield self._after(state, at, waiting[-1] if waiting else self._read(state, address))
        elif kind == "store" and operation[3] != "seq_cst":
            entry = (address, operation[2], operation[3] == "release")
            yield self._after(_buffered(state, at, entry), at, 0)
        elif kind == "store":
            yield self._after(self._write(state, address, operation[2]), at, 0)
        elif not waiting and (self.arm or not state.buffers[at]):
            old = self._read(state, address)
            if kind == "add":
                assert isinstance(old, int)
                assert isinstance(operation[2], int)
                yield self._after(self._write(state, address, old + operation[2]), at, old)
            elif old == operation[2]:
                yield self._after(self._write(state, address, operation[3]), at, 1)
            else:
                yield self._after(state, at, 0)

    def _flushes(self, state: State, at: int) -> Iterator[State]:
        """A store of a thread comes to be seen by all."""
        buffer = state.buffers[at]
        for place, (address, value, release) in enumerate(buffer):
            before = buffer[:place]
            if before and (release or not self.arm or any(b[0] == address for b in before)):
                continue
            left = _replaced(state.buffers, at, before + buffer[place + 1:])
            yield self._write(state._replace(buffers=left), address, value)

    def _futex(self, state: State, at: int, operation: Operation) -> Iterator[State]:
        kind, address, value = operation
        assert isinstance(address, int)
        assert isinstance(value, int)
        if kind == "wait":
            if self._read(state, address) == value:
                yield state._replace(asleep=_replaced(state.asleep, at, address))
            else:
                yield self._after(state, at, 0)
            return
        sleepers = [i for i, place in enumerate(state.asleep) if place == address]
        for woken in combinations(sleepers, min(value, len(sleepers))):
            after = self._after(state, at, 0)
            for each in woken:
                after = self._after(after, each, 0)
            yield after

    def _chunk(self, state: State, at: int, operation: Operation) -> State:
        """Runs a chunk; what it writes is in the buffer then."""
        _, function, arguments, number = operation
        stage = int(str(function).removeprefix("@fn"))
        assert isinstance(number, int)
        if arguments != f"@args{stage}":
            raise Broken("a chunk runs with the arguments of another stage")
        if not 0 <= number < self.chunks[stage]:
            raise Broken("a chunk runs that there is not")
        if (stage, number) in state.begun:
            raise Broken("a chunk runs twice")
        if stage not in state.open:
            raise Broken("a chunk runs when its stage is over")
        mine = next(own for own in map(self.stages, range(len(self.callers))) if stage in own)
        for before in range(mine.start, stage):
            if self._unfinished(state, at, before):
                raise Broken("a stage starts before the one before it is finished")
        state = state._replace(begun=state.begun | {(stage, number)})
        place = DATA + 64 * stage + number
        if self.arm:
            return self._after(_buffered(state, at, (place, 1, False)), at, 0)
        return self._after(self._write(state, place, 1), at, 0)  # what follows drains the buffer

    def stages(self, caller: int) -> range:
        """The numbers of a caller's stages."""
        first = sum(map(len, self.callers[:caller]))
        return range(first, first + len(self.callers[caller]))

    def _unfinished(self, state: State, at: int, stage: int) -> bool:
        """Whether a thread can't see what a chunk of a stage has written."""
        seen = {address for address, _, _ in state.buffers[at]}
        places = (DATA + 64 * stage + chunk for chunk in range(self.chunks[stage]))
        return any(p not in seen and not self._read(state, p) for p in places)

    def _stage(self, state: State, at: int, operation: Operation) -> State:
        kind, stage = operation
        assert isinstance(stage, int)
        if kind == "opens":
            return self._after(state._replace(open=state.open | {stage}), at, 0)
        if self._unfinished(state, at, stage):
            raise Broken("a stage is called finished before it is")
        return self._after(state._replace(open=state.open - {stage},
                                          closed=state.closed | {stage}), at, 0)

    def _threads(self, state: State, at: int, operation: Operation) -> Iterator[State]:
        """Begin, join and end of threads."""
        kind = operation[0]
        if kind == "create":
            yield self._after(state, at, 11)  # there may be no room for a thread
            new = next((at for at in range(len(self.callers), len(state.threads))
                        if state.threads[at] < 0), None)
            if new is None:
                raise Broken("more threads begin than are wanted")
            begun = state._replace(threads=_replaced(state.threads, new, self.roles[new].begin()))
            yield self._after(begun, at, 0)
        elif kind == "join":
            if all(thread < 0 for thread in state.threads[len(self.callers):]):
                yield self._after(state, at, 0)
        else:
            yield state._replace(threads=_replaced(state.threads, at, ENDED))

    def _after(self, state: State, at: int, result: Value) -> State:
        """With a thread awake and behind its operation."""
        thread = self.roles[at].after(state.threads[at], result)
        return state._replace(threads=_replaced(state.threads, at, thread),
                              asleep=_replaced(state.asleep, at, -1))

    def _read(self, state: State, address: int) -> Value:
        return state.memory[self.places[address]]

    def _write(self, state: State, address: int, value: Value) -> State:
        return state._replace(memory=_replaced(state.memory, self.places[address], value))


def _replaced(values: tuple[T, ...], at: int, value: T) -> tuple[T, ...]:
    return (*values[:at], value, *values[at + 1:])


def _of(stores: list[tuple[int, Value]], address: int) -> list[Value]:
    """What is on its way to an address, the newest last."""
    return [value for place, value in stores if place == address]


def _buffered(state: State, at: int, entry: tuple[int, Value, bool]) -> State:
    return state._replace(buffers=_replaced(state.buffers, at, (*state.buffers[at], entry)))


def _scripts(callers: tuple[tuple[int, ...], ...]) -> str:
    """What each caller runs: its step; the first one ends the workers at last."""
    texts, first = [], 0
    for at, stages in enumerate(callers):
        lines = [*_step(stages, first), *(_ending(last=at == 0) if at == 0 or not stages else ())]
        first += len(stages)
        body = "\n  ".join((*lines, "ret void"))
        texts.append(f"define void @script{at}(ptr %pool) nounwind {{\n  {body}\n}}\n")
    return "".join(texts)


def _step(stages: tuple[int, ...], first: int) -> Iterator[str]:
    """The stages of one step, as compiled code runs them."""
    owned = "0"
    for stage, chunks in enumerate(stages, first):
        yield f"call void @opens(i64 {stage})"
        yield (f"%owned.{stage} = call i64 @dlc_pool_parallel(ptr %pool, i64 {owned},"
               f" ptr @fn{stage}, ptr @args{stage}, i64 {chunks}, i64 1000000)")
        yield f"call void @closes(i64 {stage})"
        owned = f"%owned.{stage}"
    if stages:
        yield from (f"%held = icmp ne i64 {owned}, 0", "br i1 %held, label %leave, label %left",
                    "leave:", "call void @dlc_pool_release(ptr %pool)", "br label %left", "left:")


def _ending(last: bool) -> Iterator[str]:
    """The end of all workers, as the pool in Python brings it about; maybe for good."""
    yield from ("br label %own", "own:", "%owns = call i32 @dlc_pool_acquire(ptr %pool, i64 1)",
                "%mine = icmp eq i32 %owns, 1", "br i1 %mine, label %stop, label %own", "stop:",
                "call void @dlc_pool_stop(ptr %pool)")
    if last:
        yield f"%wanted = getelementptr i8, ptr %pool, i64 {FIELDS['wanted']}"
        yield "store atomic i64 0, ptr %wanted monotonic, align 8"
    yield "call void @dlc_pool_release(ptr %pool)"
