"""Whether a loop may go on, as a template of LLVM IR: what compiled loops call now and then.

A loop counts its turns down and calls with `{left, interval, time}`: the turns until the next
call, the turns between two calls, and the time of the last one. The interval follows the time
that turns take: a call comes every millisecond, but at least every 1024 turns, since later turns
may take longer. That is 0.1 ns a turn. Who waits for the code is asked every 100 ms: a function
of Python must wait for the other threads of Python.
"""

from __future__ import annotations

__all__ = ["WATCH_IR"]

WATCH_IR = """
; watch: {function, ask, due}; 0: go on
define i64 @dlc_watch(ptr %watch, ptr %loop) nounwind {
begin:
  %now = call i64 @now()
  %interval.at = getelementptr i64, ptr %loop, i64 1
  %time.at = getelementptr i64, ptr %loop, i64 2
  %interval = load i64, ptr %interval.at
  %before = load i64, ptr %time.at
  %passed = sub i64 %now, %before
  %spent = call i64 @llvm.smax.i64(i64 %passed, i64 1)
  %scaled = mul i64 %interval, 1000000
  %wanted = sdiv i64 %scaled, %spent
  %some = call i64 @llvm.smax.i64(i64 %wanted, i64 1)
  %next = call i64 @llvm.smin.i64(i64 %some, i64 1024)
  %first = icmp eq i64 %before, 0
  %turns = select i1 %first, i64 %interval, i64 %next
  store i64 %turns, ptr %loop
  store i64 %turns, ptr %interval.at
  store i64 %now, ptr %time.at
  %due.at = getelementptr i64, ptr %watch, i64 2
  %due = load i64, ptr %due.at
  %early = icmp slt i64 %now, %due
  br i1 %early, label %on, label %ask

ask:
  %ask.at = getelementptr i64, ptr %watch, i64 1
  %function = load ptr, ptr %ask.at
  %answer = call i64 %function(ptr null)
  %after = call i64 @now()
  %later = add i64 %after, 100000000
  store i64 %later, ptr %due.at
  ret i64 %answer

on:
  ret i64 0
}
"""
