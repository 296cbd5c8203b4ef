"""The lock of a model: one step at a time, or any number of functions that only read."""

from __future__ import annotations

import os
import threading
import weakref
from types import TracebackType

__all__ = ["ModelLock"]

FORK_PATIENCE = 10.0  # seconds: a fork must not hang for ever on a step that does not end


class ModelLock:
    """Held alone (`with lock:`) by who writes, shared (`with lock.reading:`) by who reads."""

    def __init__(self) -> None:
        self._writing = threading.Lock()
        self._gate = threading.Lock()
        self._readers = 0
        self.reading = _Reading(self)
        _all.add(self)

    def __enter__(self) -> None:
        self._writing.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._writing.release()

    def start_reading(self) -> None:
        """Wait until nobody writes; the first reader holds the writers' lock for all."""
        with self._gate:
            if self._readers == 0:
                self._writing.acquire()
            self._readers += 1

    def stop_reading(self) -> None:
        """The last reader lets writers in."""
        with self._gate:
            self._readers -= 1
            if self._readers == 0:
                self._writing.release()

    def hold_for_fork(self) -> bool:
        """Wait until no step runs, so that the child finds whole variables."""
        return self._writing.acquire(timeout=FORK_PATIENCE)

    def release_after_fork(self, held: bool) -> None:
        """In the parent: go on."""
        if held:
            self._writing.release()

    def reset(self) -> None:
        """In the child, which has none of the threads that hold anything."""
        self._writing, self._gate, self._readers = threading.Lock(), threading.Lock(), 0


class _Reading:
    """`with lock.reading:`"""

    __slots__ = ("_lock",)

    def __init__(self, lock: ModelLock) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        self._lock.start_reading()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._lock.stop_reading()


_all: weakref.WeakSet[ModelLock] = weakref.WeakSet()
_held: list[tuple[ModelLock, bool]] = []


def _before_fork() -> None:
    _held.extend((lock, lock.hold_for_fork()) for lock in list(_all))


def _after_fork_in_parent() -> None:
    while _held:
        lock, held = _held.pop()
        lock.release_after_fork(held)


def _after_fork_in_child() -> None:
    _held.clear()
    for lock in list(_all):
        lock.reset()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
