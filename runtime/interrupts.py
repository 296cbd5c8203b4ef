"""Ctrl-C, put off while something is done that is done as a whole or not at all."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

__all__ = ["put_off"]


@contextlib.contextmanager
def put_off() -> Iterator[None]:
    """A Ctrl-C inside is handled at the end. Only the main thread handles any."""
    noted: list[tuple[int, FrameType | None]] = []
    before = signal.getsignal(signal.SIGINT)
    if not callable(before) or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, lambda *told: noted.append(told))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if noted:
            before(*noted[0])
