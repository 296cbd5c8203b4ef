"""Code that takes the time of its launches, for `dlc bench`; other code has nothing of this.

The caller gives a block of i64 at `times` of the context:

    events, capacity                        what has been seen, and for how many there is room
    for each launch:    ns, turns, busy     of the caller; how often; of all threads in its chunks
    for each parallel:  ns, 0, 0            of the caller, while its pieces are done
    for each event:     launch, chunk, thread, begin, end

Launches are numbered as they stand in the program. A launch is an event with the chunk -1, and so
is each of its chunks, with the thread that ran it, unless chunks are so short that the clock would
take a good part of the time (then `busy` stays 0). A launch in a piece is an event with the piece's
number; the time of threads is known of it, not that of the caller. Times are of the monotonic
clock, in ns; events for which there is no room are counted and left out.
"""

from __future__ import annotations

from typing import Final

from dlc.compiler.llvm.entry import EntryEmitter
from dlc.compiler.llvm.loops import function_name
from dlc.compiler.llvm.sharing import slots_of
from dlc.compiler.llvm.target import Target
from dlc.compiler.llvm.text import mangle
from dlc.ir.loops import LoopFunction
from dlc.ir.program import Launch, Parallel, Program, each_step

HEADER: Final = ("events", "capacity")
TOTALS: Final = ("ns", "turns", "busy")
EVENT: Final = ("launch", "chunk", "thread", "begin", "end")
WHOLE: Final = -1  # stands for the chunk in the event of a whole launch
LEAST_NS: Final = 1000  # a chunk that is likely to take less is no event of its own


class TimedEntry(EntryEmitter):
    """Emits `dlc_entry` with a look at the clock before and after each launch."""

    def __init__(self, program: Program, target: Target) -> None:
        super().__init__(program, target)
        self.launches = 0
        self.slots_of_args = slots_of(program)
        self.told = _told(program)
        self.whole = _launches(program)

    def args_size(self) -> int:
        """The block of arguments also holds the block of times, and the launch's number."""
        return self.slots_of_args + 2

    def inside(self) -> EntryEmitter:
        inside = TimedEntry(self.program, self.target)
        inside.launches = self.launches
        return inside

    def launch(self, launch: Launch) -> None:
        times = self.field("times")
        self.argument(self.slots_of_args, "ptr", times)
        self.argument(self.slots_of_args + 1, "i64", str(self.launches))
        begin = self.writer.emit("call i64 @now()", "begin")
        super().launch(launch)
        what = "@stamp_piece" if self.alone else "@stamp"
        piece = ", i64 %piece" if self.alone else ""
        self.writer.line(
            f"call void {what}(ptr {times}, i64 {self.launches}, i64 {begin}{piece})")
        self.launches += 1

    def in_pieces(self, code: str, count: str, cost: str) -> None:
        begin = self.writer.emit("call i64 @now()", "begin")
        super().in_pieces(code, count, cost)
        end = self.writer.emit("call i64 @now()", "end")
        ns = self.writer.emit(f"sub i64 {end}, {begin}", "ns")
        place = self.whole + len(self.pieces) - 1
        self.writer.line(f"call void @total(ptr {self.field('times')}, i64 {place},"
                         f" i64 {TOTALS.index('ns')}, i64 {ns})")

    def code(self, function: LoopFunction) -> str:
        timed = function.name in self.told and not self.alone
        return _timed_name(function) if timed else super().code(function)


def emit_timed(program: Program, target: Target) -> str:
    """`dlc_entry`, and what it calls to take times."""
    slots, told = slots_of(program), _told(program)
    wrappers = [_wrapper(f, slots) for f in program.loops if f.name in told]
    events = 8 * (len(HEADER) + len(TOTALS) * (_launches(program) + len(parallel_of(program))))
    return "\n".join((_CLOCK, _stamp(events), *wrappers, TimedEntry(program, target).emit()))


def parallel_of(program: Program) -> list[Parallel]:
    """What is done in pieces, in the order of the program."""
    return [step for step in each_step(program.steps) if isinstance(step, Parallel)]


def _launches(program: Program) -> int:
    return sum(isinstance(step, Launch) for step in each_step(program.steps))


def _told(program: Program) -> set[str]:
    """The kernels whose chunks are events."""
    used = {step.kernel for step in each_step(program.steps) if isinstance(step, Launch)}
    return {name for name, schedule in program.schedules if name in used and not (
        isinstance(schedule.cost, int) and schedule.cost < LEAST_NS)}


