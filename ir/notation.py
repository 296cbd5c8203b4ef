"""What all text forms write alike: numbers, quoted strings, places."""

from __future__ import annotations

import json
import math
import re
from typing import Final

from dlc.ir.graph import Loc

_PLAIN_FILE: Final = re.compile(r"[\w./\-]*[A-Za-z_/][\w./\-]*")


def number_text(value: float) -> str:
    """The shortest decimal that reads back as `value`, or `nan`, `inf`, `-inf`; ints as such."""
    if isinstance(value, int):
        return str(value)
    return "nan" if math.isnan(value) else float.__repr__(value)


def value_text(value: float) -> str:
    """A number that reads back as one of its type: bool, int or float."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return number_text(value)


def quoted(text: str) -> str:
    """A string in quotes, on one line."""
    return json.dumps(text, ensure_ascii=False)


def places_text(locs: tuple[Loc, ...]) -> str:
    """` @loc(…)`, or nothing."""
    return f" @loc({', '.join(map(_place_text, locs))})" if locs else ""


def path_text(path: str) -> str:
    """` @path("…")`, or nothing."""
    return f" @path({quoted(path)})" if path else ""


def _place_text(loc: Loc) -> str:
    file = loc.file if _PLAIN_FILE.fullmatch(loc.file) else quoted(loc.file)
    here = f"{file}:{loc.line}:{loc.column}"
    return f"{here} < {_place_text(loc.caller)}" if loc.caller else here
