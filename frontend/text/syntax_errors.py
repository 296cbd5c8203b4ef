"""What a syntax error says: from lark's exceptions to diagnostics in the words of the language.

The parser stops at a word that can't stand where it is. Each rule below knows one mistake that
looks like this, and names it; the first that fits is told.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Final

from lark import Token, UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from dlc.frontend.text import habits
from dlc.frontend.text.newlines import span_of
from dlc.ir.dataclass import dataclass
from dlc.ir.diagnostics import Diagnostic, Span, did_you_mean, nearest
from dlc.ir.types import DTYPES

_TEXT: Final = {
    "_NL": "the end of the line", "$END": "the end of the file", "NAME": "a name",
    "NUMBER": "a number", "STRING": "a text", "DTYPE": "a type", "INT": "`int`",
    "LPAR": "`(`", "RPAR": "`)`", "LSQB": "`[`", "RSQB": "`]`", "LBRACE": "`{`", "RBRACE": "`}`",
    "COMMA": "`,`", "COLON": "`:`", "EQUAL": "`=`", "DOT": "`.`", "ARROW": "`->`",
    "DOTS": "`...`", "NONE": "`None`", "STAR": "`*`", "PIPE": "`|>`", "UPDATE": "`:=`",
    "POWER": "`**`", "PLUS": "`+`", "MINUS": "`-`", "DIVIDE": "`/`", "COMPARE": "`==`",
}
_STARTS: Final = frozenset(
    ("NAME", "NUMBER", "STRING", "LPAR", "LSQB", "MINUS", "PLUS", "NOT", "TRUE", "FALSE", "DTYPE",
     "DOTS", "NONE")
)
_GOES_ON: Final = frozenset(
    ("STAR", "DIVIDE", "POWER", "PLUS", "MINUS", "COMPARE", "AND", "OR", "PIPE", "IF", "LPAR",
     "LSQB", "DOT")
)
_KEYWORDS: Final = (
    "import", "const", "fn", "step", "model", "optimizer", "train", "test", "param", "state",
    "phase", "return", "yield", "for", "scan", "while", "minimize", "assert", "print", "else",
)
_STATEMENTS: Final = frozenset(
    ("RETURN", "YIELD", "FOR", "IF", "SCAN", "WHILE", "MINIMIZE", "ASSERT", "PRINT", "ON")
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the parser stopped: at `token`, after `before` (two tokens at most), where only the
    terminals of `accepted` could have stood."""

    file: str
    text: str
    token: Token
    before: tuple[Token, ...]
    accepted: frozenset[str]

    @property
    def kind(self) -> str:
        """The terminal of the token."""
        return self.token.type

    @property
    def last(self) -> Token | None:
        """The token before."""
        return self.before[-1] if self.before else None

    @property
    def span(self) -> Span:
        """The token's; of a newline its place."""
        span = span_of(self.file, self.token)
        if self.kind == "_NL":
            return Span(self.file, span.line, span.column, span.line, span.column + 1)
        return span

    @property
    def found(self) -> str:
        """The token in human words."""
        return _TEXT[self.kind] if self.kind in ("_NL", "$END") else f"`{self.token}`"

    def error(self, code: str, help: str = "", message: str = "", at: Token | None = None,
              ) -> Diagnostic:
        """A diagnostic at the token, or at another."""
        span = self.span if at is None else span_of(self.file, at)
        said = message or f"expected {_expected(self.accepted)}, found {self.found}"
        return Diagnostic(code, said, span, help=help)

    def opens(self, token: Token) -> bool:
        """Whether nothing stands before `token` in its line."""
        start = self.text.rfind("\n", 0, token.start_pos or 0) + 1
        return not self.text[start : token.start_pos].strip(" \t{}")


def explain(
    error: UnexpectedInput, file: str, text: str, before: tuple[Token, ...] = ()
) -> Diagnostic:
    """The diagnostic for what lark's lexer or parser did not expect after the tokens `before`."""
    if isinstance(error, UnexpectedCharacters):
        return _character(error, file, text)
    assert isinstance(error, UnexpectedToken)
    place = Place(file, text, error.token, before, _accepted(error))
    for rule in RULES:
        found = rule(place)
        if found is not None:
            return found
    return place.error("syntax")


