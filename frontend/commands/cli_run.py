"""`dlc run`: one call of one function, with arrays from .npy files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from dlc.frontend.driver import Compiled, Program, load
from dlc.frontend.errors import user_error
from dlc.frontend.json_lines import print_json
from dlc.ir.diagnostics import did_you_mean
from dlc.runtime.files import write_atomically


def run(options: argparse.Namespace) -> int:
    """Calls the function, prints its results or writes them to files."""
    function = _find(options)
    arguments = {name: _argument(function, name, text) for name, text in options.input}
    results = function(**arguments)
    results = results if isinstance(results, tuple) else (results,)
    if options.output:
        _write(options.output, results)
    if options.json:
        print_json({"results": [np.asarray(result).tolist() for result in results]})
    elif not options.output:
        for result in results:
            print(result)
    return 0


def _find(options: argparse.Namespace) -> Compiled:
    program = load(options.file, float=options.float, precision=options.precision,
                   device=options.device)
    model_name, dot, name = options.function.partition(".")
    if not dot:
        return _shared(program, options.function)
    model = program.model(model_name, seed=options.seed)
    function = model.function(name)
    if options.weights is not None:
        model.load(options.weights)
    return function


def _shared(program: Program, name: str) -> Compiled:
    """A function with no model round it."""
    known = [*program.functions, *(f"{model}.…" for model in program.models)]
    if name not in program.functions:
        raise user_error(
            "unknown-name",
            f"{program.path} has no function `{name}` outside of its models",
            did_you_mean(name, known) or f"it has {', '.join(known)}",
        )
    return program.functions[name]


def _argument(function: Compiled, name: str, text: str) -> Any:
    """A number where the parameter is a scalar and the text is one; else the array of a file."""
    scalar = any(each.name == name and not each.dims for each in function.inputs)
    if scalar:
        for kind in (int, float):
            try:
                return kind(text)
            except ValueError:
                continue
    return read_array(Path(text))


def read_array(path: Path) -> Any:
    """The array in a .npy file; UserError if there is none."""
    try:
        return np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise user_error("cannot-read", f"{path}: there is no such file") from None
    except OSError as error:
        raise user_error("cannot-read", f"{path}: {error.strerror or error}") from None
    except (ValueError, EOFError) as error:
        raise user_error("cannot-read", f"{path} is no .npy file: {error}") from None


def _write(paths: list[str], results: tuple[Any, ...]) -> None:
    """Each result to its file, whole or not at all."""
    if len(paths) != len(results):
        raise user_error("bad-setting", f"{len(results)} results, but {len(paths)} --output files")
    import io

    for path, result in zip(paths, results, strict=True):
        buffer = io.BytesIO()
        np.save(buffer, np.asarray(result), allow_pickle=False)
        write_atomically(Path(path), buffer.getbuffer())
