"""What people write who think of another language, or slip: words, signs and characters."""

from __future__ import annotations

from typing import Final, NamedTuple

_FUNCTION: Final = "a function begins with `fn`"
_VALUE: Final = "a name is given a value by `name = value`"
WORDS: Final = {
    "def": _FUNCTION, "func": _FUNCTION, "function": _FUNCTION, "fun": _FUNCTION,
    "lambda": "there are no functions without a name: a definition `fn f(x: f32) -> f32 = …` "
    "stands beside the others",
    "class": "a model begins with `model`", "struct": "a model begins with `model`",
    "from": "write `import nn`, and then `nn.Dense`",
    "elif": "write `else if`", "elsif": "write `else if`",
    "let": _VALUE, "val": _VALUE, "auto": _VALUE,
    "var": f"{_VALUE}; what is kept from call to call is a `state`",
    "mut": f"{_VALUE}; what is kept from call to call is a `state`",
    "pass": "an empty block is `{ }`",
    "break": "there is no `break`: the condition of a `while` ends it",
    "continue": "there is no `continue`: `if` takes what follows, or leaves it out",
    "switch": "write `if … { } else if … { }`", "match": "write `if … { } else if … { }`",
    "try": "nothing is caught: `assert` says what must hold",
    "raise": "`assert condition, \"text\"` stops a program",
    "async": "everything is done in the order of the text", "await": "nothing is waited for",
    "del": "a value that is not used any more takes no memory",
    "global": "a `state` of a model is what is kept and shared",
}
CONSTANTS: Final = {
    "True": "write `true`", "False": "write `false`",
    "None": "there is no `None` but in an index: `x[:, None]`",
    "null": "there is no null: every value has a type",
}
MODULES: Final = ("np", "numpy", "torch", "jnp", "jax", "tf", "tensorflow", "math", "F")
ENDINGS: Final = {
    ("POWER", "="): "`x **= n` is `x = x ** n`", ("DIVIDE", "="): "write `x = x // n` in full",
    ("PLUS", "+"): "write `x += 1`", ("MINUS", "-"): "write `x -= 1`",
}  # an operator, and the sign after it


class Mistake(NamedTuple):
    """The name of an error, and what to do about it."""

    code: str
    help: str


def of_character(char: str) -> Mistake:
    """What a character is that begins no word and no sign of the language."""
    if char in _OPERATORS:
        return Mistake("foreign-operator", _OPERATORS[char])
    return _CHARACTERS.get(char) or Mistake(
        "foreign-character", "names are made of a-z, A-Z, 0-9 and _" if char.isalpha() else "")


_CHARACTERS: Final = {
    "'": Mistake("single-quotes", 'a text stands in double quotes: `"text"`'),
    ";": Mistake("semicolon", "a statement ends with its line: leave the `;` out"),
    "\\": Mistake("backslash", "a line that ends in an operator, or stands inside `( )`, goes on "
                  "by itself"),
}
_OPERATORS: Final = {
    "&": "write `and`", "|": "write `or`", "!": "write `not`", "^": "a power is `x ** n`",
    "?": "write `a if condition else b`", "~": "write `not`",
    "$": "a value stands in a text as `{x}`",
}
