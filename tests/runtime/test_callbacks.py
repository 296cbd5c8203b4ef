"""What compiled code calls back: nothing raised meanwhile is lost, and loops can be ended."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable

import pytest

from dlc.runtime import jit, pool
from dlc.runtime.callbacks import Callback, Watch

Ask = Callable[[int | None], int]
CALL = """
declare i32 @raise(i32)
define i64 @interrupted(ptr %function, ptr %place) {
  %sent = call i32 @raise(i32 2)
  %answer = call i64 %function(ptr %place)
  ret i64 %answer
}
"""


def asked(callback: Callback) -> Ask:
    """The function that compiled code gets."""
    function: Ask = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)(callback.address or 0)
    return function


def test_what_is_raised_is_kept_and_nothing_follows() -> None:
    seen: list[int | None] = []

    def act(place: int | None) -> None:
        seen.append(place)
        if place == 8:
            raise BrokenPipeError

    callback = Callback(act)
    assert [asked(callback)(place) for place in (None, 7, 8, 9)] == [0, 0, 1, 1]
    assert seen == [None, 7, 8]
    assert [type(error) for error in callback.raised] == [BrokenPipeError]


def test_a_signal_that_came_before_the_call_is_kept() -> None:
    """Python handles it at the first instruction of what is called."""
    code = jit.load(jit.compile_text(CALL), ["interrupted"])
    kind = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)
    callback = Callback(lambda place: None)
    assert kind(code.address("interrupted"))(callback.address, None) == 1
    assert [type(error) for error in callback.raised] == [KeyboardInterrupt]


@pytest.fixture
def watch() -> tuple[Watch, Ask, ctypes.Array[ctypes.c_int64]]:
    """A watch, what a loop calls, and the block of the loop."""
    made = Watch()
    if made.place is None:
        pytest.skip("loops can't be watched here")
    loop = (ctypes.c_int64 * 3)(16, 16, 0)
    kind = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)
    function = kind(pool.watch_function() or 0)
    return made, lambda place: function(made.place, loop), loop


def test_fast_turns_are_counted_and_slow_ones_are_not(
    watch: tuple[Watch, Ask, ctypes.Array[ctypes.c_int64]]
) -> None:
    _, ask, loop = watch
    assert (ask(None), loop[0]) == (0, 16)  # nothing is known yet
    for _ in range(200):  # a turn takes less than a µs, but for a machine that is busy
        assert (ask(None), loop[1]) == (0, loop[0])
        if loop[0] == 1024:
            break
    assert loop[0] == 1024
    time.sleep(1.1)
    assert (ask(None), loop[0]) == (0, 1)
