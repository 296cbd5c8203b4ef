"""Parsing: from the bytes of a .dl file to its syntax tree, or to diagnostics."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from dlc.frontend.stack import on_a_deep_stack
from dlc.frontend.text import lalr, syntax
from dlc.frontend.text.newlines import Newlines, SyntaxFault
from dlc.frontend.text.recovery import Blanked
from dlc.frontend.text.transform import Transform, check_depth
from dlc.ir.dataclass import dataclass
from dlc.ir.diagnostics import Diagnostic, Diagnostics, SourceFile, Span, UserError

_LARGEST: Final = 1 << 20  # bytes
_MOST_FAULTS: Final = 20
_LONG: Final = 100_000  # characters of a text that is not read so often again


def read_source(path: Path, name: str | None = None) -> SourceFile:
    """The text of a file, as the parser takes it; `UserError` if it is no text or too large."""
    shown = str(path) if name is None else name
    try:
        if not path.is_file():
            problem = "is not a file" if path.exists() else "there is no such file"
            raise _no_file(f"{shown}: {problem}")
        if path.stat().st_size > _LARGEST:
            raise _no_file(f"{shown}: more than {_LARGEST >> 20} MiB is no program")
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a name of a file"
        raise _no_file(f"{shown}: {reason}") from None
    return decode_source(data, shown)


def decode_source(data: bytes, name: str) -> SourceFile:
    """The text in `data`: UTF-8, with or without a byte order mark, any line ends."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8-sig")
        message = f"byte 0x{data[error.start]:02x} is not UTF-8"
        raise _bad_text("not-utf8", message, before, name) from None
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\0" in text:
        message = "a NUL character: this is not a text"
        raise _bad_text("nul-character", message, text.partition("\0")[0], name)
    return SourceFile(name, text)


def _no_file(message: str) -> UserError:
    return UserError([Diagnostic("cannot-read", message)])


def _bad_text(code: str, message: str, before: str, name: str) -> UserError:
    line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
    return UserError([Diagnostic(code, message, Span(name, line, column, line, column))])


def parse_file(path: Path, name: str | None = None) -> tuple[SourceFile, syntax.File]:
    """The text and the syntax tree of the file at `path`; `UserError` with all syntax errors."""
    source = read_source(path, name)
    return source, parse_source(source)


def parse_source(source: SourceFile) -> syntax.File:
    """The syntax tree of a text; `UserError` with all its syntax errors."""
    parsed = parse_partly(source)
    if parsed.faults:
        raise UserError(parsed.faults, {source.name: source})
    assert parsed.tree is not None
    return parsed.tree


@dataclass(frozen=True, slots=True)
class Parsed:
    """What could be read of a text, what is wrong with it, and the names whose definitions were
    not read as they are written. No tree: nothing could be read."""

    tree: syntax.File | None
    faults: tuple[Diagnostic, ...] = ()
    broken: frozenset[str] = frozenset()


@on_a_deep_stack
def parse_partly(source: SourceFile) -> Parsed:
    """The syntax tree of a text without the statements and definitions that are wrong."""
    found = Diagnostics({source.name: source})
    left = Blanked(source.text)
    for _ in range(_MOST_FAULTS if len(source.text) < _LONG else 3):
        tree = _try(left.text, source.name, "file")
        if isinstance(tree, syntax.File):
            return Parsed(tree, found.sorted(), frozenset(left.lost) | _touched(tree, left.lines))
        assert isinstance(tree, Diagnostic)
        found.add(tree)
        if tree.code in ("too-deep", "too-long"):
            break
        left.blank(tree)
    return Parsed(None, found.sorted())


def _touched(tree: syntax.File, lines: set[int]) -> set[str]:
    """The names of the definitions that hold one of `lines`."""
    return {
        definition.name.text for definition in tree.definitions
        if isinstance(definition, syntax.Const | syntax.Function | syntax.Model | syntax.Optimizer)
        and any(definition.span.line <= line <= definition.span.end_line for line in lines)
    }


@on_a_deep_stack
def parse_expression(text: str, name: str, line: int = 1, column: int = 1) -> syntax.Expr:
    """The expression that `text` is; it stands at `line` and `column` of the file `name`."""
    padded = "\n" * (line - 1) + " " * (column - 1) + text.replace("\n", " ")
    tree = _try(padded, name, "expression")
    if isinstance(tree, Diagnostic):
        raise UserError([tree], {name: SourceFile(name, padded)})
    assert isinstance(tree, syntax.Expr)
    return tree


def _try(text: str, name: str, start: str) -> syntax.Syntax | Diagnostic:
    """The tree of the whole text, or the first thing that is wrong with it."""
    try:
        tree = lalr.read(text, start, Newlines(name).process)
    except (lalr.Unread, SyntaxFault):
        from dlc.frontend.text.by_lark import explanation

        return explanation(text, name, start)
    try:
        check_depth(tree, name)
        return Transform(name).node(tree)
    except SyntaxFault as fault:
        return fault.diagnostic


def main(arguments: list[str]) -> int:
    """`--write` writes the tables anew; a path prints that file's syntax tree."""
    if arguments == ["--write"]:
        from dlc.frontend.text import by_lark

        by_lark.write()
        return 0
    if len(arguments) != 1:
        print("usage: python -m dlc.frontend.text.parse --write | FILE.dl", file=sys.stderr)
        return 2
    try:
        print(syntax.dump(parse_file(Path(arguments[0]))[1]), end="")
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
