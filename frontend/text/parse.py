"""Parsing: from the bytes of a .dl file to its syntax tree, or to diagnostics.

The LALR tables are built from grammar.lark once, when the grammar changes, and shipped as
grammar.json, for building them takes longer than parsing most programs:

    python -m dlc.frontend.text.parse --write
"""

from __future__ import annotations

import json
import sys
import threading
from functools import cache
from operator import itemgetter
from pathlib import Path
from typing import Final

from lark import Lark, Token, Tree, UnexpectedInput
from lark.grammar import NonTerminal, Rule

from dlc.frontend.stack import on_a_deep_stack
from dlc.frontend.text import syntax
from dlc.frontend.text.grammar_tables import in_canonical_form
from dlc.frontend.text.newlines import Newlines, SyntaxFault
from dlc.frontend.text.recovery import Blanked
from dlc.frontend.text.syntax_errors import explain
from dlc.frontend.text.transform import Transform, check_depth
from dlc.ir.dataclass import dataclass
from dlc.ir.diagnostics import Diagnostic, Diagnostics, SourceFile, Span, UserError

_FOLDER: Final = Path(__file__).parent
_LARGEST: Final = 1 << 20  # bytes
_MOST_FAULTS: Final = 20
_LONG: Final = 100_000  # characters of a text that is not read so often again
_LOCK: Final = threading.Lock()  # `Newlines` keeps what it has seen: one text at a time


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


def concrete_tree(source: SourceFile) -> Tree[Token]:
    """Lark's tree of a text that parses, with every token in it; `Newlines` adds its `_NL`.

    No rule drops a token here, so that what is written can be written again.
    """
    with _LOCK:
        return _parser(True).parse(source.text, start="file")


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
    parser = _parser()
    newlines = parser.options.postlex
    assert isinstance(newlines, Newlines)
    with _LOCK:
        newlines.file = name
        try:
            tree: Tree[Token] = parser.parse(text, start=start)
        except SyntaxFault as fault:
            return fault.diagnostic
        except UnexpectedInput as error:
            return explain(error, name, text, newlines.before)
    try:
        check_depth(tree, name)
        return Transform(name).node(tree)
    except SyntaxFault as fault:
        return fault.diagnostic


# The tables


def terminals() -> dict[str, str]:
    """The pattern of each terminal of the grammar; for a word of the language, the word."""
    return {str(each.name): str(each.pattern.value) for each in _parser().terminals}


def build_parser() -> Lark:
    """The parser made from grammar.lark (takes some 0.2 s)."""
    return Lark(
        (_FOLDER / "grammar.lark").read_text(), parser="lalr", lexer="basic",
        start=["file", "expression"], propagate_positions=True, maybe_placeholders=True,
        postlex=Newlines(),
    )


def tables() -> str:
    """What grammar.json holds for grammar.lark as it is now."""
    from lark.lark import LarkOptions

    parser = build_parser()
    data, memo = parser.memo_serialize(_memoized())
    options = data["options"]
    kept = {k: v for k, v in options.items() if v != LarkOptions._defaults.get(k)}
    del kept["postlex"]
    data["options"] = kept
    made = in_canonical_form(json.loads(json.dumps({"data": data, "memo": memo})))
    return json.dumps(made, separators=(",", ":"), sort_keys=True) + "\n"


def _memoized() -> list[type]:
    from lark.grammar import Rule
    from lark.lexer import TerminalDef

    return [TerminalDef, Rule]


@cache
def _parser(every_token: bool = False) -> Lark:
    loaded = json.loads((_FOLDER / "grammar.json").read_text())
    table = loaded["data"]["parser"]["parser"]
    # JSON's keys are strings: the numbers of states and terminals are made numbers again.
    table["tokens"] = {int(k): v for k, v in table["tokens"].items()}
    table["states"] = {
        int(state): {int(k): v for k, v in row.items()} for state, row in table["states"].items()
    }
    memo = {int(k): v for k, v in loaded["memo"].items()}
    for each in memo.values() if every_token else ():
        if each["__type__"] == "Rule":
            each["options"]["keep_all_tokens"] = True
    loaded_parser: Lark = Lark._load_from_dict(  # type: ignore[no-untyped-call]
        loaded["data"], memo, postlex=Newlines()
    )
    loaded_parser._callbacks.update(dict.fromkeys(
        filter(_passes_on, loaded_parser.rules), itemgetter(0)))
    return loaded_parser


def _passes_on(rule: Rule) -> bool:
    """Whether a rule, as most for an operator, only gives what it is made of: three of four that
    are found in a text, for which lark would work out places that the tree has already."""
    only = rule.expansion[0] if len(rule.expansion) == 1 else None
    return (rule.options.expand1 and rule.alias is None and isinstance(only, NonTerminal)
            and not only.name.startswith("_"))


def main(arguments: list[str]) -> int:
    """`--write` writes grammar.json anew; a path prints that file's syntax tree."""
    if arguments == ["--write"]:
        (_FOLDER / "grammar.json").write_text(tables())
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
