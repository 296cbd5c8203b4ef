"""Schedules of chains of products on tensor cores are refused for what they can't be."""

from __future__ import annotations

import pytest

from dlc.ir.check_schedule import check_schedule
from dlc.ir.kernel_rules import KernelError
from dlc.ir.kernel_text import parse_kernel
from dlc.ir.schedule_text import parse_schedule, print_schedule

CHAIN = """\
kernel f<S, T>(q: f32[T, 16] in, k: f32[S, 16] in, v: f32[S, 8] in, y: f32[T, 8] out) {
  local row: f32[S], sums: f32[8]
  outer i<T
  row[j] = sum j<S, d<16: mul(q[i, d], k[j, d])
  sums[e] = sum e<8, j<S: mul(row[j], v[j, e])
  y[i, e] = over e<8: sums[e]
}
"""
IN_A_CHAIN = "parallel 1 reduce d, j part 32 threads 64 rows i chain f32 2, 1, 2, 4, 4, 4"


@pytest.mark.parametrize(("before", "after", "fault"), [
    ("", "", ""),
    ("f32 2, 1", "f32 4, 1", "4 warps are not 64 threads"),
    ("f32", "f64", "f64 is not multiplied so"),
    ("1, 2, 4", "1, 1, 4", "a size is too small"),
    ("part 32", "part 24", "a part has no pairs of columns"),
    ("4, 4, 4", "4, 4, 8", "so many elements can't be copied at once"),
    ("rows i", "rows j", "there are no rows"),
    ("parallel 1", "parallel 1 vector i 4", "no 4 columns side by side along i"),
])
def test_chains_on_tensor_cores(before: str, after: str, fault: str) -> None:
    lines = f"order i {IN_A_CHAIN.replace(before, after, 1)}"
    schedule = parse_schedule(f'schedule f for "cuda:sm_80" {{ {lines} }}')
    assert parse_schedule(print_schedule(schedule, "f")) == schedule
    if not fault:
        check_schedule(parse_kernel(CHAIN), schedule)
        return
    with pytest.raises(KernelError, match=fault):
        check_schedule(parse_kernel(CHAIN), schedule)
