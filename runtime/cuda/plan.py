"""Where the memory of a call lies, and its launches, packed."""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from dlc.runtime.artifact import Manifest
from dlc.runtime.cuda.tensor_maps import Encode, tensor_map
from dlc.runtime.dims import evaluate, holds
from dlc.runtime.memory import DTYPES

__all__ = ["ALIGNMENT", "Launch", "Layout", "Places", "Step", "chosen", "is_narrow", "launches",
           "of_kind", "size_of"]  # fmt: skip

ALIGNMENT = 256
RANDOM_BYTES = 16
STATE_BYTES = 16  # the code of the first check that failed, and its value
MOST_LAUNCHES = 1 << 15  # that are packed before a call
Step = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Launch:
    """A kernel, its blocks and threads, its arguments as bytes, and the bytes of shared memory that
    a block asks for. Blocks that are `resident` are so all at once."""

    kernel: str
    grid: tuple[int, ...]
    block: tuple[int, ...]
    arguments: bytes
    shared: int = 0
    resident: bool = False

    @classmethod
    def make(
        cls, kernel: str, blocks: int, threads: int, pointers: Sequence[int],
        numbers: Sequence[int], maps: bytes = b"",
    ) -> Launch:
        """A launch of tensor maps, then pointers, then 64-bit numbers."""
        arguments = struct.pack(f"{len(pointers)}Q{len(numbers)}q", *pointers, *numbers)
        return cls(kernel, (blocks,), (threads,), maps + arguments)


class Layout:
    """Offsets into the arena for some sizes: what is copied in, what is copied out, then temps.

    `starts` are of buffers, by name; those that are `away` have places of their own. Copied in is
    all up to `inside`, copied out from `outside[0]` to `outside[1]`: what both have is the state.
    `flag` is a place on the host for what the steps decide by, after these.
    """

    def __init__(
        self, manifest: Manifest, plan: Step, sizes: Mapping[str, int],
        away: Collection[str] = (),
    ) -> None:
        self.starts: dict[str, int] = {}
        self._end = 0
        buffers = plan["buffers"]
        for spec in manifest.inputs:
            if spec.name not in away:
                self._add(spec.name, size_of(spec.dims, spec.dtype, sizes))
        for name in of_kind(buffers, "random"):
            self._add(name, RANDOM_BYTES)
        first = self._end
        for name in of_kind(buffers, "state"):
            self._add(name, STATE_BYTES)
        self.inside = self._end
        self.outputs = tuple(of_kind(buffers, "out"))
        for name, result in zip(self.outputs, manifest.outputs, strict=True):
            if name not in away:
                self._add(name, size_of(result.dims, result.dtype, sizes))
        self.outside = first, self._end
        self.flag = self._end
        self.size = self._add_temps(plan["arena"], sizes)

    def _add(self, name: str, size: int) -> None:
        self.starts[name] = self._end
        self._end += _aligned(size)

    def _add_temps(self, arena: list[Step], sizes: Mapping[str, int]) -> int:
        """Each temp lies above some others; the end of all."""
        ends: dict[str, int] = {}
        for temp in arena:
            start = max((ends[name] for name in temp["above"]), default=self.flag)
            self.starts[temp["name"]] = start
            ends[temp["name"]] = start + _aligned(evaluate(temp["bytes"], sizes))
        return max(ends.values(), default=self.flag)


def of_kind(buffers: Mapping[str, Step], kind: str) -> Iterator[str]:
    """The names of buffers of a kind that have memory of their own."""
    return (name for name, b in buffers.items() if b["kind"] == kind and "part_of" not in b)


def size_of(dims: Any, dtype: str, sizes: Mapping[str, int]) -> int:
    """The bytes of an array."""
    return prod(evaluate(dim, sizes) for dim in dims) * DTYPES[dtype].itemsize


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def is_narrow(plan: Step, sizes: Mapping[str, int]) -> bool:
    """Whether indices of 32 bits do."""
    return all(evaluate(n, sizes) < plan["narrow"]["below"] for n in plan["narrow"]["counts"])


