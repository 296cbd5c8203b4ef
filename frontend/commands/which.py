"""Which model a command means, and what it is built with."""

from __future__ import annotations

import argparse
from collections.abc import Collection

from dlc.frontend.errors import user_error
from dlc.frontend.records import SHARED, ProgramRecord

Arguments = dict[str, int | float | bool]


def choose_model(
    options: argparse.Namespace, program: ProgramRecord, shared: Collection[str]
) -> tuple[str, Arguments]:
    """The model named, the one that is trained, or the only one that can be built; its arguments.

    `SHARED` if the function that is named has no model round it (`shared` are these), or no
    function has. UserError where none or several may be meant.
    """
    given: Arguments = dict(options.given)
    name = options.model
    if name is None:
        if options.function in shared or (shared and not program.models):
            return SHARED, {}
        buildable = list(program.models) if given else list(program.buildable())
        candidates = list(program.trained) or buildable
        if len(candidates) != 1:
            raise user_error("bad-setting", "which model?", _help(buildable, program))
        (name,) = candidates
    return name, {**program.trained.get(name, {}), **given}


def _help(buildable: list[str], program: ProgramRecord) -> str:
    if buildable:
        return f"--model with one of {', '.join(buildable)}"
    if program.models:
        return f"--with NAME=VALUE gives what {', '.join(program.models)} must be built with"
    return "it has none"
