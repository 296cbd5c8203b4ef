"""The steps of a call on a GPU: launches one after another, and what the host decides between them.

Launches that are known before the call, with the copies round them, are put on the stream as they
are the first time, recorded as a CUDA graph the second time (or the first, for many steps), and
then run again by one call.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any

from dlc.runtime.cuda.graphs import Graph
from dlc.runtime.cuda.plan import STATE_BYTES, Launch, Places, Step, launches
from dlc.runtime.cuda.resident import ResidentKernels
from dlc.runtime.dims import evaluate
from dlc.runtime.interrupts import put_off
from dlc.runtime.memory import Array

__all__ = ["Failed", "Straight", "Stream", "TimedStream", "Walk"]

Do = Callable[[], None]
FLAG_BYTES = 16


class Failed(Exception):
    """A check failed: its code, and the value that its message tells."""

    def __init__(self, code: int, value: int) -> None:
        super().__init__(code, value)
        self.code, self.value = code, value


class Stream:
    """What is put on the stream of the device: kernels of a module, and copies."""

    records = True  # graphs of what is put on it

    def __init__(self, cuda: Any, stream: Any, module: Any, code: bytes = b"") -> None:
        self._cuda, self.stream, self._module = cuda, stream, module
        self._kernels: dict[str, Any] = {}
        self._resident = ResidentKernels(code)

    def room(self, launch: Launch) -> int:
        """How many blocks of a launch may be resident at once."""
        return self._resident.room(launch)

    def launch(self, launch: Launch) -> None:
        """A kernel."""
        if launch.resident:
            self._resident.launch(launch, self.stream.handle)
            return
        kernel = self._kernels.get(launch.kernel)
        if kernel is None:
            kernel = self._kernels[launch.kernel] = self._module.get_function(launch.kernel)
            if launch.shared:
                kernel.set_attribute(
                    self._cuda.function_attribute.MAX_DYNAMIC_SHARED_SIZE_BYTES, launch.shared)
        kernel._launch_kernel(
            launch.grid, launch.block, launch.arguments, launch.shared, self.stream)

    def to_gpu(self, place: int, memory: Array) -> None:
        """A copy from the host's staging memory."""
        self._cuda.memcpy_htod_async(place, memory, self.stream)

    def to_host(self, memory: Array, place: int) -> None:
        """A copy to the host's staging memory."""
        self._cuda.memcpy_dtoh_async(memory, place, self.stream)

    def wait(self) -> None:
        """Until all of it is done."""
        self.stream.synchronize()


class TimedStream(Stream):
    """One that takes the time of each kernel, so that all of them are launched one by one."""

    records = False

    def __init__(self, cuda: Any, stream: Any, module: Any, code: bytes = b"") -> None:
        super().__init__(cuda, stream, module, code)
        self._events: list[tuple[str, Any, Any]] = []

    def launch(self, launch: Launch) -> None:
        """A kernel, between two events."""
        begin, end = self._cuda.Event(), self._cuda.Event()
        begin.record(self.stream)
        super().launch(launch)
        end.record(self.stream)
        self._events.append((launch.kernel, begin, end))

    def times(self) -> list[tuple[str, float]]:
        """The kernels since this was asked, each with its ns; for who holds the device."""
        self.wait()
        found = [(name, end.time_since(begin) * 1e6) for name, begin, end in self._events]
        self._events.clear()
        return found


class Straight:
    """What is put on the stream with nothing to decide."""

    def __init__(self, stream: Stream, at_once: bool) -> None:
        self._stream = stream
        self._parts: list[Do] = []
        self._ran = at_once
        self._graph: Graph | None = None

    def add(self, part: Do) -> None:
        """Goes on with one thing more."""
        self._parts.append(part)

    def run(self) -> None:
        """Puts all of it on the stream."""
        if self._graph is not None:
            self._graph.run()
        elif not self._ran or len(self._parts) < 2 or not self._stream.records:
            self._put()
            self._ran = True
        else:
            self._graph = Graph(self._stream.stream.handle, self._put)
            self._graph.run()

    def _put(self) -> None:
        for part in self._parts:
            part()


