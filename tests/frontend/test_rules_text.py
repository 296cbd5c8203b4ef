"""The rules of docs/language.md by their numbers: text (49 to 51), where a statement ends."""

from __future__ import annotations

import pytest

from tests.frontend.programs_in_text import error, errors, functions, syntax_errors


def test_rule_49_50_51_text() -> None:
    graph = functions("fn f(x: f32) -> f32 = x + 1_000 |> g(2.0)\n"
                      "fn g(a: f32, b: f32) -> f32 = a * b\n")["f"]
    assert [n.op for n in graph.nodes].count("mul") == 1
    assert "the right side of `|>`" in error("fn f(x: f32) -> f32 = x |> sin + 1\n")
    assert "word of the language" in error("fn f(state: f32) -> f32 = state\n")
    assert "`true`" in error("fn f(x: f32) -> bool = True\n")
    assert "an expression alone is no statement" in error(
        "model M {\n step s() { }\n step f() {\n s()\n }\n}\n")


@pytest.mark.parametrize("word", [
    "step", "test", "model", "on", "print", "import", "train", "scan", "while", "for", "if", "fn",
    "return", "minimize", "assert", "optimizer", "const", "yield", "state", "where", "int", "phase",
])
@pytest.mark.parametrize("text", [
    "fn f(x: f32) -> f32 {\n WORD = x\n return x\n}\n", "fn f(WORD: f32) -> f32 = 1.0\n",
    "fn f(a: f32, WORD: f32) -> f32 = 1.0\n", "model M {\n WORD = 1\n}\n",
    "fn f(x: f32) -> f32 {\n y = x + WORD\n return y\n}\n",
    "fn f(x: f32) -> f32 {\n y = f(WORD=x)\n return y\n}\n",
])
def test_rule_51_a_word_of_the_language_is_no_name(word: str, text: str) -> None:
    found = [d.message for d in syntax_errors(text.replace("WORD", word))]
    if (word, "+ WORD" in text) in (("state", True), ("phase", True)):
        assert len(found) == 1
        return
    assert found == [f"`{word}` is a word of the language: it can't be a name"]


def test_rule_51_types_come_by_casts() -> None:
    (found,) = syntax_errors("fn f(n: int) -> i32[n] = zeros(n, dtype=i32)\n")
    assert found.help == "a type is given by a cast: `i32(zeros(N))`"
    (found,) = syntax_errors("fn f(x: f32) -> i32 = x |> i32\n")
    assert "`i32(x)`" in found.help


@pytest.mark.parametrize("body", [
    "minimize w * x\n with sgd(lr=0.1)", "minimize w * x with\n sgd(lr=0.1),\n over=w",
    "scan v in\n xs\n carry s = 0.0\n { s = s + v }",
    "scan v\n in xs {\n yield v\n as vs\n }", "y = x\n + w\n * 2.0", "y = x if\n x > 0.0\n else w",
    "y =\n x", "y = x\n |> sin\n |> cos()", "y = (x +\n\n # a comment\n w\n )", "y = x # c\n + w",
    "if x > 0.0\n { y = x }\n else\n { y = w }",
    "if x > 0.0 { y = x }\n\n # c\n else if x < 1.0 { }",
    "w\n := 2.0", "w +=\n 2.0", "y = not\n (x > 0.0)", "a,\n b = x, w", "y = xs[\n 0\n ]",
    'assert x > 0.0,\n "text"', "for i in\n range(2) { x = x + i }", "y = -\n x",
])
def test_where_a_statement_ends(body: str) -> None:
    assert errors("model M {\n param w: f32 = 3.0\n step f(x: f32, xs: f32[T]) -> f32\n where T\n"
                  f" > 1,\n T < 9 {{\n {body}\n return\t-\n x\n }}\n}}\n") == []