def _accepted(error: UnexpectedToken) -> frozenset[str]:
    """The terminals that could have stood here (lark's own set holds some that could not)."""
    accepted = set()
    for name in error.expected:
        state = copy(error.state)
        try:
            state.feed_token(Token(name, ""), is_end=name == "$END")
        except UnexpectedToken:
            continue
        accepted.add(name)
    return frozenset(accepted)


def _expected(accepted: frozenset[str]) -> str:
    """The terminals in human words, at most four of them."""
    left, words = set(accepted), []
    if "NUMBER" in left:
        left -= _STARTS
        words.append("an expression")
    if {"STAR", "COMPARE"} <= left:
        left -= _GOES_ON
        words.append("an operator")
    if "FN" in left and "NAME" not in left:
        return "a definition (`fn`, `model`, `const`, `import`, `optimizer`, `train`, `test`)"
    if {"RETURN", "NAME"} <= left:
        return "a statement or `}`"
    if {"PARAM", "NAME"} <= left:
        return "a member of the model (`param`, `state`, `fn`, `step`, `name = …`) or `}`"
    words += sorted(_TEXT.get(name, f"`{name.lower()}`") for name in left)
    if len(words) > 5:
        words = [*words[:4], "…"]
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]])) if words else "nothing"


# The rules


def _foreign_word(place: Place) -> Diagnostic | None:
    """`def f(x)`, `let x = 1`, `elif c {`, `break`."""
    token, last = place.token, place.last
    if token in habits.WORDS:
        return place.error("foreign-word", habits.WORDS[token],
                           f"`{token}` is no word of the language")
    if last in habits.WORDS and last is not None and (
            place.kind in _STARTS or place.opens(last) or place.kind in ("COLON", "_NL")):
        return place.error("foreign-word", habits.WORDS[last],
                           f"`{last}` is no word of the language", last)
    return None


def _import_form(place: Place) -> Diagnostic | None:
    """`import a.b`, `import a as b`, `import a, b`."""
    if len(place.before) == 2 and place.before[0].type == "IMPORT":
        help = 'write `import nn`, or `import "file.dl"`: one in a line, under its own name'
        return place.error("import-form", help)
    return None


def _constant(place: Place) -> Diagnostic | None:
    """`None` where it is no index."""
    if place.kind == "NONE":
        return place.error("python-constant", habits.CONSTANTS["None"])
    return None


def _reserved(place: Place) -> Diagnostic | None:
    """`state = 1`: a word of the language as a name."""
    token, last = place.token, place.last
    if last is not None and last.isidentifier() and last.type not in ("NAME", "DTYPE") and (
            place.kind in ("EQUAL", "UPDATE") and place.opens(last)):
        return place.error("reserved-word", "",
                           f"`{last}` is a word of the language: it can't be a name", last)
    if token.isidentifier() and "NAME" in place.accepted and place.kind not in ("NAME", "DTYPE"):
        help = "`a if condition else b` chooses element by element" if token == "where" else ""
        return place.error("reserved-word", help, f"`{token}` is a word of the language: it can't "
                           "be a name")
    if place.kind == "DTYPE" and "NAME" in place.accepted:
        return place.error("reserved-word", "", f"`{token}` is a type: it can't be a name")
    return None


def _misspelt(place: Place) -> Diagnostic | None:
    """`modle M {`, `retrun x`, `parm w: f32`."""
    token, last = place.token, place.last
    if place.kind == "NAME" and place.opens(token) and len(token) > 2:
        known = [n.lower() for n in place.accepted if n not in _TEXT]
        found = nearest(token, known)
        if found:
            return place.error("misspelt-word", f"did you mean `{found}`?")
    if last is None or last.type != "NAME" or len(last) < 3 or not place.opens(last):
        return None
    found = nearest(last, _KEYWORDS)
    if found and (place.kind in _STARTS or place.kind == "LBRACE"):
        return place.error("misspelt-word", f"did you mean `{found}`?",
                           f"`{last}` is no word of the language", last)
    return None


def _unknown_type(place: Place) -> Diagnostic | None:
    """`x: f23[N]`, `x: int32`, `x: Tensor`."""
    if place.kind != "NAME" or "DTYPE" not in place.accepted or "NUMBER" in place.accepted:
        return None
    token = place.token
    known = [*DTYPES, "int", "float", "integer", "sparse"]
    help = _TYPES.get(token.lower()) or did_you_mean(token, known) or (
        f"types are {', '.join(DTYPES)}, with dims in `[ ]`: `f32[N, 10]`")
    return place.error("unknown-type", help, f"there is no type `{token}`")


