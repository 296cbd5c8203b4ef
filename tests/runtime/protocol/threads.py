"""One thread of the pool's code: what it does next to what all threads see.

Between two such operations a thread is on its own: that runs at once. Times are open: a comparison
with a time goes either way, so what holds here holds for any clock and any limits.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Final

from dlc.runtime.pool_code import FIELDS
from tests.runtime.protocol.code import Flat, Instruction, targets, ways

Value = int | str
Values = tuple[Value, ...]
Operation = tuple[Value, ...]  # its kind, then what it is given
Thread = int  # the number of what it is about to do with which values; negative: does not run
TIME: Final = "time"
QUIET = ("@llvm.x86", "@pthread_attr", "@pthread_sigmask", "@sigfillset", "@sched_yield",
         "@leave")
"""Calls that no other thread can see."""
OPEN = ("@now", "@sched_getcpu")
"""Calls whose results may be anything."""

_TWO: dict[str, Callable[[int, int], int]] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "and": operator.and_,
    "or": operator.or_, "shl": operator.lshift, "lshr": operator.rshift,
    "sdiv": operator.floordiv, "eq": operator.eq, "ne": operator.ne, "slt": operator.lt,
    "sgt": operator.gt, "sle": operator.le, "sge": operator.ge,
    "@llvm.smin.i64": min, "@llvm.smax.i64": max,
}
_GIVEN = re.compile(r"(?:i\d+|ptr) (%[\w./]+|@\w+|-?\d+|null)")


class Role:
    """The code of a kind of thread. `constants` are the fields that nobody writes."""

    def __init__(self, flat: Flat, constants: Mapping[int, int]) -> None:
        self._flat, self._constants = flat, constants
        self._orders = [tuple(sorted(live)) for live in flat.live]
        self._numbers: dict[tuple[int, Values], Thread] = {}
        self._next: dict[tuple[Thread, Value], Thread] = {}
        self._places: list[tuple[int, Values]] = []  # instruction and live registers, by thread
        self.operations: list[Operation] = []  # what each does next
        self.inside: list[tuple[str, ...]] = []  # the functions in which each is

    def begin(self) -> Thread:
        """A thread that is about to do its first operation."""
        return self._run(0, dict.fromkeys(self._flat.parameters, 0))

    def after(self, thread: Thread, result: Value) -> Thread:
        """The thread when its operation has given `result`."""
        found = self._next.get((thread, result))
        if found is None:
            at, known = self._places[thread][0], self._known(thread)
            line = self._flat.code[at]
            if line.result:
                known[line.result] = result
            found = self._next[thread, result] = self._run(at + 1, known)
        return found

    def _number(self, at: int, values: Values, operation: Operation) -> Thread:
        """The number of a thread, a new one if there has been none like it."""
        found = self._numbers.get((at, values))
        if found is None:
            found = self._numbers[at, values] = len(self._places)
            self._places.append((at, values))
            self.operations.append(operation)
            self.inside.append(self._flat.inside[at])
        return found

    def _known(self, thread: Thread) -> dict[str, Value]:
        at, values = self._places[thread]
        return dict(zip(self._orders[at], values, strict=True))

    def _run(self, at: int, known: dict[str, Value]) -> Thread:
        """Runs what no other thread sees."""
        while True:
            line = self._flat.code[at]
            if line.op == "br":
                at = self._branch(at, known)
            elif operation := self._decode(line, known):
                values = tuple(known[name] for name in self._orders[at])
                return self._number(at, values, operation)
            else:
                if line.result:
                    known[line.result] = self._compute(line, known)
                at += 1

    def _branch(self, at: int, known: dict[str, Value]) -> int:
        line = self._flat.code[at]
        where = targets(line)
        taken = where[0] if len(where) == 1 or known[line.uses[0]] else where[1]
        to = self._flat.blocks[taken]
        found: dict[str, Value] = {}
        while self._flat.code[to].op == "phi":
            phi = self._flat.code[to]
            value = next(v for v, label in ways(phi) if label == self._flat.origin[at])
            found[phi.result] = _value(value, known)
            to += 1
        known.update(found)
        return to

    def _compute(self, line: Instruction, known: dict[str, Value]) -> Value:
        """The result of an instruction that is the thread's own."""
        text, op = line.text, line.op
        if op == "set":
            return _value(text.split()[1], known)
        given = [_value(word, known) for word in _words(text)]
        if op in ("trunc", "zext", "extractvalue"):
            return given[0]
        if op == "select":
            return given[1] if given[0] else given[2]
        if op == "load":
            address = given[-1]
            return self._constants.get(address, 0) if isinstance(address, int) else 0
        if op == "getelementptr":
            return _add(given[0], given[1], 8 if text.startswith("getelementptr i64") else 1)
        if op == "icmp":
            return _two(text.split()[1], given)
        if op == "call":
            name = text[text.index("@"):text.index("(")]
            return TIME if name in OPEN else _two(name, given) if name in _TWO else 0
        if op in ("alloca", "atomicrmw"):  # a place of its own; the count of chunks ever run
            return "own"
        return _two(op, given)

    def _decode(self, line: Instruction, known: dict[str, Value]) -> Operation:
        """The operation that others see or that has several outcomes; () if it is neither."""
        text, op = line.text, line.op
        if op == "ret":
            return ("exit",)
        if op == "fence":
            return ("fence",)
        if op == "call":
            return _call(text, known)
        if op not in ("load", "store", "atomicrmw", "cmpxchg", "icmp"):
            return ()
        given = [_value(word, known) for word in _words(text)]
        if op == "icmp":
            return ("choice",) if TIME in given else ()
        return self._memory(text, op, given)

    def _memory(self, text: str, op: str, given: list[Value]) -> Operation:
        address = given[1] if op == "store" else given[0]
        if not isinstance(address, int) or address in self._constants:
            return ()
        if FIELDS["handles"] <= address or address in (FIELDS["ran"], FIELDS["cpu"]):
            return ()
        plain = () if "atomic" in text or op == "cmpxchg" else ("plain",)
        order = next(iter(re.findall(r"\b(seq_cst|acq_rel|release|acquire|monotonic)", text)), "")
        if op == "load":
            return ("load", address, *plain)
        if op == "store":
            return ("store", address, given[0], order, *plain)
        if op == "cmpxchg":
            return ("cas", address, given[1], given[2], order)
        amount = given[1]
        assert isinstance(amount, int)
        return ("add", address, -amount if " sub " in text else amount, order)


