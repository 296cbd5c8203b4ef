"""The thread pool as LLVM IR: one stage of chunks at a time, shared out between caller and workers.

The protocol. `word` holds gen:40 | front:12 | back:12. A stage is published by writing its
function, arguments and number of chunks n into `slot[gen & 1]`, and then a word with the next gen
and both cursors 0. Who wants a chunk loads the word, reads the slot, and claims with a compare-
and-swap of the *whole* word: the caller from the front, workers from the back, so that over the
stages of a step the same half of the data stays in the same cache. A swap that succeeds proves
that the gen is still the one read; then the stage can't end before this claimant has added 1 to
`done`, so what the slot said holds. Nothing of a job is touched before the swap. The caller waits
until `done` is n: it counts chunks, never threads, so a late worker costs nothing and a stage
without workers is right too.

The caller of a nested or concurrent call finds `owner` taken and runs its chunks itself, in
order. A caller that had to wait long for a worker that claimed a chunk and was then preempted
works alone for a while (20 ms, doubling to 1 s while it recurs): the bits of the results don't
depend on it.

Workers spin for 50 µs and then sleep on the futex `wake`. They add themselves to `sleepers`
*before* they look at the word for the last time, and the caller looks at `sleepers` *after* it
has written the word, with a full fence on both sides: one of them sees the other. Signals are
blocked in workers, and denormals are flushed.

Workers start at the first stage that needs them (`wanted`), in a forked child too: there the
memory is reset and the threads are gone.
"""

from __future__ import annotations

from dataclasses import dataclass
from string import Template

__all__ = ["FIELDS", "MACHINES", "MAXIMUM_WORKERS", "POOL_BYTES", "pool_ir"]

MAXIMUM_WORKERS = 255
# Offsets in bytes. What different threads write lies on different cache lines.
FIELDS = {
    "parallel": 0,  # void (*)(Pool*, void (*fn)(args, chunk), args, chunks, cost in ns)
    "workers": 8,  # i64: threads that run
    "wanted": 16,  # i64: threads that shall run
    "serial_ns": 24,  # i64: a stage that costs less is not published
    "wake_ns": 32,  # i64: a stage that costs less wakes no sleepers
    "solo_after_ns": 40,  # i64: waiting longer than this is "late"; 0: never
    "word": 64,
    "done": 128,  # i32: chunks that have run
    "slot": 192,  # two of 64 bytes: {fn, args, n, first chunk}
    "owner": 320,  # i32: 1 while a stage runs
    "sleepers": 384,  # i32
    "wake": 448,  # i32: futex
    "stop": 512,  # i32
    "ran": 576,  # i64: chunks that workers have run, ever
    "solo_until": 640,  # i64: time, the owner's
    "solo_length": 648,  # i64: ns
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
        pause='call void asm sideeffect "isb", "~{memory}"()',
        flush="""  %mode = call i64 asm sideeffect "mrs $0, fpcr", "=r"()
  %mode.flush = or i64 %mode, 16777216
  call void asm sideeffect "msr fpcr, $0", "r"(i64 %mode.flush)
""",
    ),
}


def pool_ir(machine: str) -> str:
    """The pool's code for a family of `MACHINES`.

    It exports `dlc_pool_parallel`, `dlc_pool_stop(pool)` and `dlc_pool_acquire(pool, ns) -> i32`
    (1 if it became the owner within that time).
    """
    family = MACHINES[machine]
    offsets = {name: str(offset) for name, offset in FIELDS.items()}
    text = "".join((_COMMON, _PARALLEL, _STAGE, _AWAIT, _LATE, _TAKE, _WORKER, _START, _STOP))
    filled = Template(text).substitute(
        offsets, futex=family.futex, pause=family.pause, flush=family.flush.strip()
    )
    return family.declarations + filled


