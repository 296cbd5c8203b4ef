"""Names under which records and code are kept: digests of all that they depend on.

A key is found without parsing: the files of a program are found by looking for `import "…"` in
their bytes. One such text in a comment only makes the key depend on a file more.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Final

from dlc.runtime import cache as store
from dlc.runtime import machine

_IMPORT: Final = re.compile(rb'\bimport\s+"([^"\n]+)"')
_SOURCES: Final = (".py", ".dl", ".json", ".cu")


user_ops: dict[str, str] = {}  # by name, what says how an op of the user's is computed


def digest(*parts: str | bytes) -> str:
    """One digest of several parts; where one ends is part of it."""
    made = blake2b(digest_size=20)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        made.update(f"{len(data)}\n".encode())
        made.update(data)
    return made.hexdigest()


def program_key(path: Path, floats: str = "f32", device: str = "cpu") -> str:
    """Of a program's files, their names, the type of its floats, where it runs, and the compiler;
    OSError if a file can't be read."""
    parts: list[str | bytes] = [_maker(), floats, device]
    for file, data in _files(path).items():
        parts += [str(file), data]
    return digest(*parts)


def _files(path: Path) -> dict[Path, bytes]:
    """The file and those that it imports, and so on, with their contents."""
    found = {path: path.read_bytes()}
    waiting = [path]
    while waiting:
        file = waiting.pop()
        for name in _IMPORT.findall(found[file]):
            other = file.parent / name.decode(errors="replace")
            if other not in found and other.is_file():
                found[other] = other.read_bytes()
                waiting.append(other)
    return found


def _maker() -> str:
    """The compiler, with the ops that the user has added."""
    return digest(_compiler(), json.dumps(user_ops, sort_keys=True)) if user_ops else _compiler()


@cache
def _compiler() -> str:
    """The compiler's own source, and who makes its code."""
    import dlc.compiler
    import dlc.frontend
    import dlc.ir

    folders = [Path(p) for m in (dlc.compiler, dlc.frontend, dlc.ir) for p in m.__path__]
    source = store.digest_of_tree(folders, _SOURCES)
    return digest(source, machine.llvm_version(), sys.platform)


def model_key(program: str, model: str, arguments: Mapping[str, object]) -> str:
    """Of a model built with `arguments`."""
    return digest(program, model, json.dumps(arguments, sort_keys=True))


def graph_key(graph: str, function: str) -> str:
    """Of a compiled function that is known by its Graph's text: Python made it."""
    return code_key(digest(_maker(), graph), function)


def moves_key(arch: str) -> str:
    """Of the code that moves arrays on a GPU."""
    return "code-" + digest(_compiler(), "moves", arch)


def code_key(model: str, function: str, precision: str = "f32") -> str:
    """Of a compiled function on this machine, with its products in a precision. What else the
    compiler is told is in the program."""
    return "code-" + digest(model, function, precision, machine.cpu())
