"""What a syntax error says: from lark's exceptions to diagnostics in the words of the language."""

from __future__ import annotations

from copy import copy
from typing import Final

from lark import Token, UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from dlc.frontend.text.newlines import span_of
from dlc.ir.diagnostics import Diagnostic, Span, did_you_mean

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
_DEFINES: Final = frozenset(("FN", "MODEL", "CONST", "IMPORT", "TRAIN", "TEST", "OPTIMIZER"))
_NOT_WORDS: Final = frozenset(_TEXT) | {"$END"}
_CHARACTERS: Final = {
    ";": "a statement ends with its line: leave the `;` out",
    "'": 'a text stands in double quotes: `"text"`',
    "&": "write `and`", "|": "write `or`", "!": "write `not`", "^": "a power is `x ** n`",
    "\\": "a line that ends in an operator, or stands inside `( )`, goes on by itself",
}
_OTHER_LANGUAGES: Final = {
    "def": "a function begins with `fn`", "func": "a function begins with `fn`",
    "function": "a function begins with `fn`", "class": "a model begins with `model`",
    "from": "`import nn`, and then `nn.Dense`", "elif": "write `else if`",
    "let": "a name is given a value by `name = value`",
    "var": "a name is given a value by `name = value`; what is kept is a `state`",
    "pass": "an empty block is `{ }`", "break": "there is no `break`: carry a condition in `while`",
}


def explain(
    error: UnexpectedInput, file: str, text: str, before: Token | None = None
) -> Diagnostic:
    """The diagnostic for what lark's lexer or parser did not expect after the token `before`."""
    if isinstance(error, UnexpectedCharacters):
        return _character(error, file, text)
    assert isinstance(error, UnexpectedToken)
    token = error.token
    accepted = _accepted(error)
    span = span_of(file, token)
    if token.type == "_NL":
        span = Span(file, span.line, span.column, span.line, span.column + 1)
    if before is not None and token.type in _DEFINES and token.column == 1:
        # A line that ends in an operator goes on: what is missing is missing there.
        end = span_of(file, before)
        span = Span(file, end.end_line, end.end_column, end.end_line, end.end_column + 1)
        return Diagnostic("syntax", f"expected {_expected(accepted)}, found the end of the line",
                          span)
    if _is_word(token) and "NAME" in accepted:
        message = f"`{token}` is a word of the language: it can't be a name"
        return Diagnostic("reserved-word", message, span)
    found = _TEXT[token.type] if token.type in ("_NL", "$END") else f"`{token}`"
    message = f"expected {_expected(accepted)}, found {found}"
    return Diagnostic("syntax", message, span, help=_help(token, accepted, before))


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


def _is_word(token: Token) -> bool:
    return token.isidentifier() and token.type not in ("NAME", "_NL", "$END")


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
    names = sorted(_TEXT.get(name, f"`{name.lower()}`") for name in left)
    words += names
    if len(words) > 5:
        words = [*words[:4], "…"]
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]])) if words else "nothing"


def _help(token: Token, accepted: frozenset[str], before: Token | None) -> str:
    """What to do about the mistakes that are made most."""
    for word in (token, before):
        if word in _OTHER_LANGUAGES:
            return _OTHER_LANGUAGES[word]
    for help in (_assignment(token, accepted), _missing(token, accepted)):
        if help:
            return help
    if token.type == "NAME":
        return did_you_mean(token, [n.lower() for n in accepted if n not in _NOT_WORDS])
    return ""


def _assignment(token: Token, accepted: frozenset[str]) -> str:
    """`=`, `==` and `:=` one for another, and expressions that stand alone."""
    kind = token.type
    if kind == "COMPARE" and "EQUAL" in accepted and token == "==":
        return "`=` gives a name its value; `==` compares"
    if kind == "EQUAL" and accepted & {"COMPARE", "LBRACE"} and "UPDATE" not in accepted:
        return "`==` compares; `=` gives a name its value"
    if kind == "EQUAL" and "UPDATE" in accepted:
        return "a param or state of a submodel is updated by `:=`"
    if kind == "UPDATE" and "EQUAL" in accepted:
        return f"`{token}` updates params and states in a `step`; here stands `=`"
    if "UPDATE" in accepted and accepted <= {"UPDATE", "EQUAL", "COMMA", "DOT", "LSQB"}:
        return "an expression alone is no statement: `_ = f(x)` keeps nothing but the effects"
    return ""


def _missing(token: Token, accepted: frozenset[str]) -> str:
    """What was left out."""
    kind = token.type
    if "ARROW" in accepted:
        return "a `fn` says the type of its result: `fn f(x: f32[N]) -> f32[N] = …`"
    if "COLON" in accepted and kind in ("COMMA", "RPAR", "EQUAL") and "COMPARE" not in accepted:
        return "a parameter says its type: `x: f32[N, 10]`"
    if kind == "_NL" and accepted == {"EQUAL"}:
        return "an initial value is needed: `= zeros()`, `= glorot_uniform()`"
    if kind == "COLON" and "LBRACE" in accepted:
        return "a block stands in `{ }`"
    if kind == "DOT" and "NUMBER" in accepted:
        return "a number with a point has digits on both sides of it: `0.5`"
    return ""


def _character(error: UnexpectedCharacters, file: str, text: str) -> Diagnostic:
    place = error.pos_in_stream or 0
    char = text[place]
    span = Span(file, error.line, error.column, error.line, error.column + 1)
    if char == '"':
        triple = text.startswith('"""', place)
        marks = '"""' if triple else '"'
        help = "" if triple else 'a text over several lines stands in `"""`'
        return Diagnostic("syntax", f"this text is never ended: a `{marks}` is missing", span,
                          help=help)
    shown = char if char.isprintable() else f"U+{ord(char):04X}"
    message = f"`{shown}` has no meaning here"
    if char.isalpha():
        return Diagnostic("syntax", message, span, help="names are made of a-z, A-Z, 0-9 and _")
    return Diagnostic("syntax", message, span, help=_CHARACTERS.get(char, ""))