_TYPES: Final = {
    "tensor": "a tensor of floats is `f32[N, 10]`", "array": "a tensor of floats is `f32[N, 10]`",
    "double": "did you mean `f64`?", "half": "did you mean `f16`?", "long": "did you mean `i64`?",
    "int32": "did you mean `i32`?", "int64": "did you mean `i64`?", "uint8": "did you mean `u8`?",
    "float32": "did you mean `f32`?", "float64": "did you mean `f64`?",
    "float16": "did you mean `f16`?", "bfloat16": "did you mean `bf16`?",
    "byte": "did you mean `u8`?", "boolean": "did you mean `bool`?",
}


def _operator(place: Place) -> Diagnostic | None:
    """`x **= 2`, `x++`."""
    for token in (place.token, *place.before[-1:]):
        for (kind, sign), help in habits.ENDINGS.items():
            end = token.end_pos or 0
            if token.type == kind and place.text[end : end + 1] == sign:
                message = f"`{token}{sign}` is no operator of the language"
                return place.error("foreign-operator", help, message, token)
    return None


def _comment(place: Place) -> Diagnostic | None:
    """`// text`, `/* text */`."""
    token, last = place.token, place.last
    help = "a comment begins with `#`"
    message = "`//` divides integers: it begins no comment"
    if place.kind == "DIVIDE" and token in ("//", "/") and place.opens(token):
        return place.error("slash-comment", help, message)
    divided = len(place.before) == 2 and place.before[0] == "//" and place.kind in _STARTS
    if divided and last is not None and last.type == "NAME":
        return place.error("slash-comment", help, message, place.before[0])
    return None


def _assignment(place: Place) -> Diagnostic | None:
    """`=`, `==` and `:=` one for another, and expressions that stand alone."""
    kind, accepted = place.kind, place.accepted
    if kind == "COMPARE" and "EQUAL" in accepted and place.token == "==":
        return place.error("compare-for-assignment", "`=` gives a name its value; `==` compares")
    if kind == "EQUAL" and accepted & {"COMPARE", "LBRACE"} and "UPDATE" not in accepted:
        return place.error("assignment-for-compare", "`==` compares; `=` gives a name its value")
    if kind == "EQUAL" and "UPDATE" in accepted:
        return place.error("assignment-for-update",
                           "a param or state of a submodel is updated by `:=`")
    if kind == "UPDATE" and "EQUAL" in accepted:
        help = f"`{place.token}` updates params and states in a `step`; here stands `=`"
        return place.error("update-for-assignment", help)
    if "UPDATE" in accepted and accepted <= {"UPDATE", "EQUAL", "COMMA", "DOT", "LSQB"}:
        help = "an expression alone is no statement: `_ = f(x)` keeps nothing but the effects"
        return place.error("lone-expression", help)
    return None


def _colon(place: Place) -> Diagnostic | None:
    """`if x:`, `fn f(x: f32) -> f32:`."""
    if place.kind == "COLON" and place.accepted & {"LBRACE", "CARRY"}:
        return place.error("colon-for-block", "a block stands in `{ }`")
    return None


def _missing(place: Place) -> Diagnostic | None:
    """What is left out: the type of a result or parameter, an initial value, an `else`."""
    kind, accepted = place.kind, place.accepted
    if accepted == {"ARROW"}:
        return place.error("missing-result", "a `fn` says the type of its result: "
                           "`fn f(x: f32[N]) -> f32[N] = …`")
    if accepted == {"COLON"} and kind != "COLON":
        return place.error("missing-type", "a type stands after `:`, as in `x: f32[N, 10]`")
    if kind == "_NL" and accepted <= {"EQUAL", "LSQB"}:
        return place.error("missing-initial", "an initial value is needed: `= zeros()`, "
                           "`= glorot_uniform()`")
    if accepted == {"LPAR"}:
        return place.error("missing-bracket", _cast_help(place))
    if "ELSE" in accepted and not accepted & {"_NL", "LBRACE", "IF"}:
        return place.error("missing-else", "a choice has two sides: `a if condition else b`")
    return None