def _timed_name(function: LoopFunction) -> str:
    return f"@timed.{mangle(function.name)}"


def _wrapper(function: LoopFunction, slots: int) -> str:
    """A chunk of a kernel between two looks at the clock."""
    return f"""
define internal void {_timed_name(function)}(ptr %args, i64 %chunk) #0 {{
  %times.at = getelementptr i64, ptr %args, i64 {slots}
  %times = load ptr, ptr %times.at
  %launch.at = getelementptr i64, ptr %args, i64 {slots + 1}
  %launch = load i64, ptr %launch.at
  %begin = call i64 @now()
  call void {function_name(function)}(ptr %args, i64 %chunk)
  %end = call i64 @now()
  %ns = sub i64 %end, %begin
  call void @total(ptr %times, i64 %launch, i64 {TOTALS.index("busy")}, i64 %ns)
  call void @event(ptr %times, i64 %launch, i64 %chunk, i64 %begin, i64 %end)
  ret void
}}
"""


def _stamp(events: int) -> str:
    """The functions that write into the block; its events begin after `events` bytes."""
    return f"""
define internal void @total(ptr %times, i64 %launch, i64 %field, i64 %more) #0 {{
  %first = mul i64 %launch, {len(TOTALS)}
  %place = add i64 %first, %field
  %shifted = add i64 %place, {len(HEADER)}
  %at = getelementptr i64, ptr %times, i64 %shifted
  %ignored = atomicrmw add ptr %at, i64 %more monotonic
  ret void
}}

define internal void @event(ptr %times, i64 %launch, i64 %chunk, i64 %begin, i64 %end) #0 {{
  %number = atomicrmw add ptr %times, i64 1 monotonic
  %capacity.at = getelementptr i64, ptr %times, i64 {HEADER.index("capacity")}
  %capacity = load i64, ptr %capacity.at
  %room = icmp slt i64 %number, %capacity
  br i1 %room, label %write, label %done
write:
  %thread = call i64 @pthread_self()
  %events = getelementptr i8, ptr %times, i64 {events}
  %at = getelementptr [{len(EVENT)} x i64], ptr %events, i64 %number
  store i64 %launch, ptr %at
  %chunk.at = getelementptr i64, ptr %at, i64 1
  store i64 %chunk, ptr %chunk.at
  %thread.at = getelementptr i64, ptr %at, i64 2
  store i64 %thread, ptr %thread.at
  %begin.at = getelementptr i64, ptr %at, i64 3
  store i64 %begin, ptr %begin.at
  %end.at = getelementptr i64, ptr %at, i64 4
  store i64 %end, ptr %end.at
  br label %done
done:
  ret void
}}

define internal void @stamp_piece(ptr %times, i64 %launch, i64 %begin, i64 %piece) #0 {{
  %end = call i64 @now()
  %ns = sub i64 %end, %begin
  call void @total(ptr %times, i64 %launch, i64 {TOTALS.index("busy")}, i64 %ns)
  call void @total(ptr %times, i64 %launch, i64 {TOTALS.index("turns")}, i64 1)
  call void @event(ptr %times, i64 %launch, i64 %piece, i64 %begin, i64 %end)
  ret void
}}

define internal void @stamp(ptr %times, i64 %launch, i64 %begin) #0 {{
  %end = call i64 @now()
  %ns = sub i64 %end, %begin
  call void @total(ptr %times, i64 %launch, i64 {TOTALS.index("ns")}, i64 %ns)
  call void @total(ptr %times, i64 %launch, i64 {TOTALS.index("turns")}, i64 1)
  call void @event(ptr %times, i64 %launch, i64 {WHOLE}, i64 %begin, i64 %end)
  ret void
}}
"""


_CLOCK = """
declare i32 @clock_gettime(i32, ptr)
declare i64 @pthread_self()

define internal i64 @now() #0 {
  %time = alloca {i64, i64}
  %ignored = call i32 @clock_gettime(i32 1, ptr %time)
  %seconds = load i64, ptr %time
  %rest.at = getelementptr i8, ptr %time, i64 8
  %rest = load i64, ptr %rest.at
  %whole = mul i64 %seconds, 1000000000
  %ns = add i64 %whole, %rest
  ret i64 %ns
}
"""
