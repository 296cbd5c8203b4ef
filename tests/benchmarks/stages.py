"""What sharing work out costs: a stage of the thread pool, its chunks, waking its workers; also
beside a process that is busy. `python -m tests.benchmarks.stages` measures in this process."""

from __future__ import annotations

import ctypes
import json
import statistics
import subprocess
import sys
import time

from dlc.runtime import jit, pool
from tests.benchmarks.processes import run_json, table
from tests.runtime.jobs import LEAVE

IR = LEAVE + """
; spin(turns, chunk)
define void @spin(ptr %args, i64 %chunk) {
begin:
  %turns = load i64, ptr %args
  br label %spin
spin:
  %turn = phi i64 [0, %begin], [%next, %spin]
  %next = add i64 %turn, 1
  call void asm sideeffect "", ""()
  %more = icmp slt i64 %next, %turns
  br i1 %more, label %spin, label %end
end:
  ret void
}

; stages({turns, pool, chunks}, count): a step of so many stages
define void @stages(ptr %args, i64 %count) {
begin:
  %pool.at = getelementptr i64, ptr %args, i64 1
  %pool = load ptr, ptr %pool.at
  %chunks.at = getelementptr i64, ptr %args, i64 2
  %chunks = load i64, ptr %chunks.at
  %parallel = load ptr, ptr %pool
  br label %loop
loop:
  %stage = phi i64 [0, %begin], [%next, %loop]
  %before = phi i64 [0, %begin], [%owned, %loop]
  %owned = call i64 %parallel(ptr %pool, i64 %before, ptr @spin, ptr %args, i64 %chunks,
                              i64 1000000)
  %next = add i64 %stage, 1
  %more = icmp slt i64 %next, %count
  br i1 %more, label %loop, label %end
end:
  call void @leave(ptr %pool, i64 %owned)
  ret void
}
"""
CHUNK_NS = 2000.0
STAGES = 50  # in a row, so that the clock costs nothing
TURNS = 400  # how often


class Stages:
    """Stages of chunks that take `CHUNK_NS` each."""

    def __init__(self) -> None:
        self._code = jit.load(jit.compile_text(IR), ["spin", "stages"])
        self._stages = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(
            self._code.address("stages"))
        self._args = (ctypes.c_int64 * 3)(1000, pool.address() or 0, 2)
        pool.set_threads(1)
        self._args[0] = max(1, round(1000 * CHUNK_NS / min(self.times(2, TURNS)) * 2))
        self.chunk = min(self.times(2, TURNS)) / 2

    def times(self, chunks: int, turns: int, stages: int = STAGES, pause: float = 0) -> list[float]:
        """ns of a stage of so many chunks; between the turns nobody does anything for `pause` s."""
        self._args[2] = chunks
        found = []
        for _ in range(turns):
            if pause:
                time.sleep(pause)
            begun = time.perf_counter_ns()
            self._stages(ctypes.addressof(self._args), stages)
            found.append((time.perf_counter_ns() - begun) / stages)
        return found


def measure() -> dict[str, list[float]]:
    """For each row the least and the median ns that two threads take more than they ideally would;
    of the busy machine the share of one thread's time that two take."""
    pool.configure(serial_ns=0, wake_ns=0)
    stages = Stages()
    call = min(stages.times(1, TURNS, 1)) - stages.chunk  # of Python, and of the clock
    pool.set_threads(2)
    stages.times(2, TURNS)
    rows = {
        "stage of 2 chunks": _over(stages.times(2, TURNS), stages.chunk),
        "stage of 16 chunks": _over(stages.times(16, TURNS), 8 * stages.chunk),
        "stage of 128 chunks": _over(stages.times(128, TURNS), 64 * stages.chunk),
        "stage of 128 chunks, workers asleep": _over(
            stages.times(128, TURNS, 1, 0.002), 64 * stages.chunk + call),
    }
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        pool.set_threads(2)
        busy = stages.times(16, TURNS * 20)
        other.kill()
    alone = 16 * stages.chunk
    rows["beside a busy process"] = [statistics.median(busy) / alone, statistics.mean(busy) / alone]
    return rows


def _over(times: list[float], ideal: float) -> list[float]:
    return [min(times) - ideal, statistics.median(times) - ideal]


def section() -> str:
    """The table; in a process of its own."""
    found = run_json("-m", "tests.benchmarks.stages")
    median, mean = found.pop("beside a busy process")
    rows = [[name, *(f"{ns:.0f}" for ns in times)] for name, times in found.items()]
    text = (f"What two threads take more than half of the time that one takes, in ns; chunks take"
            f" {CHUNK_NS:.0f} ns. Beside a process that keeps a core busy stages of 16 chunks take"
            f" {median:.2f} times (median; mean {mean:.2f}) what one thread takes alone. The first"
            " row tells how far apart the cores are: some 200 ns where they share a cache, 650"
            " where the host of a virtual machine has put them apart; small steps then gain little"
            " by threads.")
    return f"## Stages\n\n{text}\n\n" + table(["", "least", "median"], rows)


if __name__ == "__main__":
    print(json.dumps(measure()))
