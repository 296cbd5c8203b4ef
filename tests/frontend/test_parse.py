"""Parsing: every program of the language reads, and what is no program ends in a diagnostic."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lark import Token, Tree, UnexpectedInput

from dlc.frontend.text import by_lark, lalr, parse, syntax
from dlc.frontend.text.format import same_meaning
from dlc.frontend.text.newlines import Newlines, SyntaxFault
from dlc.ir.diagnostics import SourceFile, UserError

ROOT = Path(__file__).parents[2]
PROGRAMS = sorted(
    [
        *(ROOT / "examples").glob("*.dl"),
        *(ROOT / "frontend" / "library").glob("*.dl"),
    ]
)


def tree_of(text: str) -> syntax.File:
    return parse.parse_source(SourceFile("t.dl", text))


def errors_of(text: str) -> list[str]:
    with pytest.raises(UserError) as caught:
        tree_of(text)
    return [f"{d.code} {d.span.line}:{d.span.column}" for d in caught.value.diagnostics if d.span]


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda p: p.stem)
def test_programs_of_the_language_parse(path: Path) -> None:
    source, tree = parse.parse_file(path, path.name)
    assert tree.definitions
    text = syntax.dump(tree)
    assert text == syntax.dump(parse.parse_source(source))
    assert text.count("\n") > 20


def test_shipped_tables_are_those_of_the_grammar() -> None:
    shipped = ROOT / "frontend" / "text"
    for name, made in (("grammar.json", by_lark.tables()), ("lalr.json", by_lark.short_tables())):
        text = (shipped / name).read_text()
        assert text == made, "run: python -m dlc.frontend.text.parse --write"


Shape = tuple[str, tuple[int, ...], list[object]]


def shape_by_lark(text: str) -> Shape | None:
    """The tree that lark makes of a text, with its places; None if there is none."""

    def shape(tree: Tree[Token]) -> Shape:
        meta = tree.meta
        place = () if meta.empty else (meta.line, meta.column, meta.end_line, meta.end_column)
        return str(tree.data), place, [
            shape(each) if isinstance(each, Tree) else each and fields(each)
            for each in tree.children]

    try:
        return shape(by_lark.parser().parse(text, start="file"))
    except (UnexpectedInput, SyntaxFault):
        return None


def shape_without(text: str) -> Shape | None:
    """The same without lark."""

    def shape(tree: lalr.Tree) -> Shape:
        place = (tree.line, tree.column, tree.end_line, tree.end_column) if tree.line else ()
        return tree.data, place, [
            shape(each) if isinstance(each, lalr.Tree) else each and fields(each)
            for each in tree.children]

    try:
        return shape(lalr.read(text, "file", Newlines().process))
    except (lalr.Unread, SyntaxFault):
        return None


def fields(token: Token | lalr.Token) -> tuple[object, ...]:
    return (token.type, str(token), token.start_pos, token.line, token.column, token.end_line,
            token.end_column, token.end_pos)


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda p: p.stem)
def test_trees_are_those_of_lark(path: Path) -> None:
    text = parse.read_source(path).text
    tree = shape_by_lark(text)
    assert tree is not None
    assert shape_without(text) == tree


def test_what_lark_does_not_read_nobody_reads() -> None:
    """A program of every statement, in which one token is left out, or another put in its place."""
    draw = random.Random(1)
    text = EVERY_STATEMENT
    tokens = [*Newlines().process(lalr._tokens(text, lalr.tables()))]
    assert shape_without(text) == shape_by_lark(text) is not None
    read = 0
    for token in draw.sample(tokens, 150):
        for put in ("", f" {draw.choice(tokens)} ", draw.choice("$é\n;'\"")):
            changed = text[:token.start_pos] + put + text[token.end_pos:]
            tree = shape_by_lark(changed)
            assert shape_without(changed) == tree, (token, put)
            read += tree is not None
    assert 20 < read < 400


def test_loading_the_tables_does_not_build_them() -> None:
    code = (
        "import time; start = time.process_time()\n"
        "from dlc.frontend.text import by_lark\nby_lark.parser()\n"
        "print(time.process_time() - start)"
    )
    seconds = min(
        float(
            subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
            ).stdout
        )
        for _ in range(3)
    )
    assert seconds < 0.2


EVERY_STATEMENT = '''"""Doc."""
import nn
import "other.dl"
const A: f32[2, 2] = [[1, 2], [3, 1_000.5e-3],]
fn several(x: f32[N, 3], y: int = 3) -> (f32[N], i32[N]) where N % 2 == 0, y <= N
    = x[:, 0] |> nn.f(2)
fn block(x: sparse f32[*S, 3]) -> f32 {
    """Doc."""
    a, b = x, y
    a += 1
    x.y[0].w := not a < b <= 3 and true or false
    if a { } else if b { } else { return 1 }
    for t, o in zip(a, b[:-1]) { t = o }
    scan x, m in xs, range(3) carry h = 0, c = 1 {
        yield h as hs
    }
    while a > b
    carry a = 1 { a = 2 ** -3 ** 2 }
    minimize loss with adam(lr=0.1, ), over=(w, b), clip_norm=1.0, every=4
    assert a == b, "text {x}"
    print("x {x}")
    on "cuda:0" { y = x[..., None, 1:2:3, ::2, :] }
    z = [f(i)[0].g for i in range(3)]
    z = []
    _ = layers[0].fit(x)
    return x if a else -inf @ b.T // 3, i32(4),
}
model M(a: int, b: f32[O, I] = 3) where a % 2 == 0 {
    """Doc."""
    param w: f32[a, O] = normal(stddev=0.1)
    state s: f32 = 0.0
    member = [nn.Dense(1, a), M(1, 2)] if a else nn.Identity()
    fn forward(x: f32[N, a]) -> f32[N, a] = x
    step fit(x: f32[N, a]) { w := x }
    step other(x: f32[N, a]) -> f32 = fit(x)
}
optimizer sgd(lr: f32 = 0.1) for p: float[*S], g: float[*S] {
    """Doc."""
    state v: float[*S] = zeros()
    p -= lr * g
}
train M(3, b=4) {
    data = "mnist", step = fit, test = e,
    phase one { epochs = 3, lr = 0.1 * progress, }
    phase two { epochs = 3
    }
}
test "one" { assert true, "x" }
'''


def test_a_newline_before_a_closing_bracket_ends_nothing() -> None:
    broken = "fn f(\n    x: f32[\n        N\n    ]\n) -> f32 = g(\n    x[\n        0\n    ]\n)\n"
    flat = "fn f(x: f32[N]) -> f32 = g(x[0])\n"
    assert same_meaning(tree_of(broken), tree_of(flat))


def test_every_statement_of_the_language_parses() -> None:
    text = syntax.dump(tree_of(EVERY_STATEMENT))
    kinds = (
        "Import Const Function Model Variable Member Optimizer Train Setting Phase Test "
        "Assign Update Return Yield For If Scan While Carried Minimize Assert Print On "
        "Choice Slice Ellipsis NewAxis Comprehension Tuple List Cast "
        "Comparison Rest TupleTypeExpr"
    ).split()
    assert [kind for kind in kinds if f"{kind} " not in text] == []


@pytest.mark.parametrize(
    "text",
    [
        EVERY_STATEMENT.replace("\n", "\r\n"),
        "\ufeff" + EVERY_STATEMENT,
        EVERY_STATEMENT.replace("    ", "\t"),
    ],
    ids=["CRLF", "BOM", "tabs"],
)
def test_line_ends_tabs_and_byte_order_marks_do_not_matter(text: str) -> None:
    def shape(tree: syntax.File) -> str:
        return "\n".join(line.partition("@")[0] for line in syntax.dump(tree).split("\n"))

    source = parse.decode_source(text.encode(), "t.dl")
    one_doc = EVERY_STATEMENT
    assert shape(parse.parse_source(source)) == shape(tree_of(one_doc))


def test_precedence() -> None:
    def shown(text: str) -> str:
        return _shape(parse.parse_expression(text, "t.dl"))

    assert shown("-x ** 2") == "(- (x ** 2))"
    assert shown("2 ** -3 ** 2") == "(2 ** (- (3 ** 2)))"
    assert shown("a - b - c") == "((a - b) - c)"
    assert shown("a + b @ c * d") == "(a + ((b @ c) * d))"
    assert shown("not a or b and c") == "((not a) or (b and c))"
    assert shown("x |> f |> g if c else d") == "(g(f(x)) if c else d)"


def _shape(e: syntax.Syntax) -> str:
    match e:
        case syntax.Name(_, text):
            return text
        case syntax.Number(_, value):
            return str(value)
        case syntax.Unary(_, operator, operand):
            return f"({operator} {_shape(operand)})"
        case syntax.Binary(_, operator, left, right):
            return f"({_shape(left)} {operator} {_shape(right)})"
        case syntax.Call(_, function, arguments):
            return f"{_shape(function)}({', '.join(_shape(a.value) for a in arguments)})"
        case syntax.Choice(_, condition, then, otherwise):
            return f"({_shape(then)} if {_shape(condition)} else {_shape(otherwise)})"
    raise AssertionError(e)


def test_positions_are_exact() -> None:
    tree = tree_of("fn f(x: f32) -> f32 =\n    x @\n    (1 + x)\n")
    function = tree.definitions[0]
    assert isinstance(function, syntax.Function)
    body = function.body
    assert isinstance(body, syntax.Binary)
    assert (body.at.line, body.at.column, body.at.end_column) == (2, 7, 8)
    assert (body.right.span.line, body.right.span.column) == (3, 6)
    assert function.name.span.column == 4


def test_errors_of_several_definitions_are_told_together() -> None:
    text = "fn a(x f32) -> f32 = x\nfn b(x: f32) -> f32 = x x\nfn c(x: f32) -> f32 = x\n"
    assert errors_of(text + "model where { }\n") == [
        "missing-type 1:8",
        "syntax 2:25",
        "reserved-word 4:7",
    ]


def test_unclosed_brackets_name_the_one_that_was_opened() -> None:
    assert errors_of("fn f(x: f32) -> f32 {\n    return x\n\nfn g() -> f32 = 1\n") == [
        "unclosed-bracket 1:21"
    ]
    model = "model A {\n    step f(x: f32) {\n    fn g(x: f32) -> f32 = (x\n}\n"
    assert errors_of(model) == ["unclosed-bracket 2:20"]
    assert errors_of("fn f(x: f32[N, 3) -> f32 = x\n") == ["mismatched-bracket 1:17"]


@pytest.mark.parametrize(
    "text",
    [
        "fn f(x: f32) -> f32 = " + "(" * 100_000 + "x" + ")" * 100_000,
        "fn f(x: f32) -> f32 = " + "-" * 100_000 + "x",
        "fn f(x: f32) -> f32 = x" + " + x" * 50_000,
        "fn f(x: f32) -> f32 = " + "[" * 100_000,
        "fn f(x: f32) -> f32 = " + "a if b else " * 20_000 + "x",
        "fn f(x: f32) -> f32 {" + "if a { } else " * 20_000 + "{ }\n return x }",
        "fn f(x: f32) -> f32 = " + "9" * 100_000,
        "fn " * 50_000,
        '"' * 100_001,
        "\t\v\f" * 50_000,
    ],
    ids=range(10),
)
def test_what_is_deep_or_long_ends_in_a_diagnostic(text: str) -> None:
    start = time.monotonic()
    assert len(errors_of(text)) >= 1
    assert time.monotonic() - start < 30


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"fn f\xff", "byte 0xff is not UTF-8"),
        (b"fn\0", "NUL"),
        (b"# " + b"x" * (1 << 20), "1 MiB"),
    ],
    ids=["UTF-8", "NUL", "large"],
)
def test_what_is_no_text_is_refused(data: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "t.dl"
    path.write_bytes(data)
    with pytest.raises(UserError, match=said):
        parse.parse_file(path)


@pytest.mark.parametrize("name", ["missing.dl", ".", "a\0b"])
def test_what_can_not_be_opened_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="file"):
        parse.parse_file(tmp_path / name)
