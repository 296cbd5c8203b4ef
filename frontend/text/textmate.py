"""The TextMate grammar of .dl, which editors read, made from the words of the language.

    python -m dlc.frontend.text.textmate --write
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final, TypeAlias

from dlc.frontend.text import words

Json: TypeAlias = "str | list[Json] | dict[str, Json]"
FILE: Final = Path(__file__).parent / "dl.tmLanguage.json"
_NAME: Final = r"([A-Za-z_]\w*)"


def grammar() -> str:
    """What dl.tmLanguage.json holds for the language as it is now."""
    made: dict[str, Json] = {
        "name": "dl",
        "scopeName": "source.dl",
        "fileTypes": ["dl"],
        "patterns": [{"include": "#strings"}, {"include": "#code"}],
        "repository": {"strings": {"patterns": _strings()}, "code": {"patterns": _code()}},
    }
    return json.dumps(made, indent=2) + "\n"


def _match(scope: str, pattern: str) -> Json:
    return {"name": f"{scope}.dl", "match": pattern}


def _definition(keywords: str, scope: str) -> Json:
    """A word of the language and the name that it defines."""
    return {
        "match": rf"\b({keywords})[ \t]+{_NAME}",
        "captures": {
            "1": {"name": "keyword.declaration.dl"},
            "2": {"name": f"entity.name.{scope}.dl"},
        },
    }


def _strings() -> list[Json]:
    value: Json = {
        "name": "meta.interpolation.dl", "begin": r"\{", "end": r'\}|(?=")',
        "patterns": [{"include": "#code"}],
    }  # fmt: skip
    printed: Json = {
        "begin": r'\b(print)[ \t]*\(\s*(")(?!"")', "end": '"',
        "beginCaptures": {
            "1": {"name": "keyword.control.dl"}, "2": {"name": "string.quoted.double.dl"},
        },
        "endCaptures": {"0": {"name": "string.quoted.double.dl"}},
        "contentName": "string.quoted.double.dl",
        "patterns": [_match("constant.character.escape", r"\{\{|\}\}"), value],
    }  # fmt: skip
    doc: Json = {"name": "string.quoted.docstring.dl", "begin": '"""', "end": '"""'}
    return [printed, doc, _match("string.quoted.double", r'"[^"\n]*"')]


def _code() -> list[Json]:
    calls = r"(?<!\.)" + words.alternatives(words.functions()) + r"(?!\s*=(?!=))"
    named = r"(?<!\.)" + words.alternatives(words.NAMED_CONSTANTS)
    return [
        _match("comment.line.number-sign", r"#[^\n]*"),
        _definition("fn|step", "function"),
        _definition("model|optimizer|train|phase", "type"),
        _definition("import", "namespace"),
        _match("storage.type", words.alternatives(words.types())),
        _match("constant.language", words.alternatives(words.values())),
        _match("keyword.control", words.alternatives(words.keywords())),
        _match("variable.language", named),
        _match("support.function", calls),
        _match("entity.name.type.symbol", r"\b[A-Z]\w*"),
        _match("variable.other", rf"\b{_NAME}"),
        _match("constant.numeric", words.number()),
        _match("keyword.operator", r"\|>|->|:=|[-+*/]=|[=!<>]=|\*\*|//|[-+*/%@<>=]"),
    ]


def main(arguments: list[str]) -> int:
    """`--write` writes dl.tmLanguage.json anew."""
    if arguments != ["--write"]:
        print("usage: python -m dlc.frontend.text.textmate --write", file=sys.stderr)
        return 2
    FILE.write_text(grammar())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
