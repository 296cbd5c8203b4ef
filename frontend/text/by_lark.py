"""What lark does: it makes the tables of the grammar, and trees in which every token is; and it
reads a text that is wrong, to tell what could have stood there.

The LALR tables are built from grammar.lark once, when the grammar changes, and shipped: for lark
in grammar.json, for `lalr.py` in lalr.json. Building them takes longer than parsing most programs.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any, Final

from lark import Lark, Token, Tree, UnexpectedInput
from lark.grammar import Rule
from lark.parse_tree_builder import maybe_create_child_filter

from dlc.frontend.text import lalr
from dlc.frontend.text.grammar_tables import in_canonical_form
from dlc.frontend.text.newlines import Newlines, SyntaxFault
from dlc.frontend.text.syntax_errors import explain
from dlc.ir.diagnostics import Diagnostic, SourceFile

_FOLDER: Final = Path(__file__).parent
_LOCK: Final = threading.Lock()  # `Newlines` keeps what it has seen: one text at a time


def concrete_tree(source: SourceFile) -> Tree[Token]:
    """Lark's tree of a text that parses, with every token in it; `Newlines` adds its `_NL`.

    No rule drops a token here, so that what is written can be written again.
    """
    with _LOCK:
        return parser(True).parse(source.text, start="file")


def explanation(text: str, name: str, start: str) -> Diagnostic:
    """The first thing that is wrong with a text."""
    made = parser()
    newlines = made.options.postlex
    assert isinstance(newlines, Newlines)
    with _LOCK:
        newlines.file = name
        try:
            made.parse(text, start=start)
        except SyntaxFault as fault:
            return fault.diagnostic
        except UnexpectedInput as error:
            return explain(error, name, text, newlines.before)
    raise AssertionError("lalr.json is not of this grammar")


# The tables


def terminals() -> dict[str, str]:
    """The pattern of each terminal of the grammar; for a word of the language, the word."""
    return {str(each.name): str(each.pattern.value) for each in parser().terminals}


def build_parser() -> Lark:
    """The parser made from grammar.lark (takes some 0.2 s)."""
    return Lark(
        (_FOLDER / "grammar.lark").read_text(), parser="lalr", lexer="basic",
        start=["file", "expression"], propagate_positions=True, maybe_placeholders=True,
        postlex=_newlines(),
    )


def _newlines() -> Any:
    return Newlines(token=Token)  # type: ignore[arg-type]


def tables() -> str:
    """What grammar.json holds for grammar.lark as it is now."""
    from lark.lark import LarkOptions

    data, memo = build_parser().memo_serialize(_memoized())
    options = data["options"]
    kept = {k: v for k, v in options.items() if v != LarkOptions._defaults.get(k)}
    del kept["postlex"]
    data["options"] = kept
    made = in_canonical_form(json.loads(json.dumps({"data": data, "memo": memo})))
    return json.dumps(made, separators=(",", ":"), sort_keys=True) + "\n"


def _memoized() -> list[type]:
    from lark.lexer import TerminalDef

    return [TerminalDef, Rule]


@cache
def parser(every_token: bool = False) -> Lark:
    """That of the shipped tables; it may leave no token out of its trees."""
    loaded = json.loads((_FOLDER / "grammar.json").read_text())
    table = loaded["data"]["parser"]["parser"]
    # JSON's keys are strings: the numbers of states and terminals are made numbers again.
    table["tokens"] = {int(k): v for k, v in table["tokens"].items()}
    table["states"] = {
        int(state): {int(k): v for k, v in row.items()} for state, row in table["states"].items()
    }
    memo = {int(k): v for k, v in loaded["memo"].items()}
    for each in memo.values() if every_token else ():
        if each["__type__"] == "Rule":
            each["options"]["keep_all_tokens"] = True
    made: Lark = Lark._load_from_dict(  # type: ignore[no-untyped-call]
        loaded["data"], memo, postlex=_newlines()
    )
    return made


def short_tables() -> str:
    """What lalr.json holds for grammar.json as it is now."""
    made: Any = parser()
    table, lexer = made.parser.parser._parse_table, made.parser.lexer.lexer
    rules = sorted(made.rules, key=_order)
    numbers = {rule: number for number, rule in enumerate(rules)}
    rows, otherwise = zip(
        *(_row(table.states[state], numbers) for state in range(len(table.states))), strict=True)
    (pattern,) = lexer.scanner._mres
    short = lalr.Tables(
        pattern.pattern, _words(lexer), sorted(lexer.ignore_types), sorted(lexer.newline_types),
        [_rule(rule) for rule in rules], list(rows), list(otherwise), table.start_states,
        table.end_states)
    return json.dumps(short, separators=(",", ":"), sort_keys=True) + "\n"


def _order(rule: Rule) -> str:
    return f"{rule.origin.name} {[each.name for each in rule.expansion]}"


def _row(actions: dict[str, Any], numbers: dict[Rule, int]) -> tuple[dict[str, int], int]:
    """The actions of a state, and the rule that most of them are."""
    found = {
        name: ~numbers[argument] if isinstance(argument, Rule) else argument
        for name, (_, argument) in actions.items()
    }
    most = Counter(action for action in found.values() if action < 0).most_common(1)
    chosen = most[0][0] if most else 0
    return {name: action for name, action in found.items() if action != chosen}, chosen


def _rule(rule: Rule) -> lalr.Rule:
    """A rule as `lalr.py` has it. Where a rule takes a token away and passes the rest on, lark's
    places would be others: there is none."""
    made = maybe_create_child_filter(
        rule.expansion, rule.options.keep_all_tokens, False, list(rule.options.empty_indices))
    name, size = str(rule.origin.name), len(rule.expansion)
    alone = bool(rule.options.expand1 and not rule.alias)
    if alone and size == 1 and made is None:
        return lalr.Rule(name, 1, "", None, True)
    shape = None if made is None else _shape(*made.args)
    assert not alone or shape is None or len(shape) > 1
    return lalr.Rule(name, size, str(rule.alias or name), shape, alone)


def _shape(places: list[tuple[int, ...]], nones: int = 0) -> list[int]:
    shape: list[int] = []
    for at, holds, *before in places:
        shape += [-1] * sum(before) + [2 * at + holds]
    return shape + [-1] * nones


def _words(lexer: Any) -> dict[str, dict[str, str]]:
    """By terminal, the texts that it matches and that are words of the language."""
    found: dict[str, dict[str, str]] = {}
    texts = [str(each.pattern.value) for each in lexer.terminals if each.pattern.type == "str"]
    for name, change in lexer.callback.items():
        changed = {text: str(change(Token(name, text)).type) for text in texts}
        found[str(name)] = {text: kind for text, kind in changed.items() if kind != name}
    return found


def write() -> None:
    """Writes both files anew."""
    (_FOLDER / "grammar.json").write_text(tables())
    parser.cache_clear()
    lalr.TABLES.write_text(short_tables())
