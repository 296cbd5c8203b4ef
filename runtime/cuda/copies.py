"""Copies in pieces: while the GPU copies one, the host copies the next to or from pinned memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from dlc.runtime.cuda.arrays import GpuArray
from dlc.runtime.cuda.device import PIECE, Device, Lease
from dlc.runtime.cuda.driver import Event
from dlc.runtime.foreign import NoArray
from dlc.runtime.memory import DTYPES, Array, describe

__all__ = ["Outgoing", "copy_in", "download", "on_gpu", "parts", "upload"]


def parts(size: int, piece: int = PIECE) -> Iterator[tuple[int, int]]:
    """The ends of the pieces of so many bytes."""
    return ((start, min(start + piece, size)) for start in range(0, size, piece))


def bytes_of(array: Array) -> Array:
    """The memory of a C-contiguous array."""
    return array.reshape(-1).view("u1")


def copy_in(value: Array, staging: Array, put: Callable[[int, int], None]) -> None:
    """To staging memory; `put` is told each piece, by its ends, as soon as it is there."""
    source = bytes_of(value)
    for start, end in parts(source.size):
        staging[start:end] = source[start:end]
        put(start, end)


class Outgoing:
    """A part of the arena on its way to the same place of staging memory."""

    def __init__(self, on: Device, staging: Array, arena: int, start: int, end: int) -> None:
        self._pieces: list[tuple[int, Event]] = []
        for low, high in parts(end - start):
            piece = staging[start + low : start + high]
            on.cuda.memcpy_dtoh_async(piece, arena + start + low, on.stream)
            event = Event()
            event.record(on.stream.handle)
            self._pieces.append((start + high, event))

    def wait(self, end: int) -> None:
        """Until all up to an end is there."""
        while self._pieces:
            there, event = self._pieces[0]
            event.wait()
            if there > end:
                return
            self._pieces.pop(0)

    def copy_out(self, target: Array, staging: Array, start: int) -> None:
        """To memory of the host from a place on, each piece once it is there."""
        to = bytes_of(target)
        for low, high in parts(to.size):
            self.wait(start + high)
            to[low:high] = staging[start + low : start + high]


def upload(on: Device, value: Array, address: int) -> None:
    """Copies an array of the host to the GPU, for who holds it: what comes next on its stream
    waits for that. Two buffers of pinned memory take turns, on a stream of their own."""
    source, buffers = bytes_of(value), on.pinned()
    copied = Event(), Event()
    for turn, (start, end) in enumerate(parts(source.size)):
        buffer, event = buffers[turn % 2][: end - start], copied[turn % 2]
        if turn > 1:
            event.wait()
        buffer[:] = source[start:end]
        on.cuda.memcpy_htod_async(address + start, buffer, on.copies)
        event.record(on.copies.handle)
    for event in copied[: -(-source.size // PIECE)]:
        event.hold(on.stream.handle)
        event.wait()


def download(on: Device, target: Array, address: int) -> None:
    """Copies memory to an array of the host, after what is on the stream now: the host empties one
    piece of pinned memory while the next is on its way."""
    to, buffers = bytes_of(target), on.pinned()
    pieces = list(parts(to.size))
    events = [Event() for _ in pieces]

    def begin(at: int) -> None:
        start, end = pieces[at]
        on.cuda.memcpy_dtoh_async(buffers[at % 2][: end - start], address + start, on.stream)
        events[at].record(on.stream.handle)

    for at in range(min(len(pieces), 2)):
        begin(at)
    for at, (start, end) in enumerate(pieces):
        events[at].wait()
        to[start:end] = buffers[at % 2][: end - start]
        if at + 2 < len(pieces):
            begin(at + 2)


def on_gpu(value: Array, on: Device) -> GpuArray:
    """A copy of an array of the host, on the GPU."""
    name = next((name for name, dtype in DTYPES.items() if dtype == value.dtype), None)
    if name is None:
        raise NoArray(f"is {describe(value.dtype, value.shape)}, and there is no such type here")
    with on, on.told("copying an array"):
        lease = Lease(on, value.nbytes, "an array")
        upload(on, np.ascontiguousarray(value), lease.address)
    return GpuArray(on, lease.address, name, value.shape, lease)
