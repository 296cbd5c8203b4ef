"""Where the time goes between a program's text and the code in memory: a step a row.

Everything is done anew, as for a program that was never seen, and told as it is done. What is
imported lazily is imported first, so that it is a row of its own.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from dlc.frontend.build import Build, BuiltModel
from dlc.frontend.records import ProgramRecord
from dlc.ir.dataclass import dataclass

T = TypeVar("T")
HEAVY = ("numpy", "lark", "llvmlite.binding", "dlc.frontend.elaborate.elaboration",
         "dlc.compiler.pipeline", "dlc.runtime.jit")


@dataclass(frozen=True, slots=True)
class Span:
    """The seconds of one step; `group` is import, program, pass, verify, LLVM or runtime."""

    group: str
    name: str
    seconds: float


class Timer:
    """Keeps what was told."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def tell(self, group: str, name: str, seconds: float) -> None:
        """One more step."""
        self.spans.append(Span(group, name, seconds))

    def take(self, group: str, name: str, step: Callable[[], T]) -> T:
        """Does a step and tells the seconds."""
        start = time.perf_counter()
        made = step()
        self.tell(group, name, time.perf_counter() - start)
        return made


def time_program(build: Build) -> tuple[ProgramRecord, list[Span]]:
    """The imports, and the program read and checked; `build` has not been used."""
    timer = Timer()
    for name in HEAVY:
        if name not in sys.modules:
            timer.take("import", name, partial(importlib.import_module, name))
    timer.take("program", "key for the cache", lambda: build.key)
    timer.take("program", "read and parse", lambda: build.elaboration.program)
    return timer.take("program", "check", build.program), timer.spans


def time_function(built: BuiltModel, name: str) -> list[Span]:
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
    return timer.spans


def _read(data: bytes | None) -> object:
    from dlc.runtime.artifact import Artifact

    return None if data is None else Artifact.from_bytes(data)


def report(title: str, spans: Sequence[Span]) -> str:
    """The steps as text, with their shares of them all."""
    total = sum(span.seconds for span in spans)
    lines = [f"{title}: {total * 1e3:.1f} ms"]
    for span in spans:
        share = span.seconds / total if total else 0.0
        lines.append(f"  {span.seconds * 1e3:9.2f} ms  {share:6.1%}  {span.group:8} {span.name}")
    return "\n".join(lines)


def as_json(spans: Sequence[Span]) -> dict[str, object]:
    """The steps as `--json` prints them."""
    return {
        "seconds": sum(span.seconds for span in spans),
        "rows": [{"group": s.group, "name": s.name, "seconds": s.seconds} for s in spans],
    }
