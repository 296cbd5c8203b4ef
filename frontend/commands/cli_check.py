"""`dlc check`: types, shapes and effects of a program; nothing is run."""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import asdict
from pathlib import Path

from dlc.frontend.build import Build
from dlc.frontend.records import SHARED, ModelRecord


def run(options: argparse.Namespace) -> int:
    """Prints every model that can be built without arguments: its variables and functions."""
    build = Build(Path(options.file), cached=False)
    program = build.program()
    records: dict[str, ModelRecord] = {}
    for name, parameters in program.models.items():
        if name in program.trained or all(parameter.has_default for parameter in parameters):
            records[name] = build.model(name, program.trained.get(name, {})).record
    shared = build.model(SHARED, {}).record
    if options.json:
        print(json.dumps({name: asdict(record) for name, record in records.items()}))
        return 0
    for name, function in shared.functions.items():
        print(function.signature(name))
    for name, parameters in program.models.items():
        print(f"model {name}({', '.join(f'{p.name}: {p.type}' for p in parameters)})")
        if name in records:
            print("\n".join(_lines(records[name])))
    print(f"{options.file} is well: nothing was run")
    return 0


def _lines(record: ModelRecord) -> list[str]:
    shown = [each for each in record.variables if not each.kept]
    numbers = sum(math.prod(each.dims) for each in shown if each.role == "param")
    lines = [f"    {each.role} {each.name}: {each}" for each in shown]
    kept = len(record.variables) - len(shown)
    if kept:
        lines.append(f"    and {kept} states of optimizers")
    lines += [
        f"    {function.signature(name)}"
        for name, function in record.functions.items()
        if "." not in name
    ]
    return [*lines, f"    {numbers:,} numbers to train"]
