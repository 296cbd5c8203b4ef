"""From the concrete tree of a program to a document: every token, comment and empty line kept.

Where lines are broken is decided by what fits, but for four things, which are kept as written: a
block on one line, the body of a function on a line of its own, the rows of a list whose first item
begins a line, and empty lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final

from lark import Token, Tree

from dlc.frontend.text import format_document as d
from dlc.frontend.text.format_gaps import Gap, Gaps, tokens_of
from dlc.frontend.text.format_rules import (
    CONTAINERS,
    STYLES,
    Node,
    is_operation,
    level,
    name_of,
    space,
)
from dlc.ir.dataclass import dataclass

_CLOSING: Final = {"LPAR": "RPAR", "LSQB": "RSQB", "LBRACE": "RBRACE"}
_NEW: Final = d.Line()


@dataclass(frozen=True, slots=True)
class Element:
    """A part of a rule: its document, its first and last token, what it begins with."""

    document: d.Document
    first: int
    last: int
    node: Node
    bracket: bool = False


def document_of(text: str, tree: Tree[Token]) -> d.Document:
    """The layout of a whole program; `KeyError` if a rule has no style."""
    return _Layout(text, tree).file(tree)


class _Layout:
    """Makes the document of each subtree after those of its children: no recursion."""

    def __init__(self, text: str, tree: Tree[Token]) -> None:
        self._tokens = tokens_of(tree)
        self._places = {token.start_pos: n for n, token in enumerate(self._tokens)}
        self._gaps = Gaps(text, self._tokens)
        self._made: dict[int, Element] = {}
        self._rows: dict[int, list[d.Document]] = {}  # operations in a row, to be added to

    def file(self, tree: Tree[Token]) -> d.Document:
        """Definitions with empty lines between them."""
        for each in tree.iter_subtrees():
            if each is not tree:
                self._made[id(each)] = self._node(each)
        items = [self._element(node) for node in _nodes(tree.children)]
        first, last = (items[0].first, items[-1].last) if items else (0, -1)
        # The first line begins with the file.
        inside = [*_lines(self._gaps.between(-1, first))[1:], *self._joined("file", items)]
        if items:
            inside += _lines(self._gaps.between(last, len(self._tokens)))
        # The last line of all ends with the file, with no empty line before it.
        return d.parts(*inside[:-1], *[_NEW] * bool(inside[:-1]))

    def _element(self, node: Node) -> Element:
        if isinstance(node, Tree):
            return self._made[id(node)]
        place = self._places[node.start_pos]
        return Element(d.Text(str(node)), place, place, node)

    def _node(self, tree: Tree[Token]) -> Element:
        """A subtree whose children are made."""
        rule, nodes = str(tree.data), _nodes(tree.children)
        first, last = self._element(nodes[0]).first, self._element(nodes[-1]).last
        if rule in CONTAINERS and name_of(nodes[-1]) == "COMMA":
            nodes.pop()  # it says nothing where no bracket follows
        row: list[d.Document] = []
        if level(tree) and isinstance(nodes[0], Tree) and level(nodes[0]) == level(tree):
            row = self._rows[id(nodes[0])]
        document = self._row(rule, self._elements(rule, nodes), row)
        if level(tree):
            self._rows[id(tree)] = list(document.parts)
        return Element(document, first, last, tree)

    def _row(
        self, rule: str, elements: Sequence[Element], made: Sequence[d.Document] = ()
    ) -> d.Parts:
        """The parts of a rule side by side; `made` holds the first of them if it is made already.

        A rule that holds a block is no group: it is broken where its block is.
        """
        style, row = STYLES[rule], _Row(made)
        blocks = any(self._is_block(element) for element in elements)
        left, last = elements[0], elements[0].last
        if not made:
            # The operators of an operand stand further in than those of the whole.
            inner = style.before and is_operation(left.node)
            row.add(d.indent(left.document) if inner else left.document)
        for element in elements[1:]:
            name, before = name_of(element.node), name_of(left.node)
            gap = self._gaps.between(last, element.first)
            flat = "" if element.bracket else space(rule, left.node, element.node)
            if self._is_block(element):
                row.add_block(element.document)
            elif name == "COMMA":
                row.add(element.document)
            elif before == "EQUAL" in style.after:
                row.seal()
                row.cut(hanging=True)
                row.add(*_break(gap, flat, gap.newline), element.document)
            elif gap.remarks or before in style.after or name in style.before:
                row.cut(hanging=name not in style.level, head=style.heads)
                row.add(d.parts(*_break(gap, flat)), element.document)
            else:
                row.add(d.Text(flat), element.document)
            left, last = element, last if name == "COMMA" else element.last
        row.cut()
        return d.parts(*row.done) if blocks else d.group(*row.done, late=style.late)

    def _is_block(self, element: Element) -> bool:
        return self._tokens[element.first].type == "LBRACE"

    def _elements(self, rule: str, nodes: Sequence[Node]) -> list[Element]:
        """The parts of a rule; brackets with what is in them are one."""
        found: list[Element] = []
        place = 0
        while place < len(nodes):
            closing = _CLOSING.get(name_of(nodes[place]))
            end = place
            if closing is None:
                found.append(self._element(nodes[place]))
            else:
                end = next(n for n in range(place, len(nodes)) if name_of(nodes[n]) == closing)
                make = self._block if closing == "RBRACE" else self._bracket
                first, last = self._element(nodes[place]).first, self._element(nodes[end]).last
                document = make(rule, nodes[place + 1 : end], first, last)
                found.append(Element(document, first, last, nodes[place], place > 0))
            place = end + 1
        return found

    # Brackets

    def _bracket(self, rule: str, inside: Sequence[Node], first: int, last: int) -> d.Document:
        """`(a, b)` or `[a, b]`: on one line, or with the brackets on lines of their own."""
        if len(inside) == 1 and isinstance(inside[0], Tree) and name_of(inside[0]) in CONTAINERS:
            content = inside[0]
            rule = rule if name_of(content) == "expressions" else str(content.data)
            inside = _nodes(content.children)
        items = [self._item(rule, nodes) for nodes in _split(inside)]
        start = self._gaps.between(first, items[0].first if items else last)
        left, right = (d.Text(str(self._tokens[place])) for place in (first, last))
        if not items:
            return d.parts(left, *_ending(start, ""), right)
        style = STYLES[rule]
        end = self._gaps.between(items[-1].last, last)
        comma: d.Document = d.IfBroken("," if style.commas else "")
        if rule == "paren" and len(items) == 1:
            # `(a,)` is one value among several, `(a)` is a value.
            comma = d.Text("," if name_of(inside[-1]) == "COMMA" else "")
        broken = style.rows and start.newline
        listed = self._filled(items, broken) if style.fills else self._listed(items)
        return d.group(
            left, d.indent(*_break(start, "", broken), *listed, comma), *_ending(end, ""), right,
            late=style.late and rule != "parameters",
        )

    def _item(self, rule: str, nodes: Sequence[Node]) -> Element:
        elements = self._elements(rule, nodes)
        document = self._row(rule, elements)
        return Element(document, elements[0].first, elements[-1].last, nodes[0])

    def _listed(self, items: Sequence[Element]) -> list[d.Document]:
        """All on one line, or each on its own."""
        found: list[d.Document] = [items[0].document]
        for left, right in pairwise(items):
            gap = self._gaps.between(left.last, right.first)
            found += [d.Text(","), *_break(gap, " "), right.document]
        return [d.group(*found)]

    def _filled(self, items: Sequence[Element], rows: bool) -> list[d.Document]:
        """As many on a line as fit; new lines between them are kept if they stand in `rows`."""
        found: list[d.Document] = [items[0].document]
        for left, right in pairwise(items):
            gap = self._gaps.between(left.last, right.first)
            after = self._gaps.between(right.first - 1, right.first)
            separator = d.parts(*_break(gap, " ", rows and after.newline))
            found += [d.Text(","), d.following(separator, right.document)]
        return found

    # Blocks and their lines

    def _block(self, rule: str, inside: Sequence[Node], first: int, last: int) -> d.Document:
        """`{ … }`: on one line only if it was written so."""
        settings = rule in ("train", "phase")
        items = [self._element(node) for node in inside if name_of(node) != "COMMA"]
        # Comments before the `{` go behind it.
        start = self._gaps.between(first - 1, items[0].first if items else last)
        left, right = d.Text("{"), d.Text("}")
        if not items:
            return d.parts(left, *_ending(start, ""), right) if start.remarks else d.Text("{ }")
        lines = self._gaps.between(first, items[0].first).newline
        lines = lines or (len(items) > 1 and not settings)
        head = _beginning(_lines(start)) if start.remarks else _break(start, " ", lines)
        body = self._joined(rule, items)
        end = self._gaps.between(items[-1].last, last)
        return d.parts(left, d.indent(*head, *body), *_ending(end, " ", True), right)

    def _joined(self, rule: str, items: Sequence[Element]) -> list[d.Document]:
        """Definitions, members, statements or settings, with empty lines where they were."""
        if not items:
            return []
        settings = rule in ("train", "phase")
        found: list[d.Document] = [d.group(items[0].document)]
        for left, right in pairwise(items):
            gap = self._gaps.between(left.last, right.first)
            if settings and not gap.newline:
                found.append(d.Line(", "))
            else:
                found += _lines(gap, _parted(rule, left, right))
            found.append(d.group(right.document))
        return found


class _Row:
    """Documents side by side, in segments: all but the first may begin a line, further in."""

    def __init__(self, made: Sequence[d.Document]) -> None:
        self.done = list(made)
        self._sealed = 0
        self._segment: list[d.Document] = []
        self._hanging = self._head = False

    def add(self, *documents: d.Document) -> None:
        """More of the same segment."""
        self._segment += documents

    def cut(self, hanging: bool = False, head: bool = False) -> None:
        """Ends the segment; the next stands further in if `hanging`, on this line if a `head` may.
        """
        if self._segment:
            segment = d.following(*self._segment) if self._head else d.parts(*self._segment)
            self.done.append(d.indent(segment) if self._hanging else segment)
        self._segment, self._hanging, self._head = [], hanging, head

    def seal(self) -> None:
        """Makes a group of what stands here since the last block."""
        self.cut()
        self.done[self._sealed :] = [d.group(*self.done[self._sealed :])]
        self._sealed = len(self.done)

    def add_block(self, document: d.Document) -> None:
        """A block, after a head that is broken by itself."""
        if self.done or self._segment:
            self.seal()
            self.add(d.Text(" "))
        self.add(document)
        self.cut()
        self._sealed = len(self.done)


def _nodes(children: Iterable[Node | None]) -> list[Node]:
    """What stands in the text: no absent parts, and no ends of statements."""
    return [child for child in children if child is not None and name_of(child) != "_NL"]


def _split(nodes: Iterable[Node]) -> list[list[Node]]:
    """What stands between commas; nothing after the last one."""
    found: list[list[Node]] = [[]]
    for node in nodes:
        if name_of(node) == "COMMA":
            found.append([])
        else:
            found[-1].append(node)
    return [each for each in found if each]


def _lines(gap: Gap, parted: bool = False) -> list[d.Document]:
    """From one line to the next, with the comments between and at most one empty line at a place.

    If they are to be `parted` and no empty line is there, one comes before the first comment.
    """
    found: list[d.Document] = []
    parted = parted and not gap.parted
    for remark in gap.remarks:
        if remark.trailing:
            found.append(d.Comment(f"  {remark.text}"))
        else:
            found += [d.Line(blank=remark.blank or parted), d.Comment(remark.text)]
            parted = False
    return [*found, d.Line(blank=gap.blank or parted)]


def _beginning(lines: list[d.Document]) -> list[d.Document]:
    """The same with no empty line before the first comment."""
    place = next(n for n, each in enumerate(lines) if isinstance(each, d.Line))
    return [*lines[:place], _NEW, *lines[place + 1 :]]


def _break(gap: Gap, flat: str, broken: bool = False) -> list[d.Document]:
    """A place where a line may be broken: it is, if comments stand there or it is `broken`."""
    if gap.remarks:
        return [_NEW if isinstance(each, d.Line) else each for each in _lines(gap)]
    return [_NEW if broken else d.Line(flat)]


def _ending(gap: Gap, flat: str, blanks: bool = False) -> list[d.Document]:
    """What stands before a closing bracket; with `blanks`, empty lines before comments too."""
    if not gap.remarks:
        return [d.Line(flat)]
    lines = _lines(gap) if blanks else _break(gap, flat)
    return [d.indent(*lines[:-1]), _NEW]


def _parted(rule: str, left: Element, right: Element) -> bool:
    """Whether an empty line has to stand between two lines: round what takes several of them."""
    if rule == "file":
        return name_of(left.node) != name_of(right.node) or _is_long(left, 0) or _is_long(right, 0)
    # A function with a block is no group.
    blocks = [
        each for each in (left, right)
        if name_of(each.node) in ("fn", "step") and not isinstance(each.document, d.Group)
    ]  # fmt: skip
    return rule == "model" and any(_is_long(each, d.INDENT) for each in blocks)


def _is_long(element: Element, indentation: int) -> bool:
    return "\n" in d.render(d.group(element.document), indentation)
