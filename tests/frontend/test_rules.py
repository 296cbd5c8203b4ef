"""The rules of docs/language.md by their numbers: names and their scopes (1 to 10).

Rules about indices and single builtins are tested where those are.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dlc.frontend.elaborate.check import check_program
from dlc.frontend.elaborate.modules import load_program, program_of
from dlc.ir.diagnostics import UserError
from dlc.ir.interpret import run_graph
from tests.frontend.programs_in_text import Both, Running, error, errors, functions

X = np.arange(6, dtype=np.float32).reshape(3, 2)


def test_rule_01_locals_then_members_then_the_file_then_the_prelude() -> None:
    model = Running("""
fn relu(x: f32) -> f32 = x + 100.0
model Part {
    param a: f32 = 1.0
    fn forward(x: f32) -> f32 = a * x
}
model M {
    param a: f32 = 2.0
    part = Part()
    fn of_part(x: f32) -> f32 = part(x) + part.a
    fn own(x: f32) -> f32 = relu(a * x)
    fn hidden(x: f32) -> f32 { relu = x  return relu }
}
""".replace("{ relu = x  return relu }", "{\n relu = x\n return relu\n }"))
    assert [float(model(f, x=3.0)[0]) for f in ("of_part", "own", "hidden")] == [4, 106, 3]
    assert error("model A {\n param w: f32 = 1.0\n b = B()\n}\nmodel B {\n fn f() -> f32 = w\n}\n"
                 ).startswith("6: there is no `w` here")


@pytest.mark.parametrize("statement", [
    "w = x", "k = x", "scan w in range(3) carry s = x {\n s = s\n }",
    "scan i in range(3) carry w = x {\n w = w\n }",
    "scan i in range(3) {\n yield x as w\n }", "for w in range(2) { }", "w, y = x, x",
    "y = [x for w in range(2)]",
])
def test_rule_02_a_local_never_hides_a_member(statement: str) -> None:
    found = error("model M(k: int) {\n param w: f32 = 1.0\n step f(x: f32) -> f32 {\n "
                  f"{statement}\n return x\n }}\n}}\n")
    assert " = …` would hide the `" in found
    if statement == "w = x":
        assert "`w := …` updates it" in found


def test_rule_02_nor_does_a_parameter() -> None:
    assert error("model M {\n param w: f32 = 1.0\n fn f(w: f32) -> f32 = w\n}\n").startswith(
        "3: the parameter `w` would hide")
    assert error("fn f() -> f32 = 1.0\nfn f() -> f32 = 2.0\n").startswith("2: `f` is defined twice")
    assert error("fn f(x: f32, x: f32) -> f32 = x\n").startswith(
        "1: the parameter `x` is defined twice")
    assert error("model M(k: int, k: int) { }\n").startswith(
        "1: the parameter `k` is defined twice")


def test_rule_02_symbols_are_not_hidden_and_submodels_not_updated() -> None:
    for name, kind in (("N", "f32[N]"), ("S", "f32[*S]")):
        assert error(f"fn f(x: {kind}) -> f32 {{\n {name} = 1.0\n return {name}\n}}\n") == (
            f"2: `{name} = …` would hide the symbol `{name}` | give it another name")
    assert error("model A { }\nmodel M {\n a = A()\n step f() {\n a = 1\n }\n}\n").endswith(
        "of the model | give it another name")


def test_rule_03_all_right_sides_come_first() -> None:
    model = Running("""