_COMMON = """
declare i64 @syscall(i64, ...)
declare i32 @clock_gettime(i32, ptr)
declare i32 @sched_yield()
declare i32 @pthread_create(ptr, ptr, ptr, ptr)
declare i32 @pthread_join(i64, ptr)
declare i32 @pthread_attr_init(ptr)
declare i32 @pthread_attr_setstacksize(ptr, i64)
declare i32 @pthread_attr_destroy(ptr)
declare i32 @pthread_sigmask(i32, ptr, ptr)
declare i32 @sigfillset(ptr)
declare i64 @llvm.smax.i64(i64, i64)
declare i64 @llvm.smin.i64(i64, i64)

define internal ptr @at(ptr %pool, i64 %offset) alwaysinline nounwind {
  %place = getelementptr i8, ptr %pool, i64 %offset
  ret ptr %place
}

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

_PARALLEL = """
define void @dlc_pool_parallel(ptr %pool, ptr %fn, ptr %args, i64 %chunks, i64 %cost) nounwind {
entry:
  %serial.at = call ptr @at(ptr %pool, i64 $serial_ns)
  %serial.ns = load atomic i64, ptr %serial.at monotonic, align 8
  %wanted.at = call ptr @at(ptr %pool, i64 $wanted)
  %wanted = load atomic i64, ptr %wanted.at monotonic, align 8
  %one = icmp slt i64 %chunks, 2
  %cheap = icmp slt i64 %cost, %serial.ns
  %alone = icmp eq i64 %wanted, 0
  %small = or i1 %one, %cheap
  %direct = or i1 %small, %alone
  br i1 %direct, label %serial, label %own

own:
  %owner = call ptr @at(ptr %pool, i64 $owner)
  %swap = cmpxchg ptr %owner, i32 0, i32 1 acquire monotonic
  %mine = extractvalue {i32, i1} %swap, 1
  br i1 %mine, label %check, label %serial

check:
  %until.at = call ptr @at(ptr %pool, i64 $solo_until)
  %until = load i64, ptr %until.at
  %never = icmp eq i64 %until, 0
  br i1 %never, label %threads, label %clock

clock:
  %time = call i64 @now()
  %solo = icmp slt i64 %time, %until
  br i1 %solo, label %leave, label %threads

leave:
  store atomic i32 0, ptr %owner release, align 4
  br label %serial

threads:
  %workers.at = call ptr @at(ptr %pool, i64 $workers)
  %workers = load i64, ptr %workers.at
  %none = icmp eq i64 %workers, 0
  br i1 %none, label %start, label %batch

start:
  call void @start(ptr %pool)
  br label %batch

batch:                                    ; a cursor counts to 4095
  %base = phi i64 [0, %threads], [0, %start], [%next, %batch]
  %left = sub i64 %chunks, %base
  %count = call i64 @llvm.smin.i64(i64 %left, i64 4095)
  call void @stage(ptr %pool, ptr %fn, ptr %args, i64 %base, i64 %count, i64 %cost)
  %next = add i64 %base, %count
  %more = icmp slt i64 %next, %chunks
  br i1 %more, label %batch, label %finish

finish:
  store atomic i32 0, ptr %owner release, align 4
  ret void

serial:
  %some = icmp sgt i64 %chunks, 0
  br i1 %some, label %each, label %done

each:
  %chunk = phi i64 [0, %serial], [%following, %each]
  call void %fn(ptr %args, i64 %chunk)
  %following = add i64 %chunk, 1
  %again = icmp slt i64 %following, %chunks
  br i1 %again, label %each, label %done

done:
  ret void
}
"""

_STAGE = """
define internal void @stage(ptr %pool, ptr %fn, ptr %args, i64 %base, i64 %n, i64 %cost) nounwind {
publish:
  %word = call ptr @at(ptr %pool, i64 $word)
  %before = load atomic i64, ptr %word monotonic, align 8
  %old = lshr i64 %before, 24
  %gen = add i64 %old, 1
  %odd = and i64 %gen, 1
  %offset = shl i64 %odd, 6
  %slots = call ptr @at(ptr %pool, i64 $slot)
  %slot = getelementptr i8, ptr %slots, i64 %offset
  store atomic ptr %fn, ptr %slot monotonic, align 8
  %args.at = getelementptr i8, ptr %slot, i64 8
  store atomic ptr %args, ptr %args.at monotonic, align 8
  %n.at = getelementptr i8, ptr %slot, i64 16
  store atomic i64 %n, ptr %n.at monotonic, align 8
  %base.at = getelementptr i8, ptr %slot, i64 24
  store atomic i64 %base, ptr %base.at monotonic, align 8
  %done = call ptr @at(ptr %pool, i64 $done)
  store atomic i32 0, ptr %done monotonic, align 4
  %fresh = shl i64 %gen, 24
  store atomic i64 %fresh, ptr %word release, align 8
  fence seq_cst
  %sleepers.at = call ptr @at(ptr %pool, i64 $sleepers)
  %sleepers = load atomic i32, ptr %sleepers.at monotonic, align 4
  %asleep = icmp sgt i32 %sleepers, 0
  %wake.ns.at = call ptr @at(ptr %pool, i64 $wake_ns)
  %wake.ns = load atomic i64, ptr %wake.ns.at monotonic, align 8
  %dear = icmp sge i64 %cost, %wake.ns
  %wakes = and i1 %asleep, %dear
  br i1 %wakes, label %rouse, label %begin

rouse:
  %wake = call ptr @at(ptr %pool, i64 $wake)
  %ignored = atomicrmw add ptr %wake, i32 1 seq_cst
  %others = sub i64 %n, 1
  %many = zext i32 %sleepers to i64
  %few = call i64 @llvm.smin.i64(i64 %many, i64 %others)
  %few.32 = trunc i64 %few to i32
  call void @rouse(ptr %wake, i32 %few.32)
  br label %begin

begin:
  %started = call i64 @now()
  br label %look

look:
  %own = phi i64 [0, %begin], [%own, %claim], [%more, %run]
  %now = load atomic i64, ptr %word acquire, align 8
  %shifted = lshr i64 %now, 12
  %front = and i64 %shifted, 4095
  %back = and i64 %now, 4095
  %claimed = add i64 %front, %back
  %left = icmp slt i64 %claimed, %n
  br i1 %left, label %claim, label %wait

claim:
  %after = add i64 %now, 4096
  %swap = cmpxchg ptr %word, i64 %now, i64 %after acq_rel monotonic
  %mine = extractvalue {i64, i1} %swap, 1
  br i1 %mine, label %run, label %look

run:
  %chunk = add i64 %base, %front
  call void %fn(ptr %args, i64 %chunk)
  %ignored.2 = atomicrmw add ptr %done, i32 1 release
  %more = add i64 %own, 1
  br label %look

wait:
  %target = trunc i64 %n to i32
  %ran = load atomic i32, ptr %done acquire, align 4
  %all = icmp eq i32 %ran, %target
  br i1 %all, label %end, label %await

await:
  %share = sdiv i64 %cost, %n
  call void @await(ptr %pool, i32 %target, i64 %started, i64 %own, i64 %share)
  br label %end

end:
  ret void
}
"""

_AWAIT = """
; wait for chunks that workers have claimed: spin 10 us, yield to 50 us, then sleep
define internal void @await(ptr %pool, i32 %n, i64 %started, i64 %own, i64 %share) nounwind {
begin:
  %timeout = alloca {i64, i64}
  store {i64, i64} {i64 0, i64 200000}, ptr %timeout
  %done = call ptr @at(ptr %pool, i64 $done)
  %waiting = call ptr @at(ptr %pool, i64 $waiting)
  %since = call i64 @now()
  br label %spin

spin:
  %turn = phi i64 [0, %begin], [%turn.1, %pause], [0, %yield], [0, %asleep]
  %ran = load atomic i32, ptr %done acquire, align 4
  %all = icmp eq i32 %ran, %n
  br i1 %all, label %end, label %pause

pause:
  $pause
  %turn.1 = add i64 %turn, 1
  %long = icmp sgt i64 %turn.1, 16
  br i1 %long, label %clock, label %spin

clock:
  %time = call i64 @now()
  %waited = sub i64 %time, %since
  %short = icmp slt i64 %waited, 10000
  br i1 %short, label %yield, label %longer

longer:
  %middle = icmp slt i64 %waited, 50000
  br i1 %middle, label %give, label %sleep

give:
  %ignored = call i32 @sched_yield()
  br label %yield

yield:
  br label %spin

sleep:
  store atomic i32 1, ptr %waiting monotonic, align 4
  fence seq_cst
  %seen = load atomic i32, ptr %done acquire, align 4
  %over = icmp eq i32 %seen, %n
  br i1 %over, label %asleep, label %doze

doze:
  call void @sleep(ptr %done, i32 %seen, ptr %timeout)
  br label %asleep

asleep:
  store atomic i32 0, ptr %waiting monotonic, align 4
  br label %spin

end:
  %until = call i64 @now()
  %total = sub i64 %until, %since
  %after.at = call ptr @at(ptr %pool, i64 $solo_after_ns)
  %after = load atomic i64, ptr %after.at monotonic, align 8
  %busy = sub i64 %since, %started
  %some = call i64 @llvm.smax.i64(i64 %own, i64 1)
  %mean = sdiv i64 %busy, %some
  %chunk = call i64 @llvm.smax.i64(i64 %mean, i64 %share)
  %twice = shl i64 %chunk, 1
  %limit = call i64 @llvm.smax.i64(i64 %after, i64 %twice)
  %slow = icmp sgt i64 %total, %limit
  %on = icmp sgt i64 %after, 0
  %late = and i1 %slow, %on
  br i1 %late, label %note, label %leave

note:
  call void @late(ptr %pool, i64 %until)
  br label %leave

leave:
  ret void
}
"""

_LATE = """
; a worker was late: the owner works alone for a while, longer if it has just happened before
define internal void @late(ptr %pool, i64 %now) nounwind {
  %until.at = call ptr @at(ptr %pool, i64 $solo_until)
  %until = load i64, ptr %until.at
  %length.at = call ptr @at(ptr %pool, i64 $solo_length)
  %length = load i64, ptr %length.at
  %twice = shl i64 %length, 1
  %ago = sub i64 %now, %until
  %soon = icmp slt i64 %ago, %twice
  %capped = call i64 @llvm.smin.i64(i64 %twice, i64 1000000000)
  %chosen = select i1 %soon, i64 %capped, i64 20000000
  %end = add i64 %now, %chosen
  store i64 %chosen, ptr %length.at
  store i64 %end, ptr %until.at
  ret void
}
"""

_TAKE = """
; a worker's claim: run one chunk from the back; whether there was one
define internal i1 @take(ptr %pool) nounwind {
begin:
  %word = call ptr @at(ptr %pool, i64 $word)
  %slots = call ptr @at(ptr %pool, i64 $slot)
  br label %look

look:
  %now = load atomic i64, ptr %word acquire, align 8
  %gen = lshr i64 %now, 24
  %odd = and i64 %gen, 1
  %offset = shl i64 %odd, 6
  %slot = getelementptr i8, ptr %slots, i64 %offset
  %fn = load atomic ptr, ptr %slot monotonic, align 8
  %args.at = getelementptr i8, ptr %slot, i64 8
  %args = load atomic ptr, ptr %args.at monotonic, align 8
  %n.at = getelementptr i8, ptr %slot, i64 16
  %n = load atomic i64, ptr %n.at monotonic, align 8
  %base.at = getelementptr i8, ptr %slot, i64 24
  %base = load atomic i64, ptr %base.at monotonic, align 8
  %shifted = lshr i64 %now, 12
  %front = and i64 %shifted, 4095
  %back = and i64 %now, 4095
  %claimed = add i64 %front, %back
  %left = icmp slt i64 %claimed, %n
  br i1 %left, label %claim, label %nothing

claim:
  %after = add i64 %now, 1
  %swap = cmpxchg ptr %word, i64 %now, i64 %after acq_rel monotonic
  %mine = extractvalue {i64, i1} %swap, 1
  br i1 %mine, label %run, label %look

run:
  %last = sub i64 %n, 1
  %from.end = sub i64 %last, %back
  %chunk = add i64 %base, %from.end
  call void %fn(ptr %args, i64 %chunk)
  %counter = call ptr @at(ptr %pool, i64 $ran)
  %ignored = atomicrmw add ptr %counter, i64 1 monotonic
  %done = call ptr @at(ptr %pool, i64 $done)
  %ran = atomicrmw add ptr %done, i32 1 acq_rel
  %ran.1 = add i32 %ran, 1
  %target = trunc i64 %n to i32
  %all = icmp eq i32 %ran.1, %target
  br i1 %all, label %tell, label %something

tell:
  fence seq_cst
  %waiting = call ptr @at(ptr %pool, i64 $waiting)
  %waits = load atomic i32, ptr %waiting monotonic, align 4
  %sleeps = icmp ne i32 %waits, 0
  br i1 %sleeps, label %rouse, label %something

rouse:
  call void @rouse(ptr %done, i32 1)
  br label %something

something:
  ret i1 true

nothing:
  ret i1 false
}
"""

_WORKER = """
define internal ptr @worker(ptr %pool) nounwind {
begin:
  $flush
  %stop = call ptr @at(ptr %pool, i64 $stop)
  %wake = call ptr @at(ptr %pool, i64 $wake)
  %sleepers = call ptr @at(ptr %pool, i64 $sleepers)
  br label %rest

rest:                                     ; nothing to do from here on
  %since = call i64 @now()
  br label %look

look:
  %turn = phi i64 [0, %rest], [%turn.1, %spin], [0, %clock]
  %worked = call i1 @take(ptr %pool)
  br i1 %worked, label %rest, label %idle

idle:
  %told = load atomic i32, ptr %stop acquire, align 4
  %stops = icmp ne i32 %told, 0
  br i1 %stops, label %exit, label %spin

spin:
  $pause
  %turn.1 = add i64 %turn, 1
  %long = icmp sgt i64 %turn.1, 16
  br i1 %long, label %clock, label %look

clock:
  %time = call i64 @now()
  %rested = sub i64 %time, %since
  %tired = icmp sgt i64 %rested, 50000
  br i1 %tired, label %tire, label %look

tire:                                     ; be counted, look once more, sleep
  %seen = load atomic i32, ptr %wake acquire, align 4
  %ignored.0 = atomicrmw add ptr %sleepers, i32 1 seq_cst
  fence seq_cst
  %lately = call i1 @take(ptr %pool)
  br i1 %lately, label %rise, label %recheck

recheck:
  %told.1 = load atomic i32, ptr %stop acquire, align 4
  %stops.1 = icmp ne i32 %told.1, 0
  br i1 %stops.1, label %rise, label %doze

doze:
  call void @sleep(ptr %wake, i32 %seen, ptr null)
  br label %rise

rise:
  %ignored.1 = atomicrmw sub ptr %sleepers, i32 1 seq_cst
  br label %rest

exit:
  ret ptr null
}
"""

_START = """
; called by the owner when no worker runs
define internal void @start(ptr %pool) nounwind {
begin:
  %attributes = alloca [16 x i64]
  %all = alloca [16 x i64]
  %old = alloca [16 x i64]
  %wanted.at = call ptr @at(ptr %pool, i64 $wanted)
  %wanted = load atomic i64, ptr %wanted.at monotonic, align 8
  %handles = call ptr @at(ptr %pool, i64 $handles)
  %r0 = call i32 @pthread_attr_init(ptr %attributes)
  %r1 = call i32 @pthread_attr_setstacksize(ptr %attributes, i64 1048576)
  %r2 = call i32 @sigfillset(ptr %all)
  %r3 = call i32 @pthread_sigmask(i32 2, ptr %all, ptr %old)
  br label %look

look:
  %made = phi i64 [0, %begin], [%made.1, %count]
  %more = icmp slt i64 %made, %wanted
  br i1 %more, label %make, label %end

make:
  %handle = getelementptr i64, ptr %handles, i64 %made
  %failed = call i32 @pthread_create(ptr %handle, ptr %attributes, ptr @worker, ptr %pool)
  %well = icmp eq i32 %failed, 0
  br i1 %well, label %count, label %end

count:
  %made.1 = add i64 %made, 1
  br label %look

end:
  %r4 = call i32 @pthread_sigmask(i32 2, ptr %old, ptr null)
  %r5 = call i32 @pthread_attr_destroy(ptr %attributes)
  %workers = call ptr @at(ptr %pool, i64 $workers)
  store i64 %made, ptr %workers
  %swap = cmpxchg ptr %wanted.at, i64 %wanted, i64 %made monotonic monotonic
  ret void
}
"""

_STOP = """
; called by the owner: end all workers and wait for them
define void @dlc_pool_stop(ptr %pool) nounwind {
begin:
  %stop = call ptr @at(ptr %pool, i64 $stop)
  %wake = call ptr @at(ptr %pool, i64 $wake)
  %workers.at = call ptr @at(ptr %pool, i64 $workers)
  %workers = load i64, ptr %workers.at
  %handles = call ptr @at(ptr %pool, i64 $handles)
  store atomic i32 1, ptr %stop seq_cst, align 4
  %ignored.0 = atomicrmw add ptr %wake, i32 1 seq_cst
  call void @rouse(ptr %wake, i32 2147483647)
  br label %look

look:
  %joined = phi i64 [0, %begin], [%joined.1, %join]
  %more = icmp slt i64 %joined, %workers
  br i1 %more, label %join, label %end

join:
  %handle.at = getelementptr i64, ptr %handles, i64 %joined
  %handle = load i64, ptr %handle.at
  %ignored.1 = call i32 @pthread_join(i64 %handle, ptr null)
  %joined.1 = add i64 %joined, 1
  br label %look

end:
  store i64 0, ptr %workers.at
  store atomic i32 0, ptr %stop seq_cst, align 4
  ret void
}

define i32 @dlc_pool_acquire(ptr %pool, i64 %ns) nounwind {
begin:
  %owner = call ptr @at(ptr %pool, i64 $owner)
  %since = call i64 @now()
  br label %try

try:
  %swap = cmpxchg ptr %owner, i32 0, i32 1 acquire monotonic
  %mine = extractvalue {i32, i1} %swap, 1
  br i1 %mine, label %well, label %wait

wait:
  %ignored = call i32 @sched_yield()
  %time = call i64 @now()
  %waited = sub i64 %time, %since
  %long = icmp sgt i64 %waited, %ns
  br i1 %long, label %end, label %try

well:
  ret i32 1

end:
  ret i32 0
}
"""
