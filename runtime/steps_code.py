"""Many steps in one call, as a template of LLVM IR: the loop that Python would be.

The block: {entry, context, random, status, moves, table, left, until, turn, period}. After each
step every pointer of `table` ({place, on, back}) moves on by its bytes; after `period` turns those
in `back` are added instead, and `turn` is 0 again. The number of the call goes up by one where
`random` is not null. It ends when no step is left, when one has failed, and when the clock says
`until`: who called lets others run then, and comes again.
"""

from __future__ import annotations

__all__ = ["STEPS_IR"]

STEPS_IR = """
define void @dlc_steps(ptr %steps) nounwind {
begin:
  %context.at = getelementptr i64, ptr %steps, i64 1
  %random.at = getelementptr i64, ptr %steps, i64 2
  %status.at = getelementptr i64, ptr %steps, i64 3
  %moves.at = getelementptr i64, ptr %steps, i64 4
  %table.at = getelementptr i64, ptr %steps, i64 5
  %left.at = getelementptr i64, ptr %steps, i64 6
  %until.at = getelementptr i64, ptr %steps, i64 7
  %turn.at = getelementptr i64, ptr %steps, i64 8
  %period.at = getelementptr i64, ptr %steps, i64 9
  %entry = load ptr, ptr %steps
  %context = load ptr, ptr %context.at
  %random = load ptr, ptr %random.at
  %status = load ptr, ptr %status.at
  %moves = load i64, ptr %moves.at
  %table = load ptr, ptr %table.at
  %until = load i64, ptr %until.at
  %period = load i64, ptr %period.at
  %fixed = icmp eq ptr %random, null
  br label %step

step:
  call void %entry(ptr %context)
  %code = load i64, ptr %status
  %well = icmp eq i64 %code, 0
  br i1 %well, label %done, label %end

done:
  %left = load i64, ptr %left.at
  %less = sub i64 %left, 1
  store i64 %less, ptr %left.at
  %turn = load i64, ptr %turn.at
  %next.turn = add i64 %turn, 1
  %wraps = icmp eq i64 %next.turn, %period
  %this.turn = select i1 %wraps, i64 0, i64 %next.turn
  store i64 %this.turn, ptr %turn.at
  %column = select i1 %wraps, i32 2, i32 1
  br i1 %fixed, label %test, label %count

count:
  %number = load i64, ptr %random
  %next = add i64 %number, 1
  store i64 %next, ptr %random
  br label %test

test:
  %at = phi i64 [0, %done], [0, %count], [%following, %move]
  %more = icmp slt i64 %at, %moves
  br i1 %more, label %move, label %look

move:
  %row = mul i64 %at, 3
  %place.at = getelementptr i64, ptr %table, i64 %row
  %bytes.at = getelementptr i64, ptr %place.at, i32 %column
  %place = load ptr, ptr %place.at
  %bytes = load i64, ptr %bytes.at
  %before = load ptr, ptr %place
  %after = getelementptr i8, ptr %before, i64 %bytes
  store ptr %after, ptr %place
  %following = add i64 %at, 1
  br label %test

look:
  %time = call i64 @now()
  %early = icmp slt i64 %time, %until
  %some = icmp sgt i64 %less, 0
  %on = and i1 %early, %some
  br i1 %on, label %step, label %end

end:
  ret void
}
"""
