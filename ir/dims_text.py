"""Dims read from text; printing is `str(dim)`."""

from __future__ import annotations

import re

from dlc.ir.dims import Dim, floordiv, maximum, minimum, mod, symbol

_TOKEN = re.compile(r"\s*(//|[-+*%(),]|\d+|[A-Za-z_][\w.]*)")


def parse_dim(text: str) -> Dim:
    """The dim that `text` writes down, as `str(dim)` prints it; ValueError for anything else."""
    tokens: list[str] = []
    at = 0
    text = text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ValueError(f"not a dim: {text!r}")
        tokens.append(match[1])
        at = match.end()
    dim, rest = _parse_sum(tokens, 0)
    if rest != len(tokens):
        raise ValueError(f"not a dim: {text!r}")
    return dim


def _parse_sum(tokens: list[str], at: int) -> tuple[Dim, int]:
    left, at = _parse_product(tokens, at)
    while at < len(tokens) and tokens[at] in "+-":
        right, after = _parse_product(tokens, at + 1)
        left = left + right if tokens[at] == "+" else left - right
        at = after
    return left, at


def _parse_product(tokens: list[str], at: int) -> tuple[Dim, int]:
    left, at = _parse_atom(tokens, at)
    while at < len(tokens) and tokens[at] in ("*", "//", "%"):
        right, after = _parse_atom(tokens, at + 1)
        if tokens[at] == "*":
            left = left * right
        else:
            left = floordiv(left, right) if tokens[at] == "//" else mod(left, right)
        at = after
    return left, at


def _parse_atom(tokens: list[str], at: int) -> tuple[Dim, int]:
    if at >= len(tokens):
        raise ValueError("a dim ends too early")
    token = tokens[at]
    if token == "-":
        value, after = _parse_product(tokens, at + 1)
        return -value, after
    if token == "(":
        value, after = _parse_sum(tokens, at + 1)
        return value, after + 1
    if token in ("max", "min") and tokens[at + 1 : at + 2] == ["("]:
        left, after = _parse_sum(tokens, at + 2)
        right, after = _parse_sum(tokens, after + 1)
        return (maximum if token == "max" else minimum)(left, right), after + 1
    if token.isdigit():
        return int(token), at + 1
    if not (token[0].isalpha() or token[0] == "_"):
        raise ValueError(f"unexpected {token!r} in a dim")
    return symbol(token), at + 1
