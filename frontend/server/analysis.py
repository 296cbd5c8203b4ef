"""A text checked as `dlc check` does it, and what its expressions were found to be."""

from __future__ import annotations

import traceback
from dataclasses import field
from pathlib import Path
from threading import Event

from dlc.frontend.elaborate.elaboration import Elaboration
from dlc.frontend.elaborate.frames import Frame
from dlc.frontend.elaborate.modules import Program, read_program
from dlc.frontend.elaborate.values import Poisoned, Value
from dlc.frontend.server.texts import Texts
from dlc.frontend.text import syntax
from dlc.ir.dataclass import dataclass
from dlc.ir.diagnostics import Diagnostic, SourceFile, Span, UserError


class Stale(Exception):
    """The text has changed: what is found of it is of no use any more."""


@dataclass(slots=True)
class Seen:
    """What was found at a place: its value, the function that it stands in, and whether that was
    checked by itself, not through a call."""

    value: Value
    function: syntax.Function | None
    direct: bool


@dataclass(slots=True)
class Analysis:
    """What is known of one version of a text. Without a program, nothing of it could be read."""

    path: Path
    program: Program | None = None
    diagnostics: tuple[Diagnostic, ...] = ()
    seen: dict[Span, Seen] = field(default_factory=dict)
    problem: str = ""  # a fault of ours, which ended the check
    sources: dict[str, SourceFile] = field(default_factory=dict)
    reads: frozenset[Path] = frozenset()  # the files that it is made of


def read(path: Path, texts: Texts) -> Program:
    """The syntax of a text and of what it imports; `UserError` if nothing could be read. Files are
    called by their places beside the text."""
    return read_program(path, path.name, lambda file, name: texts.read(
        file, _beside(path, file) if name is None else name))


def _beside(path: Path, file: Path) -> str:
    inside = file.is_relative_to(path.parent)
    return str(file.relative_to(path.parent)) if inside else str(file)


def analyse(path: Path, texts: Texts, stale: Event) -> Analysis:
    """Checks a text; `Stale` soon after the event is set. Nothing else is raised."""
    made = Analysis(path)
    try:
        _check(made, texts, stale)
    except UserError as error:
        made.diagnostics = error.diagnostics
        made.sources |= error.sources
    except Stale:
        raise
    except Exception:
        made.problem = traceback.format_exc()
        if made.program is not None:
            made.diagnostics = made.program.faults.sorted()
    return made


def _check(made: Analysis, texts: Texts, stale: Event) -> None:
    watch = _Watch(made.seen, stale)
    watch.require()
    made.sources[made.path.name] = texts.whole(made.path)
    program = made.program = read(made.path, texts)
    made.sources |= program.sources
    made.reads = frozenset(module.path for module in program.modules)
    watch.require()
    program.observer = watch
    try:
        Elaboration(made.path, program).check_all()
    finally:
        program.observer = None


class _Watch:
    def __init__(self, seen: dict[Span, Seen], stale: Event) -> None:
        self._seen = seen
        self._stale = stale

    def __call__(self, frame: Frame, span: Span, value: Value) -> None:
        """Keeps what an expression is: as its own definition is checked, if it was so found."""
        self.require()
        if isinstance(value, Poisoned):
            return
        direct = frame.caller is None
        before = self._seen.get(span)
        if before is None or (direct and not before.direct):
            self._seen[span] = Seen(value, frame.function, direct)

    def require(self) -> None:
        """`Stale` if what is found is of no use any more."""
        if self._stale.is_set():
            raise Stale
