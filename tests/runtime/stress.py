"""The thread pool's emitted code with accidents: before any access to shared memory a thread may
give its core away or sleep, and chunks are claimed in an order of chance.

usage: python -m tests.runtime.stress SCENE SECONDS

Prints how many steps there were and how many chunks workers have run; fails where anything is not
as it should be.
"""

from __future__ import annotations

import os
import platform
import random
import re
import signal
import sys
import threading
import time
from collections.abc import Callable

import numpy as np

from dlc.runtime import pool
from dlc.runtime.pool_code import pool_ir
from tests.examples.reference import build
from tests.runtime.jobs import Job, Run, make_run

ACCESS = re.compile(
    r"^(  (?:%\S+ = )?(?:load atomic|store atomic|cmpxchg|atomicrmw|fence|.*@syscall))", re.M)
ACCIDENT = """
declare i32 @usleep(i32)
@dice = internal global i64 88172645463325252

define internal void @accident() nounwind noinline {
throw:
  %a = load atomic i64, ptr @dice monotonic, align 8
  %b = shl i64 %a, 13
  %c = xor i64 %a, %b
  %d = lshr i64 %c, 7
  %e = xor i64 %c, %d
  %f = shl i64 %e, 17
  %g = xor i64 %e, %f
  store atomic i64 %g, ptr @dice monotonic, align 8
  %low = and i64 %g, 63
  %yields = icmp eq i64 %low, 0
  br i1 %yields, label %give, label %other
give:
  %ignored = call i32 @sched_yield()
  ret void
other:
  %rare = and i64 %g, 2047
  %sleeps = icmp eq i64 %rare, 1
  br i1 %sleeps, label %nap, label %on
nap:
  %high = lshr i64 %g, 57
  %us = trunc i64 %high to i32
  %ignored.1 = call i32 @usleep(i32 %us)
  ret void
on:
  ret void
}
"""
# The same turn for all who claim in one stage, since all know its gen.
TURNED = """  %hash = mul i64 %gen, 2654435761
  %some = lshr i64 %hash, 7
  %short = and i64 %some, 65535
  %sum = add i64 {place}, %short
  %turned = urem i64 %sum, %n
  %chunk = add i64 %base, %turned
"""


def disturbed(machine: str) -> str:
    """The pool's code with accidents."""
    text = pool_ir(machine)
    for place in ("%front", "%from.end"):
        line = f"  %chunk = add i64 %base, {place}\n"
        assert text.count(line) == 1
        text = text.replace(line, TURNED.format(place=place))
    text, places = ACCESS.subn(r"  call void @accident()\n\1", text)
    assert places > 40
    return text + ACCIDENT


def step(run: Run, chooser: random.Random) -> None:
    """Some stages of a few chunks each, some of which take longer."""
    job = Job(7 * 16)
    job.work[:] = [chooser.choice((0, 0, 10, 300, 3000)) for _ in job.work]
    run("many", job.args, 21)
    counts = job.counts[:-1].reshape(7, 16)
    for kind, row in enumerate(counts):
        assert row.tolist() == [3] * (kind + 2) + [0] * (14 - kind)
    job = Job(chooser.randrange(1, 60))
    run("body", job.args, len(job.counts) - 1)
    job.check(1)
    if chooser.random() < 0.05:
        time.sleep(0.0002)  # let the workers fall asleep


def plain(run: Run, until: float) -> int:
    """All numbers of threads."""
    steps, chooser = 0, random.Random(1)
    while time.monotonic() < until:
        pool.set_threads((1, 2, 3, 7)[steps // 50 % 4])
        for _ in range(50):
            step(run, chooser)
            steps += 1
    return steps


def one_core(run: Run, until: float) -> int:
    """All threads on one core."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    return plain(run, until)


def callers(run: Run, until: float) -> int:
    """Several threads of Python call, and the number of threads changes meanwhile."""
    done, failures = [0, 0, 0], list[BaseException]()

    def call(number: int) -> None:
        chooser = random.Random(number)
        try:
            while time.monotonic() < until:
                step(run, chooser)
                done[number] += 1
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(len(done))]
    for each in threads:
        each.start()
    chooser = random.Random(9)
    while any(each.is_alive() for each in threads):
        pool.set_threads(chooser.choice((1, 2, 3, 7)))
        time.sleep(0.05)
    if failures:
        raise failures[0]
    assert min(done) > 0
    return sum(done)


def forks(run: Run, until: float) -> int:
    """A process forks while another of its threads is in a step; child and parent go on."""
    pool.set_threads(3)
    steps, stop = 0, threading.Event()

    def call() -> None:
        nonlocal steps
        while not stop.is_set():
            step(run, random.Random(steps))
            steps += 1

    thread = threading.Thread(target=call)
    thread.start()
    while time.monotonic() < until:
        child = os.fork()
        if child == 0:
            for seed in range(10):
                step(run, random.Random(seed))
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    stop.set()
    thread.join()
    return steps


def interrupts(run: Run, until: float) -> int:
    """Ctrl-C, again and again: each step is done or has not begun."""
    pool.set_threads(3)
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    steps, raised, chooser, job = 0, 0, random.Random(4), Job(30)
    while time.monotonic() < until:
        try:
            signal.setitimer(signal.ITIMER_REAL, chooser.uniform(1e-5, 2e-3))
            while True:
                job = Job(30)
                job.work[:] = [chooser.choice((0, 300, 3000)) for _ in job.work]
                run("body", job.args, 30)
                steps += 1
        except KeyboardInterrupt:
            raised += 1
            job.check(int(job.counts[0]))
    assert raised > 10
    return steps


def training(run: Run, until: float) -> int:
    """Training steps with accidents give the bits of one thread."""
    text = np.random.default_rng(5).integers(0, 20, (9, 17)).astype(np.int32)
    shape = {"vocabulary": 20, "units": 24}
    pool.set_threads(1)
    model = build("lstm.dl", "CharModel", **shape)
    begun = time.monotonic()
    expected = [model.fit(text=text).tobytes() for _ in range(20)]
    until += time.monotonic() - begun  # it was compiled
    steps = 0
    while time.monotonic() < until:
        pool.set_threads((2, 3, 7)[steps // 20 % 3])
        model = build("lstm.dl", "CharModel", **shape)
        assert [model.fit(text=text).tobytes() for _ in expected] == expected
        steps += len(expected)
    return steps


SCENES: dict[str, Callable[[Run, float], int]] = {
    each.__name__: each for each in (plain, one_core, callers, forks, interrupts, training)}


def main() -> None:
    """One scene."""
    text = disturbed(platform.machine())
    pool.pool_ir = lambda machine: text
    pool.configure(serial_ns=0, wake_ns=0, solo_after_ns=0)
    run = make_run()
    until = time.monotonic() + float(sys.argv[2])
    steps = SCENES[sys.argv[1]](run, until)
    print(f"{steps} steps, {pool.worker_chunks()} chunks by workers")


if __name__ == "__main__":
    main()
