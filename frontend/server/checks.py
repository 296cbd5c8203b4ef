"""Checks of the open texts, off the thread that listens: a moment after typing rests, the latest
version of each alone. A check whose text has changed gives up at the next expression."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import field
from pathlib import Path
from threading import Event
from typing import Final

from dlc.frontend.server.analysis import Analysis, Stale, analyse
from dlc.frontend.server.texts import Texts
from dlc.ir.dataclass import dataclass

DELAY: Final = 0.15  # seconds of rest before a check
PATIENCE: Final = 2.0  # seconds that a question waits for the check of what is shown


@dataclass(slots=True, eq=False)
class Document:
    """An open text: its version, the last analysis, and the one that is under way."""

    uri: str
    path: Path
    version: int | None = None
    latest: Analysis | None = None
    stale: Event = field(default_factory=Event)
    timer: asyncio.TimerHandle | None = None
    running: asyncio.Task[None] | None = None


class Checks:
    """The open documents; `done` is told of each analysis that is still of use."""

    def __init__(self, done: Callable[[Document, Analysis], None]) -> None:
        self.texts = Texts()
        self.documents: dict[str, Document] = {}
        self._done = done
        self._worker = ThreadPoolExecutor(1, "check")

    def put(self, uri: str, path: Path, text: str, version: int | None) -> None:
        """A text was opened or changed: it and what imports it are checked soon."""
        document = self.documents.setdefault(uri, Document(uri, path))
        document.version = version
        self.texts.put(path, text)
        self._soon(document, DELAY if document.latest is not None else 0.0)
        self._others(path, document)

    def drop(self, uri: str) -> None:
        """A text was closed."""
        document = self.documents.pop(uri, None)
        if document is not None:
            self._give_up(document)
            self.texts.drop(document.path)
            self._others(document.path, document)

    def again(self) -> None:
        """Files on the disk have changed: all is checked anew."""
        for document in self.documents.values():
            self._soon(document, DELAY)

    def close(self) -> None:
        """Gives all checks up."""
        for document in self.documents.values():
            self._give_up(document)
        self._worker.shutdown(wait=False, cancel_futures=True)

    async def analysis(self, uri: str) -> Analysis | None:
        """The analysis of the text as it is now; of an older one, if that takes too long."""
        document = self.documents.get(uri)
        if document is None:
            return None
        if document.timer is not None:
            document.timer.cancel()
            self._start(document)
        if document.running is not None:
            await asyncio.wait([document.running], timeout=PATIENCE)
        return document.latest

    def _others(self, path: Path, document: Document) -> None:
        """What imports a text is checked with it."""
        for other in self.documents.values():
            reads = other.latest.reads if other.latest is not None else frozenset()
            if other is not document and path in reads:
                self._soon(other, DELAY)

    def _soon(self, document: Document, delay: float) -> None:
        self._give_up(document)
        loop = asyncio.get_running_loop()
        document.timer = loop.call_later(delay, self._start, document)

    def _give_up(self, document: Document) -> None:
        document.stale.set()
        if document.timer is not None:
            document.timer.cancel()
            document.timer = None

    def _start(self, document: Document) -> None:
        document.timer = None
        document.stale = Event()
        document.running = asyncio.get_running_loop().create_task(
            self._check(document, self.texts.copy(), document.stale))

    async def _check(self, document: Document, texts: Texts, stale: Event) -> None:
        loop = asyncio.get_running_loop()
        try:
            made = await loop.run_in_executor(self._worker, analyse, document.path, texts, stale)
        except Stale:
            return
        if not stale.is_set():
            document.latest = made
            self._done(document, made)
