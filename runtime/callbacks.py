"""What compiled code calls back: functions that keep what is raised in them, by Ctrl-C too."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Generator

from dlc.runtime import pool

__all__ = ["Callback", "Watch"]

_FUNCTION = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)


class Callback:
    """`i64 function(ptr)` for compiled code: 0, or 1 where `act` has raised.

    An exception can't pass through compiled code. It is kept in `raised`, and `act` is not called
    again. Python handles a signal as it begins to run a function, before any `try` in that: what
    is called is therefore a generator, which goes on inside of its `try`.
    """

    def __init__(self, act: Callable[[int | None], None]) -> None:
        self.raised: list[BaseException] = []
        calls = _calls(act, self.raised)
        next(calls)
        self._function = _FUNCTION(calls.send)
        self.address = ctypes.cast(self._function, ctypes.c_void_p).value


def _calls(
    act: Callable[[int | None], None], raised: list[BaseException]
) -> Generator[int, int | None, None]:
    try:
        while True:
            act((yield 0))
    except GeneratorExit:
        raise
    except BaseException as error:
        raised.append(error)
    while True:
        yield 1


class _Memory(ctypes.Structure):
    """What compiled code gets as `watch`; `watch_code.py` has the function that its loops call."""

    _fields_ = (
        ("function", ctypes.c_void_p),
        ("ask", ctypes.c_void_p),
        ("due", ctypes.c_int64),
    )


class Watch(Callback):
    """Asked by the loops of compiled code ten times a second whether they may go on.

    Signals are handled then: what a handler raises (KeyboardInterrupt) ends the call.
    """

    def __init__(self) -> None:
        super().__init__(lambda place: None)
        function = pool.watch_function()
        self._memory = _Memory(function, self.address, 0)
        self.place = ctypes.addressof(self._memory) if function else None
