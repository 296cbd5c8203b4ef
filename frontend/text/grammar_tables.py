"""The one form in which grammar.json is written.

Lark numbers states, terminals and rules in the order of Python's sets, which changes from process
to process. Here they are numbered by their content, so that equal grammars give equal bytes.
"""

from __future__ import annotations

import json
from typing import TypeAlias

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Object = dict[str, Json]


def in_canonical_form(made: Object) -> Object:
    """Lark's `{"data": …, "memo": …}` with everything numbered by content."""
    memo, data = _object(made["memo"]), _object(made["data"])
    order = sorted(memo, key=lambda old: json.dumps(memo[old], sort_keys=True))
    places = {int(old): new for new, old in enumerate(order)}
    renumbered = {str(places[int(old)]): value for old, value in memo.items()}
    data = _object(_renumber(data, places))
    parser = _object(data["parser"])
    _sort_references(data, "rules")
    _sort_references(_object(parser["parser_conf"]), "rules")
    _sort_references(_object(parser["lexer_conf"]), "terminals")
    parser["parser"] = _table(_object(parser["parser"]))
    return {"data": data, "memo": renumbered}


def _object(value: Json) -> Object:
    assert isinstance(value, dict)
    return value


def _number(value: Json) -> int:
    assert isinstance(value, int)
    return value


def _renumber(value: Json, places: dict[int, int]) -> Json:
    """Every reference `{"@": n}` by the new numbers."""
    if isinstance(value, list):
        return [_renumber(item, places) for item in value]
    if not isinstance(value, dict):
        return value
    if "@" in value:
        return {"@": places[_number(value["@"])]}
    return {key: _renumber(item, places) for key, item in value.items()}


def _sort_references(holder: Object, key: str) -> None:
    items = holder[key]
    assert isinstance(items, list)
    holder[key] = sorted(items, key=lambda item: _number(_object(item)["@"]))


def _table(table: Object) -> Object:
    """The parse table with terminals by name, and states in the order in which they are reached."""
    names = {old: str(name) for old, name in _object(table["tokens"]).items()}
    numbers = {name: str(new) for new, name in enumerate(sorted(names.values()))}
    rows: dict[int, dict[str, tuple[int, Json]]] = {}
    for state, row in _object(table["states"]).items():
        rows[int(state)] = {names[t]: _action(a) for t, a in sorted(_object(row).items())}
    reached = _reach(rows, [_number(s) for _, s in sorted(_object(table["start_states"]).items())])
    states: Object = {}
    for place, new_place in reached.items():
        states[str(new_place)] = {
            numbers[name]: [kind, argument if kind else reached[_number(argument)]]
            for name, (kind, argument) in rows[place].items()
        }
    return {
        "tokens": {new: name for name, new in numbers.items()},
        "states": states,
        "start_states": _renamed(table["start_states"], reached),
        "end_states": _renamed(table["end_states"], reached),
    }


def _action(value: Json) -> tuple[int, Json]:
    """`(1, rule)` for a reduction, `(0, state)` for a shift."""
    assert isinstance(value, list)
    return _number(value[0]), value[1]


def _reach(rows: dict[int, dict[str, tuple[int, Json]]], starts: list[int]) -> dict[int, int]:
    reached = {state: new for new, state in enumerate(starts)}
    waiting = list(starts)
    for state in waiting:
        for _, (kind, argument) in sorted(rows[state].items()):
            if kind == 0 and _number(argument) not in reached:
                reached[_number(argument)] = len(reached)
                waiting.append(_number(argument))
    return reached


def _renamed(states: Json, reached: dict[int, int]) -> Json:
    return {name: reached[_number(state)] for name, state in _object(states).items()}
