"""What the text forms below the Graph share: a scanner with places for errors, and small printers.

White space only parts words. A dim needs no bracket around it: two operands never stand side by
side in one, so the first word that is no operator ends it (`k<N where k >= 1`).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Final, NoReturn, TypeVar

from dlc.ir.dims import Dim
from dlc.ir.dims_text import parse_dim
from dlc.ir.graph import Loc
from dlc.ir.notation import quoted
from dlc.ir.parse import TextError
from dlc.ir.types import DTYPES, DType

T = TypeVar("T")
WIDTH: Final = 100
"""Lines longer than this are broken at commas."""

_STRING = r'"(?:[^"\\\n]|\\.)*"'
_TOKEN = re.compile(
    rf"""(?P<loc>(?:{_STRING}|[\w./\-]*[A-Za-z_/][\w./\-]*):\d+:\d+)
    |(?P<string>{_STRING})
    |(?P<number>\d+(?:\.\d+)?(?:[eE][-+]?\d+)?(?![\w.]))
    |(?P<word>[A-Za-z_][\w.]*)
    |(?P<mark>[@#]\w+)
    |(?P<sign>//|[=<>]=|[-+*/%(){{}}\[\],:=<>@])""",
    re.VERBOSE,
)
_SPACE = re.compile(r"\s*")
_PLAIN = re.compile(r"[A-Za-z_][\w.]*")
_OPERATORS = frozenset({"+", "-", "*", "//", "%"})
_CONSTANTS: dict[str, float] = {"nan": math.nan, "inf": math.inf, "true": True, "false": False}

# Words with a meaning of their own; as names they are printed in quotes.
RESERVED: Final = frozenset({
    *_CONSTANTS, *DTYPES, "sum", "max", "min", "argmax", "argmin", "tree", "over", "where", "else",
    "seq", "carry", "reverse", "opaque", "local", "outer", "doc", "alloc", "let", "if", "for",
    "to", "step", "doubling", "next", "mask", "index", "splat", "lanes", "zeroed", "const",
    "of", "chunks", "kernel", "schedule", "loops", "program", "data", "require", "buffer", "launch",
    "check", "commit", "alias", "alive", "above", "exchange", "from", "alike",
})

dim_of = lru_cache(4096)(parse_dim)


class Scanner:
    """The tokens of a text, taken one by one. Whatever does not fit is a TextError with a place."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[tuple[str, str, int]] = []  # kind, text, offset
        self.at = 0
        offset = _skip(text, 0)
        while offset < len(text):
            match = _TOKEN.match(text, offset)
            if match is None:
                self.fail(f"unexpected {text[offset]!r}", offset)
            self.tokens.append((match.lastgroup or "", match[0], offset))
            offset = _skip(text, match.end())
        self.tokens.append(("end", "the end", len(text)))

    @property
    def kind(self) -> str:
        """The kind of the next token: loc, string, number, word, mark, sign or end."""
        return self.tokens[self.at][0]

    @property
    def word(self) -> str:
        """The next token."""
        return self.tokens[self.at][1]

    @property
    def after(self) -> str:
        """The token after the next one."""
        return self.tokens[min(self.at + 1, len(self.tokens) - 1)][1]

    def fail(self, message: str, offset: int | None = None) -> NoReturn:
        """TextError at the next token, or at an offset."""
        place = self.tokens[self.at][2] if offset is None else offset
        line = self.text.count("\n", 0, place) + 1
        column = place - self.text.rfind("\n", 0, place)
        raise TextError(f"line {line}, column {column}: {message}")

    def take(self, word: str) -> bool:
        """Takes `word` if it comes next (in quotes it is a name, and not taken)."""
        if self.word != word:
            return False
        self.at += 1
        return True

    def expect(self, word: str) -> None:
        """Takes `word`."""
        if not self.take(word):
            self.fail(f"expected {word!r}, found {self.word!r}")

    def next(self, kind: str) -> str:
        """Takes a token of a kind."""
        if self.kind != kind:
            self.fail(f"expected a {kind}, found {self.word!r}")
        self.at += 1
        return self.tokens[self.at - 1][1]

    def end(self) -> None:
        """The text ends here."""
        if self.kind != "end":
            self.fail(f"expected the end, found {self.word!r}")

    def string(self) -> str:
        """A string in quotes, without them."""
        return self._unquoted(self.next("string"), self.tokens[self.at - 1][2])

    def _unquoted(self, token: str, offset: int) -> str:
        try:
            return str(json.loads(token))
        except ValueError:
            self.fail(f"{token} is no string", offset)

    def at_name(self) -> bool:
        """Whether a name comes next."""
        return self.kind == "string" or (self.kind == "word" and self.word not in RESERVED)

    def name(self) -> str:
        """A name: a word that is not reserved, or a string."""
        if not self.at_name():
            self.fail(f"expected a name, found {self.word!r}")
        return self.string() if self.kind == "string" else self.next("word")

    def items(self, read: Callable[[], T]) -> tuple[T, ...]:
        """One or more, parted by commas."""
        found = [read()]
        while self.take(","):
            found.append(read())
        return tuple(found)

    def bracketed(self, opening: str, closing: str, read: Callable[[], T]) -> tuple[T, ...]:
        """Items in brackets, perhaps none."""
        self.expect(opening)
        if self.take(closing):
            return ()
        found = self.items(read)
        self.expect(closing)
        return found

    def integer(self) -> int:
        """An int, perhaps negative."""
        sign = -1 if self.take("-") else 1
        if self.kind != "number" or not self.word.isdigit():
            self.fail(f"expected a whole number, found {self.word!r}")
        return sign * int(self.next("number"))

    def at_number(self) -> bool:
        """Whether a number comes next."""
        ahead = self.at + (self.word == "-")
        kind, word, _ = self.tokens[min(ahead, len(self.tokens) - 1)]
        return kind == "number" or word in _CONSTANTS

    def number(self) -> float:
        """An int, a float or a bool, as `value_text` prints it."""
        if not self.at_number():
            self.fail(f"expected a number, found {self.word!r}")
        negative = self.take("-")
        word = self.word
        self.at += 1
        value = _CONSTANTS[word] if word in _CONSTANTS else (
            int(word) if word.isdigit() else float(word))
        return -value if negative else value

    def dtype(self) -> DType:
        """The name of an element type."""
        if self.word not in DTYPES:
            self.fail(f"expected an element type, found {self.word!r}")
        return DTYPES[self.next("word")]

    def dim(self) -> Dim:
        """A size or an index expression."""
        first = self.tokens[self.at][2]
        self._operand()
        while self.word in _OPERATORS:
            self.at += 1
            self._operand()
        _, last, offset = self.tokens[self.at - 1]
        try:
            return dim_of(self.text[first:offset + len(last)])
        except ValueError as error:
            self.fail(str(error), first)

    def _operand(self) -> None:
        while self.take("-"):
            pass
        if self.word == "(":
            self._parentheses()
        elif self.kind in ("word", "number"):
            call = self.word in ("max", "min") and self.after == "("
            self.at += 1
            if call:
                self._parentheses()
        else:
            self.fail(f"expected a size or an index expression, found {self.word!r}")

    def _parentheses(self) -> None:
        depth = 0
        while True:
            if self.kind == "end":
                self.fail("a parenthesis is not closed")
            depth += (self.word == "(") - (self.word == ")")
            self.at += 1
            if not depth:
                return

    def places(self) -> tuple[Loc, ...]:
        """`@loc(file:line:column < caller, …)`, or nothing."""
        return self.bracketed("(", ")", self._place) if self.take("@loc") else ()

    def _place(self) -> Loc:
        offset = self.tokens[self.at][2]
        file, line, column = self.next("loc").rsplit(":", 2)
        name = self._unquoted(file, offset) if file.startswith('"') else file
        caller = self._place() if self.take("<") else None
        return Loc(name, int(line), int(column), caller)

    def path(self) -> str:
        """`@path("…")`, or nothing."""
        if not self.take("@path"):
            return ""
        self.expect("(")
        path = self.string()
        self.expect(")")
        return path


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at



def name_text(name: str) -> str:
    """A name, in quotes where it would read as something else."""
    return name if name not in RESERVED and _PLAIN.fullmatch(name) else quoted(name)


def names_text(names: Iterable[str]) -> str:
    """Names with commas."""
    return ", ".join(map(name_text, names))






def joined(before: str, items: list[str], after: str, indent: str) -> list[str]:
    """`before item, item after` on one line, or broken after commas where that is too long."""
    whole = f"{before}{', '.join(items)}{after}"
    if len(whole) <= WIDTH or len(items) < 2:
        return [whole]
    lines, line = [], before
    for item in items[:-1]:
        if line.strip() and len(line) + len(item) + 1 > WIDTH:
            lines.append(line.rstrip())
            line = indent
        line += f"{item}, "
    if len(line) + len(items[-1]) + len(after) > WIDTH:
        lines.append(line.rstrip())
        line = indent
    return [*lines, f"{line}{items[-1]}{after}"]


def wrapped(first: str, parts: list[str], indent: str) -> list[str]:
    """`first` and parts with spaces between, broken before the parts that do not fit."""
    lines = [first]
    for part in parts:
        if len(lines[-1]) + 1 + len(part) > WIDTH:
            lines.append(f"{indent}{part}")
        else:
            lines[-1] += f" {part}"
    return lines


__all__ = ["RESERVED", "WIDTH", "Scanner", "TextError", "joined", "name_text", "names_text",
           "wrapped"]
