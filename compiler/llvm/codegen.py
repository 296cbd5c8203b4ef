"""Object code of the parts of a module, made at the same time by several threads.

Each part has a module, a context and a machine of its own. A thread calls LLVM twice, to parse and
to generate code, and Python's lock is free meanwhile (`library.py`). As many threads work as there
are CPUs; that which makes the parts is one of them as soon as it has to wait.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from dlc.compiler.levels import Compiled
from dlc.compiler.llvm.module import Context, Module
from dlc.compiler.llvm.pages import release_pages
from dlc.compiler.llvm.target import CODE_LEVEL, GLUE_LEVEL, Target, new_machine

__all__ = ["Begun", "begin_code"]

Told = Callable[[str, float], None]  # what was done, and the seconds that it took
_HEAD: Final = b"!<arch>\n"  # an archive of objects, as `ar` makes it


class Begun:
    """Parts of a module whose code is being made while the rest of the module is not there yet."""

    def __init__(self, kind: Target) -> None:
        self._kind = kind
        self._jobs: dict[str, _Job] = {}

    def begin(self, part: str) -> None:
        """Begins with one more."""
        self._jobs[part] = _Job(part, self._kind)

    def job(self, part: str) -> _Job:
        """That of a part, which begins now if it has not."""
        return self._jobs.pop(part, None) or _Job(part, self._kind)


def begin_code(
    module: Compiled, kind: Target, told: Told | None = None, begun: Begun | None = None
) -> Callable[[], bytes]:
    """Begins to make object code of a module, or goes on with what has begun; what is returned
    waits for it.

    It is one object, or an archive of several. `told` is given seconds, of all parts together.
    """
    begun = begun or Begun(kind)
    release_pages()  # of what only loading the library needed
    if module.parts:
        *kernels, glue = module.parts
        jobs = [*map(begun.job, kernels), _Job(glue, kind, GLUE_LEVEL)]
    else:
        jobs = [begun.job(module.text)]

    def wait() -> bytes:
        while (job := _claim(jobs)) is not None:
            job.run()
        codes = [job.wait() for job in jobs]
        release_pages()
        if told is not None:
            told("parse and verify", sum(job.parsing for job in jobs))
            told("generate code", sum(job.emitting for job in jobs))
        return codes[0] if len(codes) == 1 else _HEAD + b"".join(map(_member, codes))

    return wait


def _member(code: bytes) -> bytes:
    """An object as a member of an archive; members begin at even places."""
    head = f"{'part.o/':16}{0:<12}{0:<6}{0:<6}{644:<8}{len(code):<10}`\n".encode()
    return head + code + b"\n" * (len(code) % 2)


def _cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_claiming = threading.RLock()  # for all that follows; held over a fork
_waiting: list[_Job] = []
_claimed: set[_Job] = set()
_helpers: set[threading.Thread] = set()


class _Job:
    """One part, which is compiled by a thread that has nothing else to do, or by who waits for it.
    """

    def __init__(self, text: str, kind: Target, level: int = CODE_LEVEL) -> None:
        # Made here: a thread would wait for Python's lock after each of these short calls.
        self._text, self._machine, self._context = text, new_machine(kind, level), Context()
        self.parsing = self.emitting = 0.0  # seconds
        self._code = b""
        self._error: BaseException | None = None
        self.done = threading.Event()
        with _claiming:
            _waiting.append(self)
            if len(_helpers) < _cpus() - 1:
                helper = threading.Thread(target=_help)
                _helpers.add(helper)
                helper.start()

    @property
    def size(self) -> int:
        """The length of the text."""
        return len(self._text)

    def run(self) -> None:
        """Compiles it; called by who has claimed it."""
        try:
            self._compile()
        except BaseException as error:  # it is raised where the code is waited for
            self._error = error
        finally:
            _claimed.discard(self)
            self.done.set()

    def _compile(self) -> None:
        begun = time.perf_counter()
        with Module(self._text, self._context) as module:
            parsed = time.perf_counter()
            self._code = module.code(self._machine)
        self.parsing, self.emitting = parsed - begun, time.perf_counter() - parsed

    def wait(self) -> bytes:
        """The code; what went wrong is raised here."""
        self.done.wait()
        if self._error is not None:
            raise self._error
        return self._code


def _claim(some: Sequence[_Job] | None = None) -> _Job | None:
    """The largest job that nobody has begun with, of some or of all: small ones come last, so that
    threads end at about the same time. If there is none, a helper ends."""
    with _claiming:
        left = [job for job in _waiting if some is None or job in some]
        if not left:
            _helpers.discard(threading.current_thread())
            return None
        job = max(left, key=lambda job: job.size)
        _waiting.remove(job)
        _claimed.add(job)
        return job


def _help() -> None:
    while (job := _claim()) is not None:
        job.run()


def _before_fork() -> None:
    """A child must not begin with LLVM in the middle of something."""
    _claiming.acquire()
    for job in list(_claimed):
        job.done.wait()


def _in_child() -> None:
    _helpers.clear()
    _claiming.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_claiming.release, after_in_child=_in_child)
