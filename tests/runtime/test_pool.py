"""The thread pool: every chunk runs once, whoever runs it."""

from __future__ import annotations

import ctypes
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from dlc.runtime import jit, pool
from dlc.runtime.errors import UserError
from dlc.runtime.memory import address_of
from dlc.runtime.pool_code import FIELDS, MACHINES, pool_ir

# body(args = {counts, work}, chunk): spins work[chunk] turns, then adds 1 to counts[chunk].
BODY = """
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
  call void %parallel(ptr %pool, ptr @body, ptr %inner, i64 4, i64 1000000)
  ret void
}

; many(args = {counts, work, pool}, stages): stage s is `body` over 2 + s % 7 chunks, on the
; counts from 16 * (s % 7) on
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
  %kind = urem i64 %s, 7
  %chunks = add i64 %kind, 2
  %first = mul i64 %kind, 16
  %own = getelementptr i64, ptr %counts, i64 %first
  store ptr %own, ptr %inner
  call void %parallel(ptr %pool, ptr @body, ptr %inner, i64 %chunks, i64 1000000)
  %next = add i64 %s, 1
  %more = icmp slt i64 %next, %stages
  br i1 %more, label %loop, label %end
end:
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


@pytest.fixture(scope="module")
def run() -> Run:
    """`parallel` of the process's pool over one of the bodies above; `many` is called itself."""
    return make_run()


def make_run() -> Run:
    """What the fixture gives."""
    code = jit.load(jit.compile_text(BODY), ["body", "nested", "mode", "many"])
    address = pool.address()
    assert address is not None
    place = ctypes.c_size_t.from_address(address + FIELDS["parallel"]).value
    kinds = (ctypes.c_void_p,) * 3 + (ctypes.c_int64,) * 2
    parallel = ctypes.CFUNCTYPE(None, *kinds)(place)

    many = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(code.address("many"))

    def call(body: str, args: np.ndarray | ctypes.Array, chunks: int, cost: int = 10**9) -> None:
        at = address_of(args) if isinstance(args, np.ndarray) else ctypes.addressof(args)
        if body == "many":
            many(at, chunks)
        else:
            parallel(address, code.address(body), at, chunks, cost)

    return call


@pytest.fixture(autouse=True)
def eager() -> Iterator[None]:
    """Even the least work is shared out, and a late worker (a busy machine) changes nothing."""
    pool.configure(serial_ns=0, wake_ns=0, solo_after_ns=0)
    yield
    pool.configure(serial_ns=pool.SERIAL_NS, wake_ns=pool.WAKE_NS, solo_after_ns=pool.SOLO_AFTER_NS)
    pool.set_threads(None)


def attempts() -> Iterator[int]:
    """Tries for what depends on the scheduler: as many as fit 20 s of a busy machine."""
    deadline = time.monotonic() + 20
    turn = 0
    while time.monotonic() < deadline:
        yield turn
        turn += 1


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


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_every_chunk_runs_once(run: Run, threads: int) -> None:
    pool.set_threads(threads)
    assert pool.threads() == threads
    for chunks in (0, 1, 2, 3, 17, 4095, 4096, 9000):
        job = Job(chunks)
        for _ in range(3):
            run("body", job.args, chunks)
        job.check(3)


@pytest.mark.parametrize("threads", [2, 3, 7])
def test_many_small_stages_in_a_row(run: Run, threads: int) -> None:
    pool.set_threads(threads)
    job = Job(7 * 16)
    run("many", job.args, 70_000)
    counts = job.counts[:-1].reshape(7, 16)
    for kind, row in enumerate(counts):
        assert row.tolist() == [10_000] * (kind + 2) + [0] * (14 - kind)


@pytest.mark.parametrize("threads", [2, 3, 7])
def test_workers_run_chunks(run: Run, threads: int) -> None:
    pool.set_threads(threads)
    before = pool.worker_chunks()
    for _ in attempts():
        job = Job(16, turns=200_000)
        run("body", job.args, 16)
        job.check(1)
        if pool.worker_chunks() > before:
            return
    pytest.fail("no worker has run any chunk")


def test_one_thread_runs_alone(run: Run) -> None:
    pool.set_threads(1)
    before = pool.worker_chunks()
    run("body", Job(64).args, 64)
    assert pool.worker_chunks() == before


def test_cheap_work_stays_with_the_caller(run: Run) -> None:
    pool.set_threads(3)
    pool.configure(serial_ns=1000)
    before = pool.worker_chunks()
    for _ in range(200):
        run("body", Job(64, turns=2000).args, 64, 999)
    assert pool.worker_chunks() == before


