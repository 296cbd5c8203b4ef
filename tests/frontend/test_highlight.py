"""Highlighters know every word of the language, and lose no character of a program."""

from __future__ import annotations

import importlib
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pygments.token import Comment, Error, Keyword, Name, Number, Operator, String

from dlc.frontend.elaborate import names
from dlc.frontend.text import parse, textmate, words
from dlc.frontend.text.pygments_lexer import DlLexer
from dlc.ir.diagnostics import SourceFile, UserError

ROOT = Path(__file__).parents[2]
FOLDERS = ("examples", "frontend", "tests")
PROGRAMS = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.dl"))]
RESERVED = (*words.keywords(), *words.types(), *words.values())


def tokens_of(text: str) -> list[tuple[Any, str]]:
    return [(kind, value) for _, kind, value in DlLexer().get_tokens_unprocessed(text)]


def kind_of(text: str, word: str) -> Any:
    (found,) = {str(kind): kind for kind, value in tokens_of(text) if value == word}.values()
    return found


# The words


def test_every_word_of_the_grammar_is_in_one_list() -> None:
    grammar = (ROOT / "frontend/text/grammar.lark").read_text()
    quoted = set(re.findall(r'"([A-Za-z]+)"', grammar))
    assert quoted == {*words.keywords(), *words.values(), "int"}
    assert len(RESERVED) == len(set(RESERVED))
    assert {"f32", "bool", "float", "sparse", "int"} <= set(words.types())


@pytest.mark.parametrize("word", RESERVED)
def test_the_words_are_those_that_can_be_no_name(word: str) -> None:
    with pytest.raises(UserError):
        parse.parse_source(SourceFile("t.dl", f"const {word}: f32 = 1.0\n"))
    parse.parse_source(SourceFile("t.dl", f"const {word}_: f32 = 1.0\n"))


def test_named_constants_are_those_of_the_elaborator() -> None:
    given = {"progress", "epoch"}  # to the schedules of a `train` block
    assert set(words.NAMED_CONSTANTS) == {*names._CONSTANTS, *given, "training"}


def test_functions_are_those_that_need_no_import() -> None:
    assert {"sum", "zeros", "grad", "relu", "softmax_cross_entropy", "adam"} <= set(
        words.functions()
    )


# Pygments


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_programs_are_lexed_without_errors_and_without_loss(path: Path) -> None:
    text = path.read_bytes().decode(errors="replace")
    found = tokens_of(text)
    assert "".join(value for _, value in found) == text
    wrong = [value for kind, value in found if kind in Error]
    try:
        parse.parse_source(SourceFile("t.dl", text))
    except UserError:
        return  # a program of the tests of errors, which may hold any character
    assert wrong == []


@pytest.mark.parametrize("word", RESERVED)
def test_every_word_is_a_keyword_and_only_whole(word: str) -> None:
    assert kind_of(f"x {word} ( y", word) in Keyword
    assert kind_of(f"x {word}s ( y", f"{word}s") in Name


@pytest.mark.parametrize(
    ("text", "word", "kind"),
    [
        ("x = 1_000", "1_000", Number.Integer),
        ("x = 1e-5", "1e-5", Number.Float),
        ("x = 1_0.5_0e+3", "1_0.5_0e+3", Number.Float),
        ("x := sum(y)", "sum", Name.Builtin),
        ("x := sum(y)", ":=", Operator),
        ("x |> f", "|>", Operator),
        ("f(max=1)", "max", Name),
        ("rbm.up(x)", "up", Name),
        ("x: f32[N]", "N", Name.Class),
        ("fn forward(x: f32)", "forward", Name.Function),
        ("model Dense(", "Dense", Name.Class),
        ("x = 1 # fn", "# fn", Comment.Single),
        ('"""fn\nx"""', '"""fn\nx"""', String.Doc),
        ('f("nd,{k}")', '"nd,{k}"', String.Double),
        ('print("loss {sum(x)} {{y}}")', "loss ", String.Double),
        ('print("loss {sum(x)} {{y}}")', "sum", Name.Builtin),
        ('print("loss {sum(x)} {{y}}")', "{{", String.Escape),
        ('print("loss {x") if', "if", Keyword),
    ],
)
def test_kinds_of_tokens(text: str, word: str, kind: Any) -> None:
    assert kind_of(text, word) is kind
    assert "".join(value for _, value in tokens_of(text)) == text


def test_pygments_finds_the_lexer_by_its_entry_point() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, _, name = settings["entry-points"]["pygments.lexers"]["dl"].partition(":")
    assert getattr(importlib.import_module(module), name) is DlLexer
    assert not any("pygments" in each for each in settings["dependencies"])


# TextMate


def patterns(value: Any) -> Iterator[str]:
    """Every regular expression in the grammar."""
    if isinstance(value, list):
        for each in value:
            yield from patterns(each)
    elif isinstance(value, dict):
        yield from (value[key] for key in ("match", "begin", "end") if key in value)
        for each in value.values():
            yield from patterns(each)


def scope_of(word: str) -> str:
    """The scope of the first pattern of code that matches the whole word."""
    made = json.loads(textmate.FILE.read_text())["repository"]["code"]["patterns"]
    return next(each["name"] for each in made if re.fullmatch(each["match"], word))


def test_the_shipped_grammar_is_that_of_the_language() -> None:
    written = textmate.FILE.read_text()
    assert written == textmate.grammar(), "run: python -m dlc.frontend.text.textmate --write"
    found = list(patterns(json.loads(written)))
    assert len(found) > 15
    for pattern in found:
        re.compile(pattern)


def test_the_patterns_know_the_same_words() -> None:
    for word in words.keywords():
        assert scope_of(word) == "keyword.control.dl"
        assert scope_of(f"{word}_") == "variable.other.dl"
    assert {scope_of(word) for word in words.types()} == {"storage.type.dl"}
    assert {scope_of(word) for word in words.values()} == {"constant.language.dl"}
    assert {scope_of(word) for word in words.functions()} == {"support.function.dl"}
    assert {scope_of(text) for text in ("1_000", "1e-5", "0.5")} == {"constant.numeric.dl"}
    assert {scope_of(text) for text in ("|>", ":=", "**", "@")} == {"keyword.operator.dl"}
    assert scope_of("N") == "entity.name.type.symbol.dl"


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert textmate.main([]) == 2
    assert "--write" in capsys.readouterr().err