class Walk:
    """The steps of calls of one set of sizes and places.

    A check is noted in the buffer `state`, where kernels look before they do anything: what comes
    after one that failed does nothing. The host reads the state before it decides by what is there,
    and at the end.
    """

    def __init__(
        self, stream: Stream, places: Places, sizes: Mapping[str, int], flag: Array,
        printed: Callable[[Step, Walk, Mapping[str, int]], None], state: str = "",
        at_once: bool = False,
    ) -> None:
        self.stream, self.places, self.sizes, self._flag = stream, places, dict(sizes), flag
        self._printed = printed
        self._state, self._at_once = state, at_once
        self._open = Straight(stream, at_once)
        self._parts: list[Do] = [self._open.run]
        self._whole, self._commits = 0, False  # from which part on variables may change
        self.is_put = False  # whether all of a call is on the stream

    def add(self, part: Do) -> None:
        """Something that is put on the stream."""
        self._open.add(part)

    def add_steps(self, steps: list[Step]) -> None:
        """All steps in order."""
        for step in steps:
            self._commits |= step["step"] == "commit"
            known = launches(step, self.sizes, self.places)
            if known is None:
                self._decide(step)
            elif step["step"] == "loop":  # its variable keeps the number of turns
                self.sizes[step["var"]] = evaluate(step["count"], self.sizes)
            for each in known or ():
                self.add(lambda each=each: self.stream.launch(each))  # type: ignore[misc]

    def _decide(self, step: Step) -> None:
        """The host does it: what comes after is put on the stream apart."""
        self._parts.append(lambda: self._decided(step))
        self._open = Straight(self.stream, self._at_once)
        if not self._commits:
            self._whole = len(self._parts)
        self._parts.append(self._open.run)

    def put(self) -> None:
        """All of a call, on the stream; waits only where the host decides. A Ctrl-C ends it before
        variables change, or waits."""
        self.is_put = False
        for part in self._parts[:self._whole]:
            part()
        with put_off():
            for part in self._parts[self._whole:]:
                part()
            self.is_put = True

    def again(self) -> None:
        """As `put`, of one of many calls, which count themselves: one graph is a whole."""
        if len(self._parts) == 1 and self.stream.records:
            self._parts[0]()
        else:
            self.put()

    def counts(self) -> bool:
        """Whether the call that was put last is done, with no check failed; waits for it."""
        if not self.is_put or not self._state:
            self.stream.wait()
            return self.is_put
        return not any(self.read(self._state, 8, self.sizes))

    def _decided(self, step: Step) -> None:
        if self._state:
            self.judge(self.read(self._state, STATE_BYTES, self.sizes))
        self._step(step, self.sizes)

    @staticmethod
    def judge(state: bytes) -> None:
        """Failed, if the state says so."""
        code, value = struct.unpack("2q", state)
        if code:
            raise Failed(code, value)

    def read(self, name: str, size: int, sizes: Mapping[str, int]) -> bytes:
        """The first bytes of a buffer, of up to `FLAG_BYTES`."""
        self.stream.to_host(self._flag[:size], self.places.of(name, sizes))
        self.stream.wait()
        return self._flag[:size].tobytes()

    def _is_true(self, name: str, sizes: Mapping[str, int]) -> bool:
        return self.read(name, 1, sizes) != b"\0"

    def _steps(self, steps: list[Step], sizes: dict[str, int]) -> None:
        for step in steps:
            self._step(step, sizes)

    def _step(self, step: Step, sizes: dict[str, int]) -> None:
        match step["step"]:
            case "launch":
                made = self.places.pack(step, sizes)
                if made:
                    self.stream.launch(made)
            case "check":
                self._check(step, sizes)
            case "branch":
                chosen = "then" if self._is_true(step["condition"], sizes) else "otherwise"
                self._steps(step[chosen], sizes)
            case "loop":
                self._loop(step, sizes)
            case "print":
                self._printed(step, self, sizes)

    def _check(self, step: Step, sizes: dict[str, int]) -> None:
        if not self._is_true(step["buffer"], sizes):
            value = step["value"]
            told = int.from_bytes(self.read(value, 8, sizes), "little", signed=True) if value else 0
            raise Failed(step["code"], told)

    def _loop(self, step: Step, sizes: dict[str, int]) -> None:
        at_once = self.places.turns(step, sizes)
        if at_once is not None:
            self.stream.launch(at_once)
            sizes[step["var"]] = evaluate(step["count"], sizes)
            return
        turn = sizes[step["var"]] = 0
        while self._goes_on(step, sizes):
            self._steps(step["body"], sizes)
            turn += 1
            sizes[step["var"]] = turn

    def _goes_on(self, step: Step, sizes: dict[str, int]) -> bool:
        self._steps(step["test"], sizes)
        if step["condition"]:
            return self._is_true(step["condition"], sizes)
        return sizes[step["var"]] < evaluate(step["count"], sizes)
