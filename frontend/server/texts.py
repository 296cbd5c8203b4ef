"""The texts that are open in an editor: they are read in place of the files on the disk."""

from __future__ import annotations

from pathlib import Path

from dlc.frontend.text.parse import decode_source, read_source
from dlc.ir.diagnostics import SourceFile


class Texts:
    """Open texts by the path of their files. A copy is what a check reads while typing goes on."""

    def __init__(self, texts: dict[Path, str] | None = None) -> None:
        self._texts = texts or {}

    def copy(self) -> Texts:
        """As they are now."""
        return Texts(dict(self._texts))

    def put(self, path: Path, text: str) -> None:
        """A text was opened or changed."""
        self._texts[_key(path)] = text

    def drop(self, path: Path) -> None:
        """A text was closed: its file counts again."""
        self._texts.pop(_key(path), None)

    def whole(self, path: Path) -> SourceFile:
        """An open text with all that the parser would not take; empty if it is not open."""
        text = self._texts.get(_key(path), "")
        return SourceFile(path.name, text.replace("\r\n", "\n").replace("\r", "\n"))

    def read(self, path: Path, name: str | None = None) -> SourceFile:
        """The text of a file as the parser takes it; `UserError` if it is none."""
        text = self._texts.get(_key(path))
        if text is None:
            return read_source(path, name)
        # Half a surrogate pair, which an editor may send while it is typed, is no character.
        data = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()
        return decode_source(data, str(path) if name is None else name)


def _key(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError):
        return path
