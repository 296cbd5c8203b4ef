"""Where the time goes between a program's text and the code in memory: a step a row.

Everything is done anew, as for a program that was never seen, and told as it is done. What is
imported lazily is imported first, so that it is a row of its own.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from dlc.frontend.build import Build, BuiltModel
from dlc.frontend.records import ProgramRecord
from dlc.ir.dataclass import dataclass

T = TypeVar("T")
HEAVY = ("numpy", "dlc.frontend.elaborate.elaboration",
         "dlc.compiler.pipeline", "dlc.runtime.jit")


@dataclass(frozen=True, slots=True)
class Span:
    """The seconds of one step; `group` is import, program, pass, verify, LLVM or runtime."""

    group: str
    name: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Times:
    """Steps, and what they took by the clock: less than all together where LLVM works beside them,
    more where something was waited for."""

    spans: list[Span]
    elapsed: float

    @property
    def total(self) -> float:
        """The seconds of all steps."""
        return sum(span.seconds for span in self.spans)


class Timer:
    """Keeps what was told."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self._begun = time.perf_counter()

    @property
    def elapsed(self) -> float:
        """Seconds since the start, by the clock."""
        return time.perf_counter() - self._begun

    def tell(self, group: str, name: str, seconds: float) -> None:
        """One more step."""
        self.spans.append(Span(group, name, seconds))

    def take(self, group: str, name: str, step: Callable[[], T]) -> T:
        """Does a step and tells the seconds."""
        start = time.perf_counter()
        made = step()
        self.tell(group, name, time.perf_counter() - start)
        return made


def time_program(build: Build) -> tuple[ProgramRecord, Times]:
    """The imports, and the program read and checked; `build` has not been used."""
    timer = Timer()
    for name in HEAVY:
        if name not in sys.modules:
            timer.take("import", name, partial(importlib.import_module, name))
    timer.take("import", "LLVM", _load_llvm)
    timer.take("program", "key for the cache", lambda: build.key)
    timer.take("program", "read and parse", lambda: build.elaboration.program)
    record = timer.take("program", "check", build.program)
    return record, Times(timer.spans, timer.elapsed)


def _load_llvm() -> None:
    from dlc.compiler.llvm.library import library

    library()


def time_function(built: BuiltModel, name: str) -> Times:
    """From the model to code that can be called."""
    from dlc.compiler.pipeline import compile_told
    from dlc.runtime import cache, jit
    from dlc.runtime.artifact import Artifact

    timer = Timer()
    graph = timer.take("program", "graph of the function", lambda: built.graph(name))
    code, manifest = compile_told(graph, built.options(name), timer.tell)
    artifact = Artifact(manifest, code)
    key = built.code_key(name)
    timer.take("runtime", "write the cache", lambda: cache.put(key, artifact.to_bytes()))
    timer.take("runtime", "read the cache", lambda: _read(cache.get(key)))
    entries = artifact.read.entry, artifact.read.layout
    timer.take("runtime", "link", lambda: jit.load(code, entries))
    return Times(timer.spans, timer.elapsed)


def _read(data: bytes | None) -> object:
    from dlc.runtime.artifact import Artifact

    return None if data is None else Artifact.from_bytes(data)


def report(title: str, times: Times) -> str:
    """The steps as text, with their shares of them all."""
    total = times.total
    lines = [f"{title}: {total * 1e3:.1f} ms of work, {times.elapsed * 1e3:.1f} ms by the clock"]
    for span in times.spans:
        share = span.seconds / total if total else 0.0
        lines.append(f"  {span.seconds * 1e3:9.2f} ms  {share:6.1%}  {span.group:8} {span.name}")
    return "\n".join(lines)


def as_json(times: Times) -> dict[str, object]:
    """The steps as `--json` prints them."""
    rows = [{"group": s.group, "name": s.name, "seconds": s.seconds} for s in times.spans]
    return {"seconds": times.total, "elapsed": times.elapsed, "rows": rows}
