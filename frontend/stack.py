"""Room on Python's stack for what walks trees by recursion, whatever stack its caller has left.

The depth of what is walked is bounded where it is made (`too-deep`); this makes room for that
depth. Calls from Python to Python take no room on the machine's stack.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

FRAMES: Final = 30_000  # calls inside calls
_LOCK: Final = threading.Lock()
_inside = 0
_before = 0


@contextmanager
def deep_stack() -> Iterator[None]:
    """In this block `FRAMES` calls may be open. The limit is one for all threads: it is put back
    when the last of them leaves."""
    global _inside, _before
    with _LOCK:
        if not _inside:
            _before = sys.getrecursionlimit()
            sys.setrecursionlimit(max(_before, FRAMES))
        _inside += 1
    try:
        yield
    finally:
        with _LOCK:
            _inside -= 1
            if not _inside:
                sys.setrecursionlimit(_before)


def on_a_deep_stack(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, run with room for deep trees."""

    @wraps(function)
    def run(*positional: P.args, **named: P.kwargs) -> R:
        with deep_stack():
            return function(*positional, **named)

    return run