def test_random_work_from_two_threads(run: Run) -> None:
    pool.set_threads(3)

    def stages(seed: int) -> None:
        chooser = random.Random(seed)
        for _ in range(400):
            chunks = chooser.randrange(1, 40)
            job = Job(chunks)
            job.work[:] = [chooser.choice((0, 10, 3000)) for _ in job.work]
            run("body", job.args, chunks)
            job.check(1)
            if chooser.random() < 0.02:
                time.sleep(0.001)  # let the workers fall asleep

    failures: list[BaseException] = []

    def guarded(seed: int) -> None:
        try:
            stages(seed)
        except BaseException as error:
            failures.append(error)

    callers = [threading.Thread(target=guarded, args=(seed,)) for seed in range(2)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not failures


def test_nested_work_does_not_hang(run: Run) -> None:
    pool.set_threads(3)
    job = Job(4 * 25)
    for _ in range(20):
        run("nested", job.args, 25)
    job.check(20)


def test_resize_while_another_thread_works(run: Run) -> None:
    stop = threading.Event()
    rounds = 0

    def work() -> None:
        nonlocal rounds
        while not stop.is_set():
            job = Job(30, turns=100)
            run("body", job.args, 30)
            job.check(1)
            rounds += 1

    worker = threading.Thread(target=work)
    worker.start()
    for count in (1, 4, 2, 3) * 5:
        pool.set_threads(count)
    stop.set()
    worker.join()
    assert rounds > 0


def test_denormals_are_flushed_in_workers(run: Run) -> None:
    pool.set_threads(3)
    for _ in attempts():
        args = np.full(64, 9.0, np.float32)
        args[0] = 1e-38 * 1.5
        before = pool.worker_chunks()
        run("mode", args, 64)
        if pool.worker_chunks() > before:
            assert 0.0 in args[1:]
            return
    pytest.fail("no worker has run any chunk")


def test_a_late_worker_sends_the_caller_solo(run: Run) -> None:
    pool.set_threads(2)
    pool.configure(solo_after_ns=1)
    assert pool._pool is not None
    for _ in attempts():
        job = Job(2)
        job.work[:2] = 300_000, 3_000_000  # workers take from the back: the caller waits for it
        run("body", job.args, 2, 2)
        job.check(1)
        if pool._pool.read("solo_until"):
            break
    before = pool.worker_chunks()
    job = Job(1000)
    run("body", job.args, 1000)
    job.check(1)
    assert pool._pool.read("solo_length") == 20_000_000
    assert pool.worker_chunks() == before


def test_one_late_worker_among_many_that_helped_changes_nothing(run: Run) -> None:
    pool.set_threads(2)
    pool.configure(solo_after_ns=1)
    assert pool._pool is not None
    for _ in attempts():
        job = Job(2)
        job.work[:2] = 30_000, 300_000
        pool._pool.write("balance", -20_000_000)  # what 20 ms of good work leave
        run("body", job.args, 2, 2)
        job.check(1)
        if pool._pool.read("balance") > -20_000_000:  # it came late
            break
    else:
        pytest.fail("no worker has been late")
    assert pool._pool.read("solo_until") == 0


FORK = """
import os, sys, threading
sys.path.insert(0, {root!r})
from tests.runtime import test_pool as t
from dlc.runtime import pool
run = t.make_run()
pool.configure(serial_ns=0, wake_ns=0, solo_after_ns=0)
pool.set_threads(3)
stop = threading.Event()
def busy():
    while not stop.is_set():
        job = t.Job(20, turns=500); run("body", job.args, 20); job.check(1)
thread = threading.Thread(target=busy); thread.start()
for _ in range(10):
    child = os.fork()
    if child == 0:
        before = pool.worker_chunks()
        for turn in t.attempts():
            job = t.Job(20, turns=20000); run("body", job.args, 20); job.check(1)
            if pool.worker_chunks() > before:
                os._exit(0)
        os._exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
stop.set(); thread.join()
print("well")
"""


def test_a_forked_child_gets_workers_of_its_own() -> None:
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", FORK.format(root=root)],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert (done.stdout, done.returncode) == ("well\n", 0), done.stderr


def test_the_code_is_there_for_every_machine() -> None:
    import llvmlite.binding as llvm

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    for machine, family in MACHINES.items():
        module = llvm.parse_assembly(pool_ir(machine), llvm.create_context())
        module.verify()
        target = llvm.Target.from_triple(f"{machine}-linux-gnu")
        text = target.create_target_machine(opt=2, reloc="pic").emit_assembly(module)
        assert {"x86_64": "ldmxcsr", "aarch64": "FPCR"}[machine] in text
        assert str(family.futex) in text


def test_threads_must_be_possible() -> None:
    with pytest.raises(UserError, match="0 threads"):
        pool.set_threads(0)
    assert pool.threads() <= max(1, os.cpu_count() or 1)
