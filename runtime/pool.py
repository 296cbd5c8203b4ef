"""The process's one thread pool, as compiled code gets it: the address of its memory.

The threads start at the first piece of work that is worth sharing out. Settings are for the whole
process; results do not depend on them, to the last bit.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import platform
import sys
import threading
from collections.abc import Callable
from hashlib import blake2b

from dlc.runtime import cache, jit
from dlc.runtime.errors import UserError
from dlc.runtime.limits import allowed_threads
from dlc.runtime.machine import llvm_version
from dlc.runtime.pool_code import FIELDS, MACHINES, MAXIMUM_WORKERS, POOL_BYTES, pool_ir

__all__ = ["address", "configure", "make", "set_threads", "threads", "worker_chunks"]

SERIAL_NS = 5_000  # sharing out costs 0.3 µs, and as much again for cold caches
WAKE_NS = 20_000  # waking a sleeper costs about 5 µs
SOLO_AFTER_NS = 200_000
FORK_PATIENCE_NS = 10_000_000_000
_LINE = 64

_lock = threading.RLock()
_pool: _Pool | None = None


class _Pool:
    """The pool's memory and code. Both stay until the process ends: workers may look."""

    def __init__(self, workers: int, compile_text: Callable[[str], bytes]) -> None:
        self._memory = ctypes.create_string_buffer(POOL_BYTES + _LINE)
        start = ctypes.addressof(self._memory)
        self.address = start + -start % _LINE
        self._code = jit.load(_object_code(compile_text), _SYMBOLS)
        parallel, stop, acquire, release, self.watch, steps = map(
            self._code.address, _SYMBOLS
        )
        self.steps = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(steps)
        self._stop = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(stop)
        self._release = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(release)
        self._acquire = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_int64)(acquire)
        self.write("parallel", parallel)
        self.write("release", release)
        self.write("wanted", workers)
        self.write("serial_ns", SERIAL_NS)
        self.write("wake_ns", WAKE_NS)
        self.write("solo_after_ns", SOLO_AFTER_NS)

    def read(self, field: str) -> int:
        """An i64 field."""
        return ctypes.c_int64.from_address(self.address + FIELDS[field]).value

    def write(self, field: str, value: int) -> None:
        """Set an i64 field."""
        ctypes.c_int64.from_address(self.address + FIELDS[field]).value = value

    def acquire(self, patience: int) -> bool:
        """Wait until no stage runs, at most `patience` ns, and let none begin on the pool; a step
        that has it gives it up at its next stage."""
        return bool(self._acquire(self.address, patience))

    def release(self) -> None:
        """Let stages run again."""
        self._release(self.address)

    def resize(self, workers: int) -> None:
        """End all workers; `workers` new ones start when there is work."""
        while not self.acquire(FORK_PATIENCE_NS):
            pass
        self._stop(self.address)
        self.write("wanted", workers)
        self.write("solo_until", 0)
        self.release()

    def reset_in_child(self) -> None:
        """A forked child has the memory but not the threads. The gen in `word` goes on."""
        for name in ("done", "sleepers", "waiting", "stop", "solo_until", "balance", "workers",
                     "asked"):
            self.write(name, 0)
        ctypes.memset(self.address + FIELDS["slot"], 0, 2 * _LINE)
        self.release()


_SYMBOLS = (
    "dlc_pool_parallel",
    "dlc_pool_stop",
    "dlc_pool_acquire",
    "dlc_pool_release",
    "dlc_watch",
    "dlc_steps",
)


def _object_code(compile_text: Callable[[str], bytes]) -> bytes:
    """The pool's object code, compiled once for this LLVM and kept in the cache."""
    text = pool_ir(platform.machine())
    stamp = f"{llvm_version()}\n{sys.platform}\n{text}".encode()
    key = "pool-" + blake2b(stamp, digest_size=20).hexdigest()
    code = cache.get(key)
    if code is None:
        code = compile_text(text)
        cache.put(key, code)
    return code


def _is_supported() -> bool:
    """Elsewhere there is no futex, and compiled code runs serially."""
    return sys.platform == "linux" and platform.machine() in MACHINES


def address() -> int | None:
    """What compiled code gets as its pool; None means that it runs serially."""
    pool = _pool or _make()
    return None if pool is None else pool.address


def watch_function() -> int | None:
    """The address of `dlc_watch`; None where loops can't be watched."""
    pool = _pool or _make()
    return None if pool is None else pool.watch


def run_steps(block: int) -> bool:
    """Runs steps by `dlc_steps`; False where that is not to be had, and nothing has run."""
    pool = _pool or _make()
    if pool is None:
        return False
    pool.steps(block)
    return True


def make(compile_text: Callable[[str], bytes]) -> None:
    """Make the pool before it is needed: `compile_text` compiles its code, if it never was."""
    with contextlib.suppress(UserError):  # a wrong setting is told to who needs the pool
        _make(compile_text)


def _make(compile_text: Callable[[str], bytes] = jit.compile_text) -> _Pool | None:
    """Make the pool at its first use."""
    global _pool
    with _lock:
        if _pool is None and _is_supported():
            _pool = _Pool(min(allowed_threads() - 1, MAXIMUM_WORKERS), compile_text)
            atexit.register(_at_exit)
        return _pool


def threads() -> int:
    """The number of threads that share the work, the caller's included."""
    pool = _pool or _make()
    return 1 if pool is None else pool.read("wanted") + 1


def set_threads(count: int | None) -> None:
    """Share the work among `count` threads; None means as many as this process may use."""
    if count is not None and not 1 <= count <= MAXIMUM_WORKERS + 1:
        raise UserError(f"{count} threads: it must be between 1 and {MAXIMUM_WORKERS + 1}")
    pool = _make()
    if pool is not None:
        wanted = allowed_threads() if count is None else count
        with _lock:
            pool.resize(min(wanted - 1, MAXIMUM_WORKERS))


def configure(
    *, serial_ns: int | None = None, wake_ns: int | None = None, solo_after_ns: int | None = None
) -> None:
    """Set thresholds: see `pool_code.FIELDS`. With 0 even the least work is shared out."""
    pool = _make()
    given = {"serial_ns": serial_ns, "wake_ns": wake_ns, "solo_after_ns": solo_after_ns}
    for field, value in given.items():
        if pool is not None and value is not None:
            pool.write(field, value)


def worker_chunks() -> int:
    """How many chunks the workers (not the callers) have run so far."""
    return 0 if _pool is None else _pool.read("ran")


def _at_exit() -> None:
    """No thread may run code that is about to be freed."""
    if _pool is not None and _pool.acquire(FORK_PATIENCE_NS):
        _pool._stop(_pool.address)
        _pool.write("wanted", 0)
        _pool.release()


_owned_for_fork = False


def _before_fork() -> None:
    """Fork between stages: then no worker holds anything, and the child's memory is whole."""
    global _owned_for_fork
    _lock.acquire()
    _owned_for_fork = _pool is not None and _pool.acquire(FORK_PATIENCE_NS)


def _after_fork_in_parent() -> None:
    if _pool is not None and _owned_for_fork:
        _pool.release()
    _lock.release()


def _after_fork_in_child() -> None:
    if _pool is not None:
        _pool.reset_in_child()
    _lock.release()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
