"""LLVM IR of `dlc_entry(ctx)`, which runs the steps of a program in order.

The context is a struct of 8-byte fields; see `FIELDS`. `print` is called for what a program prints,
with a block: the number of the print, pointers to what is printed, and the dims of it all. `watch`
points to what begins with a function that loops call now and then, with `watch` and a block of
their own: `{left, interval, time}`, turns until the next call (which the function sets anew), turns
between two calls, and what the function keeps there. Both give 0, or the program leaves there with
-1 as its status, nothing changed; once it has begun to change variables it asks no more. Both may
be null. `times` is for code that takes the time of its launches (`timed.py`); other code never
looks there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import inf
from typing import Final

from dlc.compiler.llvm.float_mode import FloatMode
from dlc.compiler.llvm.index import Indices, load_symbols
from dlc.compiler.llvm.sharing import Sharing, slots_of
from dlc.compiler.llvm.target import Target
from dlc.compiler.llvm.text import Writer, mangle, stored
from dlc.compiler.loops.names import Name
from dlc.compiler.passes.plan_memory import ALIGNMENT, planned
from dlc.ir.dims import evaluate, substitute
from dlc.ir.program import (
    Branch,
    BufferKind,
    Check,
    Commit,
    Launch,
    Loop,
    Parallel,
    Print,
    Program,
    ProgramBuffer,
    Step,
    each_step,
)

FIELDS: Final = ("version", "dims", "pointers", "strides", "arena", "pool", "random", "status",
                 "offsets", "print", "watch", "times")
STOPPED: Final = -1
"""The status of a program that was told to stop."""
FIRST_TURNS: Final = 64
FIRST_NS: Final = 1_000_000
"""After how many turns, and after how long, a loop first calls `watch`, at most."""
LONG_NS: Final = 1_000_000_000
"""How long steps in parallel may take, on one thread: `watch` is not called meanwhile."""
POINTER_KINDS: Final[tuple[BufferKind, ...]] = ("in", "out", "var")


def pointer_buffers(program: Program) -> list[ProgramBuffer]:
    """The buffers that the caller gives, in the order of the context's pointers."""
    return [b for kind in POINTER_KINDS for b in program.buffers
            if b.kind == kind and not b.alias_of]


def table_name(buffer: ProgramBuffer) -> str:
    """The name of the table of a constant buffer."""
    return f"@table.{mangle(buffer.name)}"


