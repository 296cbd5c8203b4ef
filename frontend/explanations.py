"""What every error means: the entries of `explained/*.md`, by the name that the error carries.

An entry is a section: `## name: one line`, what it means, and two programs, the first of which
gives the error while the second is the first, mended. An error that is about no program's text
(files, settings, a machine) has none.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Final

from dlc.frontend.errors import user_error
from dlc.ir.dataclass import dataclass
from dlc.ir.diagnostics import did_you_mean

FOLDER: Final = Path(__file__).parent / "explained"
HEAD: Final = re.compile(r"^## ([a-z0-9-]+): (.+)$", re.MULTILINE)
_PROGRAM: Final = re.compile(r"^(?:Mended:\n\n)?```dl\n(.*?)^```\n?", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Explanation:
    """One error: its name, a line, a text, a program that has it and that program mended."""

    name: str
    line: str
    text: str
    wrong: str = ""
    mended: str = ""

    def __str__(self) -> str:
        parts = [f"{self.name}: {self.line}", self.text]
        if self.wrong:
            parts += [f"Wrong:\n\n{_indented(self.wrong)}", f"Mended:\n\n{_indented(self.mended)}"]
        return "\n\n".join(part for part in parts if part)


def _indented(program: str) -> str:
    return "\n".join(f"    {line}".rstrip() for line in program.rstrip().split("\n"))


@cache
def explanations() -> dict[str, Explanation]:
    """All entries by name, in alphabetical order."""
    found: dict[str, Explanation] = {}
    for path in sorted(FOLDER.glob("*.md")):
        for each in entries(path.read_text(encoding="utf-8")):
            if each.name in found:
                raise ValueError(f"{path}: `{each.name}` is explained twice")
            found[each.name] = each
    return dict(sorted(found.items()))


def entries(text: str) -> list[Explanation]:
    """The sections of one file."""
    heads = list(HEAD.finditer(text))
    ends = [head.start() for head in heads[1:]] + [len(text)]
    return [_entry(head, text[head.end() : end]) for head, end in zip(heads, ends, strict=True)]


def _entry(head: re.Match[str], body: str) -> Explanation:
    programs = _PROGRAM.findall(body)
    if len(programs) not in (0, 2):
        raise ValueError(f"`{head[1]}` has {len(programs)} programs: a wrong and a mended one")
    said = _PROGRAM.sub("", body).strip()
    return Explanation(head[1], head[2], re.sub(r"\n{3,}", "\n\n", said), *programs)


def explanation(name: str) -> Explanation:
    """The entry called `name`; `UserError` with the nearest name if there is none."""
    known = explanations()
    if name not in known:
        help = did_you_mean(name, known) or "`dlc explain` lists all errors"
        raise user_error("unknown-error", f"there is no error called `{name}`", help)
    return known[name]
