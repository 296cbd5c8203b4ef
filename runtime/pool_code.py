"""The thread pool as LLVM IR: one stage of chunks at a time, shared out between caller and workers.

The protocol. `word` holds gen:40 | front:12 | back:12. A stage is published by writing its
function, arguments and number of chunks n into `slot[gen & 1]`, and then a word with the next gen
and both cursors 0. Who wants a chunk loads the word, reads the slot, and claims with a compare-
and-swap of the *whole* word: the caller from the front, workers from the back, so that over the
stages of a step the same half of the data stays in the same cache. A swap that succeeds proves
that the gen is still the one read; then the stage can't end before this claimant, if it is a
worker, has added 1 to `done`, so what the slot said holds. Nothing of a job is touched before the
swap. The caller waits until `done` is what it has not run itself: it counts chunks, never threads,
so a late worker costs nothing and a stage without workers is right too.

A step takes the pool at its first stage that is worth sharing out, by a swap of `owner`, and keeps
it until it ends or calls back into Python: its stages are one parallel region. It gives the pool up
earlier, between two stages, to who has asked for it (`asked`: a fork, another number of threads),
and takes it again at a later stage. The caller of a nested or concurrent call finds `owner` taken
and runs its chunks itself, in order.

A worker that has claimed a chunk may be preempted, for some 4 ms where another process wants its
core. The caller books what it waits against what the workers' chunks would have taken it (`@book`):
one late chunk now and then costs less than working alone would. Where it costs more, the caller
works alone for a while (20 ms, doubling to 1 s while it recurs). The bits of the results don't
depend on it.

Workers spin for 50 µs and then sleep on the futex `wake`. They add themselves to `sleepers`
*before* they look at the word for the last time, and the caller looks at `sleepers` *after* it
has written the word, with a full fence on both sides: one of them sees the other. Waking costs 5 to
20 µs, so sleepers are woken once the stages that they slept through come to as much (`@worth`).
Linux may wake a worker on the CPU of its caller though another one is idle (it looks for none
where few are), and then does so each time. Such a worker moves away (`@leave`).
Signals are blocked in workers, and denormals are flushed.

Workers start at the first stage that needs them (`wanted`), in a forked child too: there the
memory is reset and the threads are gone.

Tests run this very text in every order that its threads may take (`tests/runtime/protocol`).
"""

from __future__ import annotations

from dataclasses import dataclass
from string import Template

from dlc.runtime.pool_caller import CALLER_IR
from dlc.runtime.pool_worker import WORKER_IR
from dlc.runtime.steps_code import STEPS_IR
from dlc.runtime.watch_code import WATCH_IR

__all__ = ["FIELDS", "MACHINES", "MAXIMUM_WORKERS", "POOL_BYTES", "pool_ir"]

MAXIMUM_WORKERS = 255
# Offsets in bytes. What different threads write lies on different cache lines. Compiled programs
# know the first three.
FIELDS = {
    # i64 (*)(Pool*, owned, void (*fn)(args, chunk), args, chunks, cost in ns): one stage of a step
    # that owns the pool or not; tells whether it does now
    "parallel": 0,
    "release": 8,  # void (*)(Pool*): called at the end of a step that owns the pool
    "wanted": 16,  # i64: threads that shall run
    "serial_ns": 24,  # i64: a stage that costs less is not published
    "wake_ns": 32,  # i64: stages that cost less, one after another, wake no sleepers
    "solo_after_ns": 40,  # i64: waiting longer than this is "late"; 0: never
    "workers": 48,  # i64: threads that run
    "asked": 56,  # i32: how many wait to become the owner, without a step of their own
    "word": 64,
    "done": 128,  # i32: chunks of this stage that workers have run
    "slot": 192,  # two of 64 bytes: {fn, args, n, first chunk}
    "owner": 320,  # i32: 1 while a step has the pool
    "sleepers": 384,  # i32
    "wake": 448,  # i32: futex
    "stop": 512,  # i32
    "ran": 576,  # i64: chunks that workers have run, ever
    "solo_until": 640,  # i64: time, the owner's
    "solo_length": 648,  # i64: ns
    "missed": 664,  # i64: ns of the last stages that sleepers were not woken for
    "last": 672,  # i64: time, when the last stage began
    "cpu": 680,  # i32: where the owner was when it last woke sleepers
    "balance": 656,  # i64: ns waited for workers, less those that their chunks would have taken
    "waiting": 704,  # i32: 1 while the caller sleeps on `done`
    "handles": 768,  # pthread_t of the workers
}
POOL_BYTES = 768 + 8 * (MAXIMUM_WORKERS + 1)