model M {
    state n: f32 = 5.0
    step f(a: f32, b: f32) -> (f32, f32, f32) {
        a, b = b, a + b
        a += 10.0
        n -= 2.0
        n *= 3.0
        return a, b, n
    }
}
""")
    assert [float(v) for v in model("f", a=1.0, b=2.0)] == [12, 3, 9]
    assert model.variables["n"] == 9


BRANCHES = """
fn f(x: f32[N]) -> (f32[N], f32) {
    for k in range(2) { x = x + 1.0 }
    y = 1
    if sum(x) > 0.0 {
        y = 2.0
        z = sum(x)
        x = -x
    } else if sum(x) < -10.0 {
        z = -1.0
    } else {
        z = 0.5
    }
    on "cpu" { z = z + y }
    return x, z
}
"""


@pytest.mark.parametrize(("x", "right"), [([1, 2], (-3, 9)), ([-9, -9], (-7, 0)),
                                          ([-3, -2], (-1, 1.5))])
def test_rule_04_blocks_open_no_scope(x: list[int], right: tuple[float, float]) -> None:
    first, z = Both(BRANCHES)("f", x=np.array(x, np.float32))
    assert (first[0], z) == right


def test_rule_04_a_name_is_known_after_if_from_both_branches_and_of_one_type() -> None:
    text = "fn f(x: f32, c: bool) -> f32 {\n if c {\n y = x\n } else {\n OTHER\n }\n return y\n}\n"
    found = error(text.replace("OTHER", "z = x"))
    assert found.startswith("7: `y` is not given in both branches of an `if`")
    assert "program.dl:2:2" in found
    found = error(text.replace("OTHER", "y = i32(x)"))
    assert found.startswith("2: `y` is not of one type after this `if`")
    assert "in the second branch: i32" in found
    assert errors(text.replace("OTHER", "y = 0")) == []


def test_rule_05_bodies_of_loops_are_scopes() -> None:
    text = "fn f(x: f32[T]) -> f32 {\n n = 0.0\n s = 1.0\n LOOP\n return s\n}\n"
    found = error(text.replace("LOOP", "scan y in x carry s = s {\n n = n + y\n s = s + n\n }"))
    assert found.startswith("5: `n` stands outside of this loop")
    assert "`carry n = n`" in found
    assert error(text.replace("LOOP", "scan y in x carry s = s {\n n += y\n }")).startswith(
        "5: `n` stands outside")
    inside = "scan y in x carry s = s {\n t = y\n s = s + t\n }\n s = t"
    assert error(text.replace("LOOP", inside)).startswith(
        "8: there is no `t` here: it ended with a loop | the loop stands at program.dl:4:2")
    assert error(text.replace("LOOP", "while t < 3.0 carry s = s {\n t = s\n s = t\n }")
                 ).startswith("4: there is no `t`")


def test_rule_05_an_inner_loop_gives_the_outer_one_its_next_value() -> None:
    run = Both("""
fn f(x: f32[T, N]) -> (f32, f32[T, N]) {
    scan row in x carry s = 1.0 {
        scan v in row carry s = s {
            s = s * 2.0 + v
            yield s as parts
        }
        yield parts as all
    }
    return s, all
}
""")
    value, parts = 1.0, []
    for v in X.ravel():
        value = value * 2 + v
        parts.append(value)
    s, found = run("f", x=X)
    assert s == value
    np.testing.assert_array_equal(found.ravel(), parts)


@pytest.mark.parametrize(("body", "right"), [
    ("return x\n y = x", "3: nothing after `return`"),
    ("if x > 0.0 {\n return x\n }", "2: `return` stands in one branch"),
    ("scan i in range(3) {\n return x\n }\n return x", "2: `return` can't stand in a"),
    ("for i in range(3) { return x }\n return x", "2: `return` can't stand in a `for`"),
    ("scan i in range(3) {\n for k in range(2) { yield x as ys }\n }\n return x",
     "3: `yield` stands directly"),
    ("scan i in range(3) {\n yield x as ys\n yield x as ys\n }\n return x",
     "4: `ys` is yielded twice"),
    ("scan i in range(3) carry s = x {\n yield x as s\n }\n return x", "3: `s` is carried"),
    ("while s < 3.0 carry s = x {\n yield x as s2\n s = s + 1.0\n }\n return x",
     "3: `yield` stands directly"),
    ("yield x as ys\n return x", "2: `yield` stands directly"),
])
def test_rule_06_where_return_and_yield_stand(body: str, right: str) -> None:
    assert error(f"fn f(x: f32) -> f32 {{\n {body}\n}}\n").startswith(right)


def test_rule_06_both_branches_may_return() -> None:
    run = Both("""
fn f(x: f32, y: f32) -> (f32, f32) {
    if x > 0.0 {
        return x, 1
    } else if y > 0.0 {
        return y, 2
    } else {
        x = x + y
        return x, 3
    }
}
""")
    pairs = [(1, 5), (-1, 5), (-1, -5)]
    found = [run("f", x=np.float32(x), y=np.float32(y)) for x, y in pairs]
    assert [tuple(map(float, each)) for each in found] == [(1, 1), (5, 2), (-6, 3)]


def test_rule_07_the_other_branch_of_a_constant_if_is_not_checked() -> None:
    text = """
const WIDE: bool = false
fn f(x: f32[N]) -> f32[N] {
    if WIDE { x = nonsense(x, 1) } else { x = x * 2.0 }
    return x if not WIDE else x @ x @ x
}
"""
    np.testing.assert_array_equal(run_graph(functions(text)["f"], [X[0]])[0], 2 * X[0])


def test_rule_07_a_choice_that_a_model_s_integers_make_is_made_when_it_is_built() -> None:
    text = """
