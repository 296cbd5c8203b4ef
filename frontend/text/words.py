"""The words of the language, taken from the grammar: for highlighters and whoever asks for them.

The parser needs no list of its own: what the grammar's terminals say is a word is reserved.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

from dlc.frontend.text import syntax
from dlc.frontend.text.by_lark import terminals
from dlc.frontend.text.parse import parse_file

# Constants by name, and what is known only in a step or a `train` block: see `elaborate`.
NAMED_CONSTANTS: Final = ("epoch", "inf", "nan", "pi", "progress", "training")
_VALUES: Final = ("FALSE", "NONE", "TRUE")
_TYPES: Final = ("INT", "SPARSE")
_PRELUDE: Final = Path(__file__).parents[1] / "library" / "prelude.dl"


@cache
def keywords() -> tuple[str, ...]:
    """Reserved words that are neither types nor values."""
    found = terminals()
    kept = set(found) - {*_VALUES, *_TYPES}
    return tuple(sorted(found[name] for name in kept if found[name].isidentifier()))


@cache
def values() -> tuple[str, ...]:
    """`true`, `false` and `None`."""
    return tuple(sorted(terminals()[name] for name in _VALUES))


@cache
def types() -> tuple[str, ...]:
    """Element types, the two that stand for several of them, `int` and `sparse`."""
    found = terminals()
    dtypes = found["DTYPE"].removesuffix(r"\b")[1:-1].split("|")
    return tuple(sorted([*dtypes, *(found[name].removesuffix(r"\b") for name in _TYPES)]))


@cache
def functions() -> tuple[str, ...]:
    """What can be called without an import: the compiler's functions and those of the prelude."""
    from dlc.frontend.elaborate.builtins import BUILTINS

    prelude = parse_file(_PRELUDE)[1].definitions
    kinds = (syntax.Function, syntax.Optimizer)
    return tuple(sorted({*BUILTINS, *(d.name.text for d in prelude if isinstance(d, kinds))}))


def number() -> str:
    """The pattern of a number."""
    return terminals()["NUMBER"]


def alternatives(words: tuple[str, ...]) -> str:
    """The pattern of any of these words, whole."""
    return rf"\b(?:{'|'.join(words)})\b"
