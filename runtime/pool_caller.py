"""The caller's side of the thread pool, as templates of LLVM IR; `pool_code` tells the protocol."""

from __future__ import annotations

__all__ = ["CALLER_IR"]

_PARALLEL = """
; one stage of a step: `owned` tells whether the step has the pool; the result, whether it does now
define i64 @dlc_pool_parallel(ptr %pool, i64 %owned, ptr %fn, ptr %args, i64 %chunks,
                              i64 %cost) nounwind {
entry:
  %serial.at = getelementptr i8, ptr %pool, i64 $serial_ns
  %serial.ns = load atomic i64, ptr %serial.at monotonic, align 8
  %wanted.at = getelementptr i8, ptr %pool, i64 $wanted
  %wanted = load atomic i64, ptr %wanted.at monotonic, align 8
  %one = icmp slt i64 %chunks, 2
  %cheap = icmp slt i64 %cost, %serial.ns
  %alone = icmp eq i64 %wanted, 0
  %small = or i1 %one, %cheap
  %direct = or i1 %small, %alone
  br i1 %direct, label %serial, label %look

look:
  %owner = getelementptr i8, ptr %pool, i64 $owner
  %asked.at = getelementptr i8, ptr %pool, i64 $asked
  %asked = load atomic i32, ptr %asked.at monotonic, align 4
  %wished = icmp ne i32 %asked, 0
  %held = icmp ne i64 %owned, 0
  br i1 %held, label %keep, label %enter

keep:
  br i1 %wished, label %give, label %check

give:
  store atomic i32 0, ptr %owner release, align 4
  br label %serial

enter:
  %taken = load atomic i32, ptr %owner monotonic, align 4
  %busy = icmp ne i32 %taken, 0
  %out = or i1 %busy, %wished
  br i1 %out, label %serial, label %own

own:
  %swap = cmpxchg ptr %owner, i32 0, i32 1 acquire monotonic
  %mine = extractvalue {i32, i1} %swap, 1
  br i1 %mine, label %check, label %serial

check:
  %until.at = getelementptr i8, ptr %pool, i64 $solo_until
  %until = load i64, ptr %until.at
  %never = icmp eq i64 %until, 0
  br i1 %never, label %threads, label %clock

clock:
  %time = call i64 @now()
  %solo = icmp slt i64 %time, %until
  br i1 %solo, label %serial, label %threads

threads:
  %workers.at = getelementptr i8, ptr %pool, i64 $workers
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
  ret i64 1

serial:
  %holds = phi i64 [%owned, %entry], [0, %give], [0, %enter], [0, %own], [1, %clock]
  %some = icmp sgt i64 %chunks, 0
  br i1 %some, label %each, label %done

each:
  %chunk = phi i64 [0, %serial], [%following, %each]
  call void %fn(ptr %args, i64 %chunk)
  %following = add i64 %chunk, 1
  %again = icmp slt i64 %following, %chunks
  br i1 %again, label %each, label %done

done:
  ret i64 %holds
}
"""

