"""Which newlines end a statement, and which brackets match: the filter between lexer and parser.

A newline counts unless it stands inside `( )` or `[ ]`, after a token that can't end a statement
or before one that can't begin one. A `}` ends the statement before it. Brackets are matched here,
where the opening one is still known, so that the error can name both.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Final

from dlc.frontend.text.lalr import Token
from dlc.ir.diagnostics import Diagnostic, Span

if TYPE_CHECKING:
    from lark import Token as LarkToken

_OPERATORS: Final = frozenset(
    ("AND", "OR", "COMPARE", "UPDATE", "DIVIDE", "POWER", "STAR", "PLUS", "MINUS", "PIPE", "EQUAL",
     "ARROW")
)
_INNER: Final = frozenset(("DOT", "IN", "WITH", "AS", "CARRY", "WHERE", "ELSE", "LBRACE"))
CANT_END: Final = _OPERATORS | _INNER | {"COMMA", "NOT", "IF"}
CANT_BEGIN: Final = _OPERATORS | _INNER
_OPENING: Final = {"LPAR": "RPAR", "LSQB": "RSQB", "LBRACE": "RBRACE"}
_CLOSING: Final = frozenset(_OPENING.values())
_DEFINES: Final = frozenset(
    ("FN", "STEP", "MODEL", "CONST", "IMPORT", "TRAIN", "TEST", "OPTIMIZER")
)
_STATEMENTS: Final = frozenset(
    ("RETURN", "YIELD", "MINIMIZE", "ASSERT", "SCAN", "WHILE", "PARAM", "STATE")
)  # no expression holds these
# `step` and `test` are also settings of a `train` block: what follows tells.
_BEGINNINGS: Final = frozenset((("STEP", "NAME"), ("TEST", "STRING")))
DEEPEST: Final = 200  # brackets inside brackets
LONGEST: Final = 50_000  # tokens in one statement
MOST: Final = 150_000  # tokens in one file


class SyntaxFault(Exception):
    """A syntax error that was found before the parser saw it."""

    def __init__(self, diagnostic: Diagnostic) -> None:
        super().__init__(diagnostic)
        self.diagnostic = diagnostic


class _Ahead:
    """Tokens, of which the next but one may be asked for."""

    def __init__(self, stream: Iterator[Token]) -> None:
        self._stream = stream
        self._waiting: list[Token] = []

    def __iter__(self) -> Iterator[Token]:
        while True:
            token = self._waiting.pop(0) if self._waiting else next(self._stream, None)
            if token is None:
                return
            yield token

    def peek(self) -> str:
        """The kind of the token that comes next; empty at the end."""
        while (token := next(self._stream, None)) is not None:
            self._waiting.append(token)
            if token.type != "_NL":
                return token.type
        return ""


class Newlines:
    """Passes tokens on, and of the newlines those that end a statement."""

    always_accept: ClassVar[tuple[str, ...]] = ("_NL",)

    def __init__(self, file: str = "", token: type[Token] = Token) -> None:
        self.file = file
        self._token = token  # what tokens are made by
        self.before: tuple[Token, ...] = ()  # the two tokens before the one passed on last

    def process(self, stream: Iterator[Token]) -> Iterator[Token]:
        """The tokens that the parser sees; `SyntaxFault` if brackets do not match."""
        open_brackets: list[tuple[Token, str]] = []
        before: Token | None = None
        self.before = ()
        newline: Token | None = None
        definition, begun = "", 0
        tokens = _Ahead(stream)
        for count, token in enumerate(tokens):
            kind = token.type
            if kind == "_NL":
                newline = newline or token
                continue
            self._check_length(count, begun, token)
            self._check_number(before, token)
            if kind in _DEFINES:
                self._check_place(open_brackets, token, tokens)
                definition = definition if kind in ("STEP", "TEST") else kind
            elif before is not None and (before.type, kind) in _BEGINNINGS:
                definition = before.type
            elif newline is not None and kind in _STATEMENTS:
                self._check_statement(open_brackets, token)
            elif kind in _OPENING or kind in _CLOSING:
                self._match(open_brackets, token, definition)
            self.before = self.before[-1:] if before is None else (*self.before[-1:], before)
            if before is not None and _ends(open_brackets, before, token, newline):
                begun = count
                yield self._token.new_borrow_pos("_NL", "\n", newline or token)
            newline, before = None, token
            yield token
        if open_brackets:
            raise self._unclosed(open_brackets[-1][0])
        if before is not None:
            self.before = (*self.before[-1:], before)
            yield self._after(before)

    def _check_place(
        self, open_brackets: list[tuple[Token, str]], token: Token, tokens: _Ahead
    ) -> None:
        """A definition inside brackets shows that one of them was forgotten to be closed."""
        if not open_brackets or tokens.peek() not in ("NAME", "STRING"):
            return  # the parser tells of a word that is meant as a name
        opening, owner = open_brackets[-1]
        legal = opening.type == "LBRACE" and owner in ("MODEL", "TRAIN")
        if not legal or token.type not in ("FN", "STEP", "TEST"):
            help = "in a model `name = value` is a constant" if (
                owner == "MODEL" and token.type == "CONST") else ""
            raise self._unclosed(opening, token, help)

    def _check_statement(self, open_brackets: list[tuple[Token, str]], token: Token) -> None:
        """A line that begins as a statement, inside `(` or `[`: one of them was not closed."""
        if open_brackets and open_brackets[-1][0].type != "LBRACE":
            raise self._unclosed(open_brackets[-1][0], token)

    def _match(self, open_brackets: list[tuple[Token, str]], token: Token, owner: str) -> None:
        """Keeps the stack of open brackets, each with the kind of definition that it stands in."""
        kind = token.type
        inner = open_brackets[-1][0] if open_brackets else None
        if kind in _OPENING:
            if kind == "LBRACE" and inner is not None and inner.type != "LBRACE":
                raise self._unclosed(inner, token)
            open_brackets.append((token, owner))
            if len(open_brackets) > DEEPEST:
                raise self._fault("too-deep", f"brackets inside brackets, more than {DEEPEST} deep",
                                  token)
            return
        if inner is None:
            raise self._fault("unopened-bracket", f"`{token}` closes nothing", token)
        if _OPENING[inner.type] != kind:
            raise self._mismatch(inner, token)
        open_brackets.pop()

    def _mismatch(self, opening: Token, closing: Token) -> SyntaxFault:
        if closing.type == "RBRACE":
            return self._unclosed(opening, closing)
        note = f"`{opening}` was opened at {span_of(self.file, opening)}"
        message = f"`{closing}` does not close `{opening}`"
        return self._fault("mismatched-bracket", message, closing, note)

    def _unclosed(
        self, opening: Token, found: Token | None = None, help: str = ""
    ) -> SyntaxFault:
        message = f"this `{opening}` is never closed"
        if found is None:
            return self._fault("unclosed-bracket", message, opening)
        note = f"`{found}` at {span_of(self.file, found)} can't stand inside it"
        return self._fault("unclosed-bracket", message, opening, note, help)

    def _check_number(self, before: Token | None, token: Token) -> None:
        if before is None or before.type != "NUMBER" or before.end_pos != token.start_pos:
            return
        message = f"`{before}{token}` is not a number"
        if token.type in ("DOT", "DOTS"):
            help = "a number with a point has digits on both sides of it: `1.0`, `0.5`"
            raise self._fault("bare-point", message, before, help=help)
        if token.type == "NUMBER" or token[0].isalpha() or token[0] == "_":
            help = "a number has no unit and no suffix; a type is given by a cast: `f32(1)`"
            raise self._fault("number-suffix", message, before, help=help)

    def _check_length(self, count: int, begun: int, token: Token) -> None:
        """A statement without end, or a file, is refused before it fills the memory."""
        if count - begun > LONGEST:
            raise self._fault("too-long", f"a statement of more than {LONGEST:,} words and signs",
                              token, help="name parts of it in lines of their own")
        if count > MOST:
            raise self._fault("too-long", f"a file of more than {MOST:,} words and signs", token,
                              help="definitions can stand in several files: `import \"more.dl\"`")

    def _after(self, token: Token) -> Token:
        """The newline that ends the last statement of a file."""
        line, column, at = token.end_line, token.end_column, token.end_pos
        return self._token("_NL", "\n", at, line, column, line, column, at)

    def _fault(
        self, code: str, message: str, token: Token, note: str = "", help: str = ""
    ) -> SyntaxFault:
        notes = (note,) if note else ()
        return SyntaxFault(Diagnostic(code, message, span_of(self.file, token), notes, help))


def span_of(file: str, token: Token | LarkToken) -> Span:
    """Where a token stands."""
    line, column = token.line or 1, token.column or 1
    return Span(file, line, column, token.end_line or line, token.end_column or column + 1)


def _ends(
    open_brackets: list[tuple[Token, str]], before: Token, token: Token, newline: Token | None
) -> bool:
    """Whether a statement ends between two tokens."""
    if token.type == "RBRACE":
        return before.type != "LBRACE"
    if token.type in _CLOSING:
        return False  # it still stands inside the brackets that it closes
    if newline is None or (open_brackets and open_brackets[-1][0].type != "LBRACE"):
        return False
    return before.type not in CANT_END and token.type not in CANT_BEGIN
