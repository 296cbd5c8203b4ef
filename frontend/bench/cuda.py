"""`dlc bench` on a GPU: times of kernels by events on the stream, and what the card can do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from dlc.compiler.cuda import cubin
from dlc.compiler.cuda.program import launches_by_kernel
from dlc.compiler.llvm.timed import EVENT, TOTALS
from dlc.compiler.pipeline import compile_cuda_told
from dlc.frontend import gpu
from dlc.frontend.bench.measure import Numbers, launches_of
from dlc.frontend.bench.roofs import Roofs
from dlc.runtime.artifact import Artifact
from dlc.runtime.cuda.device import Device, Lease, device
from dlc.runtime.cuda.function import CudaFunction
from dlc.runtime.cuda.plan import Launch
from dlc.runtime.cuda.steps import TimedStream

if TYPE_CHECKING:
    from dlc.frontend.driver import Model

COPIED: Final = 512 << 20  # bytes: more than caches hold
BLOCKS_EACH, THREADS, CHAINS = 16, 256, 16  # of multiply-adds, for each multiprocessor
TURNS: Final = 4096
REPEATS: Final = 10  # the best counts


class TimedCuda:
    """A function that takes the time of its kernels; in place of `Timed` of a CPU."""

    def __init__(self, model: Model, name: str) -> None:
        built, self.on = model.built, device()
        options = replace(built.options(name), target=f"cuda:{self.on.arch}")
        made, self.program = compile_cuda_told(built.graph(name), options)
        code = cubin.compile_cubin(made.text, self.on.arch)
        variables: Any = model.storage()
        self._function = CudaFunction(
            Artifact(made.manifest, code), variables, moves=gpu.moves, stream=TimedStream)
        self.manifest = self._function.manifest
        self.call = Waiting(self._function, self.on)
        places = {id(launch): at for at, launch in enumerate(launches_of(self.program))}
        self._sites = {
            name: [[places[id(launch)] for launch in run] for run in runs]
            for name, runs in launches_by_kernel(self.program).items()}

    def clear(self) -> None:
        """Forgets what was seen."""
        self._times()

    def _times(self) -> list[tuple[str, float]]:
        stream: Any = self._function.stream
        with self.on:
            times: list[tuple[str, float]] = stream.times()
        return times

    def totals(self) -> Numbers:
        """For each launch `TOTALS`. Launches that one kernel does at once share its time alike, and
        so do those that may have been any of several."""
        found = np.zeros((len(launches_of(self.program)), len(TOTALS)))
        for name, ns in self._times():
            runs = self._sites.get(name, [])  # none: what notes a failed check
            for run in runs:
                found[run] += np.array([ns / len(run), 1, ns / len(run)]) / len(runs)
        return found  # type: ignore[return-value]

    def events(self) -> tuple[Numbers, int]:
        """None: a trace is of a CPU."""
        return np.zeros((0, len(EVENT)), np.int64), 0


class Waiting:
    """A function, to the end of what it puts on the stream."""

    def __init__(self, function: Callable[..., object], on: Device) -> None:
        self._function, self._on = function, on
        self.manifest: Any = getattr(function, "manifest", None)

    def __call__(self, **arguments: Any) -> object:
        found = self._function(**arguments)
        with self._on as on:
            on.stream.synchronize()
        return found


def on_gpu(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments whose arrays lie on the GPU before a call."""
    return {name: gpu.on_gpu(value) if np.ndim(value) else value
            for name, value in arguments.items()}


def measure() -> Roofs:
    """What the card can do at most, measured now."""
    on = device()
    kernels = on.moves(gpu.moves)
    with on:
        bandwidth = 2 * COPIED / _copy(on)
        blocks = BLOCKS_EACH * int(
            on.cuda.Device(on.number).get_attribute(on.cuda.device_attribute.MULTIPROCESSOR_COUNT))
        sink = Lease(on, 4 * (1 + blocks * THREADS), "the roofs")
        launch = Launch.make("multiply_adds", blocks, THREADS, [sink.address], [TURNS])
        rate = 2 * CHAINS * TURNS * blocks * THREADS / _best(on, lambda: kernels.launch(launch))
    return Roofs(rate, bandwidth, f"f32 multiply-adds of {blocks} blocks, a copy of "
                 f"{COPIED >> 20} MB on the card")


def _copy(on: Device) -> float:
    source, target = Lease(on, COPIED, "the roofs"), Lease(on, COPIED, "the roofs")
    return _best(on, lambda: on.cuda.memcpy_dtod_async(
        target.address, source.address, COPIED, on.stream))


def _best(on: Device, run: Callable[[], None]) -> float:
    """The least seconds of several runs, by events."""
    times = []
    for _ in range(REPEATS):
        begin, end = on.cuda.Event(), on.cuda.Event()
        begin.record(on.stream)
        run()
        end.record(on.stream)
        end.synchronize()
        times.append(float(end.time_since(begin)) / 1e3)
    return min(times)