@dataclass(frozen=True, slots=True)
class Machine:
    """What differs between processor families on Linux."""

    futex: int  # number of the system call
    pause: str  # IR: a hint that this thread spins
    flush: str  # IR: flush denormals in this thread
    declarations: str = ""


MACHINES = {
    "x86_64": Machine(
        futex=202,
        pause="call void @llvm.x86.sse2.pause()",
        flush="""  %mode.at = alloca i32
  call void @llvm.x86.sse.stmxcsr(ptr %mode.at)
  %mode = load i32, ptr %mode.at
  %mode.flush = or i32 %mode, 32832
  store i32 %mode.flush, ptr %mode.at
  call void @llvm.x86.sse.ldmxcsr(ptr %mode.at)
""",
        declarations="""declare void @llvm.x86.sse2.pause()
declare void @llvm.x86.sse.stmxcsr(ptr)
declare void @llvm.x86.sse.ldmxcsr(ptr)
""",
    ),
    "aarch64": Machine(
        futex=98,
        pause="call void @llvm.aarch64.isb(i32 15)",
        flush="""  %mode = call i64 @llvm.aarch64.get.fpcr()
  %mode.flush = or i64 %mode, 16777216
  call void @llvm.aarch64.set.fpcr(i64 %mode.flush)
""",
        declarations="""declare void @llvm.aarch64.isb(i32)
declare i64 @llvm.aarch64.get.fpcr()
declare void @llvm.aarch64.set.fpcr(i64)
""",
    ),
}


def pool_ir(machine: str) -> str:
    """The pool's code for a family of `MACHINES`.

    It exports `dlc_pool_parallel`, `dlc_pool_stop(pool)`, `dlc_pool_acquire(pool, ns) -> i32` (1 if
    it became the owner within that time) and `dlc_pool_release(pool)`; and `dlc_watch` and
    `dlc_steps`, which need the clock as well.
    """
    family = MACHINES[machine]
    offsets = {name: str(offset) for name, offset in FIELDS.items()}
    filled = Template(_COMMON + CALLER_IR + WORKER_IR + WATCH_IR + STEPS_IR).substitute(
        offsets, futex=family.futex, pause=family.pause, flush=family.flush.strip()
    )
    return family.declarations + filled


_COMMON = """
declare i64 @syscall(i64, ...)
declare i32 @clock_gettime(i32, ptr)
declare i32 @sched_yield()
declare i32 @sched_getcpu()
declare i32 @sched_getaffinity(i32, i64, ptr)
declare i32 @sched_setaffinity(i32, i64, ptr)
declare i32 @pthread_create(ptr, ptr, ptr, ptr)
declare i32 @pthread_join(i64, ptr)
declare i32 @pthread_attr_init(ptr)
declare i32 @pthread_attr_setstacksize(ptr, i64)
declare i32 @pthread_attr_destroy(ptr)
declare i32 @pthread_sigmask(i32, ptr, ptr)
declare i32 @sigfillset(ptr)
declare i64 @llvm.smax.i64(i64, i64)
declare i64 @llvm.smin.i64(i64, i64)

; monotonic clock in ns
define internal i64 @now() nounwind {
  %time = alloca {i64, i64}
  %ignored = call i32 @clock_gettime(i32 1, ptr %time)
  %seconds = load i64, ptr %time
  %rest.at = getelementptr i8, ptr %time, i64 8
  %rest = load i64, ptr %rest.at
  %whole = mul i64 %seconds, 1000000000
  %ns = add i64 %whole, %rest
  ret i64 %ns
}

; FUTEX_WAIT_PRIVATE: sleep while the place holds `seen`
define internal void @sleep(ptr %place, i32 %seen, ptr %timeout) nounwind {
  %ignored = call i64 (i64, ...) @syscall(i64 $futex, ptr %place, i32 128, i32 %seen,
                                          ptr %timeout, ptr null, i32 0)
  ret void
}

; FUTEX_WAKE_PRIVATE
define internal void @rouse(ptr %place, i32 %count) nounwind {
  %ignored = call i64 (i64, ...) @syscall(i64 $futex, ptr %place, i32 129, i32 %count,
                                          ptr null, ptr null, i32 0)
  ret void
}
"""
