"""`dlc bench`: where the time of a function goes, a kernel a row.

With `--json` one object is printed (times in seconds, rates a second):

    {"file", "function", "sizes", "threads", "device", "seconds", "fastest", "timed", "between",
     "launches", "barriers", "bytes", "memory": {"given", "arena", "results", "stack", "alive"},
     "roofs": {"operations", "bytes", "how"},
     "rows": [{"kernel", "seconds", "share", "busy", "launches", "barriers", "operations", "bytes",
               "operations_per_second", "bytes_per_second", "of_operation_roof", "of_byte_roof",
               "lines": ["model.dl:12", …]}, …]}

`seconds` (median) and `fastest` are of the code that everybody uses; the rows and `between` add up
to `timed`, of a build of the same program that looks at the clock round each launch. `bytes` are
all that kernels read and write; `given` are those of arguments, results and variables. With
`--device cuda` arguments lie on the GPU before, and the times of kernels are those of its clock.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dlc.compiler.passes.name_sizes import SUFFIX
from dlc.frontend.bench.inputs import Given, find_arguments
from dlc.frontend.bench.measure import Timed, Times, measure, sizes_of
from dlc.frontend.bench.roofs import Roofs
from dlc.frontend.bench.roofs import measure as measure_roofs
from dlc.frontend.bench.rows import Profile, profile
from dlc.frontend.bench.table import as_json, memory_line, table
from dlc.frontend.bench.trace import chrome_trace
from dlc.frontend.commands.cli_run import read_array
from dlc.frontend.commands.which import choose_model
from dlc.frontend.driver import Model, Program, load
from dlc.frontend.errors import user_error
from dlc.frontend.gpu import CPU, CUDA
from dlc.frontend.json_lines import print_json
from dlc.frontend.matrices import spread
from dlc.frontend.records import SHARED
from dlc.ir.diagnostics import did_you_mean
from dlc.runtime import pool
from dlc.runtime.files import write_atomically


def run(options: argparse.Namespace) -> int:
    """Measures one function and prints what was found."""
    on_gpu = options.device == CUDA
    if on_gpu and (options.launches or options.trace):
        raise user_error("bad-setting", "--launches and --trace are of a CPU")
    program = load(options.file, float=options.float, precision=options.precision,
                   device=options.device)
    model = _model(options, program)
    name = _function(options, model)
    if options.weights is not None:
        model.load(options.weights)
    arguments = _arguments(options, model, name)
    plain: Callable[..., object] = model.load_function(name)
    timed: Any
    if on_gpu:
        from dlc.frontend.bench import cuda

        timed, arguments = cuda.TimedCuda(model, name), cuda.on_gpu(arguments)
        plain = cuda.Waiting(plain, timed.on)
    else:
        timed = Timed(model, name)
    timed.call(**arguments)
    times = measure(plain, timed, arguments, options.seconds)
    sizes = sizes_of(timed, arguments)
    found = profile(timed.program, sizes, times, options.launches)
    if options.trace is not None:
        _write_trace(Path(options.trace), name, found, times)
    told = {symbol.removesuffix(SUFFIX): size for symbol, size in sizes.items()}
    _show(options, name, told, found, cuda.measure() if on_gpu else measure_roofs())
    return 0


def _model(options: argparse.Namespace, program: Program) -> Model:
    """The model that is meant, or the functions with no model round them."""
    name, given = choose_model(options, program.record, program.functions)
    if name == SHARED:
        return next(iter(program.functions.values())).model
    return program.model(name, seed=options.seed, **given)


def _function(options: argparse.Namespace, model: Model) -> str:
    """The function that is meant: the one named, the first that is trained, the only step, or the
    only function."""
    names = [name for name in model.record.functions if "." not in name]
    if options.function is not None:
        if options.function not in model.record.functions:
            raise user_error(
                "unknown-name", f"{model.name} has no function `{options.function}`",
                did_you_mean(options.function, names) or f"it has {', '.join(names)}")
        return str(options.function)
    if model.record.phases:
        return model.record.phases[0].step
    steps = [name for name in names if model.record.functions[name].kind == "step"]
    if len(steps or names) != 1:
        raise user_error(
            "bad-setting", "which function?", f"--function with one of {', '.join(names)}")
    return (steps or names)[0]


def _arguments(options: argparse.Namespace, model: Model, name: str) -> dict[str, Any]:
    """What the function is called with, as compiled code takes it."""
    inputs = model.function(name).inputs
    arrays = {each: read_array(Path(file)) for each, file in options.input}
    hints = model.built.options(name).hints
    given = Given(dict(options.size), dict(options.set), arrays, hints)
    found = find_arguments(inputs, given, options.seed, model.function(name))
    return spread(name, inputs, (), found)


def _write_trace(path: Path, name: str, found: Profile, times: Times) -> None:
    write_atomically(path, json.dumps(chrome_trace(name, found, times)).encode())


def _show(
    options: argparse.Namespace, name: str, sizes: dict[str, int], found: Profile, roofs: Roofs
) -> None:
    threads = pool.threads()
    if options.json:
        head = {"file": options.file, "function": name, "sizes": sizes, "threads": threads,
                "device": options.device}
        print_json(head | as_json(found, roofs))
        return
    at = ", ".join(f"{symbol}={size}" for symbol, size in sizes.items())
    where = f"{threads} thread{'s' * (threads > 1)}" if options.device == CPU else options.device
    print(f"{name}{f' at {at}' if at else ''}, {where}: "
          f"{found.seconds * 1e3:.3f} ms a call (fastest {found.fastest * 1e3:.3f}), "
          f"{found.launches:g} launches, {found.barriers:g} barriers")
    print(f"roofs: {roofs.operations / 1e9:.0f} GFLOP/s, {roofs.bytes / 1e9:.1f} GB/s "
          f"({roofs.how})")
    print(memory_line(found))
    print("\n".join(table(found, roofs)))
