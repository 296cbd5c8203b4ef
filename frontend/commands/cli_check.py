"""`dlc check`: types, shapes and effects of a program; nothing is run.

With `--json` one object is printed, and the exit code is 1 if there are errors:

    {"file": FILE, "ok": true or false,
     "errors": [{"code", "message", "file", "line", "column", "end_line", "end_column",
                 "notes": […], "help"}, …],
     "models": {NAME: {"functions", "variables", …}}, "functions": {NAME: {…}}}

Lines and columns count from 1, the end is exclusive; an error about no place in a text has none of
the five. `models` are those that can be built without arguments, and empty where there are errors.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import asdict
from pathlib import Path

from dlc.frontend.build import Build
from dlc.frontend.json_lines import print_json
from dlc.frontend.records import SHARED, ModelRecord
from dlc.ir.diagnostics import UserError


def run(options: argparse.Namespace) -> int:
    """Prints every model that can be built without arguments: its variables and functions."""
    build = Build(Path(options.file), cached=False, floats=options.float)
    if options.json:
        return _json(options.file, build)
    models, shared = _records(build)
    for name, function in shared.functions.items():
        print(function.signature(name))
    for name, parameters in build.program().models.items():
        print(f"model {name}({', '.join(f'{p.name}: {p.type}' for p in parameters)})")
        if name in models:
            print("\n".join(_lines(models[name])))
    print(f"{options.file} is well: nothing was run")
    return 0


def _records(build: Build) -> tuple[dict[str, ModelRecord], ModelRecord]:
    """The models that can be built without arguments, and the functions with no model round them;
    UserError with all that is wrong."""
    records = {name: build.model(name, arguments).record
               for name, arguments in build.program().buildable().items()}
    return records, build.model(SHARED, {}).record


def _json(file: str, build: Build) -> int:
    told: dict[str, object] = {"file": file, "ok": True, "errors": [], "models": {},
                               "functions": {}}
    try:
        models, shared = _records(build)
        told["models"] = {name: asdict(record) for name, record in models.items()}
        told["functions"] = {name: asdict(each) for name, each in shared.functions.items()}
    except UserError as error:
        told["ok"] = False
        told["errors"] = [each.as_json() for each in error.diagnostics]
    print_json(told)
    return 0 if told["ok"] else 1


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
