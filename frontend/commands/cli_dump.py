"""`dlc dump`: any stage of a compilation as text, or where the time of a compilation goes.

With `--json` one object is printed for each function: `{"function", "stage", "text"}`, or for the
stage `timing` (whose first object, with the function "", is of the program as a whole)
`{"function", "stage", "seconds", "elapsed", "rows": [{"group", "name", "seconds"}, …]}`.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from dlc.frontend import timing
from dlc.frontend.build import Build, BuiltModel
from dlc.frontend.commands.which import choose_model
from dlc.frontend.errors import user_error
from dlc.frontend.json_lines import print_json
from dlc.frontend.records import SHARED
from dlc.ir.diagnostics import did_you_mean
from dlc.runtime.files import write_atomically


def run(options: argparse.Namespace) -> int:
    """Prints one stage, or writes all of them into a folder."""
    pattern = _pattern(options.grep)
    if options.target and not re.fullmatch(r"cuda:sm_\d+a?", options.target):
        raise user_error("bad-setting", f"--target {options.target} is no GPU",
                         "GPUs are written as in cuda:sm_80 and cuda:sm_90a")
    cached = options.stage != "timing"
    build = Build(Path(options.file), cached, options.float, options.precision)
    if options.stage == "timing":
        return _timing(options, build)
    if options.stage == "syntax":
        _tell_text(options, "", "syntax", "\n".join(_chosen(build.syntax(), pattern)))
        return 0
    program = build.program()
    shared = build.model(SHARED, {}).record.functions
    built = build.model(*choose_model(options, program, shared))
    functions = _functions(options, built)
    if options.all is not None:
        _write_all(options, build, built, functions)
        return 0
    for name in functions:
        stage = options.after or options.stage or "graph"
        text = built.dump(name, stage, options.target)
        _tell_text(options, name, stage, "\n\n".join(_chosen(text, pattern)))
    return 0


def _tell_text(options: argparse.Namespace, function: str, stage: str, text: str) -> None:
    if options.json:
        print_json({"function": function, "stage": stage, "text": text})
    else:
        print(text)


def _timing(options: argparse.Namespace, build: Build) -> int:
    """Compiles anew, and prints the seconds of each step."""
    program, times = timing.time_program(build)
    _tell_times(options, "", build.path.name, times)
    shared = build.model(SHARED, {}).record.functions
    built = build.model(*choose_model(options, program, shared))
    for name in _functions(options, built):
        _tell_times(options, name, name, timing.time_function(built, name))
    return 0


def _tell_times(
    options: argparse.Namespace, function: str, title: str, times: timing.Times
) -> None:
    if options.json:
        print_json({"function": function, "stage": "timing", **timing.as_json(times)})
    else:
        print(timing.report(title, times))


def _functions(options: argparse.Namespace, built: BuiltModel) -> list[str]:
    names = [name for name in built.record.functions if "." not in name]
    if options.function is None:
        return names
    if options.function not in built.record.functions:
        raise user_error(
            "unknown-name", f"{built.name} has no function `{options.function}`",
            did_you_mean(options.function, names) or f"it has {', '.join(names)}",
        )  # fmt: skip
    return [options.function]


def _pattern(text: str | None) -> re.Pattern[str] | None:
    try:
        return None if text is None else re.compile(text)
    except re.error as error:
        raise user_error("bad-setting", f"--grep {text}: {error}") from None


def _chosen(text: str, pattern: re.Pattern[str] | None) -> Iterator[str]:
    """The paragraphs in which the pattern is found; the whole text without one."""
    if pattern is None:
        yield text.rstrip("\n")
        return
    for paragraph in re.split(r"\n\s*\n", text):
        if pattern.search(paragraph):
            yield paragraph.rstrip("\n")


def _write_all(
    options: argparse.Namespace, build: Build, built: BuiltModel, functions: list[str]
) -> None:
    """`syntax.txt`, and for each function a numbered file for each stage and pass."""
    folder = Path(options.all)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "syntax.txt", build.syntax().encode())
    count = 1
    for name in functions:
        for number, (stage, text) in enumerate(built.dump_all(name, options.target)):
            write_atomically(folder / f"{name}.{number:02}_{stage}.txt", text.encode())
            count += 1
    print(f"{count} files in {folder}")
