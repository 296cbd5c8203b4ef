"""LLVM IR of how chunks are shared out to the threads of the pool.

The pool begins with two functions and a number: `parallel`, which runs a stage, `release`, which
gives the pool to others, and how many threads there are beside the caller.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final

from dlc.compiler.llvm.loops import function_name
from dlc.compiler.llvm.text import Writer
from dlc.ir.loops import LoopFunction
from dlc.ir.program import Launch, Program, each_step

LAUNCH: Final = """
; `owned.at` holds whether this step has the pool
define internal void @launch(ptr %pool, ptr %owned.at, ptr %fn, ptr %args, i64 %chunks,
                             i64 %total) #0 {
  %none = icmp eq ptr %pool, null
  %few = icmp sle i64 %chunks, 1
  %alone = or i1 %none, %few
  br i1 %alone, label %serial, label %threads
threads:
  %parallel = load ptr, ptr %pool
  %owned = load i64, ptr %owned.at
  %now = call i64 %parallel(ptr %pool, i64 %owned, ptr %fn, ptr %args, i64 %chunks, i64 %total)
  store i64 %now, ptr %owned.at
  ret void
serial:
  %some = icmp sgt i64 %chunks, 0
  br i1 %some, label %each, label %done
each:
  %chunk = phi i64 [0, %serial], [%next, %each]
  call void %fn(ptr %args, i64 %chunk)
  %next = add nsw i64 %chunk, 1
  %more = icmp slt i64 %next, %chunks
  br i1 %more, label %each, label %done
done:
  ret void
}

; others may have the pool from here on
define internal void @leave(ptr %pool, ptr %owned.at) #0 {
  %owned = load i64, ptr %owned.at
  %held = icmp ne i64 %owned, 0
  br i1 %held, label %give, label %done
give:
  store i64 0, ptr %owned.at
  %release.at = getelementptr ptr, ptr %pool, i64 1
  %release = load ptr, ptr %release.at
  call void %release(ptr %pool)
  br label %done
done:
  ret void
}
"""

TOGETHER: Final = """
; how many neighbouring chunks a call does as one, at most `most`: each thread has one call then
define internal i64 @together(ptr %pool, i64 %chunks, i64 %most) #0 {
  %none = icmp eq ptr %pool, null
  br i1 %none, label %known, label %look
look:
  %wanted.at = getelementptr i64, ptr %pool, i64 2
  %wanted = load atomic i64, ptr %wanted.at monotonic, align 8
  br label %known
known:
  %others = phi i64 [0, %0], [%wanted, %look]
  %rounded = add i64 %chunks, %others
  %threads = add i64 %others, 1
  %each = sdiv i64 %rounded, %threads
  %some = call i64 @llvm.smax.i64(i64 %each, i64 1)
  %group = call i64 @llvm.smin.i64(i64 %some, i64 %most)
  ret i64 %group
}

define internal i64 @calls(i64 %chunks, i64 %group) #0 {
  %more = add i64 %chunks, %group
  %rounded = sub i64 %more, 1
  %calls = sdiv i64 %rounded, %group
  ret i64 %calls
}
"""


def slots_of(program: Program) -> int:
    """How many slots the arguments of a launch fill, at most."""
    together = {f.name for f in program.loops if f.together > 1}
    return max((len(step.buffers) + len(step.dims) + (step.kernel in together)
                for step in each_step(program.steps) if isinstance(step, Launch)), default=0)


class Sharing(ABC):
    """Emits the calls of kernels, by threads of the pool."""

    writer: Writer
    shares: bool  # whether it may take the pool
    alone: bool  # whether one thread does all: it is a piece of what threads share

    @abstractmethod
    def field(self, name: str) -> str:
        """A field of the context, loaded once."""

    @abstractmethod
    def argument(self, at: int, kind: str, value: str) -> None:
        """Fills a slot of the block of arguments, unless it holds the value still."""

    def code(self, function: LoopFunction) -> str:
        """What threads call for a chunk."""
        return function_name(function)

    def call(self, function: LoopFunction, chunks: str, cost: str) -> None:
        """Runs all chunks of a kernel whose arguments are there."""
        if function.together > 1:
            chunks = self._together(function, chunks)
        if chunks == "1":
            self.writer.line(f"call void {function_name(function)}(ptr %args, i64 0)")
            return
        self.share(self.code(function), "%args", chunks, cost)

    def _together(self, function: LoopFunction, chunks: str) -> str:
        """Says how many chunks each call does as one; the result, how many calls there are."""
        pool = "null" if self.alone else self.field("pool")
        group = self.writer.emit(
            f"call i64 @together(ptr {pool}, i64 {chunks}, i64 {function.together})", "group")
        self.argument(len(function.pointers) + len(function.symbols), "i64", group)
        if chunks == "1":
            return chunks
        return self.writer.emit(f"call i64 @calls(i64 {chunks}, i64 {group})", "calls")

    def share(self, code: str, args: str, chunks: str, cost: str) -> None:
        """Shares chunks out to the threads of the pool, if it may be used."""
        pool, owned = ("null", "null") if self.alone else (self.field("pool"), "%owned")
        self.writer.line(f"call void @launch(ptr {pool}, ptr {owned}, ptr {code}, ptr {args},"
                         f" i64 {chunks}, i64 {cost})")

    def leave_pool(self) -> None:
        """Others may have the pool, if this step has taken it; its next stage takes it again."""
        if self.shares:
            self.writer.line(f"call void @leave(ptr {self.field('pool')}, ptr %owned)")
