"""The layout of programs: nothing is lost or changes its meaning, and it is reached at once."""

from __future__ import annotations

import os
import random
import re
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from dlc.frontend.commands.cli import main
from dlc.frontend.text import by_lark, format_rules, parse, syntax
from dlc.frontend.text import format as formatter
from dlc.frontend.text.format import format_source, same_meaning
from dlc.frontend.text.format_document import WIDTH, Line, Text, group, indent, parts, render
from dlc.frontend.text.format_gaps import Gaps, tokens_of
from dlc.ir.diagnostics import InternalError, SourceFile, UserError
from tests.frontend.respaced import Respaced
from tests.frontend.test_parse import EVERY_STATEMENT, PROGRAMS

ROOT = Path(__file__).parents[2]
SHIPPED = sorted([*(ROOT / "examples").glob("*.dl"), *(ROOT / "frontend/library").glob("*.dl")])


def source_of(text: str) -> SourceFile:
    return SourceFile("t.dl", text)


def formatted(text: str) -> str:
    """The text formatted; it is checked that nothing is lost, and that once is enough."""
    made = format_source(source_of(text))
    assert same_meaning(parse.parse_source(source_of(text)), parse.parse_source(source_of(made)))
    assert comments_of(made) == comments_of(text)
    assert format_source(source_of(made)) == made
    for line in made.split("\n"):
        assert "\n\n\n" not in made
        assert len(line) <= WIDTH or '"' in line or "#" in line, line
    return made


def comments_of(text: str) -> list[str]:
    tree = by_lark.concrete_tree(source_of(text))
    return Gaps(text, tokens_of(tree)).comments()


def all_programs() -> list[Path]:
    """Every program of the repository that parses."""
    found = []
    for path in sorted(ROOT.rglob("*.dl")):
        if not {"build", "data"} & set(path.relative_to(ROOT).parts):
            try:
                parse.parse_file(path)
            except UserError:
                continue
            found.append(path)
    return found


@pytest.mark.parametrize("path", all_programs(), ids=lambda p: p.stem)
def test_every_program_keeps_its_meaning(path: Path) -> None:
    formatted(parse.read_source(path).text)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_what_is_shipped_is_formatted(path: Path) -> None:
    text = path.read_text()
    assert formatted(text) == text, f"run: dlc fmt {path.relative_to(ROOT)}"


def test_an_ugly_program_becomes_tidy() -> None:
    ugly, tidy = (ROOT / "tests/frontend/layout" / name for name in ("ugly.dl", "tidy.dl"))
    assert formatted(ugly.read_text()) == tidy.read_text()


CASES = {
    "": "",
    "\n\n\n": "",
    "# only": "# only\n",
    "\n# a\n\n\n\n# b\n\n": "# a\n\n# b\n",
    '"""Doc."""': '"""Doc."""\n',
    "fn f(x:f32)->f32=x": "fn f(x: f32) -> f32 = x\n",
    "fn f(x:f32)->f32=\nx": "fn f(x: f32) -> f32 =\n    x\n",
    "fn f(x:f32)->f32{return x}": "fn f(x: f32) -> f32 { return x }\n",
    "fn f(x:f32)->f32{\nreturn x}": "fn f(x: f32) -> f32 {\n    return x\n}\n",
    "fn f()->f32=1 # one\nfn g()->f32=2": "fn f() -> f32 = 1  # one\nfn g() -> f32 = 2\n",
    "fn f()->f32{\nreturn 1}\n# g\nfn g()->f32=2":
        "fn f() -> f32 {\n    return 1\n}\n\n# g\nfn g() -> f32 = 2\n",
    "fn f()->f32{\nreturn 1}\n# f\n\nfn g()->f32=2":
        "fn f() -> f32 {\n    return 1\n}\n# f\n\nfn g() -> f32 = 2\n",
    "fn f()->f32=x[ 1 : , None , ... , : : 2 ]": "fn f() -> f32 = x[1:, None, ..., ::2]\n",
    "fn f()->f32=- - x+ +y": "fn f() -> f32 = --x + +y\n",
    "fn f()->f32=2 .T+(1).T": "fn f() -> f32 = 2 .T + (1).T\n",
    "fn f()->f32=g(a,)[b,]": "fn f() -> f32 = g(a)[b]\n",
    "fn f()->f32=g((a,),[b,],(c,d,))": "fn f() -> f32 = g((a,), [b], (c, d))\n",
    "train M{a=1,b=2\nc=3}": "train M {\n    a = 1\n    b = 2\n    c = 3\n}\n",
    "train M{a=1,phase p{b=2,},}": "train M { a = 1, phase p { b = 2 } }\n",
    "model M{\na=1\nfn f()->f32{\nreturn 1}\nb=1}":
        "model M {\n    a = 1\n\n    fn f() -> f32 {\n        return 1\n    }\n\n    b = 1\n}\n",
    "test \"t\"{scan x in y\ncarry h=0{yield h as z}}":
        'test "t" { scan x in y carry h = 0 { yield h as z } }\n',
}  # fmt: skip


