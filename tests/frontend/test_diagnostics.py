"""Diagnostics: how they are shown, collected and capped."""

from __future__ import annotations

import pytest

from dlc.ir.diagnostics import (
    CAP,
    Diagnostic,
    Diagnostics,
    InternalError,
    SourceFile,
    Span,
    UserError,
    did_you_mean,
    nearest,
    render,
)

SOURCE = SourceFile("lenet5.dl", "\n" * 40 + "    return reshape(maps, N, 400) @ w + b\n")
PLACE = Span("lenet5.dl", 41, 34, 41, 35)


def test_rendered_form() -> None:
    shown = render(
        Diagnostic(
            "shape-mismatch",
            "shapes do not agree in `@`: 400 is not 120",
            PLACE,
            ("left:  f32[N, 400]", "right: f32[120, 84], declared at lenet5.dl:12:5"),
        ),
        {"lenet5.dl": SOURCE},
    )
    assert (
        shown
        == """\
error[shape-mismatch]: shapes do not agree in `@`: 400 is not 120
  --> lenet5.dl:41:34
   |
41 |     return reshape(maps, N, 400) @ w + b
   |                                  ^
   = left:  f32[N, 400]
   = right: f32[120, 84], declared at lenet5.dl:12:5"""
    )


@pytest.mark.parametrize(
    ("line", "span", "carets"),
    [
        ("\tx = y", Span("f", 1, 6, 1, 7), "  | \t    ^"),
        ("日本 x", Span("f", 1, 4, 1, 5), "  |      ^"),
        ("abc", Span("f", 1, 2, 3, 1), "  |  ^^"),
        ("abc", Span("f", 1, 9, 1, 12), "  |    ^"),
    ],
    ids=["tab", "wide", "many lines", "past the end"],
)
def test_carets_stand_under_what_they_mark(line: str, span: Span, carets: str) -> None:
    shown = render(Diagnostic("c", "m", span), {"f": SourceFile("f", line)})
    assert shown.split("\n")[-1] == carets


def test_long_lines_are_cut_round_the_place() -> None:
    text = "x" * 10_000 + "HERE" + "y" * 10_000
    place = Span("f", 1, 10_001, 1, 10_005)
    shown = render(Diagnostic("c", "m", place), {"f": SourceFile("f", text)})
    line, carets = shown.split("\n")[-2:]
    assert len(line) < 200
    assert line[carets.index("^") : carets.rindex("^") + 1] == "HERE"


def test_all_are_raised_together_in_order_once_and_capped() -> None:
    found = Diagnostics({"f": SourceFile("f", "a\n" * 50)})
    for line in [*range(40, 0, -1), 3, 3]:
        found.error("c", f"number {line}", Span("f", line, 1, line, 2))
    with pytest.raises(UserError) as caught:
        found.raise_if_any()
    lines = [d.span.line for d in caught.value.diagnostics if d.span]
    assert lines == list(range(1, 41))
    text = str(caught.value)
    assert text.count("error[c]") == CAP
    assert text.endswith("and 20 more errors")
    Diagnostics().raise_if_any()


def test_json_form() -> None:
    made = Diagnostic("c", "m", PLACE, ("n",), "h").as_json()
    assert made == {
        "code": "c",
        "message": "m",
        "file": "lenet5.dl",
        "line": 41,
        "column": 34,
        "end_line": 41,
        "end_column": 35,
        "notes": ["n"],
        "help": "h",
    }
    assert "file" not in Diagnostic("c", "m").as_json()


def test_nearest_names() -> None:
    known = ["softmax", "sigmoid", "relu", "maximum"]
    assert nearest("sofmtax", known) == "softmax"
    assert nearest("Relu", known) == "relu"
    assert nearest("conv2d", known) is None
    assert did_you_mean("sigmoit", known) == "did you mean `sigmoid`?"
    assert did_you_mean("zzz", known) == ""


def test_our_own_faults_are_another_class() -> None:
    assert not issubclass(InternalError, UserError)
    assert "fault of dlc" in str(InternalError("broken", stage="fuse"))
