"""A lexer of .dl for Pygments: the only module that needs it (`pip install 'dlc[highlight]'`)."""

from __future__ import annotations

from typing import ClassVar

from pygments.lexer import RegexLexer, bygroups, include
from pygments.token import (
    Comment,
    Keyword,
    Name,
    Number,
    Operator,
    Punctuation,
    String,
    Whitespace,
)

from dlc.frontend.text import words

_NAME = r"([A-Za-z_]\w*)"


def _definition(keywords: str, kind: object) -> tuple[str, object]:
    """A word of the language and the name that it defines."""
    return rf"\b({keywords})([ \t]+){_NAME}", bygroups(Keyword.Declaration, Whitespace, kind)


class DlLexer(RegexLexer):  # type: ignore[misc]
    """Models in dlc's language."""

    name = "dl"
    url = ""
    aliases: ClassVar[list[str]] = ["dl"]
    filenames: ClassVar[list[str]] = ["*.dl"]
    mimetypes: ClassVar[list[str]] = ["text/x-dl"]
    flags = 0
    tokens: ClassVar[dict[str, list[object]]] = {
        "root": [
            (r"\b(print)([ \t]*)(\()(\s*)(\")(?!\"\")",
             bygroups(Keyword, Whitespace, Punctuation, Whitespace, String.Double), "printed"),
            (r'"""[\s\S]*?"""', String.Doc),
            (r'"[^"\n]*"', String.Double),
            (r"[{}]", Punctuation),
            include("code"),
        ],
        "code": [
            (r"\s+", Whitespace),
            (r"#[^\n]*", Comment.Single),
            _definition("fn|step", Name.Function),
            _definition("model|optimizer|train|phase", Name.Class),
            _definition("import", Name.Namespace),
            (words.alternatives(words.types()), Keyword.Type),
            (words.alternatives(words.values()), Keyword.Constant),
            (words.alternatives(words.keywords()), Keyword),
            (r"(?<!\.)" + words.alternatives(words.NAMED_CONSTANTS), Name.Builtin.Pseudo),
            (r"(?<!\.)" + words.alternatives(words.functions()) + r"(?!\s*=(?!=))", Name.Builtin),
            (r"[A-Z]\w*", Name.Class),
            (_NAME, Name),
            (r"\d+(?:_\d+)*(?:\.\d+(?:_\d+)*(?:[eE][+-]?\d+)?|[eE][+-]?\d+)", Number.Float),
            (words.number(), Number.Integer),
            (r"\|>|->|:=|[-+*/]=|[=!<>]=|\*\*|//|[-+*/%@<>=]", Operator),
            (r"\.\.\.|[()\[\],.:]", Punctuation),
        ],
        "printed": [
            (r"\{\{|\}\}", String.Escape),
            (r"\{", String.Interpol, "printed value"),
            (r'[^"{}\n]+|\}', String.Double),
            (r'"', String.Double, "#pop"),
        ],
        "printed value": [
            (r"\}", String.Interpol, "#pop"),
            (r'(?=")', String.Double, "#pop"),
            include("code"),
        ],
    }  # fmt: skip