@pytest.mark.parametrize(("before", "after"), CASES.items())
def test_small_texts(before: str, after: str) -> None:
    assert formatted(before) == after


def test_long_lines_are_broken_where_the_grammar_lets_them() -> None:
    name = "x" * 29
    lines = {
        f"a = f({name}, {name}, {name})": f"a = f(\n    {name}, {name}, {name},\n)",
        f"a = f({name}, {name}, g({name}), {name})":
            f"a = f(\n    {name},\n    {name},\n    g({name}),\n    {name},\n)",
        f"a = {name} * {name} + {name} * {name}": f"a = {name} * {name}\n    + {name} * {name}",
        f"a = {name} * {name} * {name} * {name} + 1":
            "a = " + "\n        * ".join([name] * 4) + "\n    + 1",
        f"a = [{name}, {name}, {name}, {name}]":
            f"a = [\n    {name}, {name}, {name},\n    {name},\n]",
        f"a = x |> f({name}) |> f({name}) |> f({name})":
            "a = x" + f"\n    |> f({name})" * 3,
        f"a = {name} if {name} else {name} + 1": f"a = {name} if {name}\n    else {name} + 1",
        f"a, {name} = {name}, {name}, {name}": f"a, {name} = {name},\n    {name},\n    {name}",
        f"while {name} and {name} carry a = {name} {{ }}":
            f"while {name} and {name}\ncarry a = {name} {{ }}",
        f"minimize {name} with adam(lr={name}), over=({name}, b)":
            f"minimize {name} with adam(lr={name}),\n    over=({name}, b)",
    }  # fmt: skip
    for before, after in lines.items():
        inside = "\n".join(f"    {line}" for line in after.split("\n"))
        assert formatted(f"step f() {{\n{before}\n}}\n") == f"step f() {{\n{inside}\n}}\n"


def test_signatures_are_broken_before_arrows_first() -> None:
    parameters = ", ".join(f"parameter{n}: f32[N, 100]" for n in range(3))
    head = f"fn f({parameters}) -> f32[N, 100, 200, 300]"
    assert formatted(f"{head} = parameter1\n") == (
        f"fn f({parameters})\n    -> f32[N, 100, 200, 300] =\n    parameter1\n"
    )
    assert formatted(f"{head} {{ return 1 }}\n") == (
        f"fn f({parameters})\n    -> f32[N, 100, 200, 300] {{\n    return 1\n}}\n"
    )


def test_line_ends_and_tabs_and_a_mark_are_those_of_any_text() -> None:
    text = "fn f() -> f32 {\n    # c\n    return 1\n}\n"
    bytes_ = b"\xef\xbb\xbf" + text.replace("\n", " \t\r\n").replace("    ", "\t").encode()
    assert formatted(parse.decode_source(bytes_, "t.dl").text) == text


def test_nested_as_deeply_as_can_be_read() -> None:
    source = source_of(f"fn f() -> f32 = {'(' * 90}x{')' * 90}\n")
    assert format_source(source).count("(") == 91


# The table of rules and the grammar


def test_every_rule_of_the_grammar_has_a_style() -> None:
    rules = by_lark.parser().rules
    # A rule that begins with `?` is seen only where it has several parts, or another name.
    seen = {
        str(rule.alias or rule.origin.name)
        for rule in rules
        if rule.alias or len(rule.expansion) > 1 or not rule.options.expand1
    }
    grammar = {rule for rule in seen if not rule.startswith("_")} - {"expression"}
    assert set(format_rules.STYLES) == grammar


def test_a_rule_without_a_style_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(format_rules.STYLES, "call")
    with pytest.raises(KeyError):
        format_source(source_of("fn f() -> f32 = g(1)\n"))


def test_every_class_of_the_syntax_is_formatted_by_these_tests() -> None:
    written = {
        each
        for each in vars(syntax).values()
        if isinstance(each, type) and issubclass(each, syntax.Syntax)
    } - {syntax.Syntax, syntax.Host}
    text = syntax.dump(parse.parse_source(source_of(EVERY_STATEMENT)))
    assert {each.__name__ for each in written} <= set(re.findall(r"[A-Z]\w+", text)) | {"Name"}
    formatted(EVERY_STATEMENT)


# What is refused


@pytest.mark.parametrize("lost", ["fn f() -> f32 = 2\n", "fn f( -> f32\n", "fn f() -> f32 = 1\n"])
def test_a_layout_that_means_something_else_is_not_written(
    lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formatter, "render", lambda _: lost)
    with pytest.raises(InternalError, match="the formatted text would"):
        format_source(source_of("fn f() -> f32 = 1  # one\n"))


