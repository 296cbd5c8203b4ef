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
FUNCTIONS: Final = {
    "arange": "`range(n)`", "linspace": "`f32(range(n)) / n`, scaled",
    "broadcast": "`zeros(N, 3) + x`, cast to the type of `x`",
    "broadcast_to": "`zeros(N, 3) + x`, cast to the type of `x`",
    "expand": "`zeros(N, 3) + x`, cast to the type of `x`",
    "repeat": "`x[range(2 * N) % N]` repeats rows", "tile": "`x[range(2 * N) % N]` repeats rows",
    "cat": "`concat((a, b), axis=0)`", "concatenate": "`concat((a, b), axis=0)`",
    "hstack": "`concat((a, b), axis=1)`", "vstack": "`concat((a, b), axis=0)`",
    "chunk": "`split(x, 2, axis=0)`", "clip": "`clamp(x, low, high)`",
    "detach": "`stop_gradient(x)`", "dot": "`a @ b`, or `einsum`", "mm": "`a @ b`",
    "bmm": "`a @ b`", "flatten": "`reshape(x, N, -1)`", "view": "`reshape(x, N, -1)`",
    "gather": "`x[range(N), i]`", "take": "`x[i]`", "take_along_axis": "`x[range(N), i]`",
    "index_select": "`x[i]`", "scatter": "`set_at(x, i, v)`",
    "logsumexp": "`log_sum_exp(x)`", "norm": "`sqrt(sum(x * x, axis=-1))`",
    "normalize": "`unit_rows(x)`", "permute": "`transpose(x, 0, 2, 1)`", "pow": "`x ** n`",
    "power": "`x ** n`", "prod": "a `scan`, or `exp(sum(log(x)))` of positive numbers",
    "rand": "`uniform(N, 3)`", "randn": "`normal(N, 3)`", "randperm": "`permutation(n)`",
    "randint": "`i32(uniform(N, low=0.0, high=10.0))`", "roll": "`x[(range(N) - k) % N]`",
    "sigmoid_cross_entropy": "`binary_cross_entropy(logits, target)`",
    "cross_entropy": "`softmax_cross_entropy(scores, label)`",
    "mse_loss": "`mean_squared_error(x, target)`", "square": "`x ** 2`",
    "squeeze": "`x[:, 0]`", "unsqueeze": "`x[:, None]`", "expand_dims": "`x[:, None]`",
    "std": "`sqrt(var(x, axis=-1))`",
    "swish": "`silu(x)`", "tril": "`x if range(N)[:, None] >= range(N)[None] else 0.0`",
    "triu": "`x if range(N)[:, None] <= range(N)[None] else 0.0`",
    "zeros_like": "`zeros(N, 3)`, with the dims of `x`",
    "ones_like": "`ones(N, 3)`, with the dims of `x`",
}  # what NumPy, PyTorch and JAX call by another name
NAMED: Final = {"dim": "axis", "dims": "axis", "axes": "axis", "keepdim": "keepdims"}
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
