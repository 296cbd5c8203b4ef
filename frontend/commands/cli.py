"""The command line: its commands, their options, and how what goes wrong is told.

Exit codes: 0 well, 1 the user's error, 2 usage, 70 our bug, 130 stopped by Ctrl-C. Everything heavy
is imported by the command that needs it, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import TypeAlias

from dlc.frontend.settings import FLOATS, PRECISIONS

OURS = 70
STAGES = ("syntax", "graph", "fused", "kernels", "memory", "loops", "llvm", "asm", "cuda",
          "cubin", "timing")
_TRACE = "DLC_TRACEBACK"
_EPILOG = """exit codes: 0 well, 1 an error of yours, 2 usage, 70 a bug of ours, 130 Ctrl-C
environment: DLC_CACHE (folder of compiled code, or `off`), DLC_THREADS (how many at most)"""


def main(arguments: Sequence[str]) -> int:
    """Runs one command; the exit code."""
    options = make_parser().parse_args(arguments)
    try:
        return _run(options)
    except BrokenPipeError:
        # Who read our output has gone. Nothing more can be said to him; Python must not try either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        return 130
    except Exception as error:
        if os.environ.get(_TRACE):
            raise
        return _tell(error)


def _run(options: argparse.Namespace) -> int:
    command = importlib.import_module(f"dlc.frontend.commands.cli_{options.command}")
    if getattr(options, "threads", None) is not None:
        from dlc.runtime import pool

        pool.set_threads(options.threads)
    code: int = command.run(options)
    sys.stdout.flush()
    return code


def _tell(error: Exception) -> int:
    """One message to stderr; 1 for what the user can mend, 70 for what only we can."""
    from dlc.ir.diagnostics import InternalError
    from dlc.ir.diagnostics import UserError as ProgramError
    from dlc.runtime.errors import UserError as RunError

    if isinstance(error, ProgramError):
        print(error, file=sys.stderr)
    elif isinstance(error, RunError):
        print(f"error: {error}", file=sys.stderr)
    elif isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        print(f"error: {place}{error.strerror or error}", file=sys.stderr)
    elif isinstance(error, MemoryError):
        print(f"error: out of memory: {error}", file=sys.stderr)
    else:
        return _tell_bug(error, isinstance(error, InternalError))
    return 1


def _tell_bug(error: Exception, known: bool) -> int:
    """What to report: the message, and the input of the pass that failed in a file to attach."""
    if not known:
        print(f"internal error: {type(error).__name__}: {error}", file=sys.stderr)
        print("This is a fault of dlc, not yours.", file=sys.stderr)
    else:
        print(error, file=sys.stderr)
    dump = getattr(error, "dump", "")
    if dump:
        import tempfile

        with tempfile.NamedTemporaryFile(
            "w", prefix="dlc-dump-", suffix=".txt", delete=False
        ) as file:
            file.write(dump)
        print(f"Attach {file.name} to your report.", file=sys.stderr)
    print(f"({_TRACE}=1 shows where it happened.)", file=sys.stderr)
    return OURS


def make_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(
        prog="dlc",
        description="A deep-learning compiler: checks, trains and runs models written as text.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"dlc {_version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for add in (_add_check, _add_fmt, _add_train, _add_test, _add_run, _add_dump, _add_bench,
                _add_explain, _add_doctor, _add_lsp):
        add(commands)
    return parser


def _version() -> str:
    import dlc

    return dlc.__version__


Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def _command(commands: Commands, name: str, help: str) -> argparse.ArgumentParser:
    """A command with its own `--help`."""
    text = f"{help[0].upper()}{help[1:]}."
    return commands.add_parser(name, help=help, description=text, allow_abbrev=False)


def _add_check(commands: Commands) -> None:
    parser = _command(commands, "check", "check types, shapes and effects; nothing is run")
    _add_file(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    _add_float(parser)


def _add_fmt(commands: Commands) -> None:
    parser = _command(commands, "fmt", "write programs in their one layout")
    parser.add_argument("files", nargs="+", metavar="FILE", help="a .dl file, or - for the input")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--check", action="store_true",
                       help="only list what would change, and exit with 1 if anything")  # fmt: skip
    which.add_argument("--stdout", action="store_true", help="print the text; change no file")


def _add_train(commands: Commands) -> None:
    parser = _command(commands, "train", "train a model as its `train` block says")
    _add_file(parser)
    add = parser.add_argument
    add("--model", metavar="NAME", help="which model's block, where there are several")
    add("--data", metavar="DIR", help="folder of the data (default: data/NAME beside FILE)")
    add("--epochs", type=int, metavar="N", help="epochs of each phase, in place of the block's")
    add("--batch", type=int, metavar="N", help="examples a step, in place of the block's")
    add("--length", type=int, metavar="N", help="of windows of a text, in place of the block's")
    add("--seed", type=_seed, metavar="N", help="of weights, order and random draws (default: 0)")
    add("--set", action="append", default=[], metavar="NAME=VALUE", type=_setting,
        help="a parameter of the step with a default, e.g. lr=0.001; may be repeated")  # fmt: skip
    add("--save", metavar="FILE", help="where the weights go (default: MODEL.safetensors)")
    add("--resume", metavar="FILE", help="go on from this checkpoint, to the same bits")
    add("--json", action="store_true", help="one JSON object an epoch, and one at the end")
    _add_float(parser)
    _add_precision(parser)
    _add_machine(parser)


def _add_test(commands: Commands) -> None:
    parser = _command(commands, "test", "run the `test` blocks of a program")
    _add_file(parser)
    parser.add_argument("-k", metavar="TEXT", help="only tests with this text in their names")
    parser.add_argument("--json", action="store_true", help="one JSON object a test, and one at "
                        "the end")  # fmt: skip
    _add_float(parser)


def _add_run(commands: Commands) -> None:
    parser = _command(commands, "run", "call one function of a model")
    _add_file(parser)
    add = parser.add_argument
    add("function", metavar="MODEL.FUNCTION", help="e.g. LeNet5.digit; alone if in no model")
    add("--input", action="append", default=[], metavar="NAME=FILE.npy", type=_named,
        help="an argument: a .npy file, or a number for a scalar; may be repeated")  # fmt: skip
    add("--weights", metavar="FILE", help="a checkpoint (default: initial values)")
    add("--seed", type=_seed, default=0, metavar="N", help="of initial values and draws")
    add("--output", action="append", default=[], metavar="FILE.npy",
        help="write the result there; once for each result")  # fmt: skip
    add("--json", action="store_true", help="print the results as one JSON object")
    _add_float(parser)
    _add_precision(parser)
    _add_machine(parser)


def _add_dump(commands: Commands) -> None:
    parser = _command(commands, "dump", "print a stage of the compilation as text")
    _add_file(parser)
    add = parser.add_argument
    _add_model(parser)
    add("--function", metavar="NAME", help="only this function (default: all of the model)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--stage", choices=STAGES, help="(default: graph)")
    which.add_argument("--after", metavar="PASS", help="what the pass PASS gives")
    which.add_argument("--all", metavar="DIR", help="every stage and pass, a file each, into DIR")
    add("--grep", metavar="TEXT", help="only paragraphs in which this regular expression is found")
    add("--json", action="store_true", help="one JSON object a function: its text, or its times")
    add("--target", metavar="NAME", default="",
        help="a GPU, as in cuda:sm_90a (default: this machine's CPU; for its stages cuda:sm_80)")
    _add_float(parser)
    _add_precision(parser)


def _add_bench(commands: Commands) -> None:
    parser = _command(commands, "bench", "say where the time of a function goes, a kernel a row")
    _add_file(parser)
    add = parser.add_argument
    _add_model(parser)
    add("--function", metavar="NAME", help="(default: the step that is trained)")
    add("--size", action="append", default=[], metavar="NAME=N", type=_size,
        help="a symbol of its types (default: as the `train` block says, else 64)")  # fmt: skip
    add("--set", action="append", default=[], metavar="NAME=VALUE", type=_setting,
        help="a number that it takes; may be repeated, like the others")  # fmt: skip
    add("--input", action="append", default=[], metavar="NAME=FILE.npy", type=_named,
        help="an argument (default: random numbers)")  # fmt: skip
    add("--weights", metavar="FILE", help="a checkpoint (default: initial values)")
    add("--seed", type=_seed, default=0, metavar="N", help="of initial values and arguments")
    add("--seconds", type=float, default=1.0, metavar="S", help="to measure for (default: 1)")
    add("--launches", action="store_true", help="a row for each launch, not for each kernel")
    add("--trace", metavar="FILE.json", help="write the fastest call as a Chrome trace")
    add("--json", action="store_true", help="print one JSON object")
    _add_float(parser)
    _add_precision(parser)
    _add_machine(parser)


def _add_explain(commands: Commands) -> None:
    parser = _command(commands, "explain", "say what an error means, with a program that has it")
    parser.add_argument("error", metavar="NAME", nargs="?",
                        help="as in error[NAME] (default: a line for each)")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _add_doctor(commands: Commands) -> None:
    _command(commands, "doctor", "say what was found on this machine")


def _add_lsp(commands: Commands) -> None:
    parser = _command(commands, "lsp", "serve editors: errors, types and names as text is typed")
    parser.add_argument("--stdio", action="store_true", help="over standard input and output; "
                        "the only way, so it need not be said")  # fmt: skip


def _add_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="the program, a .dl file")


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", metavar="NAME", help="which model, where there are several")
    parser.add_argument("--with", dest="given", action="append", default=[], metavar="NAME=VALUE",
                        type=_argument, help="what it is built with; may be repeated")


def _add_float(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--float", choices=FLOATS, default="f32", help="the type of `nn`, and of "
                        "what meets no type; what is written as f32 stays f32 (default: f32)")


def _add_precision(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--precision", choices=PRECISIONS, default="f32", help="what the operands "
                        "of products of f32 are rounded to; sums and weights stay f32; tf32 is of "
                        "a GPU (default: f32)")  # fmt: skip


def _add_machine(
    parser: argparse.ArgumentParser, devices: tuple[str, ...] = ("cpu", "cuda")
) -> None:
    parser.add_argument("--device", choices=devices, default="cpu", help="where it runs: nothing "
                        "falls back (default: cpu)")
    parser.add_argument("--threads", type=int, metavar="N", help="at most so many threads")


def _seed(text: str) -> int:
    value = int(text)
    if not 0 <= value < 1 << 63:
        raise argparse.ArgumentTypeError(f"{text} is no seed: expected 0 to 2^63 - 1")
    return value


def _named(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def _size(text: str) -> tuple[str, int]:
    name, value = _named(text)
    if not (value.isascii() and value.isdigit()):
        raise argparse.ArgumentTypeError(f"{value!r} is no size")
    return name, int(value)


def _argument(text: str) -> tuple[str, int | float | bool]:
    name, value = _named(text)
    if value in ("true", "false"):
        return name, value == "true"
    return (name, int(value)) if value.lstrip("-").isdigit() else _setting(text)


def _setting(text: str) -> tuple[str, float]:
    name, value = _named(text)
    try:
        return name, float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{value!r} is not a number") from None
