"""Calls: results, reuse of what was made before, variables, checks, threads."""

from __future__ import annotations

import gc
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from dlc.runtime import ArgumentError, CheckFailed, Function, Variables, memory, pool
from dlc.runtime.frames import TRIALS, Binding
from dlc.runtime.memory import Recycler, address_of, arenas
from tests.runtime import programs


def test_positional_named_and_default_arguments() -> None:
    double = Function(programs.double())
    x = np.arange(5, dtype=np.float32)
    np.testing.assert_array_equal(double(x), x * 2)
    np.testing.assert_array_equal(double(x=x, scale=3), x * 3)
    np.testing.assert_array_equal(double(x, np.float32(0.5)), x / 2)
    np.testing.assert_array_equal(double(x, np.array(4, np.float32)), x * 4)


def test_any_number_of_rows_without_a_new_load() -> None:
    double = Function(programs.double())
    for n in (1, 2, 17, 1000, 1):
        x = np.full(n, 1.5, np.float32)
        np.testing.assert_array_equal(double(x), np.full(n, 3, np.float32))
    assert len(double._bindings) == 4
    assert all(len(binding.frames) == 1 for binding in double._bindings.values())


def test_results_are_the_callers_own() -> None:
    double = Function(programs.double())
    first = double(np.ones(8, np.float32))
    double(np.zeros(8, np.float32))
    np.testing.assert_array_equal(first, np.full(8, 2, np.float32))


@pytest.mark.parametrize(
    "strange",
    [
        np.arange(20, dtype=np.float32)[::2],
        np.arange(10, dtype=">f4"),
        np.frombuffer(b"\0" + np.arange(10, dtype="<f4").tobytes(), np.uint8)[1:].view("<f4"),
    ],
    ids=["strided", "big-endian", "unaligned-readonly"],
)
def test_strange_arrays_are_copied_at_the_door(strange: np.ndarray) -> None:
    np.testing.assert_array_equal(
        Function(programs.double())(strange), strange.astype(np.float32) * 2
    )


def test_large_results_are_recycled_once_dropped() -> None:
    double = Function(programs.double())
    x = np.ones(1_000_000, np.float32)
    first = double(x)
    place = address_of(first)
    view = first[10:20]
    del first
    second = address_of(double(x))
    assert second != place  # the view still refers to the first
    del view
    gc.collect()
    assert {address_of(double(x)) for _ in range(4)} == {place, second}
    kept = [double(x) for _ in range(5)]
    assert len({address_of(each) for each in kept}) == 5


def test_recycler_keeps_few_memories_and_takes_what_fits() -> None:
    recycler = Recycler(np.dtype(np.float32))
    held = [recycler.take((100_000,)) for _ in range(6)]
    assert len({address_of(each) for each in held}) == 6
    assert len(recycler._kept) == Recycler.KEPT
    places = {address_of(each) for each in held[-Recycler.KEPT:]}
    del held
    first = recycler.take((100_000,))
    assert address_of(first) in places
    other = recycler.take((300, 300))  # another shape, in the memory of an earlier result
    assert other.shape == (300, 300)
    assert address_of(other) in places - {address_of(first)}
    for shape in ((40_000,), (100_001,)):  # memory of more than twice the size, or less, is left
        fresh = Recycler(np.dtype(np.float32))  # which gives none back, so that none is taken again
        place = address_of(fresh.take((100_000,)))
        assert address_of(fresh.take(shape)) != place


@pytest.mark.parametrize("size", [1, 63, 300_000, memory.HUGE_PAGE - 1, memory.HUGE_PAGE, 5 << 20])
def test_memory_is_aligned_and_can_be_written(size: int) -> None:
    found = memory.aligned_bytes(size)
    assert (found.shape, found.dtype) == ((size,), np.uint8)
    assert address_of(found) % memory.ALIGNMENT == 0
    found[...] = 7
    assert found[-1] == 7


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")
def test_large_memory_asks_for_huge_pages() -> None:
    held = memory.aligned_bytes(16 << 20)
    place = address_of(held)
    assert place % memory.HUGE_PAGE == 0
    found = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match("[0-9a-f]+-[0-9a-f]+ ", line):
            low, high = (int(each, 16) for each in line.split()[0].split("-"))
            found = low <= place < high
        elif found and line.startswith("VmFlags:"):
            assert "hg" in line.split()
            return
    pytest.fail("the memory is no mapping")