def _cast_help(place: Place) -> str:
    """What to do where a type, or a word such as `print`, has nothing to work on."""
    if place.last is None or place.last.type != "DTYPE":
        return "what it is given stands in `( )`"
    kind, start = place.last, place.last.start_pos or 0
    if place.text[:start].rstrip(" =").endswith("dtype"):
        return f"a type is given by a cast: `{kind}(zeros(N))`"
    return f"a type is a cast, which stands before what it converts: `{kind}(x)`"


def _point(place: Place) -> Diagnostic | None:
    """`.5`."""
    if place.kind == "DOT" and "NUMBER" in place.accepted:
        return place.error("bare-point", "a number with a point has digits on both sides of it: "
                           "`0.5`")
    return None


def _prefix(place: Place) -> Diagnostic | None:
    """`f"{x}"`."""
    last = place.last
    if place.kind == "STRING" and last is not None and last.type == "NAME" and (
            last.end_pos == place.token.start_pos):
        return place.error("text-prefix", "`{x}` stands for a value in the text of `print` as it "
                           "is", f"a text has no prefix `{last}`", last)
    return None


def _comma(place: Place) -> Diagnostic | None:
    """`f(x y)`, `[1 2]`."""
    closed = place.accepted & {"RPAR", "RSQB"}
    if "COMMA" in place.accepted and closed and place.kind in _STARTS:
        return place.error("missing-comma", f"a `,` is missing before {place.found}")
    return None


def _several(place: Place) -> Diagnostic | None:
    """`fn f(x: f32) -> (f32, f32) = x, x`."""
    if place.kind == "COMMA" and "_NL" in place.accepted:
        return place.error("syntax", "several values stand in parentheses: `(a, b)`")
    return None


def _unfinished(place: Place) -> Diagnostic | None:
    """`x = 2.0 *` at the end of a line: what is missing is missing there."""
    last = place.last
    if last is None or "NUMBER" not in place.accepted:
        return None
    if place.kind not in ("_NL", "$END") and last.end_line == place.token.line:
        return None
    line, column = last.end_line or 1, last.end_column or 1
    message = f"expected {_expected(place.accepted)}, found the end of the line"
    return Diagnostic("unfinished", message, Span(place.file, line, column, line, column + 1))


def _outside(place: Place) -> Diagnostic | None:
    """A statement where definitions or members stand."""
    if place.accepted & {"RETURN"} or not place.accepted & {"FN", "PARAM"}:
        return None
    follows = place.text[place.token.end_pos or 0 :].lstrip(" \t")
    if follows[:1] == "=" != follows[1:2] and place.kind != "NAME":
        return None  # a word as a name
    if place.kind in _STATEMENTS:
        return place.error("statement-outside", "statements stand in the body of a `fn` or `step`")
    if place.kind == "NAME" and follows[:1] in ("=", ",", "(", "[", ".", ":"):
        return place.error("statement-outside", "statements stand in the body of a `fn` or "
                           "`step`; a constant is `const name: f32 = 1.0`")
    return None


def _no_body(place: Place) -> Diagnostic | None:
    """`if c return x`, `fn f(x: f32) -> f32` and nothing more."""
    if "LBRACE" in place.accepted and "RBRACE" not in place.accepted:
        return place.error("missing-block", "what belongs to it stands in `{ }`")
    return None


RULES: Final[tuple[Callable[[Place], Diagnostic | None], ...]] = (
    _foreign_word, _import_form, _constant, _prefix, _comment, _operator, _unfinished, _misspelt,
    _outside, _reserved, _unknown_type, _assignment, _colon, _missing, _point, _comma, _several,
    _no_body,
)


def _character(error: UnexpectedCharacters, file: str, text: str) -> Diagnostic:
    place = error.pos_in_stream or 0
    char = text[place]
    span = Span(file, error.line, error.column, error.line, error.column + 1)
    if char == '"':
        triple = text.startswith('"""', place)
        marks = '"""' if triple else '"'
        help = "" if triple else 'a text over several lines stands in `"""`'
        return Diagnostic("unended-text", f"this text is never ended: a `{marks}` is missing",
                          span, help=help)
    shown = char if char.isprintable() else f"U+{ord(char):04X}"
    mistake = habits.of_character(char)
    return Diagnostic(mistake.code, f"`{shown}` has no meaning here", span, help=mistake.help)