_STAGE = """
define internal void @stage(ptr %pool, ptr %fn, ptr %args, i64 %base, i64 %n, i64 %cost) nounwind {
publish:
  %word = getelementptr i8, ptr %pool, i64 $word
  %before = load atomic i64, ptr %word monotonic, align 8
  %old = lshr i64 %before, 24
  %gen = add i64 %old, 1
  %odd = and i64 %gen, 1
  %offset = shl i64 %odd, 6
  %slots = getelementptr i8, ptr %pool, i64 $slot
  %slot = getelementptr i8, ptr %slots, i64 %offset
  store atomic ptr %fn, ptr %slot monotonic, align 8
  %args.at = getelementptr i8, ptr %slot, i64 8
  store atomic ptr %args, ptr %args.at monotonic, align 8
  %n.at = getelementptr i8, ptr %slot, i64 16
  store atomic i64 %n, ptr %n.at monotonic, align 8
  %base.at = getelementptr i8, ptr %slot, i64 24
  store atomic i64 %base, ptr %base.at monotonic, align 8
  %done = getelementptr i8, ptr %pool, i64 $done
  store atomic i32 0, ptr %done monotonic, align 4
  %fresh = shl i64 %gen, 24
  store atomic i64 %fresh, ptr %word release, align 8
  fence seq_cst
  %sleepers.at = getelementptr i8, ptr %pool, i64 $sleepers
  %sleepers = load atomic i32, ptr %sleepers.at monotonic, align 4
  %asleep = icmp sgt i32 %sleepers, 0
  %started = call i64 @now()
  %worth = call i1 @worth(ptr %pool, i1 %asleep, i64 %started, i64 %cost)
  br i1 %worth, label %rouse, label %begin

rouse:
  %cpu = call i32 @sched_getcpu()
  %cpu.at = getelementptr i8, ptr %pool, i64 $cpu
  store atomic i32 %cpu, ptr %cpu.at monotonic, align 4
  %wake = getelementptr i8, ptr %pool, i64 $wake
  %ignored = atomicrmw add ptr %wake, i32 1 seq_cst
  %others = sub i64 %n, 1
  %many = zext i32 %sleepers to i64
  %few = call i64 @llvm.smin.i64(i64 %many, i64 %others)
  %few.32 = trunc i64 %few to i32
  call void @rouse(ptr %wake, i32 %few.32)
  br label %begin

begin:
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
  %more = add i64 %own, 1
  br label %look

wait:
  %theirs = sub i64 %n, %own
  %target = trunc i64 %theirs to i32
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

_WORTH = """
; whether to wake sleepers: this stage, with those just before it that nobody was woken for, costs
; more than waking does; what is longer ago than 100 us says nothing of what is to come
define internal i1 @worth(ptr %pool, i1 %asleep, i64 %now, i64 %cost) nounwind {
begin:
  %last.at = getelementptr i8, ptr %pool, i64 $last
  %last = load i64, ptr %last.at
  store i64 %now, ptr %last.at
  %gap = sub i64 %now, %last
  %near = icmp slt i64 %gap, 100000
  %missed.at = getelementptr i8, ptr %pool, i64 $missed
  %missed = load i64, ptr %missed.at
  %before = select i1 %near, i64 %missed, i64 0
  %sum = add i64 %before, %cost
  %wake.ns.at = getelementptr i8, ptr %pool, i64 $wake_ns
  %wake.ns = load atomic i64, ptr %wake.ns.at monotonic, align 8
  %dear = icmp sge i64 %sum, %wake.ns
  %wakes = and i1 %asleep, %dear
  %slept = select i1 %asleep, i64 %sum, i64 0
  %left = select i1 %wakes, i64 0, i64 %slept
  store i64 %left, ptr %missed.at
  ret i1 %wakes
}
"""

_AWAIT = """
; wait for chunks that workers have claimed: spin 10 us, yield to 50 us, then sleep
define internal void @await(ptr %pool, i32 %n, i64 %started, i64 %own, i64 %share) nounwind {
begin:
  %timeout = alloca {i64, i64}
  store {i64, i64} {i64 0, i64 200000}, ptr %timeout
  %done = getelementptr i8, ptr %pool, i64 $done
  %waiting = getelementptr i8, ptr %pool, i64 $waiting
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
  %after.at = getelementptr i8, ptr %pool, i64 $solo_after_ns
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
  %idle = icmp eq i64 %own, 0
  %each = select i1 %idle, i64 %share, i64 %mean
  %theirs = zext i32 %n to i64
  %saved = mul i64 %theirs, %each
  %dear = call i1 @book(ptr %pool, i1 %late, i64 %total, i64 %saved)
  br i1 %dear, label %note, label %leave

note:
  call void @late(ptr %pool, i64 %until)
  br label %leave

leave:
  ret void
}
"""

_BOOK = """
; whether waiting for workers has cost more than their chunks would have. What was saved counts up
; to 20 ms: what was long ago is forgotten
define internal i1 @book(ptr %pool, i1 %late, i64 %waited, i64 %saved) nounwind {
begin:
  %change = sub i64 %waited, %saved
  %balance.at = getelementptr i8, ptr %pool, i64 $balance
  %before = load i64, ptr %balance.at
  %sum = add i64 %before, %change
  %balance = call i64 @llvm.smax.i64(i64 %sum, i64 -20000000)
  store i64 %balance, ptr %balance.at
  %dear = icmp sgt i64 %balance, 0
  %both = and i1 %late, %dear
  ret i1 %both
}
"""

_LATE = """
; workers were late: the owner works alone for a while, longer if it has just happened before
define internal void @late(ptr %pool, i64 %now) nounwind {
  %until.at = getelementptr i8, ptr %pool, i64 $solo_until
  %until = load i64, ptr %until.at
  %length.at = getelementptr i8, ptr %pool, i64 $solo_length
  %length = load i64, ptr %length.at
  %twice = shl i64 %length, 1
  %ago = sub i64 %now, %until
  %soon = icmp slt i64 %ago, %twice
  %capped = call i64 @llvm.smin.i64(i64 %twice, i64 1000000000)
  %chosen = select i1 %soon, i64 %capped, i64 20000000
  %end = add i64 %now, %chosen
  store i64 %chosen, ptr %length.at
  store i64 %end, ptr %until.at
  %balance.at = getelementptr i8, ptr %pool, i64 $balance
  store i64 0, ptr %balance.at
  ret void
}
"""

CALLER_IR = _PARALLEL + _STAGE + _WORTH + _AWAIT + _BOOK + _LATE