def test_arena_is_large_enough_and_aligned() -> None:
    scratch = Function(programs.scratch())
    arenas.clear()
    for n in (1, 3000, 7):
        assert scratch(np.full(n, 5)) == 5
    assert scratch.arena_size(N=3) == 192
    assert len(arenas._free) == 1
    assert arenas._free[0].capacity == 3000 * 64


def test_variables_random_state_and_failed_checks() -> None:
    variables = Variables(seed=3)
    count = Function(programs.count(), variables)
    assert count(2) == (0, 0.0)
    old, call = count(limit=2)
    assert (old, call) == (1, 1.0)
    assert (type(old), type(call)) == (np.int64, np.float32)
    message = r"count: steps stays below limit, not 2 \(count.dl:3:5\); no variable has changed"
    with pytest.raises(CheckFailed, match=message) as caught:
        count(2)
    assert (caught.value.value, caught.value.location) == (2, "count.dl:3:5")
    assert variables.get("steps") == 2
    assert variables.random.tolist() == [3, 2]
    assert count(9) == (2, 2.0)


def test_an_interrupted_step_counts() -> None:
    variables = Variables()
    count = Function(programs.count(interrupt=True), variables)
    for turn in range(1, 4):
        with pytest.raises(KeyboardInterrupt):
            count(9)
        assert variables.get("steps") == turn
        assert variables.random.tolist() == [0, turn]


AT_EXIT = """
import sys, threading, time
sys.path.insert(0, {root!r})
import numpy as np
from dlc.runtime import Function, pool
from tests.runtime import programs
pool.configure(serial_ns=0, wake_ns=0, solo_after_ns=0)
pool.set_threads(3)
shared = Function(programs.shared())
x = np.ones(50, np.float32)
def call():
    while True:
        shared(x)
threading.Thread(target=call, daemon=True).start()
time.sleep(0.05)
print("well")
"""


def test_the_process_ends_while_a_thread_still_calls() -> None:
    text = AT_EXIT.format(root=str(Path(__file__).parents[2]))
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.stdout, done.stderr, done.returncode) == ("well\n", "", 0)


def test_two_functions_share_variables_in_different_layouts() -> None:
    variables = Variables()
    blocked = [[0, 2], [0, 1]]
    rows = Function(programs.add_to_weights(), variables)
    spec = programs.variable("w", "f32", 4, digits=blocked)
    other = Function(programs.nothing(variables=[spec]), variables)
    x = np.arange(4, dtype=np.float32)
    for turn in range(1, 4):
        rows(x * turn)
        other()
        np.testing.assert_array_equal(variables.get("w"), 2 * turn * x[::-1])
        assert variables.storage("w").shape == (2, 2)