class EntryEmitter(Sharing):
    """Emits `dlc_entry`."""

    def __init__(self, program: Program, target: Target) -> None:
        self.program, self.target = program, target
        self.writer = Writer()
        self.indices = Indices(self.writer)
        self.buffers = {b.name: b for b in program.buffers}
        self.slots = {b.name: at for at, b in enumerate(pointer_buffers(program))}
        self.temps = {b.name: at for at, b in enumerate(planned(program), 1)}
        self.places: dict[str, str] = {}
        self.mode = FloatMode(self.writer, target)
        self.costs = {name: schedule.cost for name, schedule in program.schedules}
        self.loops = {f.name: f for f in program.loops}
        self.shares = any(self.loops[step.kernel].chunks != 1 for step in each_step(program.steps)
                          if isinstance(step, Launch))  # whether it may take the pool
        self.committed = False  # whether variables have begun to change
        self.alone = False  # whether one thread does all: it is a piece of what threads share
        self.pieces: list[str] = []  # the functions that threads call for a piece
        self.args: dict[int, str] = {}  # what each slot of the block of arguments holds

    def emit(self) -> str:
        """The definition as text."""
        self._reserve()
        load_symbols(self.indices, self.program.symbols, self.field("dims"))
        self.mode.flush_denormals()
        self.steps(self.program.steps)
        self.writer.line("br label %leave")
        self.writer.start("leave")
        self.leave_pool()
        self.mode.restore()
        self.writer.line("ret void")
        entry = f"define void @dlc_entry(ptr %ctx) #0 {{\n{self.writer.text()}\n}}\n"
        return "\n".join((*self.pieces, entry))

    def _reserve(self) -> None:
        """The blocks of arguments of kernels, and of prints."""
        self.reserve("args", self.args_size())
        printed = [1 + sum(1 + len(self.buffers[b].dims) for b in s.buffers)
                   for s in each_step(self.program.steps) if isinstance(s, Print)]
        if printed:
            self.reserve("printed", max(printed))
        if self.shares:
            self.writer.allocas += ["  %owned = alloca i64", "  store i64 0, ptr %owned"]
            self.field("pool")  # known on all ways

    def reserve(self, name: str, size: int) -> None:
        """A block of so many slots."""
        kind = f"[{max(size, 1)} x i64]"
        self.writer.allocas.append(f"  %{name} = alloca {kind}, align {ALIGNMENT}")

    def args_size(self) -> int:
        """How many slots the block of arguments needs."""
        return slots_of(self.program)

    def steps(self, steps: tuple[Step, ...]) -> None:
        """Steps in order."""
        for step in steps:
            match step:
                case Launch():
                    self.launch(step)
                case Check():
                    self._check(step)
                case Print():
                    self._print(step)
                case Loop():
                    self._loop(step)
                case Branch():
                    self._branch(step)
                case Parallel():
                    self._parallel(step)
                case Commit():
                    self.committed = True

    def _slot(self, pointer: str, at: int) -> str:
        """The address of a slot of a block that stays where it is."""
        return self.writer.once(
            ("slot", pointer, at), f"getelementptr i64, ptr {pointer}, i64 {at}", "p", 0)

    def field(self, name: str) -> str:
        """A field of the context, loaded once."""
        at = self._slot("%ctx", FIELDS.index(name))
        return self.writer.once(("field", name), f"load ptr, ptr {at}", name, 0)

    def _place(self, name: str) -> str:
        """The address of a buffer; that of a part is computed anew in each turn of a loop."""
        buffer = self.buffers[name]
        root = buffer.alias_of or name
        if root not in self.places:
            self.places[root] = self._find(self.buffers[root])
        if buffer.offset == 0:
            return self.places[root]
        return self.indices.address(self.places[root], stored(buffer.dtype), buffer.offset)

    def _find(self, buffer: ProgramBuffer) -> str:
        """The address of memory, found where it can be seen by all steps that follow."""
        if buffer.kind == "random":
            return self.field("random")
        if buffer.kind == "const":
            return table_name(buffer)
        if buffer.name in self.slots:
            at = self._slot(self.field("pointers"), self.slots[buffer.name])
            return self.writer.emit(f"load ptr, ptr {at}", buffer.name, 0)
        at = self._slot(self.field("offsets"), self.temps[buffer.name])
        offset = self.writer.emit(f"load i64, ptr {at}", "offset", 0)
        return self.writer.emit(
            f"getelementptr i8, ptr {self.field('arena')}, i64 {offset}", buffer.name, 0)

    def launch(self, launch: Launch) -> None:
        """Fills the block of arguments, and runs the chunks."""
        function = self.loops[launch.kernel]
        dims = dict(zip(function.symbols, launch.dims, strict=True))
        if len(launch.buffers) != len(function.pointers):
            raise ValueError(f"{launch.kernel} takes {len(function.pointers)} buffers")
        for at, name in enumerate(launch.buffers):
            self.argument(at, "ptr", self._place(name))
        for at, dim in enumerate(launch.dims, len(launch.buffers)):
            self.argument(at, "i64", self.indices.value(dim))
        self.call(function, self.indices.value(substitute(function.chunks, dims)),
                   self.indices.value(substitute(self.costs.get(function.name, 0), dims)))

    def argument(self, at: int, kind: str, value: str) -> None:
        """Fills a slot, unless it holds the value still."""
        if self.args.get(at) != value:
            self.args[at] = value
            self.writer.line(f"store {kind} {value}, ptr {self._slot('%args', at)}")

    def _is_true(self, name: str) -> str:
        """The bool in a buffer."""
        byte = self.writer.emit(f"load i8, ptr {self._place(name)}", "bool")
        return self.writer.emit(f"icmp ne i8 {byte}, 0", "is")

    def _check(self, check: Check) -> None:
        """Leaves with the check's code in the status if its bool is false."""
        well = self._is_true(check.buffer)
        stop, on = self.writer.label("stop"), self.writer.label("on")
        status = self.field("status")
        code, value = self._slot(status, 0), self._slot(status, 1)
        given = self._place(check.value) if check.value else ""
        self.writer.line(f"br i1 {well}, label %{on}, label %{stop}")
        self.writer.start(stop)
        number = self.writer.emit(f"load i64, ptr {given}", "value") if given else "0"
        self.writer.line(f"store i64 {check.code}, ptr {code}")
        self.writer.line(f"store i64 {number}, ptr {value}")
        self.writer.line("br label %leave")
        self.writer.start(on)

    def _print(self, step: Print) -> None:
        """Calls the caller's function, if there is one, in the caller's floating-point mode."""
        function, status = self.field("print"), self.field("status")
        dims = [dim for name in step.buffers for dim in self.buffers[name].dims]
        block = [f"i64 {step.code}", *(f"ptr {self._place(name)}" for name in step.buffers),
                 *(f"i64 {self.indices.value(dim)}" for dim in dims)]
        for at, value in enumerate(block):
            self.writer.line(f"store {value}, ptr {self._slot('%printed', at)}")
        on = self.writer.label("on")
        self._unless_null(function, on)
        self._ask(f"{function}(ptr %printed)", status, on)

    def _watch(self, loop: Loop) -> None:
        """Counts a turn, and asks now and then whether the loop may go on."""
        writer, watch, status = self.writer, self.field("watch"), self.field("status")
        costs = (self._likely_cost(s) for s in _launches(loop.body))
        first = max(1, min(FIRST_TURNS, FIRST_NS // max(1, sum(costs))))
        turns = writer.fresh("turns")
        writer.allocas += [f"  {turns} = alloca [3 x i64]",
                           f"  store [3 x i64] [i64 {first}, i64 {first}, i64 0], ptr {turns}"]
        left = writer.emit(f"load i64, ptr {turns}", "left")
        less = writer.emit(f"sub i64 {left}, 1", "left")
        writer.line(f"store i64 {less}, ptr {turns}")
        due = writer.emit(f"icmp eq i64 {less}, 0", "due")
        ask, on = writer.label("ask"), writer.label("on")
        writer.line(f"br i1 {due}, label %{ask}, label %{on}")
        writer.start(ask)
        self._unless_null(watch, on)
        function = writer.emit(f"load ptr, ptr {watch}", "function")
        self._ask(f"{function}(ptr {watch}, ptr {turns})", status, on)

    def _likely_cost(self, launch: Launch) -> int:
        """Nanoseconds of a launch; a size that the program does not tell counts as little."""
        function, cost = self.loops[launch.kernel], self.costs.get(launch.kernel, 0)
        sizes = {name: dim if isinstance(dim, int) else 1
                 for name, dim in zip(function.symbols, launch.dims, strict=True)}
        return evaluate(cost, sizes)

    def _unless_null(self, pointer: str, on: str) -> None:
        """Goes on at a label if the caller has given no such function."""
        none = self.writer.emit(f"icmp eq ptr {pointer}, null", "none")
        given = self.writer.label("given")
        self.writer.line(f"br i1 {none}, label %{on}, label %{given}")
        self.writer.start(given)

    def _ask(self, call: str, status: str, on: str) -> None:
        """Calls the caller in its floating-point mode; goes on at a label, or leaves if told to.

        Python may fork there, or change how many threads there are."""
        self.leave_pool()
        self.mode.restore()
        answer = self.writer.emit(f"call i64 {call}", "answer")
        self.mode.set()
        if self.committed:
            self.writer.line(f"br label %{on}")
        else:
            stop = self.writer.label("stop")
            well = self.writer.emit(f"icmp eq i64 {answer}, 0", "well")
            self.writer.line(f"br i1 {well}, label %{on}, label %{stop}")
            self.writer.start(stop)
            self.writer.line(f"store i64 {STOPPED}, ptr {status}")
            self.writer.line("br label %leave")
        self.writer.start(on)

    def _loop(self, loop: Loop) -> None:
        """A loop with its test before each turn; its variable stays known after it."""
        writer = self.writer
        before, head = writer.scopes[-1].block, writer.label(loop.var)
        var, following = writer.fresh(loop.var), writer.fresh(loop.var)
        body, end = writer.label("body"), writer.label("end")
        limit = "" if loop.condition else self.indices.value(loop.count)
        self._enter(head)
        self.indices.define(loop.var, Name(var, writer.depth, (0, inf)))
        self.steps(loop.test)
        more = self._is_true(loop.condition) if loop.condition else writer.emit(
            f"icmp slt i64 {var}, {limit}", "more")
        writer.line(f"br i1 {more}, label %{body}, label %{end}")
        writer.start(body)
        if not self.committed:
            self._watch(loop)
        self.steps(loop.body)
        writer.line(f"{following} = add nuw nsw i64 {var}, 1")
        writer.line(f"br label %{head}")
        inner = writer.pop()
        writer.line(f"br label %{head}")
        writer.start(head)
        writer.line(f"{var} = phi i64 [0, %{before}], [{following}, %{inner.block}]")
        writer.join(inner)
        writer.start(end)
        self.indices.define(loop.var, Name(var, writer.depth, (0, inf)))
        self.args.clear()

    def _branch(self, branch: Branch) -> None:
        """One of two ways."""
        self._either(self._is_true(branch.condition), {
            "then": lambda: self.steps(branch.then), "else": lambda: self.steps(branch.otherwise)})

    def _parallel(self, step: Parallel) -> None:
        """Several pieces are shared out. In one alone each launch is, and in what takes long."""
        count, cost = self.indices.value(step.count), self.indices.value(step.cost)

        def whole() -> None:
            self.indices.define(step.var, Name("0", 0, (0, 0)))
            self.steps(step.body)

        several = self.writer.emit(f"icmp sgt i64 {count}, 1", "several")
        short = self.writer.emit(f"icmp slt i64 {cost}, {LONG_NS}", "short")
        self._either(self.writer.emit(f"and i1 {several}, {short}", "both"), {
            "pieces": lambda: self.in_pieces(self._piece(step), count, cost), "whole": whole})

    def in_pieces(self, code: str, count: str, cost: str) -> None:
        """Shares pieces out: `code` is the function that does one."""
        self.share(code, "%ctx", count, cost)

    def _piece(self, step: Parallel) -> str:
        """The function that does a piece, by one thread; its name."""
        inside = self.inside()
        inside.alone = inside.committed = True
        inside.reserve("args", inside.args_size())
        load_symbols(inside.indices, self.program.symbols, inside.field("dims"))
        inside.indices.define(step.var, Name("%piece", 0, (0, inf)))
        inside.steps(step.body)
        inside.writer.line("ret void")
        name = f"@piece.{mangle(step.var)}"
        self.pieces.append(f"define internal void {name}(ptr %ctx, i64 %piece) #0 {{\n"
                           f"{inside.writer.text()}\n}}\n")
        return name

    def inside(self) -> EntryEmitter:
        """An emitter of what stands next in the program, in a function of its own."""
        return EntryEmitter(self.program, self.target)

    def _either(self, chosen: str, either: dict[str, Callable[[], None]]) -> None:
        """One of two ways, by a register: labels, and what emits their code."""
        writer = self.writer
        end = writer.label("end")
        ways = []
        for hint, emit in either.items():
            label = writer.label(hint)
            self._enter(label)
            emit()
            writer.line(f"br label %{end}")
            ways.append((label, writer.pop()))
        writer.line(f"br i1 {chosen}, label %{ways[0][0]}, label %{ways[1][0]}")
        for label, inner in ways:
            writer.start(label)
            writer.join(inner)
        writer.start(end)
        self.args.clear()

    def _enter(self, label: str) -> None:
        """Begins a scope; what the block of arguments holds there depends on the way taken."""
        self.writer.push(label)
        self.args.clear()


def _launches(steps: tuple[Step, ...]) -> Iterator[Launch]:
    """What each turn of a loop launches, or may launch, beside inner loops."""
    for step in steps:
        match step:
            case Launch():
                yield step
            case Branch():
                yield from _launches((*step.then, *step.otherwise))
            case _:
                pass