model M(depth: int) {
    param w: f32 = 3.0
    fn f(x: f32) -> f32 {
        if depth > 1 {
            y = (x, x)[0]
            y = y * w
        } else {
            y = x
            z = i32(y)
        }
        return y
    }
}
"""
    assert [float(Running(text, depth=d)("f", x=2.0)[0]) for d in (1, 2)] == [2, 6]
    assert not any(n.op == "if" for n in Running(text, depth=2).program.functions["f"].nodes)


CONDITIONAL = """
import nn
model M(inputs: int, outputs: int, noisy: bool = false) {
    part = nn.Dense(inputs, outputs)
    short = nn.Identity() if inputs == outputs else nn.Dense(inputs, outputs)
    state n: i32 = 0
    fn by_statement(x: f32[N, inputs]) -> f32[N, outputs] {
        y = part(x)
        if inputs != outputs and not noisy { y = y + 1.0 } else { z = y }
        if not (inputs != outputs) { y = y + x }
        return y
    }
    fn by_expression(x: f32[N, inputs]) -> f32[N, outputs] =
        part(x) + x if inputs == outputs else part(x)
    fn around(x: f32[N, inputs]) -> f32[N, outputs] = part(x) + short(x)
    fn shaped(x: f32[N, inputs]) -> f32 {
        y = x if noisy else x[:, None]
        return sum(y)
    }
    step count() -> i32 {
        n += 1
        return n
    }
    step counted() -> i32 = count() if noisy else 7
}
"""


def test_rule_07_a_side_may_rely_on_what_its_condition_says_of_the_model() -> None:
    square, other = Both(CONDITIONAL, "M", inputs=2, outputs=2), Both(CONDITIONAL, "M", inputs=2,
                                                                      outputs=3)
    for model, added in ((square, X), (other, np.float32(0))):
        y = X @ model.compiled.part.w
        np.testing.assert_allclose(model("by_expression", x=X), y + added, rtol=1e-5, atol=1e-6)
        once = added if model is square else added + 1
        np.testing.assert_allclose(model("by_statement", x=X), y + once, rtol=1e-5, atol=1e-6)
        assert model("shaped", x=X) == X.sum()
        assert model("counted") == 7
    np.testing.assert_allclose(square("around", x=X), X @ square.compiled.part.w + X, rtol=1e-5,
                               atol=1e-6)
    assert Running(CONDITIONAL, inputs=2, outputs=2, noisy=True)("counted")[0] == 1
    assert "outputs is not inputs" in error(CONDITIONAL.replace("inputs == outputs\n", "noisy\n")
                                            .replace("if inputs == outputs else part", "if noisy "
                                                     "else part"))


def test_rule_08_nothing_reaches_itself() -> None:
    found = errors("fn f(x: f32) -> f32 = g(x)\nfn g(x: f32) -> f32 {\n scan i in range(2) carry "
                   "x = x { x = f(x) }\n return x\n}\n")
    assert {d.message for d in found} == {"`f` reaches itself", "`g` reaches itself"}
    found = errors("model A {\n b = B()\n}\nmodel B {\n a = A()\n}\n")
    assert {d.message.split("`")[-1] for d in found} == {" contains itself"}
    found = errors("const A: int = B\nconst B: int = A\n")
    assert {d.message for d in found} == {"the const `A` reaches itself",
                                          "the const `B` reaches itself"}


def test_rule_09_imports(tmp_path: Path) -> None:
    (tmp_path / "a.dl").write_text('import "b.dl"\nfn f() -> f32 = g()\n')
    (tmp_path / "b.dl").write_text('fn g() -> f32 = 1.0\ntest "no" { assert false, "no" }\n')
    main = tmp_path / "main.dl"
    main.write_text('import "a.dl"\nfn h() -> f32 = f()\n')
    load_program(main)
    main.write_text('import "a.dl"\nfn h() -> f32 = g()\n')
    with pytest.raises(UserError, match="there is no `g` here"):
        check_program(load_program(main))
    with pytest.raises(UserError, match="stays in the folder"):
        program_of('import "../a.dl"\n')


def test_rule_10_a_member_given_again_is_the_same_model() -> None:
    model = Running("""
import nn
model M(width: int = 6, heads: int = 2) {
    size = width // heads
    token = nn.Dense(3, 3 * size // size)
    out = token
    parts = [[nn.Dense(3, 3) if k > 0 else nn.Identity() for k in range(2)] for _ in range(2)]
    fn f(x: f32[N, 3]) -> f32[N, 3] = parts[0][1](parts[1][0](out(token(x))))
}
""")
    assert list(model.variables) == ["token.w", "token.b", "parts.0.1.w", "parts.0.1.b",
                                     "parts.1.1.w", "parts.1.1.b"]
    assert error("step f(x: f32) { }\n").startswith("1: a `step` stands in a model")