def chosen(step: Step, sizes: Mapping[str, int]) -> Step:
    """The kernel that a launch runs at these sizes, with its blocks and threads."""
    return next((v for v in step.get("variants", ()) if all(
        holds(left, relation, right, sizes) for left, relation, right in v["where"])), step)


class Places:
    """The addresses of buffers, for sizes among which are the variables of loops. `room` says how
    many blocks of a launch may be resident at once, `encode` makes tensor maps (by default, the
    driver)."""

    def __init__(
        self, plan: Step, roots: Mapping[str, int], room: Callable[[Launch], int] = lambda _: 0,
        encode: Encode | None = None,
    ) -> None:
        self._buffers: Mapping[str, Step] = plan["buffers"]
        self._roots, self._room, self._encode = roots, room, encode

    def of(self, name: str, sizes: Mapping[str, int]) -> int:
        """The address of a buffer."""
        buffer = self._buffers[name]
        if "part_of" not in buffer:
            return self._roots[name]
        start = self.of(buffer["part_of"], sizes)
        return start + DTYPES[buffer["dtype"]].itemsize * evaluate(buffer["offset"], sizes)

    def pack(self, step: Step, sizes: Mapping[str, int]) -> Launch | None:
        """A launch; None for one that has no blocks."""
        run = chosen(step, sizes)
        blocks = evaluate(run["blocks"], sizes)
        if not blocks:
            return None
        pointers = [self.of(name, sizes) for name in step["buffers"]]
        dims = [evaluate(dim, sizes) for dim in step["dims"]]
        maps = b"".join(self._map(each, sizes) for each in run.get("maps", ()))
        made = Launch.make(run["kernel"], blocks, run["threads"], pointers, dims, maps)
        return replace(made, shared=run.get("shared", 0))

    def _map(self, view: Step, sizes: Mapping[str, int]) -> bytes:
        """How a buffer lies in memory, for what copies boxes of it."""
        start = DTYPES[view["dtype"]].itemsize * evaluate(view["offset"], sizes)
        return tensor_map(
            self.of(view["buffer"], sizes) + start, view["dtype"],
            [evaluate(n, sizes) for n in view["sizes"]],
            [evaluate(n, sizes) for n in view["steps"]], view["box"], self._encode)

    def turns(self, loop: Step, sizes: Mapping[str, int]) -> Launch | None:
        """All turns of a loop as one launch; None where they are launched one by one."""
        kernels = resident(loop, sizes)
        made = self.pack(kernels, sizes) if kernels is not None else None
        if made is None or self._room(made) < made.grid[0]:
            return None
        return replace(made, resident=True)


def resident(loop: Step, sizes: Mapping[str, int]) -> Step | None:
    """The kernel that does what all turns of a loop do at these sizes, if there is one."""
    for kernel in loop.get("resident", ()):
        steps = zip(loop["body"], kernel["of"], strict=True)
        if all(chosen(step, sizes)["kernel"] == name for step, name in steps):
            return None if evaluate(loop["count"], sizes) < 1 else kernel
    return None


def launches(step: Step, sizes: Mapping[str, int], places: Places) -> list[Launch] | None:
    """What a step launches, in order, if that is known before it runs; None if it is not, or if it
    is more than should be kept."""
    if step["step"] == "launch":
        try:
            made = places.pack(step, sizes)
        except KeyError:  # it goes by the number of turns of a loop that runs till it is done
            return None
        return [made] if made else []
    if step["step"] == "commit":
        return []
    if step["step"] == "check":
        return launches(step["note"], sizes, places)
    if step["step"] != "loop" or step["condition"]:
        return None
    at_once = places.turns(step, sizes)
    if at_once is not None:
        return [at_once]
    count = evaluate(step["count"], sizes)
    found: list[Launch] = []
    for turn in range(count):
        for each in (*step["test"], *step["body"]):
            inner = launches(each, {**sizes, step["var"]: turn}, places)
            if inner is None or len(found) + len(inner) > MOST_LAUNCHES:
                return None
            found += inner
    return found
