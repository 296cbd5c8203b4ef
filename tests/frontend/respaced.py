"""Programs with the spaces between their tokens drawn at random, for the tests of the formatter."""

from __future__ import annotations

import random

from lark import Token

from dlc.frontend.text.by_lark import concrete_tree
from dlc.frontend.text.format_gaps import tokens_of
from dlc.frontend.text.newlines import CANT_BEGIN, CANT_END
from dlc.ir.diagnostics import SourceFile


class Respaced:
    """A program whose tokens stay.

    With `keep_choices`, what the formatter keeps as written stays too: comments, ends of
    statements, new lines after `{`, `=`, `[` and commas. Without, comments are added anywhere.
    """

    def __init__(self, text: str, draw: random.Random, keep_choices: bool) -> None:
        self.draw, self.keep = draw, keep_choices
        tree = concrete_tree(SourceFile("t.dl", text))
        self.tokens = tokens_of(tree)
        self.ends = {
            token.start_pos
            for each in tree.iter_subtrees() for token in each.children
            if isinstance(token, Token) and token.type == "_NL"
        }  # fmt: skip
        self.text = text
        self.brackets: list[str] = []

    def made(self) -> str:
        """The text."""
        written = [""] if self.keep else [self.draw.choice(["", "\n", "# c\n\n", " \t"])]
        for left, right in zip(self.tokens, [*self.tokens[1:], None], strict=True):
            written.append(str(left))
            if left in ("(", "[", "{"):
                self.brackets.append(str(left))
            elif left in (")", "]", "}"):
                self.brackets.pop()
            written.append(self._gap(left, right))
        return "".join(written)

    def _gap(self, left: Token, right: Token | None) -> str:
        stop = len(self.text) if right is None else right.start_pos
        old = self.text[left.end_pos : stop]
        if right is None:
            return old if self.keep else self.draw.choice(["", "\n", "  # end", "\n\n\n# end"])
        ended = any(left.end_pos <= at <= right.start_pos for at in self.ends)
        chosen = left.type in ("LBRACE", "EQUAL", "LSQB", "COMMA") or right.type == "RBRACE"
        if self.keep and ("#" in old or ended or chosen):
            return old
        if ended:
            return self._end() if right.type != "RBRACE" else self.draw.choice(["", "\n"])
        return self._inside(left, right, old)

    def _end(self) -> str:
        return self.draw.choice(["\n", "\n\n", "  # c\n", "\n\t# c\n\n\n # d\n", " \n \n\t"])

    def _inside(self, left: Token, right: Token, old: str) -> str:
        choices = ["", " ", "\t"] if self._may_touch(left, right) else [" ", " \t "]
        free = (self.brackets and self.brackets[-1] in ("(", "[")) or (
            left.type in CANT_END or right.type in CANT_BEGIN
        )
        if free:
            choices += ["\n", " \n\n "] if self.keep else ["\n", " # c\n", "\n\n # c\n#d \n  "]
        return self.draw.choice(choices)

    def _may_touch(self, left: Token, right: Token) -> bool:
        """Whether two tokens are still two with nothing between them."""
        words = left[-1].isalnum() or left[-1] == "_", right[0].isalnum() or right[0] == "_"
        if "NUMBER" in (left.type, right.type) and "." in (left[-1], right[0]):
            return False
        if all(words) or left.type == right.type == "STRING":
            return False
        return any(words) or left in "()[],{}" or right in "()[],{}"
