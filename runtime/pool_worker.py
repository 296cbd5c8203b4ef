"""The workers' side of the thread pool, their start and end, as templates of LLVM IR.

`pool_code` tells the protocol.
"""

from __future__ import annotations

__all__ = ["WORKER_IR"]

_TAKE = """
; a worker's claim: run one chunk from the back; whether there was one
define internal i1 @take(ptr %pool) nounwind {
begin:
  %word = getelementptr i8, ptr %pool, i64 $word
  %slots = getelementptr i8, ptr %pool, i64 $slot
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
  %counter = getelementptr i8, ptr %pool, i64 $ran
  %ignored = atomicrmw add ptr %counter, i64 1 monotonic
  %done = getelementptr i8, ptr %pool, i64 $done
  %ignored.1 = atomicrmw add ptr %done, i32 1 acq_rel
  fence seq_cst
  %waiting = getelementptr i8, ptr %pool, i64 $waiting
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
  %stop = getelementptr i8, ptr %pool, i64 $stop
  %wake = getelementptr i8, ptr %pool, i64 $wake
  %sleepers = getelementptr i8, ptr %pool, i64 $sleepers
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
  %here = call i32 @sched_getcpu()
  %theirs.at = getelementptr i8, ptr %pool, i64 $cpu
  %theirs = load atomic i32, ptr %theirs.at monotonic, align 4
  %shared = icmp eq i32 %here, %theirs
  br i1 %shared, label %part, label %rise

part:
  call void @leave(i32 %here)
  br label %rise

rise:
  %ignored.1 = atomicrmw sub ptr %sleepers, i32 1 seq_cst
  br label %rest

exit:
  ret ptr null
}
"""

_LEAVE = """
; go to another CPU, if there is one that this thread may use; the next time it may use all again
define internal void @leave(i32 %cpu) nounwind {
begin:
  %all = alloca [128 x i64]
  %others = alloca [128 x i64]
  %r0 = call i32 @sched_getaffinity(i32 0, i64 1024, ptr %all)
  %r1 = call i32 @sched_getaffinity(i32 0, i64 1024, ptr %others)
  %failed = or i32 %r0, %r1
  %known = icmp eq i32 %failed, 0
  br i1 %known, label %clear, label %end

clear:
  %number = zext i32 %cpu to i64
  %which = lshr i64 %number, 6
  %bit = and i64 %number, 63
  %one = shl i64 1, %bit
  %kept = xor i64 %one, -1
  %place = getelementptr i64, ptr %others, i64 %which
  %before = load i64, ptr %place
  %rest = and i64 %before, %kept
  store i64 %rest, ptr %place
  %r2 = call i32 @sched_setaffinity(i32 0, i64 1024, ptr %others)
  %r3 = call i32 @sched_setaffinity(i32 0, i64 1024, ptr %all)
  br label %end

end:
  ret void
}
"""

_START = """
; called by the owner when no worker runs
define internal void @start(ptr %pool) nounwind {
begin:
  %attributes = alloca [16 x i64]
  %all = alloca [16 x i64]
  %old = alloca [16 x i64]
  %wanted.at = getelementptr i8, ptr %pool, i64 $wanted
  %wanted = load atomic i64, ptr %wanted.at monotonic, align 8
  %handles = getelementptr i8, ptr %pool, i64 $handles
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
  %workers = getelementptr i8, ptr %pool, i64 $workers
  store i64 %made, ptr %workers
  %swap = cmpxchg ptr %wanted.at, i64 %wanted, i64 %made monotonic monotonic
  ret void
}
"""

_STOP = """
; called by the owner: end all workers and wait for them
define void @dlc_pool_stop(ptr %pool) nounwind {
begin:
  %stop = getelementptr i8, ptr %pool, i64 $stop
  %wake = getelementptr i8, ptr %pool, i64 $wake
  %workers.at = getelementptr i8, ptr %pool, i64 $workers
  %workers = load i64, ptr %workers.at
  %handles = getelementptr i8, ptr %pool, i64 $handles
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

define void @dlc_pool_release(ptr %pool) nounwind {
  %owner = getelementptr i8, ptr %pool, i64 $owner
  store atomic i32 0, ptr %owner release, align 4
  ret void
}

define i32 @dlc_pool_acquire(ptr %pool, i64 %ns) nounwind {
begin:
  %owner = getelementptr i8, ptr %pool, i64 $owner
  %asked = getelementptr i8, ptr %pool, i64 $asked
  %ignored.0 = atomicrmw add ptr %asked, i32 1 seq_cst
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
  %ignored.1 = atomicrmw sub ptr %asked, i32 1 seq_cst
  ret i32 1

end:
  %ignored.2 = atomicrmw sub ptr %asked, i32 1 seq_cst
  ret i32 0
}
"""

WORKER_IR = _TAKE + _WORKER + _LEAVE + _START + _STOP
