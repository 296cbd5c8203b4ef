"""The thread pool: every chunk runs once, whoever runs it."""

from __future__ import annotations

import ctypes
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dlc.runtime import pool
from dlc.runtime.errors import UserError
from dlc.runtime.pool_code import FIELDS, MACHINES, pool_ir
from tests.runtime.jobs import Job, Run, make_run


@pytest.fixture(scope="module")
def run() -> Run:
    """How a test runs chunks: see `jobs`."""
    return make_run()


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


def all_asleep() -> None:
    """Waits until every worker sleeps."""
    assert pool._pool is not None
    for _ in attempts():
        time.sleep(0.002)
        if ctypes.c_int32.from_address(pool._pool.address + FIELDS["sleepers"]).value == 2:
            return
    pytest.fail("workers do not go to sleep")


def test_sleepers_are_woken_for_small_stages_once_they_are_many(run: Run) -> None:
    pool.set_threads(3)
    run("body", Job(8).args, 8)
    pool.configure(wake_ns=20_000)
    wake = ctypes.c_int32.from_address((pool.address() or 0) + FIELDS["wake"])
    job = Job(8)
    for _ in range(5):  # with pauses that make each the only one
        all_asleep()
        before = wake.value
        run("body", job.args, 8, 6000)
        assert wake.value == before
    for _ in attempts():
        all_asleep()
        before = wake.value
        for _ in range(4):
            run("body", job.args, 8, 6000)
        if wake.value == before + 1:
            return
    pytest.fail("nobody was woken")


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


def test_a_long_step_gives_the_pool_to_who_asks(run: Run) -> None:
    pool.set_threads(2)
    for attempt in attempts():
        job = Job(7 * 16)
        step = threading.Thread(target=run, args=("many", job.args, 7 * 2**min(attempt + 12, 20)))
        before = pool.worker_chunks()
        step.start()
        while step.is_alive() and pool.worker_chunks() == before:
            time.sleep(0)
        pool.set_threads(3)
        within = step.is_alive()
        changed = pool.worker_chunks()
        step.join()
        if within and pool.worker_chunks() > changed:  # the same step has taken it again
            return
    pytest.fail("the step has kept the pool")


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
        pool._pool.write("solo_until", 0)
        begun = time.monotonic()
        run("body", job.args, 2, 2)
        took = time.monotonic() - begun
        job.check(1)
        if took < 0.01 and pool._pool.read("balance") > -20_000_000:  # late, but not that late
            assert pool._pool.read("solo_until") == 0
            return
    pytest.fail("no worker has been late")


def processor(thread: int) -> int:
    """Where a thread of this process is, or was last."""
    told = Path(f"/proc/self/task/{thread}/stat").read_text()
    return int(told.rpartition(")")[2].split()[36])


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one CPU")
def test_a_worker_that_is_woken_beside_its_caller_moves_away(run: Run) -> None:
    pool.set_threads(1)
    before = set(os.listdir("/proc/self/task"))
    pool.set_threads(2)
    run("body", Job(2).args, 2)
    (worker,) = map(int, set(os.listdir("/proc/self/task")) - before)
    mine, all_of_them = min(os.sched_getaffinity(0)), os.sched_getaffinity(0)
    os.sched_setaffinity(0, {mine})
    stayed = 0
    try:
        for _ in range(20):
            os.sched_setaffinity(worker, {mine})
            run("body", Job(2, turns=1000).args, 2)
            time.sleep(0.002)  # it sleeps
            os.sched_setaffinity(worker, all_of_them)
            while processor(worker) == mine and stayed < 200:
                run("body", Job(2, turns=1000).args, 2)
                time.sleep(0.002)
                stayed += processor(worker) == mine
            for _ in attempts():  # it is on its way
                if os.sched_getaffinity(worker) == all_of_them:
                    break
            assert os.sched_getaffinity(worker) == all_of_them
    finally:
        os.sched_setaffinity(0, all_of_them)
    assert stayed < 200  # Linux alone takes thousands


FORK = """
import os, sys, threading
sys.path.insert(0, {root!r})
from tests.runtime import jobs as t
from tests.runtime.test_pool import attempts
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
        for turn in attempts():
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


BEGIN = """
import threading
from dlc.runtime import jit, pool
thread = threading.Thread(target=pool.make, args=(jit.compile_text,))
thread.start()
thread.join()
try:
    print(pool.address() == pool.address(), pool.threads())
except Exception as error:
    print(type(error).__name__)
"""


@pytest.mark.parametrize(("chosen", "printed"), [("1", "True 1\n"), ("none", "UserError\n")])
def test_the_pool_may_be_made_in_a_thread(chosen: str, printed: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BEGIN], capture_output=True, text=True, timeout=100, check=False,
        env={**os.environ, "DLC_THREADS": chosen},
    )  # fmt: skip
    assert (done.stdout, done.stderr) == (printed, "")