def test_readers_in_different_layouts_at_once() -> None:
    variables = Variables()
    plain = [programs.variable("w", "f32", 4, written=False)]
    blocked = [programs.variable("w", "f32", 4, digits=[[0, 2], [0, 1]], written=False)]
    readers = [Function(programs.nothing(variables=each), variables) for each in (plain, blocked)]
    value = np.arange(4, dtype=np.float32)
    variables.set("w", value)

    def read(function: Function) -> None:
        for _ in range(200):
            function()

    threads = [threading.Thread(target=read, args=(each,)) for each in readers * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(variables.get("w"), value)


def test_an_argument_that_is_the_variable_itself_is_copied() -> None:
    variables = Variables()
    learn = Function(programs.add_to_weights(), variables)
    start = np.array([1, 2, 3, 4], np.float32)
    variables.set("w", start)
    learn(variables.storage("w"))
    np.testing.assert_array_equal(variables.get("w"), 2 * start[::-1])


def test_writers_run_one_at_a_time() -> None:
    variables = Variables()
    count = Function(programs.count(), variables)
    callers = [threading.Thread(target=lambda: [count(10**9) for _ in range(300)]) for _ in "ab"]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert variables.get("steps") == 600
    assert variables.random.tolist() == [0, 600]


def test_pure_functions_run_at_once() -> None:
    double = Function(programs.double())
    failures: list[float] = []

    def call(value: float) -> None:
        x = np.full(2000, value, np.float32)
        failures.extend(value for _ in range(200) if not (double(x) == 2 * value).all())

    callers = [threading.Thread(target=call, args=(value,)) for value in (1.0, 2.0, 3.0)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not failures


def test_compiled_code_shares_work_with_the_workers() -> None:
    shared = Function(programs.shared())
    x = np.arange(500, dtype=np.float32)
    results = []
    pool.configure(serial_ns=0, wake_ns=0, solo_after_ns=0)
    try:
        for count in (1, 2, 3):
            pool.set_threads(count)
            before = pool.worker_chunks()
            results.append(shared(x))
            if count > 1:
                deadline = time.monotonic() + 20
                while pool.worker_chunks() == before and time.monotonic() < deadline:
                    results.append(shared(x))
                assert pool.worker_chunks() > before
    finally:
        pool.configure(
            serial_ns=pool.SERIAL_NS, wake_ns=pool.WAKE_NS, solo_after_ns=pool.SOLO_AFTER_NS
        )
        pool.set_threads(None)
    for result in results:
        np.testing.assert_array_equal(result, 2 * x)


def test_a_function_wants_the_types_of_its_variables() -> None:
    variables = Variables()
    Function(programs.count(), variables)
    wrong = programs.nothing(variables=[programs.variable("steps", "f32", 2)])
    with pytest.raises(ArgumentError, match=r"`steps` is i64 here and f32\[2\] there"):
        Function(wrong, variables)


def test_repr_is_the_signature() -> None:
    text = "<function double(x: f32[N], scale: f32) -> (f32[N])>"
    assert repr(Function(programs.double())) == text


def test_calls_that_are_brief_keep_the_interpreters_lock() -> None:
    double, shared, watched = map(
        Function, (programs.double(), programs.shared(), programs.nothing(watched=True))
    )
    x = np.ones(200, np.float32)
    for _ in range(TRIALS):
        assert double(x[:5])[0] == 2
        shared(x)  # a million turns, one after another
        watched()
    for function, brief in ((double, True), (shared, False), (watched, False)):
        (binding,) = function._bindings.values()
        assert binding.brief == brief
        assert binding.enter is (function._entries.brief if brief else function._entries.long)


def test_who_reads_briefly_waits_for_writers_alone() -> None:
    variables = Variables()
    spec = programs.variable("w", "f32", 4, written=False)
    reader = Function(programs.nothing(variables=[spec]), variables)
    while not next(iter(reader._bindings.values()), None) or not only(reader).brief:
        reader()
    with variables.lock.reading:
        reader()  # beside another one who reads
    reads: list[None] = []
    thread = threading.Thread(target=lambda: reads.append(reader()))
    with variables.lock.writing:
        thread.start()
        time.sleep(0.05)
        assert reads == []
    thread.join(20)
    assert reads == [None]


def only(function: Function) -> Binding:
    """The one set of sizes that a function was called with."""
    (binding,) = function._bindings.values()
    return binding


def test_defaults_and_names_in_any_order() -> None:
    names = ("a", "b", "c")
    inputs = [programs.tensor(n, "i64", default=None if n == "a" else 7) for n in names]
    function = Function(programs.nothing(inputs=inputs))
    for positional, named, expected in (
        ((1,), {}, [1, 7, 7]), ((1, 2), {}, [1, 2, 7]), ((), {"a": 1}, [1, 7, 7]),
        ((1,), {"c": 3}, [1, 7, 3]), ((), {"c": 3, "a": 1}, [1, 7, 3]),
        ((), {"c": 3, "b": 2, "a": 1}, [1, 2, 3]), ((1, 2, 3), {}, [1, 2, 3]),
    ):  # fmt: skip
        assert function._gather(positional, named) == expected  # type: ignore[arg-type]
        assert function(*positional, **named) is None
    for positional, named, message in (
        ((), {}, "missing argument `a`"), ((None,), {}, "`a` is None"),
        ((1, 2, 3, 4), {}, "takes 3 arguments"),
        ((1,), {"a": 2}, "given twice"), ((1,), {"d": 2}, "no argument `d`"),
        ((), {"b": 2}, "missing argument `a`"),
    ):  # fmt: skip
        with pytest.raises(ArgumentError, match=message):
            function(*positional, **named)  # type: ignore[arg-type]