def test_places_are_no_meaning_but_all_else_is() -> None:
    def tree(text: str) -> syntax.File:
        return parse.parse_source(source_of(text))

    one = tree("fn f() -> f32 = 1 + x\n")
    assert same_meaning(one, tree("\n\nfn f()->f32=(1+x)\n"))
    for other in ("1.0 + x", "1 - x", "1 + y", "x + 1", "1 + x + x"):
        assert not same_meaning(one, tree(f"fn f() -> f32 = {other}\n"))


# Respaced programs

RESPACED = [path for path in PROGRAMS if path.parent.name != "library"]


@pytest.mark.parametrize("path", RESPACED, ids=lambda p: p.stem)
@settings(max_examples=4, deadline=None, phases=[Phase.generate])
@given(seed=st.integers(0, 1 << 32))
def test_a_respaced_program_keeps_its_meaning(path: Path, seed: int) -> None:
    text = path.read_text()
    respaced = Respaced(text, random.Random(seed), False).made()
    made = format_source(source_of(respaced))
    assert format_source(source_of(made)) == made
    assert same_meaning(parse.parse_source(source_of(made)), parse.parse_source(source_of(text)))


@pytest.mark.parametrize("path", RESPACED, ids=lambda p: p.stem)
@settings(max_examples=4, deadline=None, phases=[Phase.generate])
@given(seed=st.integers(0, 1 << 32))
def test_the_layout_does_not_depend_on_the_spaces(path: Path, seed: int) -> None:
    """But for what is kept as written: blocks on a line, bodies after `=`, rows, empty lines."""
    text = path.read_text()
    respaced = Respaced(text, random.Random(seed), True).made()
    assert format_source(source_of(respaced)) == format_source(source_of(text))


# The command


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "ugly.dl").write_text("fn f( )->f32=1")
    (tmp_path / "tidy.dl").write_text("fn f() -> f32 = 1\n")
    (tmp_path / "wrong.dl").write_text("fn f( ->\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_fmt_writes_only_what_changes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (folder / "tidy.dl").stat().st_mtime_ns, (folder / "tidy.dl").stat().st_ino
    os.chmod(folder / "ugly.dl", 0o640)
    assert main(["fmt", "ugly.dl", "tidy.dl"]) == 0
    assert capsys.readouterr().out == "ugly.dl formatted\n"
    assert (folder / "ugly.dl").read_bytes() == b"fn f() -> f32 = 1\n"
    assert (folder / "ugly.dl").stat().st_mode & 0o777 == 0o640
    assert before == ((folder / "tidy.dl").stat().st_mtime_ns, (folder / "tidy.dl").stat().st_ino)
    assert sorted(p.name for p in folder.iterdir()) == ["tidy.dl", "ugly.dl", "wrong.dl"]


def test_check_lists_what_would_change(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fmt", "--check", "ugly.dl", "tidy.dl"]) == 1
    assert capsys.readouterr().out == "ugly.dl would change\n"
    assert (folder / "ugly.dl").read_text() == "fn f( )->f32=1"
    assert main(["fmt", "--check", "tidy.dl"]) == 0
    (folder / "tidy.dl").write_bytes(b"fn f() -> f32 = 1\r\n")
    assert main(["fmt", "--check", "tidy.dl"]) == 1


def test_a_file_with_errors_is_left_alone(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fmt", "wrong.dl", "missing.dl", "ugly.dl"]) == 1
    said = capsys.readouterr()
    assert "--> wrong.dl:1:7" in said.err
    assert "missing.dl: there is no such file" in said.err
    assert said.out == "ugly.dl formatted\n"
    assert (folder / "wrong.dl").read_text() == "fn f( ->\n"


def test_stdout_and_input(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["fmt", "--stdout", "ugly.dl"]) == 0
    assert capsys.readouterr().out == "fn f() -> f32 = 1\n"
    assert (folder / "ugly.dl").read_text() == "fn f( )->f32=1"
    with open(folder / "ugly.dl") as given:
        monkeypatch.setattr("sys.stdin", given)
        assert main(["fmt", "-"]) == 0
    assert capsys.readouterr().out == "fn f() -> f32 = 1\n"
    with open(folder / "wrong.dl") as given:
        monkeypatch.setattr("sys.stdin", given)
        assert main(["fmt", "-"]) == 1
    assert "--> (input):1:7" in capsys.readouterr().err


# The documents


def test_a_group_is_broken_only_if_it_does_not_fit() -> None:
    fits = group(Text("x" * 40), indent(Line(" "), Text("y" * 59)))
    assert render(fits) == "x" * 40 + " " + "y" * 59
    assert render(parts(fits, Text("!"))) == "x" * 40 + "\n    " + "y" * 59 + "!"
