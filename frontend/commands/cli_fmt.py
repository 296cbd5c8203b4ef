"""`dlc fmt`: programs in their one layout, which means what was written."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dlc.frontend.text.format import format_source
from dlc.frontend.text.parse import decode_source, read_source
from dlc.ir.diagnostics import SourceFile, UserError
from dlc.runtime.files import write_atomically

STDIN = "-"


def run(options: argparse.Namespace) -> int:
    """Writes each file that changes; 1 if one is no program, or if `--check` finds a change."""
    code = 0
    for name in options.files:
        try:
            changed = _format(name, options)
        except UserError as error:
            print(error, file=sys.stderr)
            changed, code = False, 1
        if changed and options.check:
            print(f"{name} would change")
            code = 1
    return code


def _format(name: str, options: argparse.Namespace) -> bool:
    """Formats one file; whether its bytes are others than before."""
    source, before = _read(name)
    after = format_source(source)
    changed = after.encode() != before
    if options.check:
        return changed
    if options.stdout or name == STDIN:
        sys.stdout.write(after)
    elif changed:
        write_atomically(Path(name), after.encode())
        print(f"{name} formatted")
    return changed


def _read(name: str) -> tuple[SourceFile, bytes]:
    """The text as the parser takes it, and the bytes that it was."""
    if name == STDIN:
        data = sys.stdin.buffer.read()
        return decode_source(data, "(input)"), data
    source = read_source(Path(name), name)
    return source, Path(name).read_bytes()