def _call(text: str, known: dict[str, Value]) -> Operation:
    """A call that others see."""
    name = re.findall(r"[@%][\w./]+(?=\()", text)[0]
    given = [_value(word, known) for word in _words(text)]
    if name == "@syscall":
        return ("wait" if given[2] == 128 else "wake", given[1], given[3])
    if name == "@pthread_create":
        return ("create",)
    if name == "@pthread_join":
        return ("join", given[0])
    if name in ("@opens", "@closes"):
        return (name[1:], given[0])
    if name.startswith(("%", "@fn")):
        return ("chunk", _value(name, known), given[0], given[1])
    assert name in _TWO or name in OPEN or name.startswith(QUIET), name
    return ()


def _words(text: str) -> list[str]:
    """The operands as they are written."""
    body = text.partition(" ")[2]
    if text.startswith("icmp"):
        first, second = body.split(" ", 2)[2].split(", ")
        return [first, second]
    if text.startswith("select"):
        return re.findall(r"(?:i\d+) (%[\w./]+|-?\d+)", body)
    if text.startswith("extractvalue"):
        return re.findall(r"%[\w./]+", body)
    if text.split()[0] in _TWO:
        left, right = body.split(" ", 1)[1].split(", ")
        return [left, right]
    if text.startswith("call"):
        body = re.split(r"[@%][\w./]+\(", body, maxsplit=1)[1]
    return _GIVEN.findall(body)


def _value(word: str, known: Mapping[str, Value]) -> Value:
    if word.startswith("%"):
        return known[word]
    if word.startswith("@"):
        return word
    return {"true": 1, "false": 0, "null": 0}[word] if word.isalpha() else int(word)


def _add(base: Value, offset: Value, scale: int) -> Value:
    if isinstance(base, str):
        return base
    assert isinstance(offset, int)
    return base + scale * offset


def _two(op: str, given: list[Value]) -> Value:
    left, right = given
    if isinstance(left, str) or isinstance(right, str):
        return TIME
    return int(_TWO[op](left, right))
