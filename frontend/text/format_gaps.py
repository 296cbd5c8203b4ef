"""What stands between the tokens of a text: comments and empty lines, for the formatter to keep."""

from __future__ import annotations

from collections.abc import Sequence

from lark import Token, Tree

from dlc.ir.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Remark:
    """A comment: whether it ends the line of a token, and whether an empty line is before it."""

    text: str
    trailing: bool
    blank: bool


@dataclass(frozen=True, slots=True)
class Gap:
    """What stands between two tokens: comments, new lines, an empty line before the second."""

    remarks: tuple[Remark, ...]
    newline: bool
    blank: bool

    @property
    def parted(self) -> bool:
        """Whether there is an empty line anywhere in it."""
        return self.blank or any(remark.blank for remark in self.remarks)


def tokens_of(tree: Tree[Token]) -> list[Token]:
    """The tokens of a concrete tree, in the order of the text, without the ends of statements."""
    found = [
        child for each in tree.iter_subtrees() for child in each.children
        if isinstance(child, Token) and child.type != "_NL"
    ]  # fmt: skip
    return sorted(found, key=lambda token: _place(token.start_pos))


class Gaps:
    """The gaps of one text, between tokens named by their places in `tokens`."""

    def __init__(self, text: str, tokens: Sequence[Token]) -> None:
        starts = [_place(token.start_pos) for token in tokens]
        ends = [_place(token.end_pos) for token in tokens]
        between = zip([0, *ends], [*starts, len(text)], strict=True)
        self._gaps = [
            _gap(text[end:start], number == 0) for number, (end, start) in enumerate(between)
        ]

    def between(self, first: int, last: int) -> Gap:
        """All that stands after token `first` and before token `last`; -1 is the file's start."""
        gaps = self._gaps[first + 1 : last + 1]
        remarks: list[Remark] = []
        for gap in gaps:
            for remark in gap.remarks:
                # Only one comment can end a line, and only if nothing was before it.
                trailing = remark.trailing and not remarks
                remarks.append(Remark(remark.text, trailing, remark.blank))
        newline = any(gap.newline for gap in gaps)
        return Gap(tuple(remarks), newline, gaps[-1].blank)


    def comments(self) -> list[str]:
        """All comments of the text."""
        return [remark.text for gap in self._gaps for remark in gap.remarks]


def _place(position: int | None) -> int:
    assert position is not None
    return position


def _gap(text: str, first: bool) -> Gap:
    """Reads spaces, new lines and comments; `first` if no token stands before them."""
    remarks: list[Remark] = []
    blank = False
    lines = text.split("\n")
    for number, line in enumerate(lines):
        comment = line.strip()
        if comment:
            assert comment.startswith("#"), comment
            remarks.append(Remark(comment, number == 0 and not first, blank))
            blank = False
        elif 0 < number < len(lines) - 1:
            blank = True
    return Gap(tuple(remarks), len(lines) > 1, blank)
