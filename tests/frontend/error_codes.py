"""The codes that the source can give to an error, read from its syntax.

A function or class that has a parameter `code` gives errors. Wherever one is called, what is passed
for `code` is a text, a choice between texts, or a `code` that was passed on.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("frontend", "compiler", "ir")
CODE = re.compile(r"[a-z]+(-[a-z0-9]+)+|[a-z]{4,}")  # the form of a code
GIVERS = ("Fault", "Diagnostic", "user_error")  # what gives nothing but errors


def trees() -> dict[str, ast.Module]:
    """The syntax of every file, by its path."""
    return {
        str(file.relative_to(ROOT)): ast.parse(file.read_text())
        for folder in FOLDERS
        for file in sorted((ROOT / folder).rglob("*.py"))
        if "__pycache__" not in file.parts
    }


def givers(files: dict[str, ast.Module]) -> dict[str, set[int]]:
    """Where `code` stands among the positional arguments of what has it, by the callee's name."""
    found: dict[str, set[int]] = {}

    def note(name: str, place: int) -> None:
        found.setdefault(name, set()).add(place)

    for tree in files.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                names = [each.arg for each in node.args.args]
                names = names[1:] if names[:1] == ["self"] else names
                if "code" in names and _is_text(node.args, "code"):
                    note(node.name, names.index("code"))
            elif isinstance(node, ast.ClassDef):
                _class(node, note)
    return found


def _class(node: ast.ClassDef, note: Callable[[str, int], None]) -> None:
    fields = [
        line.target.id
        for line in node.body
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
    ]
    if "code" in fields:
        note(node.name, fields.index("code"))
    for line in node.body:
        if isinstance(line, ast.FunctionDef) and line.name == "__init__":
            names = [each.arg for each in line.args.args[1:]]
            if "code" in names:
                note(node.name, names.index("code"))


def _is_text(arguments: ast.arguments, name: str) -> bool:
    annotation = next(each.annotation for each in arguments.args if each.arg == name)
    return isinstance(annotation, ast.Name) and annotation.id == "str"


def codes() -> tuple[dict[str, list[str]], list[str]]:
    """Every code with the places that give it; and the places whose code can't be read."""
    files = trees()
    places = givers(files)
    found: dict[str, list[str]] = {}
    unclear: list[str] = []
    for path, tree in files.items():
        for node in ast.walk(tree):
            for given in _given(node, places):
                texts = list(_texts(given))
                where = f"{path}:{given.lineno}"
                for text in filter(CODE.fullmatch, texts):
                    found.setdefault(text, []).append(where)
                if not texts and not _passed_on(given) and _callee(node) in GIVERS:
                    unclear.append(where)
    return found, unclear


def _given(node: ast.AST, places: dict[str, set[int]]) -> Iterator[ast.expr]:
    """What a call gives for `code`; the default of a parameter `code`."""
    if isinstance(node, ast.Call):
        name = _callee(node)
        yield from (word.value for word in node.keywords if word.arg == "code")
        for place in sorted(places.get(name, ())):
            if place < len(node.args) and not isinstance(node.args[place], ast.Starred):
                yield node.args[place]
    elif isinstance(node, ast.FunctionDef):
        arguments, defaults = [*node.args.posonlyargs, *node.args.args], node.args.defaults
        for each, value in zip(arguments[len(arguments) - len(defaults) :], defaults, strict=True):
            if each.arg == "code":
                yield value


def _callee(node: ast.AST) -> str:
    callee = getattr(node, "func", None)
    return callee.id if isinstance(callee, ast.Name) else getattr(callee, "attr", "")


def _texts(given: ast.expr) -> Iterator[str]:
    if isinstance(given, ast.Constant) and isinstance(given.value, str):
        yield given.value
    elif isinstance(given, ast.IfExp):
        yield from _texts(given.body)
        yield from _texts(given.orelse)


def _passed_on(given: ast.expr) -> bool:
    return (isinstance(given, ast.Name) and given.id == "code") or (
        isinstance(given, ast.Attribute) and given.attr == "code")
