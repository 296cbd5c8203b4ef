"""Work for the thread pool that counts how often each chunk has run."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import numpy as np

from dlc.runtime import jit, pool
from dlc.runtime.memory import address_of
from dlc.runtime.pool_code import FIELDS

# leave(pool, owned): gives up the pool, if a stage has taken it.
LEAVE = """
define void @leave(ptr %pool, i64 %owned) {
  %held = icmp ne i64 %owned, 0
  br i1 %held, label %give, label %done
give:
  %release.at = getelementptr ptr, ptr %pool, i64 1
  %release = load ptr, ptr %release.at
  call void %release(ptr %pool)
  br label %done
done:
  ret void
}
"""

# body(args = {counts, work}, chunk): spins work[chunk] turns, then adds 1 to counts[chunk].
BODY = LEAVE + """
define void @body(ptr %args, i64 %chunk) {
begin:
  %counts = load ptr, ptr %args
  %work.at = getelementptr ptr, ptr %args, i64 1
  %work = load ptr, ptr %work.at
  %turns.at = getelementptr i64, ptr %work, i64 %chunk
  %turns = load i64, ptr %turns.at
  br label %spin
spin:
  %turn = phi i64 [0, %begin], [%next, %spin]
  %next = add i64 %turn, 1
  call void asm sideeffect "", ""()
  %more = icmp slt i64 %next, %turns
  br i1 %more, label %spin, label %end
end:
  %at = getelementptr i64, ptr %counts, i64 %chunk
  %old = load i64, ptr %at
  %new = add i64 %old, 1
  store i64 %new, ptr %at
  ret void
}

; nested(args = {counts, work, pool}, chunk): runs `body` for 4 chunks from within a chunk
define void @nested(ptr %args, i64 %chunk) {
  %pool.at = getelementptr ptr, ptr %args, i64 2
  %pool = load ptr, ptr %pool.at
  %counts = load ptr, ptr %args
  %first = mul i64 %chunk, 4
  %own = getelementptr i64, ptr %counts, i64 %first
  %inner = alloca [2 x ptr]
  store ptr %own, ptr %inner
  %work.at = getelementptr ptr, ptr %args, i64 1
  %work = load ptr, ptr %work.at
  %inner.work = getelementptr ptr, ptr %inner, i64 1
  store ptr %work, ptr %inner.work
  %parallel = load ptr, ptr %pool
  %owned = call i64 %parallel(ptr %pool, i64 0, ptr @body, ptr %inner, i64 4, i64 1000000)
  ; the stage around it runs without the pool
  call void @leave(ptr %pool, i64 %owned)
  ret void
}

; many(args = {counts, work, pool}, stages): one step; stage s is `body` over 2 + s % 7 chunks, on
; the counts from 16 * (s % 7) on
define void @many(ptr %args, i64 %stages) {
begin:
  %counts = load ptr, ptr %args
  %work.at = getelementptr ptr, ptr %args, i64 1
  %work = load ptr, ptr %work.at
  %pool.at = getelementptr ptr, ptr %args, i64 2
  %pool = load ptr, ptr %pool.at
  %parallel = load ptr, ptr %pool
  %inner = alloca [2 x ptr]
  %inner.work = getelementptr ptr, ptr %inner, i64 1
  store ptr %work, ptr %inner.work
  br label %loop
loop:
  %s = phi i64 [0, %begin], [%next, %loop]
  %before = phi i64 [0, %begin], [%owned, %loop]
  %kind = urem i64 %s, 7
  %chunks = add i64 %kind, 2
  %first = mul i64 %kind, 16
  %own = getelementptr i64, ptr %counts, i64 %first
  store ptr %own, ptr %inner
  %owned = call i64 %parallel(ptr %pool, i64 %before, ptr @body, ptr %inner, i64 %chunks,
                              i64 1000000)
  %next = add i64 %s, 1
  %more = icmp slt i64 %next, %stages
  br i1 %more, label %loop, label %end
end:
  call void @leave(ptr %pool, i64 %owned)
  ret void
}

; mode(args, chunk): half of args[0] into args[chunk], as this thread computes it; some spinning
define void @mode(ptr %args, i64 %chunk) {
begin:
  %from = load volatile float, ptr %args
  %at = getelementptr float, ptr %args, i64 %chunk
  %product = fmul float %from, 5.000000e-01
  br label %spin
spin:
  %turn = phi i64 [0, %begin], [%next, %spin]
  %next = add i64 %turn, 1
  call void asm sideeffect "", ""()
  %more = icmp slt i64 %next, 30000
  br i1 %more, label %spin, label %end
end:
  store float %product, ptr %at
  ret void
}
"""

Run = Callable[[str, "np.ndarray | ctypes.Array", int, int], None]


def make_run() -> Run:
    """A step of one stage over one of the bodies above; `many` is called itself."""
    code = jit.load(jit.compile_text(BODY), ["body", "nested", "mode", "many"])
    address = pool.address()
    assert address is not None
    stage, leave = (ctypes.c_size_t.from_address(address + FIELDS[name]).value
                    for name in ("parallel", "release"))
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    parallel = ctypes.CFUNCTYPE(number, pointer, number, pointer, pointer, number, number)(stage)
    release = ctypes.CFUNCTYPE(None, pointer)(leave)
    many = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(code.address("many"))

    def call(body: str, args: np.ndarray | ctypes.Array, chunks: int, cost: int = 10**9) -> None:
        at = address_of(args) if isinstance(args, np.ndarray) else ctypes.addressof(args)
        if body == "many":
            many(at, chunks)
        elif parallel(address, 0, code.address(body), at, chunks, cost):
            release(address)

    return call


class Job:
    """Counts and work of `chunks` chunks."""

    def __init__(self, chunks: int, turns: int = 0) -> None:
        self.counts = np.zeros(chunks + 1, np.int64)
        self.work = np.full(chunks + 1, turns, np.int64)
        pointers = (address_of(self.counts), address_of(self.work), pool.address())
        self.args = (ctypes.c_void_p * 3)(*pointers)

    def check(self, times: int) -> None:
        """Each chunk has run so often, and none beyond the last."""
        assert (self.counts[:-1] == times).all()
        assert self.counts[-1] == 0
